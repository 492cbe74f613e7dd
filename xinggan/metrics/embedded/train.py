"""Training of the embedded networks on synthetic people: `python -m xinggan.metrics.embedded.train`.

All three take a few minutes each on two cores; `--which pose` trains one of them. The command prints what each scores
on people and worlds it has never seen, and writes that into the weights files. A world fixes cameras and backdrops, so
the networks see many worlds, never a benchmark's; augmentation stands in for what generated images are like: soft,
noisy, off in colour, or made at a lower resolution and enlarged.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.command import parser_of, run_command
from xinggan.data.poses import HEAD_JOINTS, pckh
from xinggan.data.synthetic import ATTRIBUTES, GENERATOR_VERSION, describe, render
from xinggan.metrics.embedded.networks import (
    CELL_PX,
    FOLDER,
    HEIGHT,
    NAMES,
    WIDTH,
    AttributeClassifier,
    Convolution,
    PoseEstimator,
    empty_network,
    expected_places,
    store,
    to_network_size,
)
from xinggan.progress import Progress

FIRST_WORLD = {"pose": 1_000_000, "attributes": 2_000_000, "perceptual": 3_000_000, "held out": 4_000_000}
VIEWS = 4  # images of each person
WIDE = 88  # pixels: every fourth world is seen at DeepFashion's shape and squeezed, as images of that shape will be
HELD_OUT_WORLDS, HELD_OUT_PEOPLE = 8, 32  # 1024 images
MIRRORED_JOINTS = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)
WEIGHT_OF_CROSS_ENTROPY = 0.3
SMALLEST_TOLERANCE_PX = 1.5


@dataclass(frozen=True)
class Recipe:
    """Amount of rendered people and length of the training on them."""

    worlds: int
    people: int  # in each world, VIEWS images of each
    steps: int
    seed: int
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2


RECIPES = {
    "pose": Recipe(worlds=40, people=128, steps=2500, seed=11),
    "attributes": Recipe(worlds=40, people=128, steps=2000, seed=12, learning_rate=3e-3),
    "perceptual": Recipe(worlds=20, people=128, steps=600, seed=13, learning_rate=3e-3),
}


@dataclass(frozen=True)
class LearningSet:
    """n rendered images with what there is to learn about them."""

    images: Tensor  # [n, 3, 128, 64] uint8
    poses: Tensor  # [n, 18, 3] float32: x, y in pixels, visible
    attributes: Tensor  # [n, attributes] int64: class of each, in the order of ATTRIBUTES

    def __len__(self) -> int:
        return len(self.images)


def render_people(purpose: str, worlds: int, people: int) -> LearningSet:
    """VIEWS images each of `people` people in each of `worlds` worlds set aside for `purpose`, a key of FIRST_WORLD."""
    who, views = np.arange(people).repeat(VIEWS), np.tile(np.arange(VIEWS), people)
    parts = []
    for world in range(FIRST_WORLD[purpose], FIRST_WORLD[purpose] + worlds):
        width = WIDE if world % 4 == 3 else WIDTH
        rendering = render(world, who, views, HEIGHT, width)
        images, poses = torch.from_numpy(rendering.images).permute(0, 3, 1, 2), torch.from_numpy(rendering.poses)
        if width != WIDTH:
            images = to_network_size(images).add(1).mul(127.5).round().to(torch.uint8)
            poses = poses * torch.tensor([WIDTH / width, 1, 1])
        described = describe(world, who)
        attributes = torch.from_numpy(np.stack([described[name] for name in ATTRIBUTES], 1))
        parts.append((images.contiguous(), poses, attributes))
    return LearningSet(*(torch.cat(column) for column in zip(*parts, strict=True)))


def mirrored(images: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
    """Images [B, 3, H, W] and poses [B, 18, 3] seen in a mirror: left joints become right ones."""
    poses = poses[:, MIRRORED_JOINTS].clone()
    poses[..., 0] = images.shape[3] - poses[..., 0]
    return images.flip(3), poses


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half of a batch, float [B, 3, H, W] in [-1, 1], made to look generated; the other half as it is."""
    half = len(images) // 2
    changed = images[:half]
    for change in (_blurred, _with_noise, _recoloured):
        if torch.rand((), generator=generator) < 0.6:
            changed = change(changed, generator)
    return torch.cat([changed.clamp(-1, 1), images[half:]])


