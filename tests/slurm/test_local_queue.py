"""A sweep on a machine without SLURM: the same commands, the same rules, submitit's local executor."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_sweeps import METHOD, ROOT, SETTINGS, Sweep, attempts, hows, metrics, run, sweeps, wait_until

from slurm.submission import submissions


def tasks_of(job):
    """The processes below one of submitit's local jobs, the supervisor of the run first."""
    return [
        int(number) for number in subprocess.run(["pgrep", "-P", job], capture_output=True, text=True).stdout.split()
    ]


@pytest.fixture(scope="module")
def without_slurm(tmp_path_factory):
    """Within it there is no sbatch, and SLURM's other commands only write down that they were called."""
    folder, slurms = tmp_path_factory.mktemp("programs"), tmp_path_factory.mktemp("slurm")
    names = ("squeue", "sacct", "scontrol", "scancel", "srun", "sinfo")
    for name in names:
        (slurms / name).write_text(f"#!/bin/sh\necho $0 $@ >> {slurms}/called\n")
        (slurms / name).chmod(0o755)
    places = [place for place in map(Path, os.environ["PATH"].split(":")) if place.is_dir()]
    programs = {program.name: program for place in reversed(places) for program in place.iterdir()}
    for name in programs.keys() - {"sbatch", *names}:
        (folder / name).symlink_to(programs[name])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{slurms}:{folder}")
        yield slurms


@pytest.fixture(scope="module")
def swept(without_slurm, methods, cache, tmp_path_factory):
    """Six runs three at a time, disturbed in every way, after everything has come to an end."""
    words = [f"cache={cache}", "array_parallelism=3", "seed=" + ",".join(map(str, range(6)))]
    sweep = Sweep(tmp_path_factory.mktemp("local"), methods, None, *words)
    sweep.said = sweep.submit()
    wait_until(lambda: sweep.began(2), "seed 2 saves for the first time")
    sweep.table = sweep.status()
    os.kill(tasks_of(sweep.job(2))[0], signal.SIGKILL)  # the worker; the run that it had started goes on alone
    (methods / "slow-2").unlink()
    wait_until(lambda: sweep.began(3), "seed 3 saves for the first time")
    os.kill(tasks_of(sweep.job(3))[0], signal.SIGUSR2)  # what submitit does shortly before the time limit
    (methods / "slow-3").unlink()
    (methods / "slow-4").unlink()
    wait_until(lambda: not submissions(sweep.runs)[0].alive, "everything has ended")
    return sweep


def test_all_runs_finish_but_the_crashing_one_which_fails_after_three_tries(swept):
    assert re.search(r"^9 runs: start 9 new$", swept.said, re.MULTILINE)
    states = {seed: status["state"] for seed, status in swept.states().items()}
    assert states == {str(seed): "failed" if seed == 0 else "finished" for seed in range(6)}
    assert hows(swept.folder(0)) == 3 * ["failed"]
    assert "3 attempts ended at step 10" in json.loads((swept.folder(0) / "status.json").read_text())["error"]
    assert hows(swept.folder(1)) == ["killed", "finished"]
    assert hows(swept.folder(3)) == ["timed out", "finished"]


def test_no_command_of_slurm_is_called(swept, without_slurm):
    assert not (without_slurm / "called").exists()


def test_the_table_shows_what_runs_and_what_waits(swept):
    assert re.search(r"^steady-\S+-s2-\w+ +running +1\d/30 ", swept.table, re.MULTILINE)
    assert re.search(r"^ground_truth-\S+ +queued .*waits: its turn$", swept.table, re.MULTILINE)
    assert re.search(rf"^report: queued, will be {swept.base}/report/\S+/index.html$", swept.table, re.MULTILINE)
    assert "1 failed, 8 finished" in swept.status()


def test_nothing_is_computed_twice_and_metrics_equal_undisturbed_runs(swept, undisturbed):
    for folder in undisturbed.iterdir():
        disturbed = swept.runs / folder.name
        steps = [json.loads(line)["step"] for line in (disturbed / "history.jsonl").read_text().splitlines()]
        assert steps == sorted(set(steps))
        assert metrics(disturbed) == metrics(folder)


