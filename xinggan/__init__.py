"""XingGAN and XingGAN++ for pose-guided person image generation, with data, training, metrics and timing."""

import os

__version__ = "0.1.0"

# By default OpenMP's threads spin at every barrier, which costs many times the work itself on a CPU that is not alone.
# A thread that waits here looks 2,000 times, about 0.1 ms, and then sleeps: tests/benchmarks/openmp.py has the figures.
# OpenMP reads this when torch is imported, so every package that imports torch imports this one first.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
