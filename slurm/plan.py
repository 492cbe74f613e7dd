"""From the words of the command to the runs they mean, in the way of `ablations.run` and `ablations.study`.

The trivial references that every table needs are runs of their own here, so that no two jobs compute them.
"""

from dataclasses import dataclass
from pathlib import Path

from ablations.config import key_of
from slurm.cluster import Cluster

_OF_A_REFERENCE = ("preset", "dataset", "evaluation", "device", "runs", "cache")  # see ablations.config.reference


@dataclass(frozen=True)
class PlannedRun:
    """One run: its title in tables, the words that `ablations.run` takes, and the folder of its record."""

    title: str
    words: list[str]
    folder: Path
    trained: bool


def plan_runs(study: str | None, words: list[str], cluster: Cluster) -> list[PlannedRun]:
    """Every run that the words mean, each once, then their references; data sets are packed where they are not.

    Raises ValueError or OSError for words, data or a place that cannot be used.
    """
    from ablations.config import compose_all
    from ablations.run import prepare_folders

    rows = grid_rows(study, words)
    configs = compose_all([row for _, row in rows])
    for config in configs:
        _check_processes(config, cluster)
    references = reference_rows([row for _, row in rows])
    rows += references
    configs += compose_all([row for _, row in references])
    folders = prepare_folders(configs)
    runs: dict[Path, PlannedRun] = {}
    for (title, row), config, folder in zip(rows, configs, folders, strict=True):
        runs.setdefault(folder, PlannedRun(title, row, folder.absolute(), config.training is not None))
    return list(runs.values())


def grid_rows(study: str | None, words: list[str]) -> list[tuple[str, list[str]]]:
    """Title and words of each run of a grid, or of a study's rows, which may be asked for on several data sets."""
    from ablations.config import ConfigurationError, expand
    from ablations.study import STUDIES, overlap, study_rows

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
    from ablations.config import REFERENCES

    kept = {tuple(word for word in row if key_of(word).split(".")[0] in _OF_A_REFERENCE) for row in rows}
    return [(name, [f"method={name}", *words]) for words in sorted(kept) for name in REFERENCES]


def _check_processes(config, cluster: Cluster) -> None:
    """Refuse now what `ablations.run` would refuse in each job: see ablations.experiment."""
    if cluster.processes == 1 or config.training is None:
        return
    if config.training.batch % cluster.processes:
        raise ValueError(
            f"training.batch={config.training.batch} does not divide among the processes of gpus={cluster.gpus}"
        )
    if config.method.get("norm") == "batch":
        raise ValueError(f"norm=batch sees only its part of a batch in each of {cluster.gpus} processes: norm=instance")
