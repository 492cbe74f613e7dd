"""No test of a metric finds downloaded weights, unless it puts them where they are looked for."""

import pytest


@pytest.fixture(autouse=True)
def torch_home(tmp_path, monkeypatch):
    """The folder that weights are looked for in, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    return tmp_path / "torch_home"
