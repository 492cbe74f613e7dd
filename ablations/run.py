"""Run one experiment, or with -m a grid of them: train, score, time, leave a run record and a report with pictures.

    python -m ablations.run scale=single
    python -m ablations.run -m scale=multi,single seed=0,1,2

The same command again continues what was interrupted and does nothing where everything is done.
"""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from xinggan.model.outside import use_methods
from xinggan.training.stop import StopRequest

PREEMPTED = 75  # exit status: the same command continues the run ("temporary failure" of sysexits.h)
PATIENCE_S = 60  # how long a run waits for a reference that another process is working on


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; returns the exit status: 0 done, 1 failed, 2 refused, 75 stopped by a signal."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m ablations.run",
        description=__doc__.split("\n\n")[0],
        epilog=choices_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="comma lists make a grid; one failure does not stop it"
    )
    parser.add_argument("--methods", type=Path, metavar="FOLDER", help="methods of your own (see CONTRIBUTING.md)")
    parser.add_argument("--no-report", action="store_true", help="leave out the HTML report at the end")
    parser.add_argument("--alone", action="store_true", help="this run only: neither references nor report")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="what differs from the defaults")
    options = parser.parse_intermixed_args(arguments)

    from ablations.config import compose, expand

    try:
        if options.methods:
            use_methods(options.methods)
        grid = expand(options.overrides) if options.multirun else [options.overrides]
        configs = [compose(overrides) for overrides in grid]  # every mistake is found before any work
        if len(grid) > 1:
            prepare_folders(configs)
    except (ValueError, OSError) as error:
        print(f"ablations.run: {error}", file=sys.stderr)
        return 2
    if len(grid) > 1:
        return run_grid([(" ".join(overrides), overrides) for overrides in grid])
    return run_one(configs[0], report=not options.no_report, alone=options.alone)


def choices_table() -> str:
    """The keys people set most, their choices with the default first, and where the rest stands."""
    from ablations.settings import choices_of
    from xinggan.data.settings import PoseMap
    from xinggan.model.switches import Attention, Branches, Discriminators, Fusion, Scale

    rows: list[tuple[str, list[str]]] = [
        ("method", choices_of("method")),
        *((kind.__name__.lower(), [*kind]) for kind in (Scale, Attention, Fusion, Branches, Discriminators)),
        ("pose_map", [*PoseMap]),
        ("blocks, candidates, pyramid", ["how many; bins a level, such as pyramid=[1,3,6,8]"]),
        (
            "losses.*",
            ["adversarial, l1, perceptual: weights; adversarial_kind: bce lsgan; perceptual_network: embedded vgg19"],
        ),
        ("dataset", [*choices_of("dataset"), "(photographs: with dataset.root=FOLDER)"]),
        ("preset", choices_of("preset")),
        ("training.*", ["steps, decay_steps, batch, ema, log_every, sample_every, checkpoint_every"]),
        ("seed, precision, compile", ["0", "fp32|bf16", "false|true"]),
        ("device, runs, cache", ["auto, cpu, cuda:N", "folder of run records", "folder of packed data sets"]),
    ]
    width = max(len(key) for key, _ in rows)
    return "choices (default first):\n" + "\n".join(f"  {key:<{width}}  {' '.join(values)}" for key, values in rows)


def prepare_folders(configs: list) -> list[Path]:
    """The folder of each configuration's run record, with every data set they use packed and their place made.

    Raises ValueError for a data set that cannot be used and OSError for a place that cannot be written to.
    """
    import tempfile
    from dataclasses import astuple

    from omegaconf import OmegaConf

    from ablations.identity import run_id
    from xinggan.data.prepare import prepare
    from xinggan.data.settings import DatasetSettings

    digests: dict[tuple, str] = {}
    folders = []
    for config in configs:
        settings: DatasetSettings = OmegaConf.to_object(config.dataset)  # type: ignore[assignment]
        data_set = (config.cache, *astuple(settings))
        if data_set not in digests:
            digests[data_set] = prepare(settings, config.cache).digest
        folders.append(Path(config.runs) / run_id(config, digests[data_set]))
    for runs in {folder.parent for folder in folders}:
        runs.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=runs).close()  # refuses a folder that is there but cannot be written to
    return folders


