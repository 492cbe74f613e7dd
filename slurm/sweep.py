"""Submit every run of a grid or a study that is not finished or on its way, and return at once.

    python -m slurm.sweep study=components seed=0,1,2
    python -m slurm.sweep scale=multi,single norm=instance cluster=slurm partition=gpu gpus=4 timeout_min=1440

The words are those of `ablations.run`, study=NAME, cluster=NAME and the settings below. With cluster=local, the default
where there is no sbatch, this machine works them off in the background. The same command again submits what is missing;
a run that failed is tried again once the code has changed, or with --retry.
"""

import copy
import re
from pathlib import Path
from typing import Any

from ablations.config import REFERENCE_KEYS, Experiment, check_processes, compose
from ablations.record import list_rows, titled
from ablations.run import prepare_folders
from ablations.study import STUDIES, merged, model, overlap, study_rows
from ablations.words import expand, key_of
from baselines import REFERENCES
from slurm.cluster import read_cluster
from slurm.status import command
from slurm.submission import Row, Submission
from slurm.submit import decide_and_submit
from xinggan.command import parser_of, run_command
from xinggan.model.from_settings import use_methods

EPILOG = """settings: partition gpus nodes cpus mem_gb timeout_min array_parallelism signal_s constraint qos account
python, any other parameter of submitit, and sbatch.OPTION (see slurm/conf/slurm.yaml and docs/cluster.md)"""


@command("sweep")
def main(arguments: list[str] | None = None) -> None:
    """Exit status 0: submitted, or nothing to do; 1: SLURM refused or did not answer; 2: words are not accepted."""
    parser = parser_of("slurm.sweep", __doc__, EPILOG)
    parser.add_argument("--dry-run", action="store_true", help="print what sbatch would be given, submit nothing")
    parser.add_argument("--retry", action="store_true", help="try runs again that failed, though nothing has changed")
    parser.add_argument("--replace", action="store_true", help="put finished and failed records aside and start anew")
    parser.add_argument("--methods", type=Path, metavar="FOLDER", help="methods of your own (see CONTRIBUTING.md)")
    parser.add_argument("--no-report", action="store_true", help="leave out the job that builds the report")
    parser.add_argument("words", nargs="*", metavar="key=value", help="what to run, and where")
    options = parser.parse_intermixed_args(arguments)
    if options.retry and options.replace:
        parser.error("--retry goes on where a run failed, --replace starts anew: choose one")
    cluster, words = read_cluster(options.words)
    for place in [str(Path.cwd()), *(word for word in words if word.startswith("runs="))]:
        if "%" in place or "\\" in place:
            raise ValueError(f"{place}: SLURM and submitit replace % and \\ in paths; name a folder without them")
    if options.methods:
        use_methods(options.methods)
    studies = [word.partition("=")[2] for word in words if word.startswith("study=")]
    if len(studies) > 1 or "," in "".join(studies):
        raise ValueError("study=: one study at a time")
    study = studies[0] if studies else None
    runs_folder, rows = plan(study, [word for word in words if not word.startswith("study=")], cluster.processes)
    if study and not options.dry_run:
        list_study(runs_folder, study, rows)
    methods = str(options.methods.absolute()) if options.methods else None
    everything = [row.run for row in rows]
    wanted = Submission(runs_folder, cluster, study, methods, str(Path.cwd()), everything, rows)
    mode = "replace" if options.replace else "retry" if options.retry else "sweep"
    decide_and_submit(wanted, mode, not options.no_report, options.dry_run)


def plan(study: str | None, words: list[str], processes: int) -> tuple[Path, list[Row]]:
    """The folder of run records, and every run with the trivial references that every table needs: runs of their own,
    so that no two jobs compute them. `processes`: how many work on a run.

    Raises ValueError or OSError for words, data or a place that cannot be used. Packs data sets that are not.
    """
    rows = titled_rows(study, words)
    rows += reference_rows([row for _, row in rows])
    experiments = composed([row for _, row in rows])
    for experiment in experiments:  # what `ablations.run` would refuse in each job
        check_processes(experiment, processes)
    folders, runs = prepare_folders(experiments), dict[str, Row]()
    for (title, row), experiment, folder in zip(rows, experiments, folders, strict=True):
        trained = experiment.training is not None
        runs.setdefault(folder.name, Row(folder.name, titled(title, experiment), row, trained))
    return folders[0].parent.absolute(), list(runs.values())


def titled_rows(study: str | None, words: list[str]) -> list[tuple[str, list[str]]]:
    """Title and words of each run of a grid, or of a study's rows, which may be asked for on several data sets."""
    if study is None:
        return [(" ".join(row), row) for row in expand(words)]
    if study not in STUDIES:
        raise ValueError(f"study={study}: accepted are {', '.join(STUDIES)}")
    if study == "efficiency":
        raise ValueError(
            "study=efficiency: its methods take turns on one machine; use python -m ablations.study efficiency"
        )
    of_data = [word for word in words if overlap(key_of(word), "dataset")]
    others = [word for word in words if word not in of_data]
    return [row for chosen in expand(of_data) for row in study_rows(study, [*chosen, *others])]


def reference_rows(rows: list[list[str]]) -> list[tuple[str, list[str]]]:
    """Name and words of each trivial reference on each test set that the rows are scored on."""
    kept = {tuple(word for word in row if key_of(word).split(".")[0] in REFERENCE_KEYS) for row in rows}
    return [(name, [f"method={name}", *words]) for words in sorted(kept) for name in REFERENCES]


def composed(rows: list[list[str]]) -> list[Experiment]:
    """The experiment of each row; rows that differ in their seed alone are composed once: most of the time."""
    known: dict[tuple[str, ...], Experiment] = {}
    found = []
    for row in rows:
        seeds = [word for word in row if re.fullmatch(r"seed=\d{1,9}", word)]
        others = tuple(word for word in row if word not in seeds)
        known[others] = known.get(others) or compose(list(others))
        found.append(copy.deepcopy(known[others]))
        for word in seeds:
            found[-1].seed = int(word.partition("=")[2])
            found[-1].method |= {"seed": found[-1].seed} if "seed" in found[-1].method else {}
    return found


def list_study(runs_folder: Path, study: str, rows: list[Row]) -> None:
    """Keep which runs are the rows of the study, for the report: a table, and a file, for each data set.

    What an earlier sweep asked for stays, as in `merged`.
    """
    of_data = [[word for word in row.words if overlap(key_of(word), "dataset")] for row in rows]
    shared = set.intersection(*map(set, of_data))
    tables: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for row, words, experiment in zip(rows, of_data, composed([row.words for row in rows]), strict=True):
        data = [Path(word.partition("=")[2]).name for word in words if word not in shared]
        tables.setdefault("-".join([study, *data]), []).append((row.title, row.run, model(experiment)))
    for name, listed in tables.items():
        list_rows(runs_folder, name, merged(runs_folder, study, listed, name))


if __name__ == "__main__":
    run_command(main)