def _blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    """Reduced by a factor of up to 2.2, sometimes along one axis only, and enlarged again."""
    factors = 1 + 1.2 * torch.rand(2, generator=generator)
    small = [max(8, round(float(size / factor))) for size, factor in zip(images.shape[2:], factors, strict=True)]
    reduced = F.interpolate(images, small, mode="bilinear", antialias=True)
    return F.interpolate(reduced, images.shape[2:], mode="bilinear")


def _with_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise of up to 12 grey levels, in single pixels or in blotches of 4x4."""
    deviation = 12 / 127.5 * torch.rand((len(images), 1, 1, 1), generator=generator)
    if torch.rand((), generator=generator) < 0.5:
        return images + deviation * torch.randn(images.shape, generator=generator)
    height, width = images.shape[2:]
    blotches = torch.randn((len(images), 3, height // 4, width // 4), generator=generator)
    return images + deviation * F.interpolate(blotches, (height, width), mode="bilinear")


def _recoloured(images: Tensor, generator: torch.Generator) -> Tensor:
    """A gain within 10 % and an offset of up to 10 grey levels for each channel."""
    gain, offset = (2 * torch.rand((2, len(images), 3, 1, 1), generator=generator) - 1) * 0.1
    return images * (1 + gain) + offset * (100 / 127.5)


def pose_loss(network: nn.Module, images: Tensor, poses: Tensor, generator: torch.Generator) -> Tensor:
    """Loss of one batch: images float [B, 3, 128, 64] in [-1, 1], poses [B, 18, 3].

    A joint's map learns the place as a distribution over cells whose mean is the joint (cross-entropy), and its mean
    learns to be within PCKh's tolerance (a regression in units of half the head box), tightest in profile views.
    """
    if torch.rand((), generator=generator) < 0.5:
        images, poses = mirrored(images, poses)
    maps, presence = network(augmented(images, generator))
    maps, visible = maps.float(), (poses[..., 2] > 0).float()  # (B, 18, 32, 16), (B, 18)
    log_probability = maps.flatten(2).log_softmax(2).view_as(maps)
    cross_entropy = -(cell_weights(poses, maps.shape[2], maps.shape[3]) * log_probability).sum((2, 3))  # (B, 18)
    error = (expected_places(maps) - poses[..., :2]).abs() / _tolerance_px(poses)[:, None]  # (B, 18, 2)
    regression = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=0.5).mean(2)
    places = ((WEIGHT_OF_CROSS_ENTROPY * cross_entropy + regression) * visible).sum() / visible.sum()
    return places + F.binary_cross_entropy_with_logits(presence.float(), visible)


def cell_weights(poses: Tensor, rows: int, columns: int) -> Tensor:
    """[B, 18, 3] -> [B, 18, rows, columns]: one joint's weight on its four nearest cells, with the joint as mean."""

    def tents(place_px: Tensor, cells: int) -> Tensor:
        centres = CELL_PX * (torch.arange(cells) + 0.5)
        return (1 - (place_px[..., None] - centres).abs() / CELL_PX).clamp(min=0)  # (B, 18, cells)

    weights = tents(poses[..., 1], rows)[..., None] * tents(poses[..., 0], columns)[..., None, :]
    return weights / weights.sum((2, 3), keepdim=True).clamp(min=1e-6)


def _tolerance_px(poses: Tensor) -> Tensor:
    """[B, 18, 3] -> [B, 2]: half the width and height of the head box, as PCKh allows along x and y."""
    head, shown = poses[:, HEAD_JOINTS, :2], poses[:, HEAD_JOINTS, 2:] > 0
    lowest = torch.where(shown, head, torch.inf).amin(1)
    highest = torch.where(shown, head, -torch.inf).amax(1)
    return ((highest - lowest) / 2).nan_to_num(SMALLEST_TOLERANCE_PX).clamp(min=SMALLEST_TOLERANCE_PX)


def attribute_loss(
    network: AttributeClassifier, images: Tensor, attributes: Tensor, generator: torch.Generator
) -> Tensor:
    """Loss of one batch: images float [B, 3, 128, 64] in [-1, 1], attributes [B, attributes]."""
    if torch.rand((), generator=generator) < 0.5:
        images = images.flip(3)
    _, logits = network(augmented(images, generator))
    heads = network.by_attribute(logits.float()).values()
    losses = [F.cross_entropy(head, classes) for head, classes in zip(heads, attributes.T, strict=True)]
    return torch.stack(losses).mean()


