"""Methods that XingGAN is compared with: trivial references, GANs and diffusion models."""

import xinggan  # noqa: F401  sets how OpenMP waits, before torch is imported

REFERENCES = ("copy_source", "mean_image", "ground_truth")  # trivial methods that every table shows
