"""Images a second of the way from disk to the device: the packed loader beside the one of the published code.

    python -m xinggan.timing.data_path --height 128 --width 64 --batch 32

The published loader opens two image files a pair, reads two precomputed `.npy` arrays of 18 joint maps, and makes
float tensors of all of them on the CPU, in the main process or in workers. Both see the same pairs in the same order,
taking turns, and end with images in [-1, 1] and joint maps of both poses, [B, 18, H, W], on the device.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from xinggan.data.packed import PackedSplit

WARM_UP_BATCHES = 2


def main(arguments: list[str] | None = None) -> int:
    """Write the people of a synthetic data set as files, measure both ways, print a table; 2 for refused input."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m xinggan.timing.data_path",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    numbers = {
        "height": (128, "pixels"),
        "width": (64, "pixels"),
        "people": (24, "identities, of 8 images each"),
        "batch": (32, "pairs a batch"),
        "batches": (8, "batches a turn"),
        "rounds": (5, "turns of each way"),
    }
    for option, (default, unit) in numbers.items():
        parser.add_argument(f"--{option}", type=int, default=default, help=f"{unit} (default: {default})")
    parser.add_argument("--workers", type=int, default=0, help="processes of the published loader (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N (default: cpu)")
    parser.add_argument("--cache", default="data", help="where the packed data set is kept (default: data)")
    options = parser.parse_args(arguments)
    if min(vars(options)[option] for option in numbers) < 1 or options.workers < 0:
        parser.error("accepted are 1 and more, for --workers 0 and more")

    from xinggan.data.prepare import prepare
    from xinggan.data.settings import DatasetSettings

    try:
        settings = DatasetSettings(
            height=options.height, width=options.width, people_train=options.people, people_test=2, test_pairs=2
        )
        split = prepare(settings, options.cache).train
        with tempfile.TemporaryDirectory(prefix="published-") as folder:
            write_published(split, Path(folder))
            speeds = compare(split, Path(folder), options)
    except (ValueError, OSError) as error:
        print(f"xinggan.timing.data_path: {error}", file=sys.stderr)
        return 2
    report(speeds, options)
    return 0


def write_published(split: "PackedSplit", folder: Path) -> None:
    """The images as JPEG and their joint maps as `.npy`, float32 [H, W, 18], as the published preparation does."""
    import numpy as np
    import torch
    from PIL import Image

    from xinggan.data.poses import heatmaps
    from xinggan.progress import track

    for row in track(range(len(split.images)), "files of the published layout", len(split.images), "images"):
        Image.fromarray(split.images[row]).save(folder / f"{row}.jpg", quality=95)
        maps = heatmaps(torch.from_numpy(split.poses[row : row + 1].copy()), split.height, split.width, 6.0, "gaussian")
        np.save(folder / f"{row}.npy", maps[0].permute(1, 2, 0).numpy())


class PublishedPairs:
    """Pairs as the published data set class gives them: files are opened and decoded for every pair anew."""

    def __init__(self, pairs: "np.ndarray", folder: Path):
        self.pairs, self.folder = pairs, folder

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, "Tensor"]:
        """Source and target: float image [3, H, W] in [-1, 1] and joint maps [18, H, W]."""
        found = {}
        for name, row in zip(("source", "target"), self.pairs[index], strict=True):
            found[f"{name}_image"], found[f"{name}_maps"] = self._read(int(row))
        return found

    def _read(self, row: int) -> tuple["Tensor", "Tensor"]:
        import numpy as np
        import torch
        from PIL import Image

        with Image.open(self.folder / f"{row}.jpg") as file:
            pixels = np.array(file.convert("RGB"))  # [H, W, 3]
        image = torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)
        image = (image - 0.5) / 0.5
        maps = torch.from_numpy(np.load(self.folder / f"{row}.npy")).float().permute(2, 0, 1)  # [18, H, W]
        return image, maps


def compare(split: "PackedSplit", folder: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """Images a second of every turn of both ways, which take turns; a pair is two images."""
    import time

    from xinggan.progress import Progress
    from xinggan.timing.device import synchronise

    ways = {"packed": packed_batches(split, options), "published": published_batches(split, folder, options)}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    with Progress("both ways", 2 * options.rounds, "turns") as shown:
        for batches in ways.values():
            for _ in range(WARM_UP_BATCHES):
                next(batches)
        for _ in range(options.rounds):
            for name, batches in ways.items():
                synchronise(options.device)
                began = time.perf_counter()
                for _ in range(options.batches):
                    next(batches)
                synchronise(options.device)
                speeds[name].append(2 * options.batch * options.batches / (time.perf_counter() - began))
                shown.update(note=name)
    return speeds


def packed_batches(split: "PackedSplit", options: argparse.Namespace):
    """Endless batches from the packed arrays, in the order that training takes; floats and joint maps on the device."""
    from itertools import count

    from xinggan.data.batch import images_to_float
    from xinggan.data.poses import heatmaps
    from xinggan.training.schedule import batch_indices

    for step in count():
        pairs = split.batch(batch_indices(0, step, options.batch, len(split))).to(options.device)
        images = [images_to_float(image) for image in (pairs.source_image, pairs.target_image)]
        maps = [heatmaps(pose, split.height, split.width, 6.0, "gaussian")
                for pose in (pairs.source_pose, pairs.target_pose)]  # fmt: skip
        yield images, maps


def published_batches(split: "PackedSplit", folder: Path, options: argparse.Namespace):
    """The same batches from files, through PyTorch's loader, then copied to the device."""
    from itertools import count

    from torch.utils.data import DataLoader

    from xinggan.training.schedule import batch_indices

    data: Any = PublishedPairs(split.pairs, folder)
    order = (batch_indices(0, step, options.batch, len(split)).tolist() for step in count())
    for found in DataLoader(data, batch_sampler=order, num_workers=options.workers):
        found = {name: values.to(options.device) for name, values in found.items()}
        yield ([found["source_image"], found["target_image"]], [found["source_maps"], found["target_maps"]])


def report(speeds: dict[str, list[float]], options: argparse.Namespace) -> None:
    """Medians over the turns, their spread, and the ratio."""
    import numpy as np

    print(f"{options.height}x{options.width}, batches of {options.batch} pairs, {options.workers} loader processes")
    medians = {name: float(np.median(values)) for name, values in speeds.items()}
    for name, values in speeds.items():
        print(f"  {name:<10} {medians[name]:10,.0f} images/s   {min(values):,.0f} to {max(values):,.0f} over the turns")
    print(f"  packed is {medians['packed'] / medians['published']:.1f} times as fast")


if __name__ == "__main__":
    sys.exit(main())
