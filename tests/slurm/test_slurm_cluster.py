"""Sweeps on a real SLURM: four virtual nodes on this machine, runs that crash, are preempted, killed, out of time."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "slurm" / "local_cluster.sh"
LIMIT_S = int(os.environ.get("SLURM_TEST_LIMIT_S", "600"))  # for anything that is waited for
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd")

TINY = [
    "preset=smoke", "device=cpu", "dataset.height=32", "dataset.width=16", "dataset.mask_radius=1",
    "dataset.people_train=4", "dataset.people_test=2", "dataset.test_pairs=4", "training.sample_every=0",
]  # fmt: skip
STEPS = ["training.steps=30", "training.decay_steps=10", "training.log_every=1", "training.checkpoint_every=10"]

# Seed 0 crashes, seed 1 kills itself, and the others take their time where they are told to by a file.
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
SETTINGS = "_target_: steady.Steady\nlearning_rate: ${learning_rate}\nseed: ${seed}\n"

ALONE = """
import sys
from pathlib import Path
from xinggan.model.from_settings import use_methods
use_methods(Path(sys.argv[1]))
import torch
torch.set_num_threads(1)
from ablations.config import compose_all, expand
from ablations.experiment import run_experiment
from xinggan.training.stop import StopRequest
for config in compose_all(expand(sys.argv[2:])):
    print(run_experiment(config, StopRequest()).state)
