"""CONTRIBUTING.md is true: the method it shows, written to a folder as it stands there, runs like the suite's own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def methods(tmp_path_factory) -> Path:
    """A folder with the Python and the yaml file of CONTRIBUTING.md."""
    folder = tmp_path_factory.mktemp("methods")
    blocks = dict(re.findall(r"```(python|yaml)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL))
    (folder / "toy.py").write_text(blocks["python"])
    (folder / "toy.yaml").write_text(blocks["yaml"])
    return folder


def run(methods: Path, place: Path, *words: str) -> subprocess.CompletedProcess:
    size = ["preset=smoke", "device=cpu", "dataset.height=32", "dataset.width=16", "dataset.mask_radius=1"]
    places = [f"runs={place / 'runs'}", f"cache={place / 'data'}"]
    command = ["ablations.run", "--no-report", "--methods", str(methods), "method=toy", *size, *places, *words]
    environment = {name: value for name, value in os.environ.items() if name != "XINGGAN_METHODS"}
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_method_it_shows_trains_is_scored_and_generates(methods, tmp_path):
    done = run(methods, tmp_path, "-m", "kernel=3,5")
    assert done.returncode == 0, done.stderr
    folders = sorted((tmp_path / "runs").glob("toy-*"))
    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in folders]
    assert {config["name"] for config in configs} == {"toy", "toy kernel=5"}
    for folder in folders:
        metrics = {value["metric"]: value["value"] for value in json.loads((folder / "metrics.json").read_text())}
        assert 0 < metrics["l1"] < 1
    again = run(methods, tmp_path)
    assert "was finished before" in again.stdout

    code = (
        "import sys; from pathlib import Path; from xinggan.model.from_settings import use_methods\n"
        "from xinggan.trained import read_run\n"
        f"use_methods(Path({str(methods)!r})); from xinggan.trained import load_trained\n"
        f"print(type(load_trained(read_run(Path({str(folders[0])!r})), 'cpu').method).__name__)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert loaded.stdout.strip() == "Toy", loaded.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scale=single"], "scale=single: not a setting of method=toy, which takes width, kernel, learning_rate"),
        (["method.colour=red"], "colour=red: not a setting of method=toy, which takes width, kernel, learning_rate"),
    ],
)
def test_what_its_yaml_does_not_name_is_refused(methods, tmp_path, words, said):
    refused = run(methods, tmp_path, *words)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_without_methods_is_refused(tmp_path):
    refused = run(tmp_path, tmp_path)
    assert refused.returncode == 2
    assert "expected a folder with one .py and one .yaml file for each method" in refused.stderr
