"""Runs as people name them on the command line: whole names, patterns, or the beginning of the hash at the end."""

import argparse
import fnmatch
from pathlib import Path

from slurm.submission import Submission, submissions


def add_runs_option(parser: argparse.ArgumentParser) -> None:
    """`--runs FOLDER`, the same for every command."""
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run records (default: runs)")


def submitted(runs_folder: Path) -> tuple[list[Submission], list[str]]:
    """All submissions of these records, and every run in them in the order of its first one.

    Raises ValueError when nothing was ever submitted.
    """
    known = submissions(runs_folder)
    if not known:
        raise ValueError(
            f"{runs_folder}: no sweep was submitted with its records there. python -m slurm.sweep does it; --runs "
            "names another folder"
        )
    return known, list(dict.fromkeys(row["run"] for submission in known for row in submission.rows))


def fitting(runs: list[str], names: list[str]) -> list[str]:
    """The runs that fit one of the names. Raises ValueError for a name that fits none, with what there is."""
    chosen = dict[str, None]()
    for name in names:
        name = Path(name).name
        hits = [
            run
            for run in runs
            if fnmatch.fnmatchcase(run, name) or (len(name) >= 4 and run.rpartition("-")[2].startswith(name))
        ]
        if not hits:
            there = ", ".join(runs[:6]) + (", ..." if len(runs) > 6 else "")
            raise ValueError(f"{name}: fits none of the {len(runs)} submitted runs. There are: {there}")
        chosen |= dict.fromkeys(hits)
    return list(chosen)
