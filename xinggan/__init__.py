"""XingGAN and XingGAN++ for pose-guided person image generation, with data, training, metrics and timing."""

__version__ = "0.1.0"
