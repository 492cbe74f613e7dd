"""From runs that are wanted to jobs: the rules decide under a lock, and submitit's executor takes what they say.

SLURM gets job arrays, and then a job for the report that waits for all of them. On this machine a process in the
background works off the queue, or with cluster=debug the command itself.
"""

import itertools
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from submitit import AutoExecutor

from slurm import job
from slurm.queue import FULL, ClusterError, ask, clean_environment, refusal
from slurm.run import Run, jobs_of, observe
from slurm.submission import Submission, submissions, submitting

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

    Whether anything was left to submit. Raises ClusterError.
    """
    folder, slurm, jobs = wanted.runs_folder, wanted.cluster.executor == "slurm", []
    with nullcontext() if dry_run else submitting(folder):
        known = submissions(folder)
        try:
            jobs = jobs_of(known, slurm)
        except ClusterError as error:
            if not dry_run:
                raise
            print(f"# {error}. Shown as if nothing were in the queue.")
        runs = observe([row["run"] for row in wanted.rows], known, jobs, wanted)
        print_decisions(runs, mode, wanted.cluster.notes)
        rows = [
            {key: row[key] for key in ("run", "title", "words", "trained")} | {"action": run.action(mode)}
            for row, run in zip(wanted.rows, runs, strict=True)
            if run.action(mode) != "skip"
        ]
        rows.sort(key=lambda row: not row["trained"])  # jobs know their row's number: what is refused comes last
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"  # in the order of time
        submission = replace(wanted, folder=folder / "slurm" / name, rows=rows, series=wanted.series or name, report="")
        after = {run.job.identifier.split("_")[0] for run in runs if run.job}
        if not rows:
            print("nothing to submit")
        elif dry_run:
            print("".join(f"# {row['action']} {row['run']}\n" for row in rows))
            if slurm:
                print_scripts(submission, report, after)
        else:
            with replaced_records_aside(submission), own_sbatch(SBATCH) if slurm else nullcontext():
                submit_to_slurm(submission, report, after) if slurm else start_here(submission, report)
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
    """Put records aside that are to be replaced; at the end those of refused runs come back. Says what was taken."""
    folder, place = submission.runs_folder, submission.runs_folder / "replaced" / submission.folder.name
    replaced = [row["run"] for row in submission.rows if row["action"] == "replace" and (folder / row["run"]).exists()]
    for run in replaced:
        place.mkdir(parents=True, exist_ok=True)
        (folder / run).rename(place / run)
    try:
        yield
    finally:
        for run in set(replaced) - {row["run"] for row in submission.rows}:
            (place / run).rename(folder / run)
        settings = " ".join(f"{key}={value}" for key, value in submission.cluster.values.items())
        for array, count in Counter(row.get("job", "").split("_")[0] for row in submission.rows).items():
            how = f"submitted job array {array}" if array else "worked off on this machine"
            print(f"{how}: {count} runs, {settings}")
        print(f"the report, when these have ended: {submission.page}\n" if submission.report else "", end="")
        print(f"python -m slurm.status --runs {folder} shows them")


def submit_to_slurm(submission: Submission, report: bool, after: set[str]) -> None:
    """Give the runs to `sbatch` in arrays, trained ones first; then the report's job, which waits for all and `after`.

    An array that is too much for SLURM is halved. What it takes is in sweep.json; raises ClusterError for the rest.
    """
    folder, rows, numbers = submission.folder, submission.rows, itertools.count()
    alike = [[row for row in rows if row["trained"] == trained] for trained in (True, False)]
    arrays = list(zip(alike, (submission.cluster, submission.cluster.alone()), strict=True))
    try:
        while arrays:
            array, cluster = arrays.pop(0)
            name, half = f"xg-{folder.name}-{next(numbers)}", len(array) // 2
            for task, row in enumerate(array):
                row |= {"name": name, "task": task}
            submission.write()
            try:
                indices = [rows.index(row) for row in array]
                jobs = submitted_jobs(cluster.jobs(folder, name), job.RunJob(str(folder)), indices) if array else []
            except ClusterError as error:
                if FULL not in str(error) or len(array) == 1:
                    raise
                arrays[:0] = [(array[:half], cluster), (array[half:], cluster)]
            else:
                for row, identifier in zip(array, jobs, strict=True):
                    row["job"] = identifier
    finally:
        submission.rows = [row for row in rows if "job" in row]
        submission.write()
        if not submission.rows:
            (folder / "sweep.json").unlink()
        elif report:
            waits = ":".join(sorted({row["job"].split("_")[0] for row in submission.rows} | after))
            cluster = submission.cluster.alone(gpus_per_node=0, **submission.cluster.report)
            executor = cluster.jobs(folder, submission.report_name, dependency=f"afterany:{waits}")
            (submission.report,) = submitted_jobs(executor, job.report, [str(folder)])
            submission.write()


def submitted_jobs(executor: AutoExecutor, function: Any, arguments: list) -> list[str]:
    """Numbers of the jobs that submitit makes of these calls. Raises ClusterError, if there are none."""
    try:
        with redirect_stderr(StringIO()):  # what sbatch says is in the error, too
            return [made.job_id for made in executor.map_array(function, arguments)]
    except (OSError, RuntimeError) as error:
        code = getattr(error.__cause__, "returncode", 1)
        problem = f"gave no answer within {LIMIT_S} s" if code == 124 else f"ended with exit status {code}"
        if code == 124:
            ask("scancel", f"--name={executor.parameters['job_name']}")  # it may have taken the job nevertheless
        raise refusal("sbatch", problem, str(error)) from error
    finally:
        for path in [*executor.folder.glob("*.pkl"), *executor.folder.glob(".submission_file_*")]:
            if "_submitted" not in path.name and not path.is_symlink():
                path.unlink()


@contextmanager
def own_sbatch(script: str) -> Iterator[None]:
    """Within it `sbatch` is this script, and the environment has nothing that SLURM would take settings from."""
    before, clean = dict(os.environ), clean_environment()
    path = clean.get("PATH", "")
    with TemporaryDirectory() as folder:
        for name in ("sbatch", "srun"):  # of srun submitit asks whether it is there
            (Path(folder) / name).write_text(script.format(path=shlex.quote(path), limit=LIMIT_S))
            (Path(folder) / name).chmod(0o755)
        if not shutil.which("sbatch", path=folder):
            raise ClusterError(f"{folder}: no program can be started there; TMPDIR=FOLDER names another place")
        try:
            os.environ.clear()
            os.environ.update(clean | {"PATH": f"{folder}:{path}"})
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def print_scripts(submission: Submission, report: bool, after: set[str]) -> None:
    """What sbatch would be given."""
    with TemporaryDirectory() as runs:
        pretended = replace(submission, folder=Path(runs) / "slurm" / submission.folder.name)
        with own_sbatch(DRY_RUN):
            submit_to_slurm(pretended, report, after)
        scripts = sorted(pretended.folder.glob("*_submission.sh"), key=lambda path: path.stat().st_mtime_ns)
        for script in scripts:
            print(script.read_text().replace(runs, str(submission.runs_folder)))


def start_here(submission: Submission, report: bool) -> None:
    """Begin to work on the submission's runs on this machine: in the background, or with cluster=debug here and now."""
    for task, row in enumerate(submission.rows):
        row |= {"name": f"xg-{submission.folder.name}", "task": task}
    submission.report = "report" if report else ""
    submission.write()
    if submission.cluster.executor == "debug":
        return job.work_off(submission)
    command = [sys.executable, "-Pm", "slurm.job", str(submission.folder)]
    with (submission.folder / "local.log").open("a") as log:
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        process = subprocess.Popen(command, env=job.suite_environment(), start_new_session=True, **pipes)
    while process.poll() is None and not submission.alive:
        time.sleep(0.1)
    return None
