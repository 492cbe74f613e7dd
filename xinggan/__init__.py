"""XingGAN and XingGAN++ for pose-guided person image generation, with the data, training, metrics and timing around them."""

__version__ = "0.1.0"