def run_one(config, report: bool = True, alone: bool = False) -> int:
    """One experiment in this process, then the trivial references on the same test set, the table and the report.

    `alone` leaves out the references and the report: in a sweep on a cluster these are jobs of their own.
    """
    from ablations.experiment import run_experiment
    from ablations.record import RunBusy
    from ablations.summary import print_summary
    from xinggan.distributed import connect

    processes, config.device = connect(config.device)
    references = []
    try:
        with StopRequest() as stop:
            outcome = run_experiment(config, stop, processes)
            if not processes.first:
                return 0
            if outcome.state in ("finished", "skipped") and not alone:
                references = [other for other in finished_references(config, stop) if other.folder != outcome.folder]
    except (ValueError, OSError, RunBusy) as error:
        print(f"ablations.run: {error}", file=sys.stderr)
        return 2
    if outcome.state == "failed":
        print(
            f"{outcome.name}: failed. {outcome.error}\nThe traceback is in {outcome.folder}/status.json",
            file=sys.stderr,
        )
        return 1
    if outcome.state == "preempted":
        print(
            f"{outcome.name}: {outcome.error}. The same command continues from what is saved in {outcome.folder}",
            file=sys.stderr,
        )
        return PREEMPTED
    if outcome.state == "skipped":
        print(f"{outcome.name}: was finished before, nothing to do: {outcome.folder}")
    print_summary(outcome, references)
    if alone or not report:
        return 0
    folders = [outcome.folder, *(other.folder for other in references)]
    return build(folders, Path(config.runs).parent / "report" / outcome.folder.name)


def finished_references(config, stop: StopRequest) -> list:
    """Outcomes of the trivial references that are finished; of each other one, a line that says why it is not."""
    from ablations.config import REFERENCES, reference
    from ablations.record import RunBusy

    finished = []
    for name in REFERENCES:
        try:
            outcome = run_when_free(reference(config, name), stop)
        except (ValueError, OSError, RunBusy) as error:
            print(f"{name}: left out. {error}", file=sys.stderr)
            continue
        if outcome.state in ("finished", "skipped"):
            finished.append(outcome)
        else:
            print(f"{name}: left out, {outcome.state}. {outcome.error}", file=sys.stderr)
    return finished


def run_when_free(config, stop: StopRequest):
    """`run_experiment`, tried again each second while another process works on it. Raises RunBusy after PATIENCE_S."""
    from ablations.experiment import run_experiment
    from ablations.record import RunBusy

    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return run_experiment(config, stop)
        except RunBusy:
            if stop.signal_name or time.monotonic() > deadline:
                raise
            time.sleep(1)


def run_grid(rows: list[tuple[str, list[str]]]) -> int:
    """Every row's overrides in a process of its own, one after another; a table of what happened at the end.

    Returns 0 if all are done, 75 if the grid was stopped, else 1. A row that fails or is killed never stops the rest.
    """
    outcomes: list[tuple[str, int, float]] = []
    stopped = False
    with StopRequest() as stop:
        for index, (title, overrides) in enumerate(rows, 1):
            print(f"[{index}/{len(rows)}] {title}", flush=True)
            began = time.monotonic()
            code = run_row([sys.executable, "-m", "ablations.run", "--no-report", *overrides], stop)
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
    """Exit status of a grid's row. What asks the grid to stop is passed on once, as SIGTERM, and the row waited for.

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


def build(folders: list[Path], out: Path) -> int:
    """Build the report of these runs and print where it is; returns the exit status."""
    from reports.build import build_report

    try:
        page = build_report(folders[0].parent, out, [folder.name for folder in folders])
    except OSError as error:
        print(f"the report could not be built: {error}", file=sys.stderr)
        return 1
    print(f"report: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
