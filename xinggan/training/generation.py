"""Images of test pairs and of single poses from a method, a batch at a time; an image does not depend on its batch."""

from collections.abc import Sequence

import numpy as np
import torch

from xinggan.data.batch import images_to_bytes
from xinggan.data.packed import PackedSplit
from xinggan.model.method import Method
from xinggan.progress import Progress
from xinggan.training.stop import StopRequest


def image_seeds(seed: int, pairs: np.ndarray) -> np.ndarray:
    """One seed for each test pair's image, int64 [n]: the same pair has the same seed in every batch."""
    states = [np.random.SeedSequence([seed, int(pair), 1]).generate_state(1, np.uint64)[0] >> 1 for pair in pairs]
    return np.array(states, dtype=np.int64)


def generate_pairs(
    method: Method,
    split: PackedSplit,
    pairs: Sequence[int] | np.ndarray,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch: int = 16,
    progress: bool = True,
    stop: StopRequest | None = None,
) -> np.ndarray:
    """The image of every listed pair of `split`: uint8 [n, H, W, 3]. The method is left in the mode it was in.

    Raises Preempted between two batches when `stop` has been asked to, and ValueError with the pairs whose images have
    values that are not finite: such an image would become a black one, and be scored.
    """
    indices = np.asarray(pairs, dtype=np.int64)
    images = np.empty((len(indices), split.height, split.width, 3), dtype=np.uint8)
    training = method.training
    method.eval()
    # Autocast spans all batches, so that bfloat16 copies of the weights are made once.
    with Progress("generating", len(indices), "images", enabled=progress) as shown, method.autocast():
        for start in range(0, len(indices), batch):
            if stop:
                stop.check()
            rows = indices[start : start + batch]
            seeds = torch.from_numpy(image_seeds(seed, rows)).to(device)
            generated = method.generate_pairs(split.batch(rows).to(device), seeds)  # [b, 3, H, W] in [-1, 1]
            images[start : start + len(rows)] = _pixels(generated, [split.pair_id(int(row)) for row in rows])
            shown.update(len(rows))
    method.train(training)
    return images


def generate_poses(
    method: Method,
    source: np.ndarray,
    source_pose: np.ndarray,
    poses: np.ndarray,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch: int = 16,
) -> np.ndarray:
    """The person of `source` (uint8 [H, W, 3]) in each of `poses` [n, 18, 3]: uint8 [n, H, W, 3].

    Every image has the same seed, the one that `generate_pairs` gives to pair 0: a pose's image is the same alone and
    among others, and the random numbers stay the same while the pose moves. Raises ValueError for images that are not
    finite.
    """
    source_image = torch.tensor(source).permute(2, 0, 1)[None].to(device)  # [1, 3, H, W]
    from_pose = torch.tensor(source_pose)[None].to(device)  # [1, 18, 3]
    seeds = torch.from_numpy(image_seeds(seed, np.array([0]))).to(device)  # [1]
    images = []
    with torch.no_grad(), Progress("generating", len(poses), "images") as shown:
        for start in range(0, len(poses), batch):
            to_poses = torch.from_numpy(poses[start : start + batch]).to(device)  # [b, 18, 3]
            b = len(to_poses)
            generated = method.generate(
                source_image.expand(b, -1, -1, -1), from_pose.expand(b, -1, -1), to_poses, seeds.expand(b)
            )
            images.append(_pixels(generated, [f"pose {start + i + 1}" for i in range(b)]))
            shown.update(b)
    return np.concatenate(images)


def _pixels(generated: torch.Tensor, names: list[str]) -> np.ndarray:
    """[B, 3, H, W] in [-1, 1] -> uint8 [B, H, W, 3] on the CPU. Raises ValueError naming images that are not finite."""
    finite = generated.isfinite().flatten(1).all(1).tolist()  # [B]
    if broken := [name for name, whole in zip(names, finite, strict=True) if not whole]:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise ValueError(f"generated images are not finite (NaN or infinite): {', '.join(broken[:3])}{more}")
    return images_to_bytes(generated).permute(0, 2, 3, 1).cpu().numpy()
