"""What a set of generated images is worth: similarity, perception, distributions and poses, all under named protocols.

`catalogue` names the metrics and their directions, `protocol` says how they are computed, `score` computes them all.
"""