"""


def run(*command, check=True):
    done = subprocess.run(
        [sys.executable, *command] if command[0] == "-m" else command,
        cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def wait_until(condition, what):
    deadline = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {LIMIT_S} s\n{run('squeue', check=False).stdout}"
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this module's own, in the environment for as long as the module's tests run."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"no local SLURM cluster: {', '.join(missing)} not installed (see slurm/local_cluster.sh)")
    if os.geteuid() != 0:
        pytest.skip("no local SLURM cluster: its daemons need root")
    folder = Path(tempfile.mkdtemp(prefix="xg-cluster-"))
    folder.chmod(0o755)  # pytest's own folders keep the daemons' users out
    up = subprocess.run([SCRIPT, "up", folder], capture_output=True, text=True, timeout=LIMIT_S)
    if up.returncode:
        logs = "".join(path.read_text(errors="replace")[-1500:] for path in sorted((folder / "log").glob("slurm*")))
        pytest.fail(f"the local cluster did not come up: {up.stderr}\n{logs}")
    patch = pytest.MonkeyPatch()
    patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    patch.setenv("OMP_NUM_THREADS", "1")
    yield folder
    patch.undo()
    subprocess.run([SCRIPT, "down", folder], timeout=LIMIT_S)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def methods(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods")
    (folder / "steady.py").write_text(METHOD.replace("CRASH", 'raise RuntimeError("the crash of seed 0")'))
    (folder / "steady.yaml").write_text(SETTINGS)
    for name in ("kill-1", "slow-2", "slow-3", "slow-4"):
        (folder / name).touch()
    return folder


def attempts(folder):
    try:
        return [json.loads(line) for line in (folder / "attempts.jsonl").read_text().splitlines()]
    except OSError:
        return []


def hows(folder):
    return [attempt["how"] for attempt in attempts(folder)]


def tries(folder):
    """Ends of attempts without those that the cluster itself ended: it may preempt whom it likes."""
    return [how for how in hows(folder) if how != "preempted"]


def queued():
    return run("squeue", "--noheader", "--array", "--format=%i").stdout.split()


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


class Sweep:
    """The twelve runs, what the commands said, and their folders."""

    def __init__(self, base, methods):
        self.base, self.methods, self.runs = base, methods, base / "runs"
        self.words = [*TINY, *STEPS, "method=steady,xinggan", "seed=0,1,2,3,4,5"]
        self.place = [f"runs={self.runs}", f"cache={base / 'data'}"]

    def submit(self, *further):
        limits = ["cluster=local", "cpus=2"]
        return run(
            "-m", "slurm.sweep", "--methods", str(self.methods), *limits, *self.words, *self.place, *further
        ).stdout

    def folder(self, method, seed):
        (found,) = self.runs.glob(f"{method}-synthetic-smoke-s{seed}-*")
        return found

    def began(self, seed):
        """Whether this slow run has come to where it slows down."""
        found = list(self.runs.glob(f"steady-synthetic-smoke-s{seed}-*/checkpoint/step-0000001*.pt"))
        return found and attempts(found[0].parents[1])

    def job(self, seed):
        return attempts(self.folder("steady", seed))[-1]["job"]


@pytest.fixture(scope="module")
def disturbed(cluster, methods, tmp_path_factory):
    """A sweep of twelve runs whose jobs were disturbed in every way, after everything has come to an end."""
    sweep = Sweep(tmp_path_factory.mktemp("sweep"), methods)
    sweep.said = sweep.submit()

    # Seed 2 is preempted by a job of the other partition on its node.
    wait_until(lambda: sweep.began(2), "seed 2 saves for the first time")
    node = attempts(sweep.folder("steady", 2))[-1]["node"]
    run("sbatch", "--partition=high", f"--nodelist={node}", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    wait_until(lambda: "preempted" in hows(sweep.folder("steady", 2)), "seed 2 is preempted")
    (methods / "slow-2").unlink()

    # Seed 3 comes to its time limit, which is the minute after the one it is in.
    wait_until(lambda: sweep.began(3), "seed 3 saves for the first time")
    used = run("squeue", "--noheader", f"--jobs={sweep.job(3)}", "--format=%M").stdout.strip()
    run("scontrol", "update", f"JobId={sweep.job(3)}", f"TimeLimit={int(used.split(':')[-2]) + 1}")
    wait_until(lambda: "timed out" in hows(sweep.folder("steady", 3)), "seed 3 runs out of time")
    (methods / "slow-3").unlink()
    run("scontrol", "update", f"JobId={sweep.job(3)}", "TimeLimit=60")

    # Seed 4 loses its supervisor and so its job: only what comes after all jobs can notice.
    wait_until(lambda: sweep.began(4), "seed 4 saves for the first time")
    os.kill(supervisor_of(sweep.job(4)), signal.SIGKILL)
    (methods / "slow-4").unlink()

    wait_until(lambda: not queued(), "the queue is empty")
    return sweep


def supervisor_of(job):
    number, task = job.split("_")
    wanted = {f"SLURM_ARRAY_JOB_ID={number}", f"SLURM_ARRAY_TASK_ID={task}"}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
            environment = set((process / "environ").read_text().split("\0"))
        except OSError:
            continue
        if "slurm.job" in words and wanted <= environment and words[0].endswith(Path(sys.executable).name):
            return int(process.name)
    raise AssertionError(f"job {job} has no supervisor")


def test_all_runs_finish_but_the_crashing_one_which_fails_after_three_tries(disturbed):
    assert re.search(r"^15 runs: start 15 new$", disturbed.said, re.MULTILINE)
    for method in ("steady", "xinggan"):
        for seed in range(6):
            status = json.loads((disturbed.folder(method, seed) / "status.json").read_text())
            assert status["state"] == ("failed" if (method, seed) == ("steady", 0) else "finished"), status
    crashed = disturbed.folder("steady", 0)
    assert tries(crashed) == 3 * ["failed"]
    assert [attempt["step"] for attempt in attempts(crashed)][-3:] == [10, 10, 10]
    error = json.loads((crashed / "status.json").read_text())["error"]
    assert "the crash of seed 0" in error
    assert "3 attempts ended at step 10" in error


def test_each_disturbance_is_known_by_its_name(disturbed):
    assert tries(disturbed.folder("steady", 1)) == ["killed", "finished"]
    for seed, how in ((2, "preempted"), (3, "timed out"), (4, "lost")):
        found = hows(disturbed.folder("steady", seed))
        assert how in found
        assert found[-1] == "finished"


def test_nothing_is_computed_twice(disturbed):
    folders = [disturbed.folder(method, seed) for method in ("steady", "xinggan") for seed in range(6)]
    for folder in folders:
        told = attempts(folder)
        assert [attempt["from_step"] for attempt in told[1:]] == [attempt["step"] for attempt in told[:-1]]
        assert hows(folder).count("finished") == ("steady-synthetic-smoke-s0" not in folder.name)
        steps = [json.loads(line)["step"] for line in (folder / "history.jsonl").read_text().splitlines()]
        assert steps == sorted(set(steps))
    for folder in (*folders[5:], *disturbed.runs.glob("copy_source-*"), *disturbed.runs.glob("mean_image-*")):
        assert set(hows(folder)) <= {"finished", "preempted"}


@pytest.fixture(scope="module")
def undisturbed(disturbed, tmp_path_factory):
    """Records of the same runs, but for the one that crashes, computed here in one process without SLURM."""
    runs = tmp_path_factory.mktemp("undisturbed")
    place = [f"runs={runs}", disturbed.place[1]]
    for words in (["method=steady", "seed=1,2,3,4,5"], ["method=xinggan", "seed=0,1,2,3,4,5"]):
        run(sys.executable, "-c", ALONE, str(disturbed.methods), *TINY, *STEPS, *words, *place)
    return runs


def test_metrics_equal_those_of_undisturbed_local_runs(disturbed, undisturbed):
    compared = sorted(undisturbed.iterdir())
    assert len(compared) == 11
    for folder in compared:
        assert metrics(disturbed.runs / folder.name) == metrics(folder)


def test_the_report_is_built_and_names_the_failure(disturbed):
    (page,) = (disturbed.base / "report").glob("*/index.html")
    text = page.read_text()
    assert "the crash of seed 0" in text
    assert text.count("steady") > 6


def test_status_logs_and_the_same_command_again_tell_what_happened(disturbed):
    table = run("-m", "slurm.status", "--runs", str(disturbed.runs)).stdout
    assert re.search(
        r"^steady-synthetic-smoke-s0-\w+ +failed +\d+/30 .* 3 +RuntimeError: the crash", table, re.MULTILINE
    )
    assert re.search(r"^steady-synthetic-smoke-s5-\w+ +finished +30/30 ", table, re.MULTILINE)
    assert "1 failed, 14 finished" in table
    name = disturbed.folder("steady", 1).name
    log = run("-m", "slurm.logs", name.rpartition("-")[2], "--runs", str(disturbed.runs)).stdout
    assert "--- attempt 1: job" in log
    assert "--- killed: to be continued" in log
    assert "--- attempt 2: job" in log
    said = disturbed.submit()
    assert "nothing to submit" in said
    assert "the crash of seed 0" in said
    assert not queued()


def test_after_the_crash_is_fixed_one_job_is_submitted(disturbed, methods):
    (methods / "steady.py").write_text(METHOD.replace("CRASH", "pass"))
    said = disturbed.submit("--no-report")
    assert "retry 1 failed, code changed" in said
    assert re.findall(r"submitted job.*", said) == [re.search(r"submitted job array \d+: 1 runs.*", said)[0]]
    wait_until(lambda: not queued(), "the last run ends")
    assert tries(disturbed.folder("steady", 0)) == ["failed", "failed", "failed", "finished"]
    assert attempts(disturbed.folder("steady", 0))[-1]["from_step"] == 10


def test_two_processes_on_two_nodes_give_the_result_of_one(cluster, tmp_path):
    words = [
        *TINY,
        *STEPS[2:],
        "training.steps=4",
        "training.decay_steps=2",
        "norm=instance",
        f"cache={tmp_path / 'data'}",
    ]
    together, alone = tmp_path / "together", tmp_path / "alone"
    run("-m", "slurm.sweep", "--no-report", "cluster=local", "gpus=2", "nodes=2", *words, f"runs={together}")
    run("-m", "ablations.run", "--alone", *words, f"runs={alone}")
    wait_until(lambda: not queued(), "the runs end")
    (one,) = alone.glob("xinggan-*")
    two = together / one.name
    assert tries(two) == ["finished"], (two / "slurm.log").read_text()
    nodes = run(
        "sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={attempts(two)[0]['job']}", "--format=NNodes"
    )
    assert nodes.stdout.strip() == "2"
    for first, second in zip(losses(one), losses(two), strict=True):
        assert first == pytest.approx(second, rel=2e-3, abs=2e-4)


def losses(folder):
    return [json.loads(line)["losses"] for line in (folder / "history.jsonl").read_text().splitlines()]


def test_two_sweeps_at_the_same_moment_submit_each_run_once(cluster, tmp_path):
    words = [*TINY, "seed=0,1,2,3,4,5,6,7", f"runs={tmp_path / 'runs'}", f"cache={tmp_path / 'data'}"]
    command = [sys.executable, "-m", "slurm.sweep", "cluster=local", "sbatch.begin=now+1hour", *words]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=LIMIT_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("nothing to submit" in text for text in said) == [False, True]
    rows = [json.loads(path.read_text())["rows"] for path in (tmp_path / "runs").glob("slurm/*/sweep.json")]
    assert [len(submitted) for submitted in rows] == [11]
    assert len(queued()) == 12  # and the report

    cancelled = run("-m", "slurm.cancel", "--all", "--runs", str(tmp_path / "runs")).stdout
    assert "cancelled 11 queued and 0 running runs" in cancelled
    wait_until(lambda: not queued(), "the queue is empty")
    table = run("-m", "slurm.status", "--runs", str(tmp_path / "runs")).stdout
    assert "11 cancelled" in table


def test_what_the_cluster_does_not_offer_is_refused_with_the_reason(cluster, tmp_path):
    words = ["cluster=local", *TINY, f"runs={tmp_path / 'runs'}", f"cache={tmp_path / 'data'}"]
    for limit, reason in (("partition=nowhere", "no such partition"),):
        refused = run("-m", "slurm.sweep", limit, *words, check=False)
        assert refused.returncode == 1
        assert reason in refused.stderr
        assert "Traceback" not in refused.stderr
        assert not queued()