def test_the_report_names_the_failure_and_the_same_command_again_has_nothing_to_do(swept):
    (page,) = (swept.base / "report").glob("*/index.html")
    assert "the crash of seed 0" in page.read_text()
    assert re.search(rf"^report: finished, {page}$", swept.status(), re.MULTILINE)
    said = swept.submit()
    assert "nothing to submit" in said
    assert "the crash of seed 0" in said
    assert len(sweeps(swept.runs)) == 1


def test_cancelled_runs_save_and_the_same_command_carries_on(methods, cache, tmp_path):
    (methods / "slow-20").touch()
    sweep = Sweep(tmp_path, methods, "local", f"cache={cache}", "array_parallelism=1", "seed=20")
    sweep.submit("--no-report")
    wait_until(lambda: sweep.began(20), "the run saves for the first time")
    Sweep(tmp_path, methods, "local", f"cache={cache}", "seed=21").submit("--no-report")
    time.sleep(5)
    assert re.search(r"-s21-\w+ +queued .*its turn$", sweep.status(), re.MULTILINE)  # one sweep of a folder at a time
    assert "cancelled 4 queued and 1 running" in run("-m", "slurm.cancel", "--all", "--runs", str(sweep.runs)).stdout
    wait_until(lambda: not any(one.alive for one in submissions(sweep.runs)), "the queues are empty")
    assert "5 cancelled" in sweep.status()
    assert hows(sweep.folder(20)) == ["cancelled"]
    (methods / "slow-20").unlink()
    assert "resume 4 cancelled" in sweep.submit("--no-report")
    wait_until(lambda: (sweep.folder(20) / "metrics.json").exists(), "the run has finished")
    first, second = attempts(sweep.folder(20))
    assert second["from_step"] == first["step"] >= 10
    run("-m", "slurm.cancel", "--all", "--runs", str(sweep.runs))


def own_method(folder, crash):
    """The method `steady` in a folder of its own, of which seed 0 does this at step 14."""
    (folder / "steady.py").write_text(METHOD.replace("CRASH", crash))
    (folder / "steady.yaml").write_text(SETTINGS)
    return folder


def test_two_processes_here_begin_again_after_one_of_them_has_died_and_what_is_not_trained_has_one(cache, tmp_path):
    once = 'if os.environ["RANK"] == "1" and (HERE / "kill-0").exists(): '
    methods = own_method(tmp_path, f"{once}(HERE / 'kill-0').unlink(); os.kill(os.getpid(), signal.SIGKILL)")
    (tmp_path / "kill-0").touch()
    sweep = Sweep(tmp_path, methods, "local", f"cache={cache}", "gpus=2", "device=cpu", "seed=0")
    sweep.submit()
    wait_until(lambda: not submissions(sweep.runs)[0].alive, "everything has ended")
    assert hows(sweep.folder(0))[-1] == "finished", (sweep.folder(0) / "slurm.log").read_text()
    assert {*hows(sweep.folder(0))[:-1]} <= {"killed", "failed"}
    assert len(hows(sweep.folder(0))) == 2
    (folder,) = (submission.folder for submission in submissions(sweep.runs))
    second = {path.name.split("_")[0] for path in folder.glob("*_1_log.out")}
    assert second == {attempt["job"] for attempt in attempts(sweep.folder(0))}  # neither references nor report
    assert len(list((tmp_path / "report").glob("*/index.html"))) == 1


def test_with_cluster_debug_the_commands_own_process_runs_and_may_ask_at_the_terminal(cache, tmp_path):
    methods = own_method(tmp_path, 'print("answer", input(), os.getppid(), flush=True)')
    sweep = Sweep(tmp_path, methods, "debug", f"cache={cache}", "seed=0")
    command = [sys.executable, "-m", "slurm.sweep", "--no-report", "--methods", str(methods), *sweep.words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, input="from the terminal\n")
    assert f"answer from the terminal {os.getpid()}" in done.stdout, done.stderr
    assert "4 finished" in sweep.status()
