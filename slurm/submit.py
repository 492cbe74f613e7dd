"""From a submission to jobs: submitit's executor with the cluster's settings, arrays that SLURM takes, report."""

import itertools
import os
import re
import shlex
from typing import Any

from submitit import AutoExecutor
from submitit.slurm.slurm import SlurmExecutor

from ablations.attempts import SUITE
from slurm.job import ReportJob, RunJob
from slurm.queue import FULL, ClusterError, ask, clean_environment, explained, largest_array
from slurm.settings import Cluster, parameters
from slurm.submission import Submission

SBATCH_LIMIT_S = 90
FOREVER = 1_000_000  # time-outs that submitit may count: three without progress end a run here, not their number
PATHS = f"export PYTHONPATH={shlex.quote(str(SUITE))}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONSAFEPATH=1"


def sbatch() -> list[str]:
    """The command, with a time limit, and without what its own variables in the environment would change."""
    foreign = os.environ.keys() - clean_environment().keys()
    return ["env", *(f"--unset={name}" for name in sorted(foreign)), "timeout", str(SBATCH_LIMIT_S), "sbatch"]


def executor_of(submission: Submission, cluster: Cluster, name: str, **options: str) -> AutoExecutor:
    """submitit's executor for jobs called `name`, with further options of sbatch."""
    # Of a site's banner submitit would take the first number after the word job, and sbatch may try for ever.
    SlurmExecutor._get_job_id_from_submission_command = staticmethod(job_number)  # type: ignore
    SlurmExecutor._make_submission_command = lambda _, path: [*sbatch(), str(path)]  # type: ignore
    SlurmExecutor.affinity = classmethod(lambda cls: 2)  # type: ignore  # a dry run needs no srun
    values = {"max_num_timeout": FOREVER} | {key: value for key, value in cluster.values.items() if value != 0}
    if cluster.executor == "slurm":
        values["additional_parameters"] = {"requeue": True} | values.get("additional_parameters", {}) | options
        lines = [(line, shlex.quote(f"setup failed: {line.strip()}")) for line in values.get("setup", [])]
        values["setup"] = [f"{{ {line}\n}} || {{ echo {told} >&2; exit 1; }}" for line, told in lines] + [PATHS]
        # srun passes on neither what setup exported (after sbatch --export=NONE) nor, since 22.05, the cpus.
        cpus = [f"--cpus-per-task={values['cpus_per_task']}"] if "cpus_per_task" in values else []
        values["srun_args"] = ["--export=ALL", "--kill-on-bad-exit=1", *cpus]
    names = parameters() | {"srun_args": "slurm_srun_args"}
    given = {names[key]: value for key, value in values.items() if key != "gpus"}
    made = {key: given.pop(key) for key in ("slurm_python", "slurm_max_num_timeout") if key in given}
    kinds: dict[str, dict] = {"slurm": made, "local": {"local_max_num_timeout": FOREVER}, "debug": {}}
    executor = AutoExecutor(submission.folder, cluster=cluster.executor, **kinds[cluster.executor])
    executor.update_parameters(name=name, **given)
    return executor


def job_number(answer: str | bytes) -> str:
    """The number in what sbatch printed."""
    text = answer if isinstance(answer, str) else answer.decode(errors="replace")
    found = re.findall(r"^Submitted batch job (\d+)", text, re.MULTILINE) or re.findall(r"job (\d+)", text)
    if not found:
        raise ClusterError(f"sbatch printed no job number: {text.strip()}")
    return found[-1]


def submit(submission: Submission, report: bool, after: set[str], dry_run: bool) -> None:
    """Give the runs to SLURM in arrays, trained ones first, then the report's job, which waits for all and for `after`.

    An array that is too much for SLURM is halved. What it takes is in sweep.json; raises ClusterError for the rest.
    """
    folder, numbers, largest = submission.folder, itertools.count(), largest_array()

    def take(rows: list[dict], cluster: Cluster) -> None:
        name = f"xg-{folder.name}-{next(numbers)}"
        for task, row in enumerate(rows):
            row |= {"name": name, "task": task}
        if not dry_run:
            submission.write()
        executor, indices = executor_of(submission, cluster, name), [submission.rows.index(row) for row in rows]
        try:
            jobs = handed_over(executor, RunJob(str(folder)), indices, dry_run)
        except ClusterError as error:
            if FULL not in str(error) or len(rows) == 1:
                raise
            take(rows[: len(rows) // 2], cluster)
            take(rows[len(rows) // 2 :], cluster)
        else:
            for row, job in zip(rows, jobs, strict=True):
                row["job"] = job

    try:
        for trained in (True, False):
            rows = [row for row in submission.rows if row["trained"] == trained]
            for first in range(0, len(rows), largest):
                take(rows[first : first + largest], submission.cluster if trained else submission.cluster.alone())
    finally:
        submission.rows = [row for row in submission.rows if "job" in row]
        if not submission.rows and not dry_run:
            (folder / "sweep.json").unlink()
        elif not dry_run:
            submission.write()
        if submission.rows and report:
            jobs = sorted({row["job"].split("_")[0] for row in submission.rows} | after)
            cluster = submission.cluster.alone(gpus_per_node=0, **submission.cluster.report)
            executor = executor_of(submission, cluster, submission.report_name, dependency=f"afterany:{':'.join(jobs)}")
            (submission.report,) = handed_over(executor, ReportJob(str(folder)), [0], dry_run)
            if not dry_run:
                submission.write()


def handed_over(executor: AutoExecutor, function: Any, arguments: list[int], dry_run: bool) -> list[str]:
    """Numbers of the jobs that submitit makes of these calls; in a dry run what it would give to sbatch is printed.

    Raises ClusterError, and then there is none of them.
    """
    inner: Any = executor._executor
    if dry_run:
        inner.parameters |= {"map_count": len(arguments)} if len(arguments) > 1 else {}
        print(inner._make_submission_file_text(inner._submitit_command_str, ""))
        return [f"JOB_{argument}" for argument in arguments]
    try:
        return [job.job_id for job in executor.map_array(function, arguments)]
    except (OSError, RuntimeError) as error:
        code = getattr(error.__cause__, "returncode", 1)
        if code == 124:
            ask("scancel", f"--name={inner.parameters['job_name']}")  # it may have taken the job nevertheless
        problem = f"gave no answer within {SBATCH_LIMIT_S} s" if code == 124 else f"ended with exit status {code}"
        raise explained("sbatch", str(error), problem) from error
    finally:
        for path in [*executor.folder.glob("*.pkl"), *executor.folder.glob(".submission_file_*")]:
            if "_submitted" not in path.name and not path.is_symlink():
                path.unlink()
