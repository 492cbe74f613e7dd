"""From runs that are wanted to jobs: the rules decide under a lock, and submitit's executor takes what they say.

SLURM gets job arrays, and then a job for the report that waits for all of them. On this machine a process in the
background works off the queue, or with cluster=debug the command itself.
"""

import itertools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from submitit import AutoExecutor

from slurm import job
from slurm.queue import FULL, LATE, ClusterError, ask, clean_environment, refusal
from slurm.run import Run, jobs_of, observe
from slurm.submission import Row, Submission, latest_with, submissions, submitting

LIMIT_S = 90  # for sbatch, which may try for ever
# What submitit calls instead of sbatch: of a site's greeting it would take the first number after the word job.
SBATCH = """#!/bin/sh
PATH={path}
answer=$(timeout {limit} sbatch "$@") || exit $?
echo "$answer" | sed -n 's/.*\\(Submitted batch job [0-9][0-9]*\\).*/\\1/p'
"""
DRY_RUN = "#!/bin/sh\necho Submitted batch job $$\n"


def decide_and_submit(wanted: Submission, mode: str, report: bool = True, dry_run: bool = False) -> bool:
    """Under the lock: look at every row of `wanted`, submit those that the rules say, and print what was done.

    Whether any run was left to submit. Where none is, the report is submitted alone, if it was refused before or
    failed. Raises ClusterError.
    """
    folder, slurm = wanted.runs_folder, wanted.cluster.executor == "slurm"
    with nullcontext() if dry_run else submitting(folder):
        known = submissions(folder)
        jobs, problem = jobs_of(known, slurm)
        if problem and not dry_run and (slurm or shutil.which("squeue")):
            raise problem
        if problem:
            print(f"# {problem}. Shown as if nothing were in SLURM's queue.")
        runs = {run.name: run for run in observe(wanted.everything, known, jobs, wanted)}
        print_decisions([runs[row.run] for row in wanted.rows], mode, wanted.cluster.notes)
        actions = [(row, runs[row.run].action(mode)) for row in wanted.rows]
        rows = [Row(row.run, row.title, row.words, row.trained, action) for row, action in actions if action != "skip"]
        rows.sort(key=lambda row: not row.trained)
        name, earlier = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}", latest_with(known, wanted.everything)
        missing = earlier is None or earlier.report_state(jobs)[0] in ("", "failed")
        to_report = any(run.job or run.state == "finished" for run in runs.values())
        report_alone = report and not rows and missing and to_report and mode != "rescue"
        series = wanted.series or (earlier.series if earlier and report_alone else name)
        submission = replace(wanted, name=name, rows=rows, series=series, report="")
        queued = [run.job.identifier for run in runs.values() if run.job and run.submission.cluster.executor == "slurm"]
        after = {identifier.split("_")[0] for identifier in queued}
        if not rows and not report_alone:
            print("nothing to submit")
            return False
        if dry_run:
            print("".join(f"# {row.action} {row.run}\n" for row in rows))
            if slurm:
                print_scripts(submission, report, after)
            return bool(rows)
        with replaced_records_aside(submission), own_sbatch(SBATCH) if slurm else nullcontext():
            submit_to_slurm(submission, report, after) if slurm else start_here(submission, report)
    if submission.cluster.executor == "debug":
        job.work_off(submission)
    return bool(rows)


def print_decisions(runs: list[Run], mode: str, notes: set[str]) -> None:
    """How many runs are in which state and what is done with them, and what may surprise."""
    counted = Counter((run.action(mode), run.state) for run in runs)
    print(f"{len(runs)} runs: " + ", ".join(f"{does} {count} {state}" for (does, state), count in counted.items()))
    for run in runs:
        if run.action(mode) == "skip" and run.state == "failed":
            print(f"  {run.name} failed and nothing has changed since (--retry tries again): {run.error}")
    for note in {run.note for run in runs if run.note} | notes:
        print(f"  note: {note}")


@contextmanager
def replaced_records_aside(submission: Submission) -> Iterator[None]:
    """Put records aside that are to be replaced; at the end those of refused runs come back."""
    folder, place = submission.runs_folder, submission.runs_folder / "replaced" / submission.name
    replaced = [row.run for row in submission.rows if row.action == "replace" and (folder / row.run).exists()]
    for run in replaced:
        place.mkdir(parents=True, exist_ok=True)
        (folder / run).rename(place / run)
    try:
        yield
    finally:
        for run in set(replaced) - {row.run for row in submission.rows}:
            (place / run).rename(folder / run)


def submit_to_slurm(submission: Submission, report: bool, after: set[str]) -> None:
    """Submit the runs, and then the report's job, which waits for all of them and for the jobs `after`.

    sweep.json keeps what SLURM took, or may have taken. Raises ClusterError for the rest.
    """
    problems: list[ClusterError] = []
    try:
        submit_arrays(submission)
    except ClusterError as error:
        problems.append(error)
    submission.rows = [row for row in submission.rows if row.name]
    submission.write()
    if submission.rows or not problems:
        try:
            if report:
                submit_report(submission, after)
        except ClusterError as error:
            problems.append(ClusterError(f"The report's job: {error}. The same command later submits it"))
        print_places(submission)
    else:
        (submission.folder / "sweep.json").unlink()
    if problems:
        raise ClusterError("\n".join(map(str, problems)))


