"""Methods that XingGAN is compared with: trivial references, GANs and diffusion models."""
