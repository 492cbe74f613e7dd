"""XingGAN and XingGAN++: attention, crossing blocks, fusion, generator, discriminators, losses, and the method that trains them."""
