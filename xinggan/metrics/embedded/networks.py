"""Small networks that come with the suite: a pose estimator, an attribute classifier, another classifier's first stage.

All are plain stacks of 3x3 convolutions. The first two look at 128x64 pixels, whatever the resolution of the images;
the third is what the training loss `perceptual_network: embedded` sees with, so that no method is trained on the
network that scores it. Batch normalisation exists in training only; stored networks have it folded into the
convolutions. `load_embedded(name)` reads safetensors files in half precision, whose headers say what a network was
trained on and what it scored on people it had never seen.
"""

import json
from functools import cache
from pathlib import Path
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.files import sha256_of, write_atomically

FOLDER = Path(__file__).parent / "weights"
NAMES = ("pose", "attributes", "perceptual")
HEIGHT, WIDTH = 128, 64  # pixels the networks look at
CELL_PX = 4  # pixels from one cell of the pose estimator's maps to the next
JOINTS = 18
CLOTHES = ("upper_colour", "lower_colour")  # the Inception score is over their combinations
PRESENT = 0.1  # probability from which a joint counts as present; joints at the edge of being hidden are often found


class Convolution(nn.Sequential):
    """3x3 convolution, batch normalisation (while training) and ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, training_form: bool):
        convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=not training_form)
        norm = [nn.BatchNorm2d(channels_out)] if training_form else []
        super().__init__(convolution, *norm, nn.ReLU())


def stack(training_form: bool, *shapes: tuple[int, int, int]) -> nn.Sequential:
    """Convolutions of these (channels in, channels out, stride), one after the other."""
    return nn.Sequential(*(Convolution(*shape, training_form) for shape in shapes))


class PoseEstimator(nn.Module):
    """Finds the 18 joints of the one person in an image: a map of places and a presence for each joint."""

    def __init__(self, training_form: bool = False):
        super().__init__()
        self.stem = stack(training_form, (3, 16, 2), (16, 48, 2), (48, 48, 1))
        self.down1 = stack(training_form, (48, 96, 2), (96, 96, 1))
        self.down2 = stack(training_form, (96, 96, 2), (96, 96, 1))
        self.up1 = stack(training_form, (96, 96, 1), (96, 48, 1))
        self.up2 = stack(training_form, (48, 48, 1), (48, 48, 1))
        self.maps = nn.Conv2d(48, JOINTS, 1)
        self.presence = nn.Linear(96, JOINTS)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: [B, 3, 128, 64] in [-1, 1]. Returns logits of places [B, 18, 32, 16] and of presence [B, 18]."""
        quarter = self.stem(images)  # (B, 48, 32, 16)
        eighth = self.down1(quarter)  # (B, 96, 16, 8)
        deep = self.down2(eighth)  # (B, 96, 8, 4)
        eighth = self.up1(eighth + F.interpolate(deep, scale_factor=2.0))  # (B, 48, 16, 8)
        quarter = self.up2(quarter + F.interpolate(eighth, scale_factor=2.0))  # (B, 48, 32, 16)
        return self.maps(quarter), self.presence(deep.amax((2, 3)))

    @torch.inference_mode()
    def estimate(self, images: Tensor, all_joints: bool = False) -> Tensor:
        """Poses of uint8 images [B, 3, H, W]: float32 [B, 18, 3], x and y in those images' pixels, visible 1 or 0.

        Joints called absent are (-1, -1, 0); `all_joints` calls none absent.
        """
        maps, presence = self(to_network_size(images))
        scale = torch.tensor([images.shape[3] / WIDTH, images.shape[2] / HEIGHT], device=images.device)
        joints = expected_places(maps) * scale  # (B, 18, 2)
        visible = presence.float().sigmoid()[..., None] >= (0 if all_joints else PRESENT)  # (B, 18, 1)
        return torch.cat([torch.where(visible, joints, -1.0), visible.float()], 2)


def expected_places(maps: Tensor) -> Tensor:
    """Logits of places [B, 18, 32, 16] -> their mean (x, y) in pixels of the 128x64 image: float32 [B, 18, 2]."""
    probability = maps.float().flatten(2).softmax(2).view_as(maps)
    columns, rows = (
        CELL_PX * (torch.arange(size, device=maps.device) + 0.5) for size in (maps.shape[3], maps.shape[2])
    )
    return torch.stack([(probability.sum(2) * columns).sum(2), (probability.sum(3) * rows).sum(2)], 2)


class PerceptualStage(nn.Module):
    """Two convolutions at full resolution: an attribute classifier's first stage, as relu1_2 is VGG19's."""

    def __init__(self, training_form: bool = False):
        super().__init__()
        self.layers = stack(training_form, (3, 16, 1), (16, 16, 1))

    def forward(self, images: Tensor) -> Tensor:
        """images: float [B, 3, H, W] in [-1, 1], at any resolution. Returns [B, 16, H, W]; differentiable."""
        return self.layers(images)


