"""Run one experiment, or with -m a grid of them: train, score, time, leave a run record and a report with pictures.

python -m ablations.run scale=single
python -m ablations.run -m scale=multi,single seed=0,1,2
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

PREEMPTED = 75  # exit status: the same command continues the run ("temporary failure" of sysexits.h)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; returns the exit status: 0 done, 1 failed, 2 refused, 75 stopped by a signal."""
    parser = argparse.ArgumentParser(
        prog="python -m ablations.run",
        description=__doc__.split("\n\n")[0],
        epilog=choices_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="comma lists make a grid; one failure does not stop it"
    )
    parser.add_argument("--no-report", action="store_true", help="leave out the HTML report at the end")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="what differs from the defaults")
    options = parser.parse_args(arguments)

    from ablations.config import ConfigurationError, compose, expand

    try:
        grid = expand(options.overrides) if options.multirun else [options.overrides]
        configs = [compose(overrides) for overrides in grid]  # every mistake is found before any work
    except ConfigurationError as error:
        print(f"ablations.run: {error}", file=sys.stderr)
        return 2
    if len(grid) > 1:
        return run_grid([(" ".join(overrides), overrides) for overrides in grid])
    return run_one(configs[0], report=not options.no_report)


def choices_table() -> str:
    """The keys people set most, their choices with the default first, and where the rest stands."""
    from ablations.config import CONF
    from xinggan.model.switches import Attention, Branches, Discriminators, Fusion, PoseMap, Scale

    methods = sorted(file.stem for file in (CONF / "method").glob("*.yaml"))
    rows: list[tuple[str, list[str]]] = [
        ("method", ["xinggan", *(method for method in methods if method != "xinggan")]),
        *((kind.__name__.lower(), [*kind]) for kind in (Scale, Attention, Fusion, Branches, Discriminators)),
        ("pose_map", [*PoseMap]),
        ("blocks, candidates, pyramid", ["how many; bins a level, such as pyramid=[1,3,6,8]"]),
        (
            "losses.*",
            ["adversarial, l1, perceptual: weights; adversarial_kind: bce lsgan; perceptual_network: embedded vgg19"],
        ),
        ("dataset", ["synthetic", "folder", "market1501", "deepfashion", "(with dataset.root=FOLDER)"]),
        ("preset", ["small", "smoke", "paper"]),
        ("training.*", ["steps, decay_steps, batch, ema, log_every, sample_every, checkpoint_every"]),
        ("seed, precision, compile", ["0", "fp32|bf16", "false|true"]),
        ("device, runs, cache", ["auto, cpu, cuda:N", "folder of run records", "folder of packed data sets"]),
    ]
    width = max(len(key) for key, _ in rows)
    return "choices (default first):\n" + "\n".join(f"  {key:<{width}}  {' '.join(values)}" for key, values in rows)


def run_one(config, report: bool = True) -> int:
    """One experiment in this process, then the trivial references on the same test set, the table and the report."""
    from ablations.config import REFERENCES, reference
    from ablations.experiment import run_experiment
    from ablations.record import RunBusy
    from ablations.summary import print_summary
    from xinggan.training.distributed import connect
    from xinggan.training.stop import StopRequest

    processes, config.device = connect(config.device)
    try:
        with StopRequest() as stop:
            outcome = run_experiment(config, stop, processes)
            if not processes.first:
                return 0
            references = []
            if outcome.state in ("finished", "skipped"):
                references = [run_experiment(reference(config, name), stop) for name in REFERENCES]
    except (ValueError, RunBusy) as error:
        print(f"ablations.run: {error}", file=sys.stderr)
        return 2
    if outcome.state == "failed":
        print(
            f"{outcome.name}: failed. {outcome.error}\nThe traceback is in {outcome.folder}/status.json",
            file=sys.stderr,
        )
        return 1
    if outcome.state == "preempted":
        print(f"{outcome.name}: {outcome.error}, saved. The same command continues {outcome.folder}", file=sys.stderr)
        return PREEMPTED
    if outcome.state == "skipped":
        print(f"{outcome.name}: was finished before, nothing to do: {outcome.folder}")
    print_summary(outcome, references)
    if report:
        build(
            [outcome.folder, *(r.folder for r in references)], Path(config.runs).parent / "report" / outcome.folder.name
        )
    return 0


def run_grid(rows: list[tuple[str, list[str]]]) -> int:
    """Every row's overrides in a process of its own, one after another; a table of what happened at the end.

    Returns 0 if all are done, 75 if the grid was stopped, else 1. A row that fails or is killed never stops the rest.
    """
    outcomes, stopped = [], False
    for index, (title, overrides) in enumerate(rows, 1):
        print(f"[{index}/{len(rows)}] {title}", flush=True)
        began = time.monotonic()
        command = [sys.executable, "-m", "ablations.run", "--no-report", *overrides]
        code = 0
        try:
            code = subprocess.run(command).returncode
        except KeyboardInterrupt:
            stopped = True
        stopped = stopped or code == PREEMPTED
        outcomes.append((title, code, time.monotonic() - began))
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


def build(folders: list, out) -> None:
    """Build the report of these runs and print where it is."""
    from reports.build import build_report

    page = build_report(folders[0].parent, out, [folder.name for folder in folders])
    print(f"report: {page}")


if __name__ == "__main__":
    sys.exit(main())
