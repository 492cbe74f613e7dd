"""One process of a run, started by srun: it finds its place among the others and becomes `ablations.run`."""

import os
import sys
from collections.abc import Mapping


def place(environment: Mapping[str, str]) -> dict[str, str]:
    """What torch.distributed and accelerate read, from what SLURM says; a single process is told nothing of others.

    MASTER_PORT is set by slurm.job, on whose machine the first process runs.
    """
    threads = (
        {} if "OMP_NUM_THREADS" in environment else {"OMP_NUM_THREADS": environment.get("SLURM_CPUS_PER_TASK", "1")}
    )
    count = environment.get("SLURM_NTASKS", "1")
    if count == "1":
        return threads
    return threads | {
        "WORLD_SIZE": count,
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": environment["SLURM_STEP_TASKS_PER_NODE"].split("(")[0],
        "MASTER_ADDR": environment["SLURM_LAUNCH_NODE_IPADDR"],
    }


def main(words: list[str]) -> None:
    """Replace this process by `ablations.run --alone` with these words."""
    os.environ.update(place(os.environ))
    os.execv(sys.executable, [sys.executable, "-u", "-m", "ablations.run", "--alone", *words])


if __name__ == "__main__":
    main(sys.argv[1:])
