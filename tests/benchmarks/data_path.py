"""Images a second of the way from disk to the device: the packed loader beside the one of the published code.

    python tests/benchmarks/data_path.py --height 128 --width 64 --batch 32

The published loader opens two image files a pair, reads two precomputed `.npy` arrays of 18 joint maps, and makes
float tensors of all of them on the CPU, in the main process or in workers. Both see the same pairs in the same order
(which is checked first), taking turns, and end with images in [-1, 1] and joint maps of both poses on the device.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from xinggan.data.batch import images_to_float
from xinggan.data.packed import PackedSplit
from xinggan.data.poses import heatmaps
from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings
from xinggan.timing.device import synchronise
from xinggan.training.schedule import batch_indices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {
        "height": (128, "pixels"),
        "width": (64, "pixels"),
        "people": (24, "identities, of 8 images each"),
        "batch": (32, "pairs a batch"),
        "batches": (8, "batches a turn"),
        "rounds": (5, "turns of each way"),
        "workers": (0, "processes of the published loader"),
    }
    for option, (default, unit) in numbers.items():
        parser.add_argument(f"--{option}", type=int, default=default, help=f"{unit} (default: {default})")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N (default: cpu)")
    parser.add_argument("--cache", default="data", help="where the packed data set is kept (default: data)")
    options = parser.parse_args()

    size = {"height": options.height, "width": options.width}
    settings = DatasetSettings(people_train=options.people, people_test=2, test_pairs=2, **size)
    split = prepare(settings, options.cache).train
    with tempfile.TemporaryDirectory(prefix="published-") as folder:
        write_published(split, Path(folder))
        check_equal(split, Path(folder), options)
        speeds = compare(split, Path(folder), options)
    print(f"{split.height}x{split.width}, batches of {options.batch} pairs, {options.workers} loader processes")
    medians = {name: float(np.median(values)) for name, values in speeds.items()}
    for name, values in speeds.items():
        print(f"  {name:<10} {medians[name]:10,.0f} images/s   {min(values):,.0f} to {max(values):,.0f} over the turns")
    print(f"  packed is {medians['packed'] / medians['published']:.1f} times as fast")


def write_published(split: PackedSplit, folder: Path) -> None:
    """The images as JPEG and their joint maps as `.npy`, float32 [H, W, 18], as the published preparation does."""
    for row, (image, pose) in enumerate(zip(split.images, split.poses, strict=True)):
        Image.fromarray(image).save(folder / f"{row}.jpg", quality=95)
        maps = heatmaps(torch.from_numpy(pose[None].copy()), split.height, split.width, 6.0, "gaussian")
        np.save(folder / f"{row}.npy", maps[0].permute(1, 2, 0).numpy())


class PublishedPairs:
    """Pairs as the published data set class gives them: files are opened and decoded for every pair anew."""

    def __init__(self, pairs: np.ndarray, folder: Path):
        self.pairs, self.folder = pairs, folder

    def __getitem__(self, index: int) -> list[Tensor]:
        """Source image, target image [3, H, W] in [-1, 1], source joint maps, target joint maps [18, H, W]."""
        images, maps = [], []
        for row in self.pairs[index]:
            with Image.open(self.folder / f"{row}.jpg") as file:
                pixels = np.array(file.convert("RGB"))  # [H, W, 3]
            images.append((torch.from_numpy(pixels).permute(2, 0, 1).float().div(255) - 0.5) / 0.5)
            maps.append(torch.from_numpy(np.load(self.folder / f"{row}.npy")).float().permute(2, 0, 1))
        return images + maps


def packed_batches(split: PackedSplit, options: argparse.Namespace) -> Iterator[list[Tensor]]:
    """Endless batches from the packed arrays, in the order that training takes; images and joint maps on the device."""
    for step in count():
        pairs = split.batch(batch_indices(0, step, options.batch, len(split))).to(options.device)
        poses = (pairs.source_pose, pairs.target_pose)
        images = [images_to_float(image) for image in (pairs.source_image, pairs.target_image)]
        yield images + [heatmaps(pose, split.height, split.width, 6.0, "gaussian") for pose in poses]


def published_batches(split: PackedSplit, folder: Path, options: argparse.Namespace) -> Iterator[list[Tensor]]:
    """The same batches from files, through PyTorch's loader, then copied to the device."""
    data: Any = PublishedPairs(split.pairs, folder)
    order = (batch_indices(0, step, options.batch, len(split)).tolist() for step in count())
    for found in DataLoader(data, batch_sampler=order, num_workers=options.workers):
        yield [values.to(options.device) for values in found]


def check_equal(split: PackedSplit, folder: Path, options: argparse.Namespace) -> None:
    """Raise AssertionError if the ways differ by more than JPEG loses."""
    pairs = zip(packed_batches(split, options), published_batches(split, folder, options), strict=True)
    for packed, published in islice(pairs, 2):
        for ours, theirs in zip(packed[:2], published[:2], strict=True):
            assert ours.shape == theirs.shape and (ours - theirs).abs().mean() < 0.1
        for ours, theirs in zip(packed[2:], published[2:], strict=True):
            torch.testing.assert_close(ours, theirs)


def compare(split: PackedSplit, folder: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """Images a second of every turn of both ways, which take turns; a pair is two images."""
    ways = {"packed": packed_batches(split, options), "published": published_batches(split, folder, options)}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.rounds + 1):
        for name, batches in ways.items():
            synchronise(options.device)
            began = time.perf_counter()
            for _ in range(options.batches):
                next(batches)
            synchronise(options.device)
            if turn:  # the first warms up
                speeds[name].append(2 * options.batch * options.batches / (time.perf_counter() - began))
    return speeds


if __name__ == "__main__":
    main()
