"""The environment of a run: which code, on which machine, with which libraries. Importing this loads no torch."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import xinggan
from xinggan.files import SUITE

PACKAGES = ("torch", "torchvision", "numpy", "scikit-image", "lpips", "torch-fidelity", "hydra-core", "accelerate")
RESULTS = "reports/results"  # where records of studies are committed
REPOSITORY_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")


def environment(device: str = "cpu") -> dict[str, Any]:
    """Version and commit of the suite, packages, Python, the device computed on, CPU and threads of this process."""
    import torch

    from xinggan.timing.device import device_name, is_cuda

    return {
        "version": xinggan.__version__,
        **suite_commit(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": device_name(device),
        "driver": torch.version.cuda if is_cuda(device) else None,
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def other_rounding(before: dict[str, Any], here: dict[str, Any]) -> str:
    """The differences between two environments that change how sums are rounded, as `threads: 1 instead of 2`."""
    pairs = {key: (before.get(key), here[key]) for key in ("threads", "cpu", "device")}
    pairs["torch"] = before.get("packages", {}).get("torch"), here["packages"]["torch"]
    return ", ".join(f"{key}: {now} instead of {then}" for key, (then, now) in pairs.items() if then not in (None, now))


def suite_commit(folder: Path = SUITE) -> dict[str, Any]:
    """{commit, dirty, no_commit_because} of the suite in `folder`: its commit and whether tracked files have changed.

    Changes below reports/results do not count. Only the suite's own repository does, whose top is `folder` and which
    tracks its files. Without one, commit and dirty are None and the reason is said, such as that the folder lies in
    another project's repository.
    """
    unknown: dict[str, Any] = {"commit": None, "dirty": None}
    try:
        top = _git(folder, "rev-parse", "--show-toplevel")
        if Path(top).resolve() != folder.resolve():
            return unknown | {"no_commit_because": f"the suite lies inside the repository of another project, {top}"}
        if not _git(folder, "ls-files", "xinggan/__init__.py"):
            return unknown | {"no_commit_because": f"the repository {top} does not hold the suite's files"}
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".", f":!{RESULTS}")
        return {"commit": _git(folder, "rev-parse", "HEAD"), "dirty": bool(changes), "no_commit_because": None}
    except subprocess.CalledProcessError as error:
        said = os.fsdecode(error.stderr).strip().splitlines()
        return unknown | {"no_commit_because": f"git: {said[0] if said else error}"}
    except (OSError, subprocess.SubprocessError) as error:
        return unknown | {"no_commit_because": f"git: {error}"}


def _git(folder: Path, *words: str) -> str:
    """The answer of git in a folder, whatever repository the environment names."""
    own = {name: value for name, value in os.environ.items() if name not in REPOSITORY_VARIABLES}
    answer = subprocess.run(
        ["git", *words], cwd=folder, env=own | {"LC_ALL": "C"}, capture_output=True, timeout=10, check=True
    )
    return os.fsdecode(answer.stdout).strip()


def _cpu_name() -> str:
    """The processor's model as Linux names it, elsewhere as Python does."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        cpuinfo = ""
    found = re.search(r"^model name\s*:\s*(.*)", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.processor()
