"""Fixtures of the data tests: a small data set in Pose-Transfer layout, and the annotations behind golden data."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HEIGHT, WIDTH = 32, 16
JOINTS = np.stack([np.linspace(2, 13, 18).round(), np.linspace(1, 30, 18).round()], axis=1).astype(int)  # x, y


def annotation(name: str, joints: np.ndarray = JOINTS) -> str:
    """A row of the annotation file, with the space after the colon that the published files have."""
    return f"{name}: {joints[:, 1].tolist()}: {joints[:, 0].tolist()}"


@pytest.fixture
def make_layout(tmp_path: Path) -> Callable[..., Path]:
    """make_layout(train names, test names, prefix, pairs, size, root) writes noise images and annotations; the root."""

    def make(
        train: tuple[str, ...] = ("1_a.png", "1_b.png", "1_c.png", "2_a.png", "2_b.png"),
        test: tuple[str, ...] = ("3_a.png", "3_b.png", "4_a.png", "4_b.png"),
        prefix: str = "market",
        pairs: dict[str, str] | None = None,
        size: tuple[int, int] = (WIDTH, HEIGHT),
        root: Path = tmp_path / "layout",
    ) -> Path:
        rng = np.random.default_rng(0)
        for split, names in {"train": train, "test": test}.items():
            (root / split).mkdir(parents=True)
            for name in names:
                pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name)
            rows = ["name:keypoints_y:keypoints_x", *(annotation(name) for name in names)]
            (root / f"{prefix}-annotation-{split}.csv").write_text("\n".join(rows) + "\n")
            if pairs and split in pairs:
                (root / f"{prefix}-pairs-{split}.csv").write_text(pairs[split])
        return root

    return make


@pytest.fixture(scope="session")
def golden_poses(shared: Path) -> dict[str, np.ndarray]:
    """Poses float32 [18, 3] of the photographs' test split by name, read without the suite's own reader."""
    poses = {}
    for line in (shared / "data/pku_reid/pku-annotation-test.csv").read_text().splitlines()[1:]:
        name, rows, columns = line.split(": ")
        joints = zip(json.loads(columns), json.loads(rows), strict=True)
        poses[name] = np.array([(x, y, 1) if min(x, y) >= 0 else (-1, -1, 0) for x, y in joints], dtype=np.float32)
    return poses


@pytest.fixture(scope="session")
def movenet_weights(shared: Path) -> Path:
    """MoveNet Lightning. Skips without the library that runs it."""
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: pip install -e '.[annotate]'")
    path = shared / "weights/movenet/movenet_single_pose_lightning_ptq.tflite"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in shared/weights/movenet")
    return path
