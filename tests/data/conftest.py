"""Fixtures of the data tests: the annotations that the golden masks and heatmaps were drawn from."""

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def golden_poses(shared: Path) -> dict[str, np.ndarray]:
    """Poses float32 [18, 3] of the photographs' test split by name, read without the suite's own reader."""
    poses = {}
    for line in (shared / "data/pku_reid/pku-annotation-test.csv").read_text().splitlines()[1:]:
        name, rows, columns = line.split(": ")
        joints = zip(json.loads(columns), json.loads(rows), strict=True)
        poses[name] = np.array([(x, y, 1) if min(x, y) >= 0 else (-1, -1, 0) for x, y in joints], dtype=np.float32)
    return poses
