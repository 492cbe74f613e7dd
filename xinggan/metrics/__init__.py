"""Metrics of generated images: similarity, perception, distributions and poses, all under named protocols.

`catalogue` names the metrics and their directions, `protocol` says how they are computed, `score` computes them all.
"""
