"""A run's environment names the suite's own commit or says why there is none; other rounding is said when it begins."""

import os
import subprocess

import pytest

from ablations.environment import environment, other_rounding, suite_commit
from ablations.record import RunRecord


def git(folder, *words, **variables):
    own = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    command = ["git", "-c", "init.defaultBranch=main", *words]
    done = subprocess.run(command, cwd=folder, env=os.environ | own | variables, capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.fixture
def project(tmp_path):
    """Somebody's git project, with the suite unpacked in its folder `vendor`, which is no repository yet."""
    package = tmp_path / "Projekt ü" / "vendor" / "xinggan"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("first\n")
    git(package.parents[1], "init")
    git(package.parents[1], "add", ".")
    git(package.parents[1], "commit", "-m", "theirs")
    return package.parents[1]


@pytest.fixture
def suite(project):
    """The same folder as a repository of its own."""
    git(project / "vendor", "init")
    git(project / "vendor", "add", ".")
    git(project / "vendor", "commit", "-m", "ours")
    return project / "vendor"


def test_the_commit_is_that_of_the_suites_own_repository_and_changed_files_are_said(suite):
    clean = {"commit": git(suite, "rev-parse", "HEAD"), "dirty": False, "no_commit_because": None}
    assert suite_commit(suite) == clean
    (suite / "untracked").write_text("")
    assert suite_commit(suite) == clean
    listing = suite / "reports" / "results" / "components" / "studies" / "components.json"
    listing.parent.mkdir(parents=True)
    listing.write_text("[]")
    git(suite, "add", "reports")
    assert suite_commit(suite) == clean, "a record of a study is no change of the code"
    (suite / "xinggan" / "__init__.py").write_text("second\n")
    assert suite_commit(suite) == clean | {"dirty": True}


def test_variables_that_name_another_repository_change_nothing(suite, project, monkeypatch):
    ours = suite_commit(suite)
    monkeypatch.setenv("GIT_DIR", str(project / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(project))
    assert suite_commit(suite) == ours != suite_commit(project / "vendor" / "xinggan")


def test_without_a_repository_of_its_own_there_is_no_commit_but_a_reason(project, tmp_path, monkeypatch):
    def reason(folder):
        found = suite_commit(folder)
        assert (found["commit"], found["dirty"]) == (None, None)
        return found["no_commit_because"]

    assert str(project) in reason(project / "vendor")  # tracked there, but by another project
    assert "does not hold the suite" in reason(project)
    assert "not a git repository" in reason(tmp_path)
    git(project / "vendor", "init")
    assert "does not hold the suite" in reason(project / "vendor")  # and without any commit
    git(project / "vendor", "add", ".")
    git(project / "vendor", "commit", "-m", "ours")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch: as if somebody else owned it
    assert "dubious ownership" in reason(project / "vendor")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert reason(project / "vendor").startswith("git: ")


def test_the_environment_has_versions_cpu_and_threads():
    found = environment()
    assert found["version"] and found["packages"]["torch"].startswith("2.") and found["cpu"] and found["threads"] >= 1


def test_the_device_is_the_one_computed_on_whatever_else_the_machine_has(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"accelerator of {device}")
    assert environment("cpu")["device"] == "cpu" and environment("cpu")["driver"] is None
    assert environment("cuda:1")["device"] == "accelerator of cuda:1"


def test_a_training_that_goes_on_where_sums_round_otherwise_is_told_once(tmp_path, capsys):
    import torch

    with RunRecord(tmp_path) as record:
        record.begin("")
        (tmp_path / "checkpoint").mkdir()
        (tmp_path / "checkpoint" / "step-00000010-0123456789abcdef.pt").write_bytes(b"")
        record.begin("")
        assert capsys.readouterr().err == ""
        threads = torch.get_num_threads()
        torch.set_num_threads(threads + 1)
        try:
            record.begin("")
            (line,) = capsys.readouterr().err.splitlines()
            assert f"threads: {threads + 1} instead of {threads}" in line and "bit for bit" in line
            record.begin("")
            assert capsys.readouterr().err == ""
        finally:
            torch.set_num_threads(threads)


def test_what_changes_rounding_is_threads_processor_device_and_torch():
    here = {"threads": 2, "cpu": "a", "device": "cpu", "packages": {"torch": "2.13", "numpy": "2.1"}, "cores": 4}
    assert other_rounding({}, here) == ""
    assert other_rounding(here | {"cores": 8, "packages": {"torch": "2.13", "numpy": "2.2"}}, here) == ""
    assert other_rounding({**here, "cpu": "b", "packages": {"torch": "2.12"}}, here) == (
        "cpu: a instead of b, torch: 2.13 instead of 2.12"
    )
