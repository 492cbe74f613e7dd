"""Diffusion baselines, one file a method, on what they share: the process, its samplers and the guidance."""
