"""Fixtures used by many tests: where golden outputs, real photographs and real weights lie when they are at hand."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared/` beside the checkout, with golden outputs, photographs and weights; skips where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("the folder shared/ with golden outputs and real photographs is not beside this checkout")
    return folder
