"""The settings of the latent methods and of their autoencoder; the defaults are the published ones. Imports no torch.

Making settings that do not fit raises a ValueError that names all of them.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import ClassVar

from baselines.diffusion.settings import TIMESTEPS, Prediction, Sampler, Weighting, untrained_guidance
from xinggan.data.settings import PoseMap
from xinggan.files import user_path
from xinggan.model.switches import MethodSettings, Settings

TRAINED = "trained"  # in place of a file: the network is new, and trained in the same run
WEIGHTS_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")  # as diffusers saves a model


class Resolution(StrEnum):
    """The size of the images that a method is trained on and generates."""

    data = "data"  # the data set's
    native = "native"  # its authors', from which what is generated is resized to the data set's


@dataclass(kw_only=True)
class VAESettings(Settings):
    """The autoencoder of the latent methods."""

    vae: str = TRAINED  # or the path of an AutoencoderKL as diffusers saves it
    vae_share: float = 0.3  # of the training's steps; without effect beside vae_steps
    vae_steps: int | None = None  # of the autoencoder's own training, on top of the training's steps
    vae_width: int = 128
    vae_factor: int = 8  # pixels along a side of a latent position
    latent_channels: int = 4
    vae_learning_rate: float = 1e-4

    @property
    def caveat(self) -> str:
        """What a title says of a network that is not its authors'."""
        return "from scratch" if self.vae == TRAINED else ""

    def reasons(self) -> list[str]:
        """Extended by ranges, and by a file that does not exist."""
        return super().reasons() + self.misfits(
            vae=_trained_or_file(self.vae, "an AutoencoderKL such as huggingface.co/stabilityai/sd-vae-ft-mse"),
            vae_share=(0 < self.vae_share < 1, "is more than 0 and less than 1, of the training steps"),
            vae_steps=(self.vae_steps is None or self.vae_steps >= 1, "is 1 or more, or null: vae_share of the steps"),
            vae_width=(self.vae_width >= 4 and self.vae_width % 4 == 0, "are multiples of 4"),
            vae_factor=(self.vae_factor in (2, 4, 8), "are 2, 4, 8"),
            latent_channels=(1 <= self.latent_channels <= 64, "are 1 to 64"),
            vae_learning_rate=(0 < self.vae_learning_rate < inf, "is more than 0"),
        )


def _trained_or_file(value: str, model: str) -> tuple[bool, str]:
    """Whether the value is TRAINED or a path that exists, and what is accepted."""
    folder = f"the path of {model}, a folder with config.json and {WEIGHTS_FILES[0]}"
    return value == TRAINED or user_path(value).exists(), f"are {TRAINED} and {folder}; nothing is there"


@dataclass(kw_only=True)
class VaeRoundtripSettings(VAESettings):
    """The autoencoder alone."""


