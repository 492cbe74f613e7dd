"""What tests of sweeps share: programs that pretend to be SLURM's, a method that can be disturbed, undisturbed runs."""

import os
import sys

import pytest
from small_sweeps import ALONE, CLUSTER, METHOD, PROGRAMS, SETTINGS, TINY, Slurm, run


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, lines in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{lines.format(folder=folder)}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Slurm(folder)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("packed")


@pytest.fixture
def words(tmp_path, cache):
    return [f"cluster={CLUSTER}", *TINY, "seed=0,1,2,3,4", f"runs={tmp_path / 'runs'}", f"cache={cache}"]


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def methods(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods")
    (folder / "steady.py").write_text(METHOD.replace("CRASH", 'raise RuntimeError("the crash of seed 0")'))
    (folder / "steady.yaml").write_text(SETTINGS)
    for name in ("kill-1", "slow-2", "slow-3", "slow-4"):
        (folder / name).touch()
    return folder


@pytest.fixture(scope="module")
def undisturbed(cache, methods, tmp_path_factory):
    """Records of the same runs, but for the one that crashes, computed in one process without any queue."""
    runs = tmp_path_factory.mktemp("undisturbed")
    quiet = tmp_path_factory.mktemp("quiet")
    for file in methods.glob("steady.*"):
        (quiet / file.name).write_text(file.read_text())
    words = ["method=steady", f"seed={','.join(map(str, range(1, 6)))}", *TINY, f"runs={runs}", f"cache={cache}"]
    run(sys.executable, "-c", ALONE, str(quiet), *words)
    return runs
