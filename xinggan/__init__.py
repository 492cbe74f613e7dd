"""XingGAN and XingGAN++ for pose-guided person image generation, with data, training, metrics and timing."""

import os

__version__ = "0.1.0"

# By default OpenMP's threads spin at every barrier, which costs many times the work itself on a CPU that is not alone.
# OpenMP reads this when torch is imported, so every package that imports torch imports this one first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