@dataclass(kw_only=True)
class LatentSettings(VAESettings, MethodSettings):
    """Settings of every latent method: sampling, and what training leaves out."""

    prediction: str = Prediction.epsilon
    weighting: Weighting = Weighting.uniform
    sampler: str = Sampler.ddim
    steps: int = 50  # of sampling
    condition_dropout: float = 0.1  # probability of a missing condition
    flip: float = 0.5  # probability that a training image is mirrored, of those that the method's authors mirror
    warmup_steps: int = 0  # in which the learning rate rises

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the images that the networks see, for those of the data set; pixels."""
        return height, width

    def reasons(self) -> list[str]:
        """Extended by ranges."""
        return super().reasons() + self.misfits(
            steps=(1 <= self.steps <= TIMESTEPS, f"are 1 to {TIMESTEPS} sampling steps"),
            condition_dropout=(0 <= self.condition_dropout < 1, "is 0 up to, not including, 1"),
            flip=(0 <= self.flip <= 1, "is 0 to 1"),
            warmup_steps=(self.warmup_steps >= 0, "is 0 or more"),
        )

    def guidance_reasons(self, **scales: float) -> list[str]:
        """Sentences for scales out of range, and for guidance whose branches are not trained."""
        found = self.misfits(
            **{key: (0 <= scale < inf, "is 0 or more; 1 is no guidance") for key, scale in scales.items()}
        )
        return found + untrained_guidance(self.condition_dropout, scales)


@dataclass(kw_only=True)
class LatentUNetSettings(LatentSettings):
    """Settings of PoCoLD and CFLD, whose denoiser is a U-Net."""

    native: ClassVar[tuple[int, int]]  # height and width of their authors' images, pixels

    width: int = 128  # channels of the first level
    multipliers: tuple[int, ...] = (1, 2, 4, 4)  # channels of each level, in widths
    level_blocks: int = 2  # residual blocks a level
    resolution: Resolution = Resolution.data
    guidance_source: float = 2.0  # 1 and 1: no guidance
    guidance_pose: float = 2.0

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level of the U-Net."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """See `LatentSettings`."""
        return self.native if self.resolution == Resolution.native else (height, width)

    def reasons(self) -> list[str]:
        """Extended by ranges."""
        levels = 2 <= len(self.multipliers) <= 8 and min(self.multipliers) >= 1
        found = super().reasons() + self.misfits(
            width=(self.width >= 4 and self.width % 4 == 0, "are multiples of 4"),
            multipliers=(levels, "are 2 to 8 numbers from 1"),
            level_blocks=(1 <= self.level_blocks <= 8, "are 1 to 8"),
        )
        return found + self.guidance_reasons(guidance_source=self.guidance_source, guidance_pose=self.guidance_pose)


@dataclass(kw_only=True)
class PoCoLDSettings(LatentUNetSettings):
    """PoCoLD."""

    native = (512, 384)

    filters: int = 64  # K of each pose-constrained attention
    constraint: float = 1.0  # weight of the penalty on attention to other body parts
    guidance_source: float = 3.0
    guidance_pose: float = 3.0
    guidance_start: float = 5.0  # both scales are at least guidance_start t / T; 0: they do not decay
    learning_rate: float = 5e-5
    condition_dropout: float = 0.15  # of the pose, and as often of the source; never both

    def reasons(self) -> list[str]:
        """Extended by ranges."""
        return super().reasons() + self.misfits(
            filters=(self.filters >= 1, "is 1 or more"),
            constraint=(0 <= self.constraint < inf, "is 0 (none) or more"),
            guidance_start=(0 <= self.guidance_start < inf, "is 0 (none) or more"),
            condition_dropout=(self.condition_dropout <= 0.5, "is 0 to 0.5"),
        )


@dataclass(kw_only=True)
class CFLDSettings(LatentUNetSettings):
    """CFLD."""

    native = (512, 512)

    unet: str = TRAINED  # or the path of Stable Diffusion 1.5's U-Net as diffusers saves it, which has sizes of its own
    swin: str = TRAINED  # or the file of an ImageNet Swin
    width: int = 320
    swin_width: int = 128  # channels of the source encoder's first stage
    swin_blocks: tuple[int, ...] = (2, 2, 18, 2)  # of each stage; as many stages as the U-Net has levels
    swin_window: int = 16
    drop_path: float = 0.2  # stochastic depth in the source encoder
    prompt_queries: int = 16  # learnt queries that become the source's prompt
    prompt_channels: int = 768
    prompt_blocks: int = 8  # of the perception-refined decoder
    fine_blocks: int = 4  # transformer blocks of each attention's fine features
    reconstruction: float = 1.0  # weight of the source's reconstruction from itself; 0 halves a step's work
    learning_rate: float = 1e-4
    condition_dropout: float = 0.2  # of the prompt

    @property
    def caveat(self) -> str:
        """See `VAESettings`; the published method starts from three networks."""
        return "from scratch" if TRAINED in (self.vae, self.unet, self.swin) else ""

    def reasons(self) -> list[str]:
        """Extended by ranges."""
        counts = ("prompt_queries", "prompt_blocks", "fine_blocks", "swin_window")
        stages = len(self.swin_blocks) == len(self.multipliers) and min(self.swin_blocks) >= 1
        widths = ("prompt_channels", "swin_width")
        swin = _is_trained_or_file(self.swin)
        return super().reasons() + self.misfits(
            **{key: (getattr(self, key) >= 1, "is 1 or more") for key in counts},
            **{key: (getattr(self, key) >= 4 and getattr(self, key) % 4 == 0, "are multiples of 4") for key in widths},
            unet=_trained_or_file(self.unet, "Stable Diffusion 1.5's U-Net"),
            swin=(swin, f"are {TRAINED} and the file swin_base_patch4_window12_384_22kto1k.pth; nothing is there"),
            swin_blocks=(stages, f"are {len(self.multipliers)} numbers from 1, one a level of the U-Net"),
            drop_path=(0 <= self.drop_path < 1, "is 0 up to, not including, 1"),
            reconstruction=(0 <= self.reconstruction < inf, "is 0 (none) or more"),
        )


@dataclass(kw_only=True)
class XMDPTSettings(LatentSettings):
    """X-MDPT; the defaults are those of X-MDPT-S/2."""

    size: int = 256  # height and width of the images that the networks see, pixels
    width: int = 384
    depth: int = 12  # transformer blocks
    heads: int = 6
    mask_ratio: float = 0.3  # of the tokens, in the masked pass of a training step; 0: no such pass
    guidance: float = 2.0  # at the smallest timesteps; 1: none
    guidance_power: float = 0.01
    dino_pose: str = TRAINED  # or the file dinov2_vitb14_pretrain.pth
    dino_image: str = TRAINED  # or the file dinov2_vitg14_pretrain.pth
    encoder_width: int = 192  # of encoders that are trained in place of DINOv2
    encoder_depth: int = 4
    learning_rate: float = 1e-4

    @property
    def caveat(self) -> str:
        """See `VAESettings`; the published encoders are DINOv2's."""
        encoders = "trained encoder" if TRAINED in (self.dino_pose, self.dino_image) else ""
        return ", ".join(filter(None, [super().caveat, encoders]))

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """See `LatentSettings`: a square, whatever the data set's images are."""
        return self.size, self.size

    def reasons(self) -> list[str]:
        """Extended by ranges."""
        file = "are trained and the file {}_pretrain.pth of DINOv2; nothing is there"
        found = super().reasons() + self.misfits(
            pose_map=(self.pose_map == PoseMap.gaussian, "is gaussian, without effect: limbs are drawn"),
            size=(self.size >= 16 and self.size % 16 == 0, "are multiples of 16"),
            width=(self.width >= 4 and self.width % 4 == 0, "are multiples of 4"),
            depth=(3 <= self.depth <= 64, "are 3 to 64"),
            heads=(self.heads >= 1 and self.width % self.heads == 0, "are divisors of width"),
            mask_ratio=(0 <= self.mask_ratio < 1, "is 0 up to, not including, 1"),
            guidance_power=(0 < self.guidance_power < inf, "is more than 0"),
            dino_pose=(_is_trained_or_file(self.dino_pose), file.format("dinov2_vitb14")),
            dino_image=(_is_trained_or_file(self.dino_image), file.format("dinov2_vitg14")),
            encoder_width=(self.encoder_width >= 16 and self.encoder_width % 16 == 0, "are multiples of 16"),
            encoder_depth=(1 <= self.encoder_depth <= 64, "are 1 to 64"),
        )
        return found + self.guidance_reasons(guidance=self.guidance)


def _is_trained_or_file(value: str) -> bool:
    return value == TRAINED or user_path(value).is_file()
