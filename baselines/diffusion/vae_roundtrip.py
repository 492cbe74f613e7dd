"""The true image through the autoencoder of the latent methods and back: the best that their second stage can reach.

With the same seed, data, steps and `vae` settings the autoencoder is the one that they train, to the bit. The steps
after its stage, in which they train their denoiser, do nothing here.
"""

import torch
from torch import Tensor

from baselines.diffusion.autoencoder import (
    TERMS,
    autoencoder_problems,
    decode,
    encode,
    first_stage_step,
    first_stage_steps,
    idle,
    make_autoencoder,
)
from xinggan.data.batch import PosePair, images_to_float
from xinggan.model.method import Method


class VaeRoundtrip(Method):
    """A reference, as it looks at the target image. ValueError for settings out of range, naming all of them."""

    averaged = ("autoencoder",)

    def __init__(
        self,
        vae: str = "trained",
        vae_share: float = 0.3,
        vae_width: int = 128,
        vae_factor: int = 8,
        latent_channels: int = 4,
        vae_learning_rate: float = 1e-4,
        seed: int = 0,
    ):
        super().__init__()
        if problems := autoencoder_problems(vae, vae_share, vae_width, vae_factor, latent_channels):
            raise ValueError("; ".join(problems))
        self.vae_share = vae_share
        self.autoencoder, sha256 = make_autoencoder(vae, vae_width, vae_factor, latent_channels, seed)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if sha256:
            self.networks = {"vae": sha256}
        else:
            self.optimisers["vae"] = torch.optim.Adam(self.autoencoder.parameters(), vae_learning_rate, fused=True)

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """One update of the autoencoder in its stage, nothing after it."""
        steps = first_stage_steps(self, self.vae_share)
        if step >= steps:
            return idle(TERMS, batch.target_image.device)
        return first_stage_step(self, self.autoencoder, batch.target_image, step, steps)

    @torch.no_grad()
    def generate_pairs(self, batch: PosePair, seeds: Tensor) -> Tensor:
        """The target image, encoded and decoded: [B, 3, H, W] in [-1, 1]. No seed changes it."""
        images = images_to_float(batch.target_image)
        with self.autocast():
            rebuilt = decode(self.autoencoder, encode(self.autoencoder, images), *images.shape[-2:])
        return rebuilt.float().clamp(-1, 1)
