"""Trains the embedded networks on synthetic people and stores them in the package.

`python -m xinggan.metrics.embedded.train` trains all three, a few minutes each on two cores; `--which pose` one of
them. It prints what each scores on people and worlds it has never seen, and writes that into the weights files.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from xinggan.data.synthetic import ATTRIBUTES, GENERATOR_VERSION
from xinggan.metrics.embedded import attribute_learning, pose_learning
from xinggan.metrics.embedded.architectures import AttributeClassifier, folded, to_network_size
from xinggan.metrics.embedded.networks import FOLDER, NAMES, empty_network, store
from xinggan.metrics.embedded.people import LearningSet, render_people
from xinggan.progress import Progress

HELD_OUT_WORLDS, HELD_OUT_PEOPLE = 8, 32  # 1024 images


@dataclass(frozen=True)
class Recipe:
    """How much is rendered, and how long is learned from it."""

    worlds: int
    people: int  # in each world, four images of each
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


def train(name: str, recipe: Recipe, people: LearningSet) -> nn.Module:
    """Train one network from the start and return it in its stored form, on the CPU."""
    architecture, learning = ("pose", pose_learning) if name == "pose" else ("attributes", attribute_learning)
    described = {"attributes": json.dumps(ATTRIBUTES)}
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    network = empty_network(architecture, described, training_form=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, recipe.steps, pct_start=0.15)
    order = torch.cat([torch.randperm(len(people), generator=generator) for _ in range(epochs(recipe, people))])
    with Progress(f"training {name}", recipe.steps * recipe.batch, "images") as progress:
        for rows in order.split(recipe.batch)[: recipe.steps]:
            images = to_network_size(people.images[rows])
            with torch.autocast("cpu", torch.bfloat16):
                loss = learning.loss(network, images, people.poses[rows], people.attributes[rows], generator)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            progress.update(len(rows), f"loss {loss.item():.3f}")
    return folded(network, empty_network(architecture, described))


def epochs(recipe: Recipe, people: LearningSet) -> int:
    """How many times all images have to be gone through for the recipe's steps."""
    return -(-recipe.steps * recipe.batch // len(people))


def train_and_store(name: str, recipe: Recipe, folder: Path = FOLDER) -> dict[str, float]:
    """Render, train, store and score one of NAMES; returns the scores of the network as it is loaded from its file."""
    network = train(name, recipe, render_people(name, recipe.worlds, recipe.people))
    held_out = render_people("held out", HELD_OUT_WORLDS, HELD_OUT_PEOPLE)
    learning = pose_learning if name == "pose" else attribute_learning
    scores = learning.held_out_scores(network.half().float(), held_out)  # as its file will hold it
    record = {
        "generator_version": GENERATOR_VERSION,
        "attributes": json.dumps(ATTRIBUTES),
        "recipe": json.dumps(asdict(recipe)),
        "held_out": json.dumps({score: round(value, 4) for score, value in scores.items()}),
    }
    stored = network
    if name == "perceptual":
        assert isinstance(network, AttributeClassifier)
        stored = network.stages[0]
    store(name, stored, record, folder)
    return scores


def main() -> None:
    """Train the embedded networks on synthetic people, print their held-out scores and store them."""
    parser = argparse.ArgumentParser(prog="python -m xinggan.metrics.embedded.train", description=main.__doc__)
    parser.add_argument(
        "--which", choices=NAMES, nargs="+", default=list(NAMES), help="networks to train (default all)"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to store them (default: in the package)")
    arguments = parser.parse_args()
    for name in arguments.which:
        scores = train_and_store(name, RECIPES[name], arguments.folder)
        print(f"{name}: " + ", ".join(f"{score} {value:.4f}" for score, value in scores.items()), flush=True)


if __name__ == "__main__":
    main()
