"""What became of the runs of a sweep: their states and logs, cancelling them, and carrying on what died; with programs
that answer like SLURM's."""

import json
import os
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from small_sweeps import finish, hows, names, of_seed, rewrite, sweeps

from ablations.record import RunRecord
from slurm import cancel, logs, report, retry, status, sweep
from slurm.cluster import Cluster
from slurm.run import Run
from slurm.submission import Row, Submission, read_submission, submitting
from xinggan.files import locked


@pytest.fixture
def sleeping():
    """A process that has nothing to do with any sweep."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture
def here(runs, words):
    """A sweep that a process of this machine works off."""
    _, rows = sweep.plan(None, words[1:], 1)
    everything = [row.run for row in rows]
    for task, row in enumerate(rows):
        row.name, row.task = "xg-first", task
    submission = Submission(runs, Cluster("local"), None, None, "/", everything, rows, "20260101-000000-0", "first")
    submission.write()
    with locked(submission.folder / "local.lock"):
        yield submission


def test_why_the_process_of_this_machine_ended_is_told(here, runs, capsys, monkeypatch):
    monkeypatch.setattr(Submission, "alive", False)
    (here.folder / "local.log").write_text("Traceback\nOSError: No space left on device\n")
    assert status.main(["--runs", str(runs)]) == 0
    told = "new .* the process on this machine ended: OSError: No space left on device$"
    assert len(re.findall(told, capsys.readouterr().out, re.MULTILINE)) == 8


def test_jobs_of_this_machine_are_not_among_those_that_slurm_waits_for(slurm, here, words, runs, sleeping, capsys):
    Run(here, here.rows[4]).begin_attempt(str(sleeping.pid), socket.gethostname())
    further = [word.replace("0,1,2,3,4", "4,5") for word in words]
    assert sweep.main(further) == 0
    assert "skip 1 running, start 1 new, skip 3 queued" in capsys.readouterr().out
    assert "#SBATCH --dependency=afterany:1\n" in slurm.scripts()[-1]


@pytest.mark.parametrize(
    ("node", "series", "killed"),
    [("here", "first", True), ("another machine", "first", False), ("here", "an earlier sweep", False)],
)
def test_cancel_ends_a_process_of_this_machine_that_works_on_the_run_and_no_other(
    here, runs, sleeping, capsys, node, series, killed
):
    run = Run(here, here.rows[0])
    here.series = series
    run.begin_attempt(str(sleeping.pid), socket.gethostname() if node == "here" else node)
    assert cancel.main(["--all", "--runs", str(runs)]) == (1 if node != "here" else 0)
    said = capsys.readouterr()
    assert ("worked on by another machine: give the same command there" in said.err) == (node != "here")
    assert f"and {int(killed)} running" in said.out
    if killed:
        assert sleeping.wait(timeout=60) != 0
    assert (sleeping.poll() is None) != killed
    assert [row["cancelled"] for row in sweeps(runs)[0]] == [node == "here", *(7 * [True])]


def test_cancel_keeps_what_was_written_down_while_it_waited_for_another_command(slurm, words, runs):
    assert sweep.main(words) == 0
    slurm.put_into_queue(runs)
    with submitting(runs):
        command = threading.Thread(target=cancel.main, args=(["*-s1-*", "--runs", str(runs)],))
        command.start()
        time.sleep(1)
        rewrite(runs, lambda content: [row.update(job=f"9{row['job']}") for row in content["rows"]])
    command.join()
    assert {row["job"][:1] for row in sweeps(runs)[0]} == {"9"}
    assert sum(row["cancelled"] for row in sweeps(runs)[0]) == 1


@pytest.fixture
def ended(slurm, words, runs, capsys):
    """A sweep without jobs: seed 0 finished, 1 failed, 2 was interrupted, 3 killed with its job, 4 never began."""
    assert sweep.main(words) == 0
    for seed, state in ((0, "finished"), (1, "failed"), (2, "preempted"), (3, "running")):
        (folder,) = (path.parent for path in runs.glob("slurm/*/sweep.json"))
        run = Run(read_submission(folder), Row(of_seed(runs, seed)))
        run.begin_attempt(["1_0", "1_1", "2_0", "2_1", "2_2"][seed], "n1")
        if seed != 3:
            run.end_attempt(state, unwarned=seed == 2)
        run.record.note(state=state, steps=30, error="Traceback\nRuntimeError: no memory" if seed == 1 else None)
        if seed == 0:
            finish(run.folder)
    (slurm.folder / "accounting").write_text("JobID|State|NodeList\n2_1|NODE_FAIL|n2\n2_2|CANCELLED by 0|\n")
    capsys.readouterr()
    return names(runs)


def test_each_state_is_told_from_record_queue_and_accounting(ended, runs, capsys):
    assert status.main(["--runs", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = {seed: next(line for line in lines if f"-s{seed}-" in line) for seed in range(5)}
    for seed, state in enumerate(("finished", "failed", "interrupted", "interrupted", "cancelled")):
        assert re.match(rf"\S+ +{state} ", told[seed] + " "), told[seed]
    assert told[1].endswith("RuntimeError: no memory")
    assert told[2].endswith("SLURM needs preempt_send_user_signal and a GraceTime")
    assert told[3].endswith("job 2_1 ended as NODE_FAIL on n2")
    assert any("1 failed" in line for line in lines)


@pytest.mark.parametrize("how", ["stopped", "missing", "hanging"])
def test_without_accounting_everything_works_from_records_and_queue_and_says_so(
    ended, slurm, words, runs, capsys, monkeypatch, how
):
    (slurm.folder / "accounting").unlink()
    if how == "hanging":
        monkeypatch.setattr("slurm.queue.ACCOUNTING_LIMIT_S", 0.5)
        (slurm.folder / "sacct").write_text("#!/bin/sh\nsleep 600\n")
    elif how == "missing":
        (slurm.folder / "sacct").unlink()
        real = [folder for folder in os.environ["PATH"].split(":") if not (Path(folder) / "sacct").exists()]
        bare = slurm.folder.parent / "bare"
        bare.mkdir()
        for name in ("sh", "cat", "echo", "sed", "cp", "env", "timeout", "ps", "sleep", "bash"):
            (bare / name).symlink_to(f"/usr/bin/{name}")
        monkeypatch.setenv("PATH", f"{slurm.folder}:{bare}:" + ":".join(path for path in real if path != "/usr/bin"))
    assert status.main(["--runs", str(runs), "*-s3-*"]) == 0
    said = capsys.readouterr().out
    assert "interrupted" in said
    assert "note: sacct" in said
    assert "slurmdbd" in said
    assert cancel.main(["--all", "--runs", str(runs)]) == 0
    assert retry.main(["--failed", "--no-report", "--runs", str(runs)]) == 0
    assert sweep.main(words) == 0
    assert "slurmdbd" in capsys.readouterr().out
    assert [of_seed(runs, seed) in [row["run"] for row in sweeps(runs)[2]] for seed in range(5)] == [
        False, False, True, True, True,
    ] or how  # fmt: skip


def test_the_same_sweep_resumes_and_leaves_alone_what_failed_unless_asked(ended, slurm, words, runs, capsys):
    assert sweep.main(["--dry-run", *words]) == 0
    said = capsys.readouterr().out
    assert "resume 2 interrupted" in said
    assert "skip 1 failed" in said
    assert "resume 1 cancelled" in said
    assert "RuntimeError: no memory" in said
    assert sweep.main(["--dry-run", "--retry", *words]) == 0
    assert "retry 1 failed" in capsys.readouterr().out


def test_retry_failed_submits_the_failed_run_with_other_limits(ended, slurm, runs, capsys):
    assert retry.main(["--failed", "mem_gb=7", "--runs", str(runs)]) == 0
    assert [row["run"] for row in sweeps(runs)[1]] == [name for name in ended if "-s1-" in name]
    assert "#SBATCH --mem=7GB" in slurm.scripts()[-2]
    assert retry.main(["--failed", "seed=7", "--runs", str(runs)]) == 2
    assert "seed=7: no setting" in capsys.readouterr().err
    assert retry.main(["*-s1-*", "cluster=slurm", "mem_gb=9", "--no-report", "--runs", str(runs)]) == 0
    assert "#SBATCH --cpus-per-task=8" in slurm.scripts()[-1]  # the example's, not four_nodes'
    assert "#SBATCH --mem=9GB" in slurm.scripts()[-1]


def test_replace_puts_the_record_aside_and_a_refusal_puts_it_back(ended, slurm, words, runs, capsys):
    finished = of_seed(runs, 0)
    (slurm.folder / "room").write_text("0")
    assert sweep.main(["--replace", *words]) == 1
    assert (runs / finished / "metrics.json").exists()
    (slurm.folder / "room").write_text("1000")
    assert sweep.main(["--replace", *words]) == 0
    assert not (runs / finished).exists()
    assert len(list(runs.glob(f"replaced/*/{finished}/metrics.json"))) == 1


@pytest.mark.parametrize(
    ("end", "how"),
    [("PREEMPTED", "preempted"), ("NODE_FAIL", "lost"), ("TIMEOUT", "timed out"), ("OUT_OF_MEMORY", "lost")],
)
def test_the_last_job_carries_on_what_died_but_not_what_was_cancelled(ended, slurm, runs, capsys, end, how):
    path = slurm.folder / "accounting"
    path.write_text(path.read_text().replace("NODE_FAIL", end))
    first = next(path.parent for path in runs.glob("slurm/*/sweep.json"))
    assert report.main([str(first)]) == 0
    carried = [row["run"] for row in sweeps(runs)[1]]
    assert [of_seed(runs, seed) in carried for seed in range(5)] == [False, False, True, True, False]
    second = json.loads(max(runs.glob("slurm/*/sweep.json")).read_text())
    assert second["series"] == first.name
    assert hows(runs / of_seed(runs, 3)) == [how]


def test_without_accounting_the_last_job_carries_nothing_on_and_says_so(ended, slurm, runs, capsys):
    """What was cancelled could not be told from what died; what is finished is reported nevertheless."""
    (slurm.folder / "accounting").unlink()
    first = next(path.parent for path in runs.glob("slurm/*/sweep.json"))
    report.main([str(first)])
    assert len(sweeps(runs)) == 1
    said = capsys.readouterr().err
    assert re.search(r"-s3-\w+: interrupted. lost at step 0$", said, re.MULTILINE)
    assert re.search(r"-s1-\w+: failed. RuntimeError: no memory$", said, re.MULTILINE)


def test_a_report_that_fails_is_a_row_that_says_why(ended, slurm, words, runs, capsys):
    first = next(path.parent for path in runs.glob("slurm/*/sweep.json"))
    (first / "4_0_log.err").write_text("setup failed: module load nosuch\nsrun: error: n1: task 0: Exited\n")
    assert status.main(["--runs", str(runs)]) == 0
    assert re.search(r"^report: failed, setup failed: module load nosuch$", capsys.readouterr().out, re.MULTILINE)


def test_held_jobs_are_named_with_what_releases_them_and_are_not_waited_for(slurm, words, runs, capsys):
    assert sweep.main(words) == 0
    slurm.put_into_queue(runs, reason="JobHeldUser")
    assert status.main(["*-s3-*", "--watch", "--runs", str(runs)]) == 0
    assert re.search(r"-s3-\w+ +held .*JobHeldUser: scontrol release 2_1$", capsys.readouterr().out, re.MULTILINE)
    assert sweep.main(words) == 0
    assert "skip 8 held" in capsys.readouterr().out


def test_a_run_on_a_silent_node_shows_no_speed(slurm, words, runs, capsys):
    assert sweep.main(words) == 0
    slurm.put_into_queue(runs, state="RUNNING")
    folder = runs / of_seed(runs, 2)
    RunRecord(folder).note(state="running", steps=30)
    lines = [{"step": step, "seconds": float(step), "images_per_second": 9.9, "losses": {}} for step in range(1, 9)]
    for longer in range(64):  # wherever the end that is read begins, perhaps in the middle of a line
        before = [{"step": 0, "losses": {"l1": 0.5, "longer": "x" * longer}}] * 200
        lines_of = [json.dumps(line) + "\n" for line in [*before, *lines]]
        (folder / "history.jsonl").write_text("".join(lines_of))
        assert status.progress(folder, 30)[:2] == (8, 9.9)
    assert status.main(["*-s2-*", "--runs", str(runs)]) == 0
    assert re.search(r"running +8/30 +9\.9 +0:00:22 +n1", capsys.readouterr().out)
    for name in ("history.jsonl", "status.json"):
        os.utime(folder / name, (time.time() - 7200,) * 2)
    assert status.main(["*-s2-*", "--runs", str(runs)]) == 0
    said = capsys.readouterr().out
    assert "9.9" not in said
    assert "no sign of life for 2:00:0" in said


def test_cancel_writes_down_what_it_takes_and_takes_it_from_every_submission(slurm, words, runs, capsys):
    assert sweep.main(words) == 0
    slurm.put_into_queue(runs)
    assert cancel.main(["*-s1-*", "--runs", str(runs)]) == 0
    assert "cancelled 1 queued and 0 running runs of 1" in capsys.readouterr().out
    assert slurm.cancelled() == ["1_1"]
    queue = (slurm.folder / "queue").read_text().splitlines()
    (slurm.folder / "queue").write_text("\n".join(line for line in queue if "|1|1|" not in line) + "\n")
    assert status.main(["--runs", str(runs), "*-s1-*"]) == 0
    assert "1 cancelled" in capsys.readouterr().out
    assert sweep.main(words) == 0
    assert "resume 1 cancelled" in capsys.readouterr().out
    slurm.put_into_queue(runs)  # the newest submission has one of eight runs
    assert cancel.main(["--all", "--runs", str(runs)]) == 0
    assert set(slurm.cancelled()) == {"1_0", "1_1", "2_0", "2_1", "2_2", "3_0", "3_1", "3_2", "5_0", "4", "6"}


def test_logs_are_the_runs_own_and_those_of_its_job(slurm, words, runs, capsys):
    assert sweep.main(words) == 0
    name = of_seed(runs, 2)
    capsys.readouterr()
    assert logs.main([name, "--runs", str(runs)]) == 1
    assert "nothing printed yet" in capsys.readouterr().err
    (first,) = (path.parent for path in runs.glob("slurm/*/sweep.json"))
    (first / "2_0_0_log.err").write_text("bash: python: not found\n")
    assert logs.main([name, "--runs", str(runs)]) == 0
    assert capsys.readouterr().out == "bash: python: not found\n"
    (runs / name).mkdir()
    (runs / name / "slurm.log").write_text("one\ntwo\nthree\n")
    assert logs.main([name[-12:], "--lines", "1", "--runs", str(runs)]) == 0
    assert capsys.readouterr().out == "three\nbash: python: not found\n"
    assert logs.main(["xinggan*", "--runs", str(runs)]) == 2
    assert "Say more of it" in capsys.readouterr().err
    assert logs.main(["nothing", "--runs", str(runs)]) == 2
