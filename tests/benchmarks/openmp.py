"""Milliseconds of a training step by how OpenMP's threads wait: alone on the machine, and beside one busy process.

    python tests/benchmarks/openmp.py preset=small

The commands of the suite set OMP_WAIT_POLICY=PASSIVE and GOMP_SPINCOUNT=2000. Where nothing is set, threads spin at
every barrier, and one that waits for a thread whose core is taken away by another process spins for nothing. Where they
sleep at once, each of the many small operations waits for a thread to wake. Words are those of `ablations.run`.

On two cores of a Xeon, preset=small, milliseconds alone / beside a busy process: PASSIVE 496 / 591, 1,000 spins 428 /
638, 2,000 spins 337 / 718, 4,000 spins 328 / 880.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
from dataclasses import asdict

from ablations.efficiency import prepare_rows
from xinggan.timing.scenario import Task

# Torch is imported first, so that the suite does not set the policy for it.
PROCESS = "import torch; from xinggan.timing.measurement import main; main()"
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
POLICIES = {"not set": {}, "PASSIVE": PASSIVE, "PASSIVE, 2,000 spins": PASSIVE | {"GOMP_SPINCOUNT": "2000"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="training steps that are measured (default: 40)")
    parser.add_argument("--limit", type=float, default=180, help="seconds after which one is given up (default: 180)")
    parser.add_argument("words", nargs="*", metavar="key=value", help="such as preset=small, scale=single")
    options = parser.parse_intermixed_args()
    _, (row,) = prepare_rows([("XingGAN", ["method=xinggan"])], options.words)
    print(f"{row.title}, {row.task.height}x{row.task.width}, batch {row.task.batch}, {os.cpu_count()} cores")
    for beside in ("alone", "beside one busy process"):
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if beside != "alone" else None
        try:
            for name, policy in POLICIES.items():
                print(f"  {beside}, {name}: {measured(row.task, policy, options)}", flush=True)
        finally:
            if busy:
                busy.kill()


def measured(task: Task, policy: dict[str, str], options: argparse.Namespace) -> str:
    """Median and range of the steps' milliseconds, in a process of its own with these variables."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    } | policy
    turns = [
        asdict(task),
        {"turn": "build"},
        {"turn": "first"},
        {"turn": "round", "seconds": options.limit, "calls": max(1, options.steps // 4)},  # of four steps each
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    timer = threading.Timer(options.limit, process.kill)
    timer.start()
    answers, _ = process.communicate("\n".join(map(json.dumps, turns)))
    timer.cancel()
    if process.returncode:
        return f"did not end within {options.limit:.0f} s"
    scenario = json.loads(answers.splitlines()[-1])
    if scenario["unavailable_because"]:
        return scenario["unavailable_because"]
    steps = [step_ms for stages in scenario["stage_ms"] for step_ms in stages]
    return f"{statistics.median(steps):.0f} ms a step, {min(steps):.0f} to {max(steps):.0f}"


if __name__ == "__main__":
    main()
