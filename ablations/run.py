"""Run one experiment, or with -m a grid of them: train, score, time, leave a run record and a report with pictures.

    python -m ablations.run scale=single
    python -m ablations.run -m scale=multi,single seed=0,1,2
    python -m ablations.run method=pidm preset=paper --show

The same command again continues what was interrupted and does nothing where everything is done.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple, fields
from errno import ENOTDIR
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.config import Experiment, choices_of, compose, flat, plain_values, reference, resolve
from ablations.record import RunBusy, RunRecord, run_id
from ablations.words import as_word, expand
from baselines import REFERENCES
from xinggan.command import exit_status, parser_of, reason, run_command
from xinggan.data.prepare import digest, prepare
from xinggan.metrics.catalogue import METRICS
from xinggan.model import from_settings
from xinggan.model.switches import Attention, Branches, Discriminators, Fusion, PoseMap, Scale
from xinggan.training.settings import TrainingSettings
from xinggan.training.stop import StopRequest

if TYPE_CHECKING:
    from ablations.experiment import Outcome

PREEMPTED = 75  # exit status: the same command continues the run ("temporary failure" of sysexits.h)
PATIENCE_S = 60  # how long a run waits for a reference that another process is working on
SHOWN = (
    "ssim",
    "perceptual_embedded",
    "lpips",
    "pckh",
    "pckh_embedded",
    "fid",
    "fd_embedded",
)  # metrics of the printed table


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; returns the exit status: 0 done, 1 failed, 2 refused, 75 stopped by a signal."""
    parser = parser_of("ablations.run", __doc__.split("\n\n")[0], choices_table())
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="comma lists make a grid; one failure does not stop it"
    )
    parser.add_argument("--methods", type=Path, metavar="FOLDER", help="methods of your own (see CONTRIBUTING.md)")
    parser.add_argument("--show", action="store_true", help="print every value with its source, and run nothing")
    parser.add_argument("--no-report", action="store_true", help="leave out the HTML report at the end")
    parser.add_argument("--alone", action="store_true", help="what is named only: neither references nor report")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="what differs from the defaults")
    options = parser.parse_intermixed_args(arguments)

    return exit_status("ablations.run", lambda: run_words(options))


def run_words(options: argparse.Namespace) -> int:
    """Run what parsed options say; returns the exit status of `main`.

    Raises ValueError or OSError for what cannot be used, before any work.
    """
    if options.methods:
        from_settings.use_methods(options.methods)
    grid = expand(options.overrides) if options.multirun else [options.overrides]
    experiments = [compose(words) for words in grid]  # every mistake is found before any work
    if options.show:
        print("\n\n".join(map(resolved, grid)))
        return 0
    if len(grid) > 1:
        folders, shared = prepare_folders(experiments), set.intersection(*map(set, grid))
        rows = [(" ".join(word for word in overrides if word not in shared), overrides) for overrides in grid]
        status = run_grid(rows, options.alone)
        done = [(title, folder) for (title, _), folder in zip(rows, folders, strict=True) if RunRecord(folder).finished]
        if done and not options.alone:
            print_table(done)
            if not options.no_report:
                build([folder for _, folder in done], folders[0].parent.parent / "report" / "grid")
        return status
    check_place(Path(experiments[0].runs))
    return run_one(experiments[0], report=not options.no_report, alone=options.alone)


def choices_table() -> str:
    """The keys people set most, their choices with the default first, and where the rest stands."""
    kinds = "adversarial_kind: bce lsgan; perceptual_network: embedded vgg19"
    rows: list[tuple[str, list[str]]] = [
        ("method", choices_of("method")),
        *((kind.__name__.lower(), [*kind]) for kind in (Scale, Attention, Fusion, Branches, Discriminators)),
        ("pose_map", [*PoseMap]),
        ("blocks, candidates, pyramid", ["how many; bins a level, such as pyramid=[1,3,6,8]"]),
        ("losses.*", [f"adversarial, l1, perceptual: weights; {kinds}"]),
        ("dataset", [*choices_of("dataset"), "(photographs: with dataset.root=FOLDER)"]),
        ("preset", choices_of("preset")),
        ("training.*", [", ".join(key.name for key in fields(TrainingSettings))]),
        ("seed, precision, compile", ["0", "fp32|bf16", "false|true"]),
        ("device, runs, cache", ["auto, cpu, cuda:N", "folder of run records", "folder of packed data sets"]),
        ("every other", ["all keys of a method, with their values: method=NAME --show"]),
    ]
    width = max(len(key) for key, _ in rows)
    return "choices (default first):\n" + "\n".join(f"  {key:<{width}}  {' '.join(values)}" for key, values in rows)


