"""Asking SLURM what waits, runs and has ended: each question has a time limit, and what goes wrong is one sentence.

Jobs are told by their names, which are unique, because a new cluster counts its job numbers from 1 again. submitit's
job objects cache states: none is asked.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

LIMIT_S, ACCOUNTING_LIMIT_S = 40.0, 15.0  # for one answer; SLURM's own commands may try for minutes
FOREIGN = re.compile(r"(?!SLURM_(CONF|CLUSTERS|JWT)$)(SLURM|SLURMD|SBATCH|SQUEUE|SACCT|SCANCEL|SRUN|SALLOC|SUBMITIT)_")
FULL = "the queue takes no more jobs now (a limit of the cluster, QOS or account). The same command later goes on"
LATE = "gave no answer within"
LIMIT = "a run asks for more time, processors, memory or GPUs than QOS or account allow; `sacctmgr show qos` lists it"
DOWN = "the controller (slurmctld) does not answer. Is this a machine of the cluster? `scontrol ping` tells more"
HINTS = {  # what a command printed -> what that means
    r"^$|[Cc]onnection refused|slurm controller|controller not responding|configuration source": DOWN,
    r"(QOS|Assoc)\w*(Wall|Time|Cpu|CPU|Mem|Node|Gres|GRES|TRES)": LIMIT,
    r"SubmitJob|MaxJobCount|(QOS|Assoc).*Limit|policy|unable to accept|esource temporarily|nvalid job array": FULL,
    r"nvalid partition": "there is no such partition; `sinfo` lists what there is",
    r"nvalid (account|qos)": "account, partition or qos is not open to you; `sacctmgr show assoc` lists what is",
    r"configuration is not available|nvalid (generic resource|feature)|emory specification": "no node offers that much",
}
NO_ACCOUNTING = "The accounting (slurmdbd) does not answer: records and queue alone are told from"


class ClusterError(RuntimeError):
    """SLURM refused or did not answer; the message says what was asked, what it said, and what to do."""


class NoAccounting(ClusterError):
    """`sacct` cannot be asked here: how a job ended is known from the run records alone."""


@dataclass(frozen=True)
class Job:
    """One run's job that is waiting or running."""

    name: str
    task: int  # in its array; 0 for a job that is no array
    identifier: str  # what scancel takes, such as 17_3; on this machine a process number
    state: str  # PENDING, RUNNING, COMPLETING, ...
    node: str = ""
    reason: str = ""  # why it waits
    left: str = ""  # of its time: [days-][hours:]minutes:seconds, or UNLIMITED; a preemption leaves it as it is

    @property
    def word(self) -> str:
        """queued, running, or held until a person releases it."""
        held = self.state in ("REQUEUE_HOLD", "SPECIAL_EXIT") or "held" in self.reason.lower()
        return "held" if held else "queued" if self.state == "PENDING" else "running"


def clean_environment() -> dict[str, str]:
    """This environment without what SLURM's commands would take settings from, such as SBATCH_TIMELIMIT."""
    return {key: value for key, value in os.environ.items() if not FOREIGN.match(key)}


def ask(*command: str, limit_s: float = LIMIT_S) -> str:
    """Standard output of a SLURM command. Raises ClusterError if it fails or has not answered after `limit_s`."""
    if not shutil.which(command[0]):
        raise refusal(command[0], "is not installed here", "is this a machine of a SLURM cluster?")
    limited, pipe = ["timeout", "-k1", f"{limit_s}", *command], subprocess.PIPE  # which ends its children, too
    done = subprocess.run(
        limited, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, errors="replace", env=clean_environment()
    )
    if done.returncode:
        late, status = f"{LATE} {limit_s:g} s", f"ended with exit status {done.returncode}"
        raise refusal(command[0], late if done.returncode == 124 else status, done.stderr)
    return done.stdout


def refusal(program: str, problem: str, said: str) -> ClusterError:
    """One sentence of what a command said and what that means."""
    lines = [re.sub(rf"^{program}: (error|fatal): ", "", line.strip()) for line in said.splitlines() if line.strip()]
    answer = ": ".join(filter(None, [f"{program} {problem}", "; ".join(dict.fromkeys(lines))]))
    if program == "sacct":
        return NoAccounting(f"{answer}. {NO_ACCOUNTING}")
    hint = next((hint for pattern, hint in HINTS.items() if re.search(pattern, "\n".join(lines))), "")
    return ClusterError(answer + (f". That is: {hint}" if hint else ""))


def slurm_queue(*further: str) -> list[Job]:
    """Your jobs that are waiting or running, one entry a task of an array. Raises ClusterError."""
    columns, jobs = "%j|%F|%K|%T|%N|%r|%L", []
    words = ["--noheader", f"--user={os.getuid()}", "--array", f"--format={columns}", *further]
    for line in ask("squeue", *words).splitlines():
        if line.count("|") == columns.count("|"):  # else a banner, or a job whose name has bars in it
            name, number, task, *others = line.split("|")
            task = task if task.isdigit() else ""
            jobs.append(Job(name, int(task or 0), f"{number}_{task}".rstrip("_"), *others))
    return jobs


def endings(identifiers: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Job identifier -> (how it last ended, node) as accounting has it, by one question. Raises NoAccounting."""
    from submitit.slurm.slurm import SlurmInfoWatcher

    jobs = "--jobs=" + ",".join(sorted({identifier.split("_")[0] for identifier in identifiers}))
    words = ["--parsable2", "--allocations", "--duplicates", "--format=JobID,State,NodeList", jobs]
    lines = ask("sacct", *words, limit_s=ACCOUNTING_LIMIT_S).splitlines()
    ended = [line for line in lines if not re.search(r"\|(PENDING|RUNNING)\|", line)]  # or again, after a requeue
    found = SlurmInfoWatcher().read_info("\n".join(ended))  # what never began is told together: 17_[3-5,8]
    return {job: (info["State"].partition(" ")[0], info["NodeList"]) for job, info in found.items()}


def seconds(duration: str) -> float:
    """SLURM's `[days-][hours:]minutes:seconds` in seconds; infinity for what is no duration, such as UNLIMITED."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", duration)
    days, hours, minutes, rest = (int(part or 0) for part in found.groups()) if found else (float("inf"), 0, 0, 0)
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
