"""X-MDPT: "Cross-view Masked Diffusion Transformers for Person Image Synthesis" (Pham et al., ICML 2024).

Implemented: the diffusion transformer on latents (`xmdpt_network`), conditioned on one vector that is pooled from the
source's latents and from DINOv2's tokens of the source and of the drawn target pose (section 3.2); masked cross-view
prediction (3.3), whose loss is added to that of an unmasked pass; PIDM's process with learnt variances; guidance that
grows towards the data as a power of a cosine; DDIM from 999 down to 0. Published checkpoints can be read.

Images of any proportions are stretched to a square, as published, and what is generated is resized to the data set's
size. DINOv2 is read from files (`dino_pose`, `dino_image`); without them two smaller transformers of its kind are
trained with the rest, and titles say so.

Departures. Latents are those of the suite's packed images, without the published random scale (1 to 1.05) and crop. In
sampling the source's tokens are not sent through the blocks, since nothing reads the result (half the published code's
multiply-accumulates). The published results decode with an autoencoder fine-tuned on DeepFashion.
"""

import re
from dataclasses import replace
from math import gcd, pi

import torch
from torch import Tensor, nn

from baselines.diffusion.dinov2 import VisionTransformer, load_dinov2
from baselines.diffusion.latent_diffusion import LatentDiffusion, beside
from baselines.diffusion.latent_settings import TRAINED, XMDPTSettings
from baselines.diffusion.process import NoiseProcess, Seen, draw_integers, draw_true
from baselines.diffusion.samplers import Branch
from baselines.diffusion.settings import TIMESTEPS
from baselines.diffusion.xmdpt_network import PATCH, TransformerBlock, XMDPTTransformer
from baselines.geometry import mirrored, mirrored_poses, resized, uniform
from baselines.limb_maps import limb_maps
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.settings import PUBLISHED_SIZES
from xinggan.files import user_path
from xinggan.model.method import Method
from xinggan.model.published import checked_file, load_named, read_published
from xinggan.model.switches import PublishedSettings

ENCODER_GRID = 16  # patches along the images that the encoders see