def submit_arrays(submission: Submission) -> None:
    """Give the runs to `sbatch` in arrays, trained ones first. An array that is too much for SLURM is halved.

    A job keeps its row's index. SLURM takes arrays in order, so refused rows are the last ones and no index moves.
    Rows that SLURM refused, or was not asked for, have no name then. Raises ClusterError.
    """
    folder, rows, numbers = submission.folder, submission.rows, itertools.count()
    trained = sum(row.trained for row in rows)
    arrays = [(range(trained), submission.cluster), (range(trained, len(rows)), submission.cluster.alone())]
    while arrays:
        array, cluster = arrays.pop(0)
        name, half = f"xg-{submission.name}-{next(numbers)}", len(array) // 2
        for task, index in enumerate(array):
            rows[index].name, rows[index].task = name, task
        submission.write()
        try:
            jobs = submitted_jobs(cluster.jobs(folder, name), job.RunJob(str(folder)), list(array)) if array else []
        except ClusterError as error:
            if LATE in str(error):
                raise
            for index in array:
                rows[index].name = ""
            if FULL not in str(error) or not half:
                raise
            arrays[:0] = [(array[:half], cluster), (array[half:], cluster)]
            continue
        for index, identifier in zip(array, jobs, strict=True):
            rows[index].job = identifier
        if jobs:
            print(f"submitted job array {jobs[0].split('_')[0]}: {len(array)} runs, {cluster}")


def submit_report(submission: Submission, after: set[str]) -> None:
    """Submit the job of the report. Raises ClusterError."""
    waits = ":".join(sorted({row.job.split("_")[0] for row in submission.rows if row.job} | after))
    dependency = {"dependency": f"afterany:{waits}"} if waits else {}
    executor = submission.cluster.for_report().jobs(submission.folder, submission.report_name, **dependency)
    (submission.report,) = submitted_jobs(executor, job.report, [str(submission.folder)])
    submission.write()


def submitted_jobs(executor: AutoExecutor, function: Any, arguments: list) -> list[str]:
    """Numbers of the jobs that submitit makes of these calls. Raises ClusterError, if there are none."""
    try:
        with redirect_stderr(StringIO()):  # what sbatch says is in the error, too
            return [submitted.job_id for submitted in executor.map_array(function, arguments)]
    except (OSError, RuntimeError) as error:
        code = getattr(error.__cause__, "returncode", 1)
        if code == 124:  # SLURM may take the jobs nevertheless
            with suppress(ClusterError):
                ask("scancel", f"--name={executor.parameters['job_name']}")
        problem = f"{LATE} {LIMIT_S} s" if code == 124 else f"ended with exit status {code}"
        raise refusal("sbatch", problem, str(error)) from error
    finally:
        for path in [*executor.folder.glob("*.pkl"), *executor.folder.glob(".submission_file_*")]:
            if "_submitted" not in path.name and not path.is_symlink():
                path.unlink()


@contextmanager
def own_sbatch(script: str) -> Iterator[None]:
    """Within it `sbatch` is this script, and the environment has nothing that SLURM would take settings from.

    Ctrl-C does nothing meanwhile, so that what SLURM takes is written down.
    """
    before, clean = dict(os.environ), clean_environment()
    path = clean.get("PATH", "")
    with TemporaryDirectory() as folder:
        for name in ("sbatch", "srun"):  # of srun submitit asks whether it is there
            (Path(folder) / name).write_text(script.format(path=shlex.quote(path), limit=LIMIT_S))
            (Path(folder) / name).chmod(0o755)
        if not shutil.which("sbatch", path=folder):
            raise ClusterError(f"{folder}: no program can be started there; TMPDIR=FOLDER names another place")
        on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            os.environ.clear()
            os.environ.update(clean | {"PATH": f"{folder}:{path}"})
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
            signal.signal(signal.SIGINT, on_interrupt)


def print_scripts(submission: Submission, report: bool, after: set[str]) -> None:
    """What sbatch would be given."""
    with TemporaryDirectory() as folder:
        pretended = replace(submission, runs_folder=Path(folder))
        with own_sbatch(DRY_RUN), redirect_stdout(StringIO()):
            submit_to_slurm(pretended, report, after)
        scripts = sorted(pretended.folder.glob("*_submission.sh"), key=lambda path: path.stat().st_mtime_ns)
        for script in scripts:
            print(script.read_text().replace(folder, str(submission.runs_folder)))


def start_here(submission: Submission, report: bool) -> None:
    """Begin to work on the submission's runs on this machine in the background; with cluster=debug only write it down.

    Raises ClusterError where the background process ends at once.
    """
    for task, row in enumerate(submission.rows):
        row.name, row.task = f"xg-{submission.name}", task
    submission.report = "report" if report else ""
    submission.write()
    if submission.cluster.executor == "local":
        command, log = [sys.executable, "-Pm", "slurm.job", str(submission.folder)], submission.folder / "local.log"
        with log.open("a") as file:
            pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
            process = subprocess.Popen(command, env=job.suite_environment(), start_new_session=True, **pipes)
        while process.poll() is None and not submission.alive:
            time.sleep(0.1)
        if process.returncode:
            submission.rows = []
            (submission.folder / "sweep.json").unlink()
            line = (log.read_text(errors="replace").strip().splitlines() or [""])[-1]
            raise ClusterError(f"{' '.join(command)} ended with exit status {process.returncode}: {line} (see {log})")
    print(f"worked off on this machine: {len(submission.rows)} runs, {submission.cluster}")
    print_places(submission)


def print_places(submission: Submission) -> None:
    """Say where the report will be, and what shows the runs."""
    if submission.report:
        print(f"the report, when these have ended: {submission.page}")
    print(f"python -m slurm.status --runs {submission.runs_folder} shows them")
