"""Fixtures of the data tests: small data sets in Pose-Transfer layout, and the annotations behind golden data."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dotted_pictures import dotted_picture
from PIL import Image

HEIGHT, WIDTH = 32, 16
JOINTS = np.stack([np.linspace(2, 13, 18).round(), np.linspace(1, 30, 18).round()], axis=1).astype(int)  # x, y


PEOPLE = {"train": ("anna", "ben", "carl", "dora"), "test": ("emil", "fay", "gus", "hana")}


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
        joints = (JOINTS * np.array(size) / (WIDTH, HEIGHT)).astype(int)
        for split, names in {"train": train, "test": test}.items():
            (root / split).mkdir(parents=True)
            for name in names:
                pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name)
            rows = ["name:keypoints_y:keypoints_x", *(annotation(name, joints) for name in names)]
            (root / f"{prefix}-annotation-{split}.csv").write_text("\n".join(rows) + "\n")
            if pairs and split in pairs:
                (root / f"{prefix}-pairs-{split}.csv").write_text(pairs[split])
        return root

    return make


@pytest.fixture
def dotted(tmp_path: Path) -> Callable[..., Path]:
    """dotted(...) writes three pictures of each of four people a split, and their joints; the root.

    Args: size: width and height of the pictures. joints_in: the size that joints are counted in (default: `size`).
    picture: makes the picture of joints [18, 2] and `size`. joints: changes those of the table. name: of each picture,
    with {person}, {view} and {number}.
    """

    def make(
        size: tuple[int, int] = (64, 128),
        joints_in: tuple[int, int] | None = None,
        prefix: str = "people",
        name: str = "{person}_{view}.png",
        picture: Callable[[np.ndarray, tuple[int, int]], Image.Image] = dotted_picture,
        joints: Callable[[np.ndarray], np.ndarray] = lambda joints: joints,
        root: Path = tmp_path / "people",
    ) -> Path:
        rng = np.random.default_rng(0)
        grid = np.stack(np.divmod(np.arange(18), 3)[::-1], axis=1) * (64 / 3, 128 / 6) + (10, 10)  # apart from another
        for split, people in PEOPLE.items():
            rows = ["name:keypoints_y:keypoints_x"]
            for number, person in enumerate(people):
                for view in range(3):
                    base = grid + rng.integers(-7, 8, (18, 2))  # in 64 x 128
                    path = root / split / name.format(person=person, view=view, number=3 * number + view)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    picture((base + 0.5) * (np.array(size) / (64, 128)) - 0.5, size).save(path)
                    written = joints((base + 0.5) * (np.array(joints_in or size) / (64, 128)) - 0.5)
                    rows.append(annotation(path.relative_to(root / split).as_posix(), written))
            (root / f"{prefix}-annotation-{split}.csv").write_text("\n".join(rows) + "\n")
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