class XMDPTDenoiser(nn.Module):
    """Both encoders and the transformer."""

    def __init__(self, settings: XMDPTSettings, channels: int, factor: int, networks: dict[str, str]):
        """channels: of the latents; factor: pixels along a side of a latent position; networks: is given the SHA-256 of
        each file. Raises ValueError for files that are not DINOv2's.
        """
        super().__init__()
        s = settings
        self.dino_pose, self.dino_image = (self._encoder(s, name, networks) for name in ("dino_pose", "dino_image"))
        pose, image = ((1 + ENCODER_GRID**2, encoder.width) for encoder in (self.dino_pose, self.dino_image))
        self.transformer = XMDPTTransformer(s.width, s.depth, s.heads, s.size // factor // PATCH, channels, pose, image)

    @staticmethod
    def _encoder(settings: XMDPTSettings, name: str, networks: dict[str, str]) -> VisionTransformer:
        width, file = settings.encoder_width, getattr(settings, name)
        if file != TRAINED:
            encoder, networks[name] = load_dinov2(user_path(file), name)
            return encoder
        patch, heads = settings.size // ENCODER_GRID, gcd(max(1, width // 64), width)
        return VisionTransformer(width, settings.encoder_depth, heads, patch=patch, grid=ENCODER_GRID)

    def condition(self, source: Tensor, image: Tensor, skeleton: Tensor) -> Tensor:
        """source: latents [B, C, h, w]; image: [B, 3, S, S] in [-1, 1]; skeleton: [B, 3, S, S]. Returns [B, width]."""
        pose, seen = self.dino_pose.patch * ENCODER_GRID, self.dino_image.patch * ENCODER_GRID  # pixels
        pose_tokens, image_tokens = (
            self.dino_pose(resized(skeleton, (pose, pose))),
            self.dino_image(resized(image, (seen, seen))),
        )
        return self.transformer.condition(source, pose_tokens, image_tokens)

    def forward(
        self,
        noised: Tensor,
        timesteps: Tensor,
        conditions: list[Tensor],
        seen: Seen,
        kept: Tensor | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        """See `XMDPTTransformer`."""
        return self.transformer(noised, timesteps, conditions, seen, kept, source)


class XMDPT(LatentDiffusion):
    """X-MDPT in its own training."""

    settings: XMDPTSettings
    denoiser: XMDPTDenoiser
    checkpointed = (TransformerBlock,)
    flipping = "together"

    def __init__(self, settings: XMDPTSettings | None = None):
        super().__init__(settings or XMDPTSettings())
        self.branches = cosine_branches(self.settings.guidance, self.settings.guidance_power)

    def make_process(self) -> NoiseProcess:
        """See `LatentDiffusion`: PIDM's process."""
        return NoiseProcess(self.settings.prediction, learnt_variance=True, weighting=self.settings.weighting)

    def make_denoiser(self, channels: int) -> nn.Module:
        """See `LatentDiffusion`."""
        return XMDPTDenoiser(self.settings, channels, self.factor, self.networks)

    def make_optimiser(self, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        """See `LatentDiffusion`."""
        return torch.optim.AdamW(weights, self.settings.learning_rate, weight_decay=0.0, fused=True)

    def sampling_timesteps(self) -> list[int]:
        """See `LatentDiffusion`: spread evenly over 0 .. 999, both included."""
        steps = self.settings.steps
        return [round((TIMESTEPS - 1) * k / max(1, steps - 1)) for k in reversed(range(steps))] if steps > 1 else [999]

    def conditions(self, images: Tensor, poses: Tensor, sigma: float, seeds: Tensor) -> list[Tensor]:
        """See `LatentDiffusion`: one vector [B, width]."""
        latents = self.source_latents(images, seeds)
        return [self.denoiser.condition(latents, images, skeletons(poses, self.settings.size))]

    def denoising_terms(self, batch: PosePair) -> dict[str, Tensor]:
        """The terms of an unmasked and a masked pass, which share latents and timesteps and draw noise and missing
        conditions of their own. A coin decides for the whole batch which image of each pair is the source.
        """
        flips = self.draw_flips(batch)
        source, target = self.training_latents(batch.pair, flips)
        if torch.rand(()) < 0.5:
            source, target = target, source
            batch = replace(batch, source_image=batch.target_image, target_pose=batch.source_pose)
        image = images_to_float(batch.source_image)
        poses, _ = self.sized_pose(mirrored_poses(batch.target_pose, flips[0], image.shape[-1]), image)
        sized = mirrored(self.sized(image), flips[0])
        conditions = [self.denoiser.condition(source, sized, skeletons(poses, self.settings.size))]
        timesteps = draw_integers(TIMESTEPS, target)
        terms = self._pass_terms(target, timesteps, conditions)
        if self.settings.mask_ratio:
            masked = self._pass_terms(target, timesteps, conditions, self.draw_kept(target), source)
            terms |= {f"masked_{name}": term for name, term in masked.items()}
        return terms

    def _pass_terms(
        self,
        target: Tensor,
        timesteps: Tensor,
        conditions: list[Tensor],
        kept: Tensor | None = None,
        source: Tensor | None = None,
    ) -> dict[str, Tensor]:
        shown = ~draw_true(target, self.settings.condition_dropout)
        seen = Seen(shown, shown)
        return self.process.terms(lambda x, t: self.denoiser(x, t, conditions, seen, kept, source), target, timesteps)

    def draw_kept(self, latents: Tensor) -> Tensor:
        """The places of the tokens that a masked pass keeps, int64 [B, n], for latents [B, C, h, w]."""
        return kept_places(uniform(latents, self.denoiser.transformer.grid**2), self.settings.mask_ratio)


def kept_places(draws: Tensor, ratio: float) -> Tensor:
    """draws: [B, N] -> the places of the N (1 - ratio) smallest of each row, int64 [B, n]."""
    return draws.argsort(dim=1)[:, : max(1, int(draws.shape[1] * (1 - ratio)))]


def skeletons(poses: Tensor, size: int) -> Tensor:
    """Poses [B, 18, 3] in square images -> their drawn skeletons [B, 3, size, size], the brightest value of each 1."""
    drawn = limb_maps(poses, size, size)[:, :3]
    return drawn / drawn.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1 / 255)


def cosine_branches(scale: float, power: float) -> tuple[Branch, ...]:
    """Guidance e0 + w (e1 - e0) with w = 1 + (scale - 1) (1 - cos(pi (1 - t / T)^power)) / 2; none of a scale of 1."""

    def weight(timesteps: Tensor) -> Tensor:
        return 1 + (scale - 1) * (1 - torch.cos(pi * (1 - timesteps / TIMESTEPS) ** power)) / 2

    if scale == 1:
        return (Branch(1.0, source=True, pose=True),)
    return Branch(lambda t: 1 - weight(t), source=False, pose=False), Branch(weight, source=True, pose=True)


# Published module names -> ours; a name without a dot is a parameter's.
MODULES = {
    r"pos_embed": "places",
    r"decoder_pos_embed": "decoding_places",
    r"x_embedder\.proj\.": "patches.",
    r"t_embedder\.mlp\.0\.": "time.linear_1.",
    r"t_embedder\.mlp\.2\.": "time.linear_2.",
    r"mlp_dino_pose\.": "pose_projection.",
    r"mlp_dino_img\.": "image_projection.",
    r"conv1d_pose\.": "pose_pooling.",
    r"conv1d_global\.": "image_pooling.",
    r"conv1d_local\.": "latent_pooling.",
    r"mlp_final\.": "fusion.",
    r"final_layer\.linear\.": "last.",
    r"final_layer\.adaLN_modulation\.1\.": "last_modulation.",
    r"sideblocks\.0\.": "side_block.",
    r"sideblocks_cross\.0\.": "side_cross_block.",
}
PARTS = {  # of a block
    "attn.proj.": "attention.out.",
    "attn.to_q.": "attention.to_q.",
    "attn.to_kv.": "attention.to_kv.",
    "attn.rel_pos_bias.relative_position_bias_table": "attention.bias.table",
    "mlp.fc1.": "forwards.net.0.proj.",
    "mlp.fc2.": "forwards.net.2.",
    "adaLN_modulation.1.": "modulation.linear.",
}


def named_as_ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict with our names; a name that has none here keeps its own. Indices, which follow from the
    grid, are left out, and the projection to queries, keys and values is split.
    """
    named = {}
    for name, tensor in state.items():
        own = next((re.sub(f"^{old}", new, name) for old, new in MODULES.items() if re.match(old, name)), name)
        if re.match(r"blocks\.|side_", own):
            own = next((own.replace(old, new) for old, new in PARTS.items() if old in own), own)
        if own.endswith("relative_position_index"):
            continue
        if ".attn.qkv." in own:
            query, key, value = tensor.chunk(3)
            named[own.replace("attn.qkv", "attention.to_q")] = query
            named[own.replace("attn.qkv", "attention.to_kv")] = torch.cat([key, value])
        else:
            named[own] = tensor
    return named


class PublishedXMDPT(XMDPT):
    """A published checkpoint of X-MDPT of any size, which generates without training.

    Beside the file lie the autoencoder, the folder `vae`, and DINOv2's two files.
    """

    begin = Method.begin

    def __init__(self, settings: PublishedSettings):
        """Raises ValueError for a file that is not the published network or has another hash, and for what is missing
        beside it.
        """
        file = checked_file(settings)
        named = named_as_ours(read_published(file))
        tables = [tensor for name, tensor in named.items() if name.endswith("attention.bias.table")]
        vae = "the autoencoder as diffusers saves it: its authors' fine-tuned one, or stabilityai/sd-vae-ft-mse"
        dino = "from dl.fbaipublicfiles.com/dinov2"
        given = XMDPTSettings(
            vae=beside(file, "vae", vae),
            dino_pose=beside(file, "dinov2_vitb14_pretrain.pth", dino),
            dino_image=beside(file, "dinov2_vitg14_pretrain.pth", dino),
            width=named["places"].shape[-1] if "places" in named else 384,
            depth=len({name.split(".")[1] for name in named if name.startswith("blocks.")}) or 12,
            heads=tables[0].shape[1] if tables else 6,
        )
        super().__init__(given)
        load_named(self.denoiser.transformer, named, f"{file}: does not fit the published network of X-MDPT")
        self.size = PUBLISHED_SIZES["deepfashion"]
        self.eval()