@torch.inference_mode()
def held_out_scores(network: PoseEstimator | AttributeClassifier, people: LearningSet) -> dict[str, float]:
    """Scores of a network on people it has never seen.

    A pose estimator: PCKh as the metric counts it, PCKh if no joint were called absent, and how often presence is
    right. A classifier: accuracy of each attribute, and their mean; an attribute that a view hides counts too.
    """
    batches = people.images.split(128)
    if isinstance(network, PoseEstimator):
        estimated = torch.cat([network.estimate(images) for images in batches])
        places = torch.cat([network.estimate(images, all_joints=True) for images in batches])
        correct, total = pckh(estimated.numpy(), people.poses.numpy())
        correct_places, _ = pckh(places.numpy(), people.poses.numpy())
        return {
            "pckh": float(correct.sum() / total.sum()),
            "pckh_of_places": float(correct_places.sum() / total.sum()),
            "presence_accuracy": float((estimated[..., 2] == people.poses[..., 2]).float().mean()),
        }
    heads = network.by_attribute(torch.cat([network(to_network_size(images))[1] for images in batches]))
    accuracy = {
        name: float((heads[name].argmax(1) == classes).float().mean())
        for name, classes in zip(heads, people.attributes.T, strict=True)
    }
    return {"mean_accuracy": sum(accuracy.values()) / len(accuracy), **accuracy}


def fold_normalisation(network: nn.Module) -> None:
    """Put `network` into evaluation mode with its batch normalisation inside the convolutions, as it is stored."""
    network.eval()
    for block in network.modules():
        if isinstance(block, Convolution):
            block[0], block[1] = nn.utils.fuse_conv_bn_eval(block[0], block[1]), nn.Identity()  # type: ignore[arg-type, type-var]


def train(name: str, recipe: Recipe, people: LearningSet) -> PoseEstimator | AttributeClassifier:
    """Train one network from the start and return it in its stored form, on the CPU.

    `perceptual` gives the whole classifier, whose first stage is stored.
    """
    architecture = "pose" if name == "pose" else "attributes"
    described = {"attributes": json.dumps(ATTRIBUTES)}
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    network = empty_network(architecture, described, training_form=True)
    assert isinstance(network, (PoseEstimator, AttributeClassifier))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, recipe.steps, pct_start=0.15)
    epochs = -(-recipe.steps * recipe.batch // len(people))
    order = torch.cat([torch.randperm(len(people), generator=generator) for _ in range(epochs)])
    with Progress(f"training {name}", recipe.steps * recipe.batch, "images") as progress:
        for rows in order.split(recipe.batch)[: recipe.steps]:
            images = to_network_size(people.images[rows])
            with torch.autocast("cpu", torch.bfloat16):
                if isinstance(network, AttributeClassifier):
                    loss = attribute_loss(network, images, people.attributes[rows], generator)
                else:
                    loss = pose_loss(network, images, people.poses[rows], generator)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            progress.update(len(rows), f"loss {loss.item():.3f}")
    fold_normalisation(network)
    return network


def train_and_store(name: str, recipe: Recipe, folder: Path = FOLDER) -> dict[str, float]:
    """Render, train, store and score one of NAMES; returns the scores of the network as it is loaded from its file."""
    network = train(name, recipe, render_people(name, recipe.worlds, recipe.people))
    held_out = render_people("held out", HELD_OUT_WORLDS, HELD_OUT_PEOPLE)
    scores = held_out_scores(network.half().float(), held_out)  # as its file will hold it
    record = {
        "generator_version": GENERATOR_VERSION,
        "attributes": json.dumps(ATTRIBUTES),
        "recipe": json.dumps(asdict(recipe)),
        "held_out": json.dumps({score: round(value, 4) for score, value in scores.items()}),
    }
    store(name, network.get_submodule("stages.0") if name == "perceptual" else network, record, folder)
    return scores


def main() -> None:
    """Train the embedded networks on synthetic people, print their held-out scores and store them."""
    parser = parser_of("xinggan.metrics.embedded.train", main.__doc__)
    parser.add_argument(
        "--which", choices=NAMES, nargs="+", default=list(NAMES), help="networks to train (default all)"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to store them (default: in the package)")
    arguments = parser.parse_args()
    for name in arguments.which:
        scores = train_and_store(name, RECIPES[name], arguments.folder)
        print(f"{name}: " + ", ".join(f"{score} {value:.4f}" for score, value in scores.items()), flush=True)


if __name__ == "__main__":
    run_command(main)
