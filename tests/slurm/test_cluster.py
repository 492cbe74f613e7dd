"""Sweeps on a real SLURM: four virtual nodes on this machine, runs that crash, are preempted, killed, out of time.

The shell from which everything is submitted has the settings that are known to go wrong: SBATCH_* and SQUEUE_*, and a
site whose sbatch greets its users before it gives the job's number.
"""

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
from small_sweeps import LIMIT_S, ROOT, TINY, Sweep, attempts, hows, metrics, run, sweeps, tries, wait_until

HERE = Path(__file__).parent
SCRIPT, FOUR_NODES = HERE / "local_cluster.sh", HERE / "four_nodes.yaml"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd")
SHELL = {
    "SBATCH_TIMELIMIT": "1", "SBATCH_PARTITION": "nowhere", "SBATCH_NO_REQUEUE": "1", "SBATCH_ARRAY_INX": "0",
    "SBATCH_EXPORT": "NONE", "SQUEUE_STATES": "RUNNING", "SQUEUE_PARTITION": "high", "OMP_NUM_THREADS": "1",
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this module's own, in the environment for as long as the module's tests run."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"no local SLURM cluster: {', '.join(missing)} not installed (see tests/slurm/local_cluster.sh)")
    if os.geteuid() != 0:
        pytest.skip("no local SLURM cluster: its daemons need root")
    folder = Path(tempfile.mkdtemp(prefix="xg-cluster-"))
    folder.chmod(0o755)  # pytest's own folders keep the daemons' users out
    up = subprocess.run([SCRIPT, "up", folder], capture_output=True, text=True, timeout=LIMIT_S)
    if up.returncode:
        logs = "".join(path.read_text(errors="replace")[-1500:] for path in sorted((folder / "log").glob("slurm*")))
        pytest.fail(f"the local cluster did not come up: {up.stderr}\n{logs}")
    patch = pytest.MonkeyPatch()
    (folder / "bin").mkdir()
    (folder / "bin" / "sbatch").write_text(
        f'#!/bin/sh\necho "Welcome! Your job 1 is done."\nexec {shutil.which("sbatch")} "$@"\n'
    )
    (folder / "bin" / "sbatch").chmod(0o755)
    for name, value in SHELL.items():
        patch.setenv(name, value)
    patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    patch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    yield folder
    patch.undo()
    subprocess.run([SCRIPT, "down", folder], timeout=LIMIT_S)
    shutil.rmtree(folder, ignore_errors=True)


def queued():
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SQUEUE_")}
    return run("squeue", "--noheader", "--array", "--format=%i", env=clean).stdout.split()


def processes(job, word):
    """Processes of a job whose command has this word."""
    number, _, task = job.partition("_")
    wanted = {f"SLURM_ARRAY_JOB_ID={number}", f"SLURM_ARRAY_TASK_ID={task}"} if task else {f"SLURM_JOB_ID={number}"}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
            if word in words and "python" in words[0] and wanted <= {*(process / "environ").read_text().split("\0")}:
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def disturbed(cluster, methods, cache, tmp_path_factory):
    """A sweep of seven runs whose jobs were disturbed in every way, after everything has come to an end."""
    words = ["cpus=2", f"cache={cache}", "seed=" + ",".join(map(str, range(7)))]
    base = tmp_path_factory.mktemp("sweeps") / "mehrere Läufe"
    base.mkdir()
    sweep = Sweep(base, methods, FOUR_NODES, *words)
    refused = re.search(r"start (steady-synthetic-smoke-s6-\w+)", sweep.submit("--dry-run"))[1]
    (sweep.runs / refused / ".lock").mkdir(parents=True)  # no file can be locked there
    sweep.said = sweep.submit()

    # Seed 2 is preempted by a job of the other partition on its node.
    wait_until(lambda: sweep.began(2), "seed 2 saves for the first time")
    node = attempts(sweep.folder(2))[-1]["node"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SBATCH_")}
    high = ["--partition=high", f"--nodelist={node}", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"]
    run("sbatch", *high, env=clean)
    wait_until(lambda: "preempted" in hows(sweep.folder(2)), "seed 2 is preempted")
    (methods / "slow-2").unlink()

    # Seed 4 loses its supervisor and so its job: only what comes after all jobs can notice.
    wait_until(lambda: sweep.began(4), "seed 4 saves for the first time")
    for process in processes(sweep.job(4), "submitit.core._submit") + processes(sweep.job(4), "ablations.run"):
        os.kill(process, signal.SIGKILL)
    (methods / "slow-4").unlink()

    # Seed 3 comes to its time limit, which is the minute after the one it is in.
    wait_until(lambda: sweep.began(3), "seed 3 saves for the first time")
    used = run(
        "squeue", "--noheader", f"--jobs={sweep.job(3)}", "--format=%M", "--states=all", "--partition=main"
    ).stdout
    run("scontrol", "update", f"JobId={sweep.job(3)}", f"TimeLimit={int(used.strip().split(':')[-2]) + 1}")
    wait_until(lambda: "timed out" in hows(sweep.folder(3)), "seed 3 runs out of time")
    (methods / "slow-3").unlink()
    run("scontrol", "update", f"JobId={sweep.job(3)}", "TimeLimit=60", check=False)  # or it was killed at once

    wait_until(lambda: not queued(), "the queue is empty")
    return sweep


def test_all_runs_finish_but_the_crashing_and_the_refused_one(disturbed):
    assert re.search(r"^10 runs: start 10 new$", disturbed.said, re.MULTILINE)
    states = {seed: status["state"] for seed, status in disturbed.states().items()}
    assert states == {str(seed): "failed" if seed in (0, 6) else "finished" for seed in range(7)}
    assert tries(disturbed.folder(0)) == 3 * ["failed"]
    assert [attempt["step"] for attempt in attempts(disturbed.folder(0))][-3:] == [10, 10, 10]
    error = disturbed.states()["0"]["error"]
    assert "the crash of seed 0" in error
    assert "3 attempts ended at step 10" in error
    assert hows(disturbed.folder(6)) == ["refused"]
    assert disturbed.states()["6"]["error"].startswith("ablations.run: ")


def test_each_disturbance_is_known_by_its_name(disturbed):
    assert tries(disturbed.folder(1)) == ["killed", "finished"]
    for seed, how in ((2, "preempted"), (3, "timed out"), (4, "lost")):
        assert how in hows(disturbed.folder(seed))
        assert hows(disturbed.folder(seed))[-1] == "finished"


def test_nothing_is_computed_twice_and_metrics_equal_undisturbed_runs(disturbed, undisturbed):
    assert len(list(undisturbed.iterdir())) == 5
    for folder in undisturbed.iterdir():
        told = attempts(disturbed.runs / folder.name)
        assert [attempt["from_step"] for attempt in told[1:]] == [attempt["step"] for attempt in told[:-1]]
        assert hows(disturbed.runs / folder.name).count("finished") == 1
        lines = (disturbed.runs / folder.name / "history.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines]
        assert steps == sorted(set(steps))
        assert metrics(disturbed.runs / folder.name) == metrics(folder)


def test_the_report_is_built_and_names_the_failure(disturbed):
    (page,) = (disturbed.base / "report").glob("*/index.html")
    assert "the crash of seed 0" in page.read_text()
    assert str(page) in disturbed.said
    assert re.search(rf"^report: finished, {page}$", disturbed.status(), re.MULTILINE)


def test_status_logs_and_the_same_command_again_tell_what_happened(disturbed):
    table = disturbed.status()
    assert re.search(
        r"^steady-synthetic-smoke-s0-\w+ +failed +\d+/30 .* 3 +RuntimeError: the crash", table, re.MULTILINE
    )
    assert re.search(r"^steady-synthetic-smoke-s6-\w+ +failed .*ablations.run: ", table, re.MULTILINE)
    assert re.search(r"^steady-synthetic-smoke-s5-\w+ +finished +30/30 ", table, re.MULTILINE)
    assert "2 failed, 8 finished" in table
    hash_of_1 = disturbed.folder(1).name.rpartition("-")[2]
    log = run("-m", "slurm.logs", hash_of_1, "--runs", str(disturbed.runs)).stdout
    assert "--- attempt 1: job" in log
    assert "--- attempt 2: job" in log
    said = disturbed.submit()
    assert "nothing to submit" in said
    assert "the crash of seed 0" in said
    assert not queued()


def test_after_the_crash_is_fixed_one_job_is_submitted(disturbed, methods):
    text = (methods / "steady.py").read_text()
    (methods / "steady.py").write_text(text.replace('raise RuntimeError("the crash of seed 0")', "pass"))
    (disturbed.folder(6) / ".lock").rmdir()
    said = disturbed.submit("--no-report")
    assert "retry 2 failed, code changed" in said
    assert re.findall(r"submitted job array \d+: (\d+) runs", said) == ["2"]
    wait_until(lambda: not queued(), "the last runs end")
    assert tries(disturbed.folder(0)) == ["failed", "failed", "failed", "finished"]
    assert tries(disturbed.folder(6)) == ["refused", "finished"]


def test_two_processes_on_two_nodes_give_the_result_of_one_also_after_one_of_them_has_died(
    cluster, methods, undisturbed, cache, tmp_path
):
    (methods / "slow-5").touch()
    sweep = Sweep(tmp_path, methods, FOUR_NODES, f"cache={cache}", "gpus=2", "nodes=2", "device=auto", "seed=5")
    sweep.submit("--no-report")
    wait_until(lambda: sweep.began(5), "the run saves for the first time")
    (methods / "slow-5").unlink()
    ranks = processes(sweep.job(5), "ablations.run")
    second = [rank for rank in ranks if "RANK=1" in Path(f"/proc/{rank}/environ").read_text().split("\0")]
    os.kill(second[0], signal.SIGKILL)
    wait_until(lambda: not queued(), "the runs end")
    assert tries(sweep.folder(5))[1:] == ["finished"], (sweep.folder(5) / "slurm.log").read_text()
    assert tries(sweep.folder(5))[0] in ("killed", "failed")
    for first, second in zip(losses(undisturbed / sweep.folder(5).name), losses(sweep.folder(5)), strict=True):
        assert first == pytest.approx(second, rel=2e-3, abs=2e-4)


def losses(folder):
    return [json.loads(line)["losses"] for line in (folder / "history.jsonl").read_text().splitlines()]


def test_two_sweeps_at_the_same_moment_submit_each_run_once_and_held_ones_are_told(cluster, cache, tmp_path):
    words = [*TINY, "seed=0,1,2,3,4,5,6,7", f"runs={tmp_path / 'runs'}", f"cache={cache}", f"cluster={FOUR_NODES}"]
    command = [sys.executable, "-m", "slurm.sweep", "sbatch.begin=now+1hour", *words]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=LIMIT_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("nothing to submit" in text for text in said) == [False, True]
    assert [len(rows) for rows in sweeps(tmp_path / "runs")] == [11]
    assert len(queued()) == 12  # and the report

    job = sweeps(tmp_path / "runs")[0][3]["job"]
    run("scontrol", "hold", job)
    table = run("-m", "slurm.status", "--runs", str(tmp_path / "runs")).stdout
    assert re.search(rf"held .*JobHeld(User|Admin): scontrol release {job}$", table, re.MULTILINE)
    assert "10 queued, 1 held" in table
    cancelled = run("-m", "slurm.cancel", "--all", "--runs", str(tmp_path / "runs")).stdout
    assert "cancelled 11 queued and 0 running runs" in cancelled
    wait_until(lambda: not queued(), "the queue is empty")
    assert "11 cancelled" in run("-m", "slurm.status", "--runs", str(tmp_path / "runs")).stdout


def test_what_setup_exports_reaches_the_run_and_a_line_that_fails_stops_the_job_and_is_named(cluster, cache, tmp_path):
    """The Python of the jobs writes down its environment and ends."""
    (tmp_path / "python").write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    base = f"{FOUR_NODES.read_text()}sbatch: {{export: NONE}}\npython: {tmp_path / 'python'}\n"
    words = ["method=copy_source", *[word for word in TINY if not word.startswith("training")], f"cache={cache}"]
    for name, lines in (
        ("good", "[export MARK=42, 'module() { :; }', module load cuda]"),
        ("bad", "['true', source nosuch]"),
    ):
        (tmp_path / f"{name}.yaml").write_text(f"{base}setup: {lines}\n")
        place = [f"cluster={tmp_path / name}.yaml", f"runs={tmp_path / name}"]
        run("-m", "slurm.sweep", "--no-report", *words, *place)
        wait_until(lambda: not queued(), "the jobs end")
    environment = (tmp_path / "environment").read_text().splitlines()
    assert "MARK=42" in environment
    assert any(line.startswith(f"PYTHONPATH={ROOT}") for line in environment)
    table = run("-m", "slurm.status", "--runs", str(tmp_path / "bad")).stdout
    assert len(re.findall(r"new .*ended.*: setup failed: source nosuch$", table, re.MULTILINE)) == 3


def test_without_scontrol_on_its_node_a_run_saves_and_says_so_and_slurms_own_requeue_carries_it_on(
    cluster, methods, cache, tmp_path
):
    (tmp_path / "bin").mkdir()
    for program in ("bash", "env", "srun"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program))
    (tmp_path / "bare.yaml").write_text(f"{FOUR_NODES.read_text()}setup: ['export PATH={tmp_path / 'bin'}']\n")
    (methods / "slow-6").touch()
    sweep = Sweep(tmp_path, methods, tmp_path / "bare.yaml", f"cache={cache}", "seed=6")
    sweep.submit("--no-report")
    wait_until(lambda: sweep.began(6), "the run saves for the first time")
    run("scancel", "--signal=USR2", sweep.job(6))
    wait_until(lambda: hows(sweep.folder(6)) == ["preempted"], "the run saves")
    (methods / "slow-6").unlink()
    log = ["-m", "slurm.logs", sweep.folder(6).name, "--runs", str(sweep.runs)]
    wait_until(lambda: "no scontrol on this node" in run(*log).stdout, "the job says so")
    run("scontrol", "requeue", sweep.job(6))
    wait_until(lambda: not queued(), "the runs end")
    assert hows(sweep.folder(6)) == ["preempted", "finished"]


def test_a_run_that_is_requeued_and_held_is_told_not_waited_for_and_goes_on_where_it_was_once_released(
    cluster, methods, cache, tmp_path
):
    (methods / "slow-7").touch()
    sweep = Sweep(tmp_path, methods, FOUR_NODES, f"cache={cache}", "seed=7")
    sweep.submit("--no-report")
    wait_until(lambda: sweep.began(7), "the run saves for the first time")
    run("scontrol", "requeuehold", sweep.job(7))
    (methods / "slow-7").unlink()
    wait_until(lambda: len(queued()) == 1, "the references end")
    table = sweep.status("--watch")
    assert re.search(rf"-s7-\w+ +held .*: scontrol release {sweep.job(7)}$", table, re.MULTILINE)
    run("scontrol", "release", sweep.job(7))
    wait_until(lambda: not queued(), "the run ends")
    first, second = attempts(sweep.folder(7))
    assert (first["how"], second["how"]) == ("preempted", "finished")
    assert second["from_step"] == first["step"] >= 10


def test_what_the_cluster_does_not_offer_is_refused_with_the_reason(cluster, cache, tmp_path):
    words = [f"cluster={FOUR_NODES}", *TINY, f"runs={tmp_path / 'runs'}", f"cache={cache}"]
    refused = run("-m", "slurm.sweep", "partition=nowhere", *words, check=False)
    assert refused.returncode == 1
    assert "no such partition" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not queued()


def test_five_hundred_runs_are_submitted_and_shown_in_seconds(cluster, cache, tmp_path):
    """The limits are 20 s and 5 s on a machine of one's own; here they are not asserted, but that it ends is."""
    words = [f"cluster={FOUR_NODES}", *TINY, f"runs={tmp_path / 'runs'}", f"cache={cache}", "sbatch.begin=now+1hour"]
    began = time.monotonic()
    run("-m", "slurm.sweep", "seed=" + ",".join(map(str, range(500))), *words)
    between = time.monotonic()
    assert "503 queued" in run("-m", "slurm.status", "--runs", str(tmp_path / "runs")).stdout
    print(f"sweep {between - began:.1f} s, status {time.monotonic() - between:.1f} s")
    run("-m", "slurm.cancel", "--all", "--runs", str(tmp_path / "runs"))
    wait_until(lambda: not queued(), "the queue is empty")
