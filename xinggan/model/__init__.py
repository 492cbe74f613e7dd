"""XingGAN and XingGAN++: attention, crossing blocks, fusion, generator, discriminators, losses, training step."""
