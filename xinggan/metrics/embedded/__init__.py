"""Small networks that come with the suite, trained on synthetic people, so that synthetic benchmarks need no download.

`networks` defines and loads them, `train` trains them. Their metrics carry names of their own (pckh_embedded,
fd_embedded, ...) and are never a stand-in for FID, IS or LPIPS.
"""
