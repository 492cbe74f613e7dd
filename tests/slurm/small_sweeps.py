"""Small runs, a method of one's own that can be disturbed, and programs in PATH that pretend to be SLURM's."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from ablations.record import RunRecord

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = int(os.environ.get("SLURM_TEST_LIMIT_S", "600"))  # for anything that is waited for
CLUSTER = Path(__file__).parent / "four_nodes.yaml"
TINY = [
    "preset=smoke", "dataset.height=32", "dataset.width=16", "dataset.mask_radius=1", "dataset.people_train=4",
    "dataset.people_test=2", "dataset.test_pairs=4", "training.sample_every=0", "training.steps=30",
    "training.decay_steps=10", "training.log_every=1", "training.checkpoint_every=10",
]  # fmt: skip

# Seed 0 crashes, seed 1 kills itself once, and the others take their time where they are told to by a file.
METHOD = """
import os, signal, time
from pathlib import Path

import torch
from torch import nn

from xinggan.data.batch import images_to_float
from xinggan.model.method import Method, adam

HERE = Path(__file__).parent


class Steady(Method):
    averaged = ("network",)

    def __init__(self, learning_rate=1e-3, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.seed = seed
        self.network = nn.Conv2d(3, 3, 3, padding="same")
        self.optimisers["network"] = adam(self.network.parameters(), learning_rate)

    def training_step(self, batch, step):
        if self.seed == 0 and step == 14:
            CRASH
        if self.seed == 1 and step == 14 and (HERE / "kill-1").exists():
            (HERE / "kill-1").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if step >= 10 and (HERE / f"slow-{self.seed}").exists():
            time.sleep(6)
        noise = torch.rand(1).item()  # an attempt that went on with other random numbers would end elsewhere
        output = torch.tanh(self.network(images_to_float(batch.source_image)))
        loss = nn.functional.l1_loss(output * (1 + 0.1 * noise), images_to_float(batch.target_image))
        return {"gradient_network": self.update("network", loss), "l1": loss.detach()}

    @torch.no_grad()
    def generate(self, source, source_pose, target_pose, seeds):
        return torch.tanh(self.network(images_to_float(source)))
"""
SETTINGS = "_target_: steady.Steady\nlearning_rate: 1.0e-3\nseed: 0\n"

PROGRAMS = {
    "squeue": "cat {folder}/queue",
    "sacct": "[ -e {folder}/accounting ] || {{ echo 'Slurm accounting storage is disabled' >&2; exit 1; }}\n"
    "cat {folder}/accounting",
    "scancel": 'echo "$@" >> {folder}/cancelled',
    "sbatch": "number=$(($(cat {folder}/number) + 1))\n"
    "tasks=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' $1)\n"
    "taken=$(($(cat {folder}/taken) + ${{tasks:-0}} + 1))\n"
    "[ ${{tasks:-0}} -lt 4 ] || {{ echo 'sbatch: error: Batch job submission failed: Invalid job array specification' "
    ">&2; exit 1; }}\n"
    "if [ $taken -gt $(cat {folder}/room) ]; then\n"
    "  echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy' >&2; exit 1\nfi\n"
    "[ ! -e {folder}/interrupt ] || kill -INT $(cat {folder}/interrupt)\n"
    "env > {folder}/environment; cp $1 {folder}/script-$number.sh\n"
    "echo $number > {folder}/number; echo $taken > {folder}/taken\n"
    "echo 'Welcome! Your last job 7 has ended'; echo \"Submitted batch job $number\"",
}


class Slurm:
    """What the programs answer: the queue that `squeue` shows, and what `sbatch` and `scancel` were given."""

    def __init__(self, folder):
        self.folder = folder
        for name, content in {"queue": "", "number": "0", "taken": "0", "room": "1000"}.items():
            (folder / name).write_text(content)

    def scripts(self):
        return [
            path.read_text() for path in sorted(self.folder.glob("script-*.sh"), key=lambda path: int(path.stem[7:]))
        ]

    def cancelled(self):
        path = self.folder / "cancelled"
        return path.read_text().split() if path.exists() else []

    def put_into_queue(self, runs, state="PENDING", reason="Priority"):
        """All that the submissions below `runs` hold, as if every job of theirs were waiting."""
        lines = []
        for path in sorted(runs.glob("slurm/*/sweep.json")):
            content = json.loads(path.read_text())
            for row in content["rows"]:
                number = (row["job"] or "99_0").split("_")[0]
                lines.append(f"{row['name']}|{number}|{row['task']}|{state}|n1|{reason}|N/A")
            if content.get("report"):
                lines.append(f"xg-{path.parent.name}-report|{content['report']}|N/A|PENDING||{reason}|N/A")
        (self.folder / "queue").write_text("Maintenance on Sunday\n" + "\n".join(lines) + "\n")


def sweeps(runs):
    """The rows of each submission, oldest first."""
    return [json.loads(path.read_text())["rows"] for path in sorted(runs.glob("slurm/*/sweep.json"))]


def names(runs):
    return [row["run"] for rows in sweeps(runs) for row in rows]


def of_seed(runs, seed):
    return next(name for name in names(runs) if f"-s{seed}-" in name)


def rewrite(runs, change):
    """Change the newest sweep.json."""
    path = max(runs.glob("slurm/*/sweep.json"))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path.parent


def finish(folder):
    RunRecord(folder).note(state="finished")
    (folder / "metrics.json").write_text("[]")


def run(*command, check=True, **further):
    done = subprocess.run(
        [sys.executable, *command] if command[0] == "-m" else command,
        cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL, **further,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def wait_until(condition, what):
    deadline = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {LIMIT_S} s\n{run('squeue', check=False).stdout}"
        time.sleep(0.3)
    return found


def attempts(folder):
    path = folder / "attempts.json"
    return json.loads(path.read_text()) if path.exists() else []


def hows(folder):
    return [attempt["how"] for attempt in attempts(folder)]


def tries(folder):
    """Ends of attempts without those that the cluster itself ended: it may preempt whom it likes."""
    return [how for how in hows(folder) if how != "preempted"]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


class Sweep:
    """Runs of the method `steady`, what the commands said, and their folders."""

    def __init__(self, base, methods, cluster, *words):
        self.base, self.methods, self.runs = base, methods, base / "runs"
        where = [f"cluster={cluster}"] if cluster else []
        self.words = ["method=steady", *TINY, *where, *words, f"runs='{self.runs}'"]  # quoted for Hydra

    def submit(self, *further):
        return run("-m", "slurm.sweep", "--methods", str(self.methods), *self.words, *further).stdout

    def folder(self, seed):
        return next(self.runs.glob(f"steady-synthetic-smoke-s{seed}-*"))

    def began(self, seed):
        """Whether this slow run has come to where it slows down."""
        found = list(self.runs.glob(f"steady-synthetic-smoke-s{seed}-*/checkpoint/step-0000001*.pt"))
        return found and attempts(found[0].parents[1])

    def job(self, seed):
        return attempts(self.folder(seed))[-1]["job"]

    def status(self, *words):
        return run("-m", "slurm.status", "--runs", str(self.runs), *words).stdout

    def states(self):
        return {re.search(r"-s(\d+)-", row["run"])[1]: json.loads((self.runs / row["run"] / "status.json").read_text())
                for row in sweeps(self.runs)[0] if row["trained"]}  # fmt: skip


ALONE = """
import sys
from pathlib import Path
from xinggan.model.from_settings import use_methods
use_methods(Path(sys.argv[1]))
import torch
torch.set_num_threads(1)
from ablations.config import compose
from ablations.words import expand
from ablations.experiment import run_experiment
from xinggan.training.stop import StopRequest
for config in map(compose, expand(sys.argv[2:])):
    print(run_experiment(config, StopRequest()).state)
"""
