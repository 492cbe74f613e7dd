"""Fixtures used by many tests: where golden outputs, real photographs and real weights lie when they are at hand."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared/` beside the checkout: golden outputs, photographs, weights. Skips where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("the folder shared/ with golden outputs and real photographs is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """A packed data set of a few small synthetic people, 32x16 pixels."""
    from xinggan.data.prepare import prepare
    from xinggan.data.settings import DatasetSettings

    settings = DatasetSettings(height=32, width=16, people_train=4, people_test=2, views=4, test_pairs=8, mask_radius=1)
    return prepare(settings, tmp_path_factory.mktemp("packed"), progress=False)
