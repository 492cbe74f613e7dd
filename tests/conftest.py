"""Fixtures used by many tests: where golden outputs, real photographs and real weights lie when they are at hand."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sweeps first: they take longest, and last they would leave the other worker without anything to do."""
    items.sort(key=lambda item: item.path.parent.name != "slurm")


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


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """The record of a finished run of a few steps on synthetic people of 32x16 pixels. Copy it to change it."""
    from ablations.config import compose
    from ablations.experiment import run_experiment
    from xinggan.training.stop import StopRequest

    folder = tmp_path_factory.mktemp("trained")
    size = ["dataset.height=32", "dataset.width=16", "dataset.mask_radius=1", "training.ema=0.5"]
    place = [f"runs={folder / 'runs'}", f"cache={folder / 'data'}"]
    outcome = run_experiment(compose(["preset=smoke", "scale=single", "device=cpu", *size, *place]), StopRequest())
    assert outcome.state == "finished", outcome.error
    return outcome.folder


@pytest.fixture(scope="session")
def trained_on(trained_run):
    """The packed data set that `trained_run` was trained and scored on."""
    from xinggan.data.packed import open_packed

    (folder,) = (trained_run.parents[1] / "data").glob("synthetic-*")
    return open_packed(folder)