class AttributeClassifier(nn.Module):
    """Classifies clothes and looks of the person: one softmax for each attribute, from features of five stages."""

    def __init__(self, attributes: dict[str, int], training_form: bool = False):
        super().__init__()
        self.attributes = attributes  # number of classes of each
        deeper = [((16, 32, 2),), ((32, 48, 2), (48, 48, 1)), ((48, 96, 2), (96, 96, 1)), ((96, 128, 2),)]
        stages = [PerceptualStage(training_form), *(stack(training_form, *shapes) for shapes in deeper)]
        self.stages = nn.ModuleList(stages)
        self.heads = nn.Linear(2 * 128, sum(attributes.values()))  # on mean and maximum: a logo is small

    def stage_features(self, images: Tensor) -> list[Tensor]:
        """images: [B, 3, 128, 64] in [-1, 1]. Returns five maps, [B, 16, 128, 64] to [B, 128, 8, 4]."""
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: [B, 3, 128, 64] in [-1, 1]. Returns pooled features [B, 128] and logits [B, all classes]."""
        last = self.stage_features(images)[-1]  # (B, 128, 8, 4)
        pooled = last.mean((2, 3))
        return pooled, self.heads(torch.cat([pooled, last.amax((2, 3))], 1))

    def by_attribute(self, logits: Tensor) -> dict[str, Tensor]:
        """Logits [B, classes] -> {attribute: [B, its classes]}."""
        return dict(zip(self.attributes, logits.split(list(self.attributes.values()), 1), strict=True))

    def clothes_logits(self, logits: Tensor) -> Tensor:
        """Logits of all attributes [B, classes] -> log-probability of each pair of CLOTHES, [B, combinations]."""
        heads = self.by_attribute(logits)
        upper, lower = (heads[name].log_softmax(1) for name in CLOTHES)
        return (upper[:, :, None] + lower[:, None, :]).flatten(1)

    def agreement(self, generated: Tensor, target: Tensor) -> Tensor:
        """Share of attributes whose likeliest class is the same in both. Logits [n, classes] twice -> float64 [n]."""
        heads = zip(self.by_attribute(generated).values(), self.by_attribute(target).values(), strict=True)
        return torch.stack([a.argmax(1) == b.argmax(1) for a, b in heads]).double().mean(0)

    @torch.inference_mode()
    def perceptual_distance(self, generated: Tensor, target: Tensor) -> Tensor:
        """Distance of each pair. uint8 [B, 3, H, W] twice -> float64 [B].

        As LPIPS without its calibration: features of every position normalised to length 1, squared differences summed
        over channels and averaged over positions, then over the stages.
        """
        pairs = zip(*(self.stage_features(to_network_size(images)) for images in (generated, target)), strict=True)
        stages = [(F.normalize(a, eps=1e-4) - F.normalize(b, eps=1e-4)).square().sum(1).mean((1, 2)) for a, b in pairs]
        return torch.stack(stages).double().mean(0)


def to_network_size(images: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] -> float32 [B, 3, 128, 64] in [-1, 1]; other sizes are resized, bilinear with antialiasing."""
    images = images.float().div_(127.5).sub_(1)
    if images.shape[2:] != (HEIGHT, WIDTH):
        images = F.interpolate(images, (HEIGHT, WIDTH), mode="bilinear", antialias=True)
    return images.contiguous(memory_format=torch.channels_last)


@overload
def load_embedded(name: Literal["pose"]) -> PoseEstimator: ...
@overload
def load_embedded(name: Literal["attributes"]) -> AttributeClassifier: ...
@overload
def load_embedded(name: Literal["perceptual"]) -> PerceptualStage: ...
def load_embedded(name: str) -> nn.Module:
    """A new, frozen copy of one of NAMES on the CPU; the file is read once.

    Raises ValueError for another name and RuntimeError, naming the file and what to do, when it is missing or damaged.
    """
    if name not in NAMES:
        raise ValueError(f"there is no embedded network {name!r}; there are {', '.join(NAMES)}")
    state, record = _read(name, FOLDER)
    network = empty_network(name, record)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def training_record(name: str) -> dict[str, str]:
    """The header of a weights file (generator version, recipe, held-out scores), and its `sha256`."""
    return _read(name, FOLDER)[1]


def network_description(name: str) -> dict[str, str]:
    """The part of a value's protocol that describes one of the networks."""
    record = training_record(name)
    return {
        "network": f"embedded {name}",
        "weights_sha256": record["sha256"],
        "trained_on": f"synthetic people, generator version {record['generator_version']}",
        "input": "resized to 128x64, bilinear",
    }


def empty_network(name: str, trained: dict[str, str], training_form: bool = False) -> nn.Module:
    """The architecture of one of NAMES; `trained` gives the classifier's attributes."""
    if name == "pose":
        return PoseEstimator(training_form)
    if name == "perceptual":
        return PerceptualStage(training_form)
    return AttributeClassifier(json.loads(trained["attributes"]), training_form)


def store(name: str, network: nn.Module, trained: dict[str, str], folder: Path = FOLDER) -> Path:
    """Write a network in its stored form to `folder`, in half precision, whole or not at all."""
    from safetensors.torch import save

    path = folder / f"{name}.safetensors"
    state = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    write_atomically(path, save(state, trained))
    _read.cache_clear()
    return path


@cache
def _read(name: str, folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights in float32, and the record of their training."""
    from safetensors import SafetensorError, safe_open

    path = folder / f"{name}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            record = {**(file.metadata() or {}), "sha256": sha256_of(path)}
            state = {key: file.get_tensor(key).to(torch.float32) for key in file.keys()}  # noqa: SIM118
        empty_network(name, record).load_state_dict(state)
        return state, record
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise RuntimeError(
            f"the embedded network's weights {path} are missing or damaged ({cause}); reinstall the package, or train "
            f"them anew with `python -m xinggan.metrics.embedded.train --which {name}`"
        ) from error
