"""The true image through the autoencoder of the latent methods and back: the best that their second stage can reach.

With the same seed, data, steps and `vae` settings the autoencoder is the one that they train, to the bit. The steps in
which they train their denoiser change nothing here.
"""

import torch
from torch import Tensor

from baselines.diffusion.autoencoder import (
    AutoencoderKL,
    add_autoencoder,
    decode,
    encode,
    first_stage_step,
    first_stage_steps,
)
from baselines.diffusion.latent_settings import VaeRoundtripSettings
from xinggan.data.batch import PosePair, images_to_float
from xinggan.model.method import Method


class VaeRoundtrip(Method):
    """A reference: its input is the target image."""

    averaged = ("autoencoder",)
    autoencoder: AutoencoderKL

    def __init__(self, settings: VaeRoundtripSettings | None = None):
        super().__init__()
        self.settings = settings or VaeRoundtripSettings()
        add_autoencoder(self, self.settings)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def checkpoint_activations(self) -> None:
        """See `Method`; the autoencoder does it in diffusers' own way."""
        self.autoencoder.enable_gradient_checkpointing()

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """One update of the autoencoder in its stage, nothing after it."""
        steps = first_stage_steps(self, self.settings)
        return first_stage_step(self, batch.target_image, step, steps) if step < steps else {}

    @torch.no_grad()
    def generate_pairs(self, batch: PosePair, seeds: Tensor) -> Tensor:
        """The target image, encoded and decoded: [B, 3, H, W] in [-1, 1]. No seed changes it."""
        images = images_to_float(batch.target_image)
        with self.autocast():
            rebuilt = decode(self.autoencoder, encode(self.autoencoder, images)[0], *images.shape[-2:])
        return rebuilt.float().clamp(-1, 1)