def resolved(overrides: list[str]) -> str:
    """Every value of the experiment that the overrides mean, where it comes from, parameters and run id, as text.

    Nothing is run and nothing is packed; of photographs the files are read for the data set's digest.
    Raises ValueError.
    """
    from xinggan.timing.counts import parameters

    experiment, sources = resolve(overrides)
    rows = [(key, as_word(value), sources[key]) for key, value in flat(plain_values(experiment))]
    keys, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    generating, split = from_settings.without_training_weights(experiment.method), experiment.evaluation.split
    for key, fact in (
        ("parameters", lambda: f"{parameters(from_settings.build(generating)):,}"),
        ("run id", lambda: run_id(experiment, digest(experiment.dataset, experiment.cache, split))),
    ):
        try:
            rows.append((key, fact(), ""))
        except (ValueError, OSError) as error:
            rows.append((key, f"unavailable: {reason(error)}", ""))
    return "\n".join(f"{key:<{keys}}  {value:<{values}}  {source}".rstrip() for key, value, source in rows)


def prepare_folders(experiments: list[Experiment]) -> list[Path]:
    """The folder of each experiment's run record, with every data set they use packed and their place made.

    Raises ValueError for a data set that cannot be used and OSError for a place that cannot be written to.
    """
    places = {Path(experiment.runs) for experiment in experiments}
    for place in places:
        check_place(place)
    digests: dict[tuple, str] = {}
    folders = []
    for experiment in experiments:
        split = experiment.evaluation.split
        data_set = (experiment.cache, split, *astuple(experiment.dataset))
        if data_set not in digests:
            digests[data_set] = prepare(experiment.dataset, experiment.cache, split=split).digest
        folders.append(Path(experiment.runs) / run_id(experiment, digests[data_set]))
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    return folders


