"""The runs that the words of a sweep mean: of a grid or a study, each once, and their trivial references.

For launchers that give each run a job of its own (slurm.sweep). The references that every table needs are runs of their
own there, so that no two jobs compute them.
"""

import copy
import re
from pathlib import Path

from ablations.config import (
    REFERENCE_KEYS,
    ConfigurationError,
    Experiment,
    check_processes,
    compose,
    expand,
    key_of,
)
from ablations.record import list_rows, titled
from ablations.run import prepare_folders
from ablations.study import STUDIES, overlap, study_rows
from baselines import REFERENCES


def plan_runs(words: list[str], processes: int) -> tuple[str | None, Path, list[dict]]:
    """The study, the folder of run records, and {run, title, words, trained} of every run, then of the references; data
    sets are packed where they are not. `processes`: how many work on a run.

    Raises ValueError or OSError for words, data or a place that cannot be used.
    """
    studies = [word.partition("=")[2] for word in words if word.startswith("study=")]
    if len(studies) > 1 or "," in "".join(studies):
        raise ConfigurationError("study=: one study at a time")
    study = studies[0] if studies else None
    rows = grid_rows(study, [word for word in words if not word.startswith("study=")])
    configs = experiments([row for _, row in rows])
    for config in configs:  # what `ablations.run` would refuse in each job
        check_processes(config.training, config.method.get("norm") == "batch", processes)
    rows += reference_rows([row for _, row in rows])
    configs += experiments([row for _, row in rows[len(configs) :]])
    folders = prepare_folders(configs)
    runs: dict[str, dict] = {}
    for (title, row), config, folder in zip(rows, configs, folders, strict=True):
        facts = {"title": titled(title, config), "words": row, "trained": config.training is not None}
        runs.setdefault(folder.name, {"run": folder.name, **facts})
    return study, folders[0].parent.absolute(), list(runs.values())


def experiments(rows: list[list[str]]) -> list[Experiment]:
    """The experiment of each row; rows that differ in their seed alone are composed once: most of the time."""
    composed: dict[tuple[str, ...], Experiment] = {}
    found = []
    for row in rows:
        seeds = [word for word in row if re.fullmatch(r"seed=\d{1,9}", word)]
        others = tuple(word for word in row if word not in seeds)
        if others not in composed:
            composed[others] = compose(list(others))
        found.append(copy.deepcopy(composed[others]))
        for word in seeds:
            found[-1].seed = int(word.partition("=")[2])
            found[-1].method |= {"seed": found[-1].seed} if "seed" in found[-1].method else {}
    return found


def grid_rows(study: str | None, words: list[str]) -> list[tuple[str, list[str]]]:
    """Title and words of each run of a grid, or of a study's rows, which may be asked for on several data sets."""
    if study is None:
        rows = expand(words)
        differing = {word for row in rows for word in row if len(rows) == 1 or any(word not in other for other in rows)}
        return [(" ".join(word for word in row if word in differing), row) for row in rows]
    if study not in STUDIES:
        raise ConfigurationError(f"study={study}: accepted are {', '.join(STUDIES)}")
    of_data = [word for word in words if overlap(key_of(word), "dataset")]
    others = [word for word in words if word not in of_data]
    return [row for chosen in expand(of_data) for row in study_rows(study, [*chosen, *others])]


def reference_rows(rows: list[list[str]]) -> list[tuple[str, list[str]]]:
    """Name and words of each trivial reference on each test set that the rows are scored on."""
    kept = {tuple(word for word in row if key_of(word).split(".")[0] in REFERENCE_KEYS) for row in rows}
    return [(name, [f"method={name}", *words]) for words in sorted(kept) for name in REFERENCES]


def list_study(runs_folder: Path, study: str, rows: list[dict]) -> None:
    """Keep which runs are the rows of the study, for the report: a table, and a file, for each data set."""
    of_data = [[word for word in row["words"] if overlap(key_of(word), "dataset")] for row in rows]
    shared = set.intersection(*map(set, of_data))
    tables: dict[str, list[tuple[str, str]]] = {}
    for row, words in zip(rows, of_data, strict=True):
        data = [Path(word.partition("=")[2]).name for word in words if word not in shared]
        tables.setdefault("-".join([study, *data]), []).append((row["title"], row["run"]))
    for name, listed in tables.items():
        list_rows(runs_folder, name, listed)
