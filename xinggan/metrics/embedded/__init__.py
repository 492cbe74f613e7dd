"""Small networks that come with the suite, trained on synthetic people, so that synthetic benchmarks need no download.

`networks` defines and loads them, `people` renders what they learn from, `train` trains them, `weights/` holds the result.
Their metrics carry their own names (pckh_embedded, fd_embedded, ...): they are never a stand-in for FID, IS or LPIPS.
"""