def check_place(folder: Path) -> None:
    """Raise OSError for a folder that cannot be written to, or that cannot be made where it is not there."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(there))
    tempfile.TemporaryFile(dir=there).close()


def run_one(experiment: Experiment, report: bool = True, alone: bool = False) -> int:
    """One experiment in this process, then the trivial references on the same test set, the table and the report.

    `alone` leaves out the references and the report: in a sweep on a cluster these are jobs of their own.
    """
    from ablations.experiment import run_experiment
    from xinggan.distributed import connect

    processes, experiment.device = connect(experiment.device)
    references = []
    with StopRequest() as stop:
        outcome = run_experiment(experiment, stop, processes)
        if not processes.first:
            return 0
        if outcome.state in ("finished", "skipped") and not alone:
            references = finished_references(experiment, stop)
    if outcome.state == "failed":
        where = f"The traceback is in {outcome.folder}/status.json"
        print(f"{outcome.name}: failed. {outcome.error}\n{where}", file=sys.stderr)
        return 1
    if outcome.state == "preempted":
        again = f"The same command continues from what is saved in {outcome.folder}"
        print(f"{outcome.name}: {outcome.error}. {again}", file=sys.stderr)
        return PREEMPTED
    if outcome.state == "skipped":
        print(f"{outcome.name}: was finished before, nothing to do: {outcome.folder}")
    rows = {run.folder: run.name for run in (outcome, *references)}  # each once, also where a reference was asked for
    print_table([(title, folder) for folder, title in rows.items()])
    print_timing_summary(outcome.folder)
    if report and not alone:
        build([*rows], Path(experiment.runs).parent / "report" / outcome.folder.name)
    return 0


def finished_references(experiment: Experiment, stop: StopRequest) -> list["Outcome"]:
    """Outcomes of the trivial references that are finished; of each other one, a line that says why it is not.

    A reference that another process works on is tried again each second, for up to PATIENCE_S.
    """
    from ablations.experiment import run_experiment

    finished = []
    for name in REFERENCES:
        deadline, outcome = time.monotonic() + PATIENCE_S, None
        while outcome is None:
            try:
                outcome = run_experiment(reference(experiment, name), stop)
            except (ValueError, OSError) as error:
                if not isinstance(error, RunBusy) or stop.signal_name or time.monotonic() > deadline:
                    print(f"{name}: left out. {reason(error)}", file=sys.stderr)
                    break
                time.sleep(1)
        if outcome and outcome.state in ("finished", "skipped"):
            finished.append(outcome)
        elif outcome:
            print(f"{name}: left out, {outcome.state}. {outcome.error}", file=sys.stderr)
    return finished


def run_grid(rows: list[tuple[str, list[str]]], alone: bool = False) -> int:
    """Every row's overrides in a process of its own, one after another, without references where `alone`; a table of
    what happened at the end.

    Returns 0 if all are done, 75 if the grid was stopped, else 1. A row that fails or is killed never stops the rest.
    """
    outcomes: list[tuple[str, int, float]] = []
    stopped = False
    with StopRequest() as stop:
        for index, (title, overrides) in enumerate(rows, 1):
            print(f"[{index}/{len(rows)}] {title}", flush=True)
            began = time.monotonic()
            how = "--alone" if alone else "--no-report"
            code = run_row([sys.executable, "-m", "ablations.run", how, *overrides], stop)
            outcomes.append((title, code, time.monotonic() - began))
            stopped = stop.signal_name is not None or code == PREEMPTED
            if stopped:
                break
    print("\nwhat happened:")
    for title, code, seconds in outcomes:
        word = {0: "done", 1: "FAILED", 2: "REFUSED", PREEMPTED: "stopped"}.get(code, f"KILLED (exit {code})")
        print(f"  {word:<12} {seconds:7.1f} s  {title}")
    for title, _ in rows[len(outcomes) :]:
        print(f"  {'not started':<12} {'':9}  {title}")
    if stopped:
        return PREEMPTED
    return 1 if any(code for _, code, _ in outcomes) else 0


def run_row(command: list[str], stop: StopRequest) -> int:
    """The exit status of a grid's row. A request to stop the grid is passed on to the row once, as SIGTERM.

    The row has a session of its own: Ctrl-C in a terminal would otherwise reach it twice, and so interrupt its saving.
    """
    process = subprocess.Popen(command, start_new_session=True)
    asked = False
    while process.returncode is None:
        try:
            if stop.signal_name and not asked:
                process.terminate()
                asked = True
            time.sleep(0.1)
            process.poll()
        except KeyboardInterrupt:  # a second Ctrl-C: the row is to leave without saving first
            process.send_signal(signal.SIGINT)
    return process.returncode


def build(folders: list[Path], out: Path) -> None:
    """Build the report of these runs by `python -m reports.build`, and print where it is or that there is none."""
    names = [folder.name for folder in folders]
    words = ["--runs", str(folders[0].parent), "--out", str(out), "--select", *names]
    done = subprocess.run([sys.executable, "-m", "reports.build", *words], stdout=subprocess.DEVNULL)
    if done.returncode == 0:
        print(f"report: {(out / 'index.html').resolve()}")
    else:
        print(f"the report could not be built: reports.build ended with status {done.returncode}", file=sys.stderr)


def print_timing_summary(folder: Path) -> None:
    """Print latency at batch 1, speed of the training, and where the record is."""
    print()
    for scenario in RunRecord(folder).read("timing.json", {}).get("scenarios", []):
        median, speed = scenario["median_ms"], scenario["images_per_second"]
        where = f"({scenario['device']}, {scenario['precision']}, {scenario['height']}x{scenario['width']})"
        if median is not None and scenario["kind"] == "inference" and scenario["batch"] == 1:
            print(f"latency   {median:.1f} ms an image at batch 1, median of {len(scenario['samples_ms'])} {where}")
        if median is not None and scenario["kind"] == "training":
            print(f"training  {median:.0f} ms a step of {scenario['batch']} pairs, {speed:.1f} images/s {where}")
    print(f"record    {folder}")


def print_table(rows: list[tuple[str, Path]]) -> None:
    """One line for each (title, run folder), one column for each metric that any has; arrows point to better."""
    import pandas

    values = [RunRecord(folder).scores() for _, folder in rows]
    table = pandas.DataFrame(values, index=[title for title, _ in rows], dtype=float).dropna(axis="columns", how="all")
    columns = [metric for metric in SHOWN if metric in table]
    if "lpips" not in table or table["lpips"].isna().any():
        columns.append("l1")
    heads = [f"{METRICS[metric].title} {'↑' if METRICS[metric].higher_is_better else '↓'}" for metric in columns]
    print(f"\n{table[columns].to_string(header=heads, float_format='{:.4f}'.format, na_rep='-')}")


if __name__ == "__main__":
    run_command(main)
