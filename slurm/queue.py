"""Asking SLURM what waits, runs and has ended: each question has a time limit, and what goes wrong is one sentence.

Jobs are told by their names, which are unique, because a new cluster counts its job numbers from 1 again. submitit's
job objects cache states: none is asked.
"""

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

LIMIT_S, ACCOUNTING_LIMIT_S = 40.0, 15.0  # for one answer; SLURM's own commands may try for minutes
FOREIGN = re.compile(r"(?!SLURM_(CONF|CLUSTERS|JWT)$)(SLURM|SLURMD|SBATCH|SQUEUE|SACCT|SCANCEL|SRUN|SALLOC|SUBMITIT)_")
FULL = "the queue takes no more jobs now (a limit of the cluster, QOS or account). The same command later goes on"
DOWN = "the controller (slurmctld) does not answer. Is this a machine of the cluster? `scontrol ping` tells more"
HINTS = {  # what a command printed -> what that means
    r"^$|[Cc]onnection refused|slurm controller|controller not responding|configuration source": DOWN,
    r"SubmitJob|MaxJobCount|(QOS|Assoc).*Limit|policy|unable to accept|esource temporarily|nvalid job array": FULL,
    r"nvalid partition": "there is no such partition; `sinfo` lists what there is",
    r"nvalid (account|qos)": "account, partition or qos is not open to you; `sacctmgr show assoc` lists what is",
    r"configuration is not available|nvalid (generic resource|feature)|emory specification": "no node offers that much",
}


class ClusterError(RuntimeError):
    """SLURM refused or did not answer; the message says what was asked, what it said, and what to do."""


class NoAccounting(ClusterError):
    """`sacct` cannot be asked here: how a job ended is known from the run records alone."""


@dataclass(frozen=True)
class Job:
    """One run's job that is waiting or running; `used` and `limit` are [days-]hours:minutes:seconds."""

    name: str
    task: int  # in its array; 0 for a job that is no array
    identifier: str  # what scancel takes, such as 17_3; on this machine a process number
    state: str  # PENDING, RUNNING, COMPLETING, ...
    node: str = ""
    reason: str = ""  # why it waits
    used: str = ""
    limit: str = ""

    @property
    def word(self) -> str:
        """queued, running, or held until a person releases it."""
        held = self.state in ("REQUEUE_HOLD", "SPECIAL_EXIT") or "held" in self.reason.lower()
        return "held" if held else "queued" if self.state == "PENDING" else "running"


def clean_environment() -> dict[str, str]:
    """This environment without what SLURM's commands would take settings from, such as SBATCH_TIMELIMIT."""
    return {key: value for key, value in os.environ.items() if not FOREIGN.match(key)}


def ask(*command: str, limit_s: float | None = None) -> str:
    """Standard output of a SLURM command. Raises ClusterError if it fails or has not answered after `limit_s`."""
    limit_s, pipe = limit_s or LIMIT_S, subprocess.PIPE
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace",
            env=clean_environment(), start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise explained(command[0], "is this a machine of a SLURM cluster?", "is not installed here") from error
    try:
        answer, said = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, 9)  # a command that hangs may be a script, with a child that holds the pipe
        raise explained(command[0], process.communicate()[1], f"gave no answer within {limit_s:g} s") from error
    if process.returncode:
        raise explained(command[0], said, f"ended with exit status {process.returncode}")
    return answer


def explained(program: str, said: str, problem: str) -> ClusterError:
    """One sentence of what a command said and what that means."""
    lines = [re.sub(rf"^{program}: (error|fatal): ", "", line.strip()) for line in said.splitlines() if line.strip()]
    told = ": ".join(filter(None, [f"{program} {problem}", "; ".join(dict.fromkeys(lines))]))
    if program == "sacct":
        return NoAccounting(f"{told}. The accounting (slurmdbd) does not answer: records and queue alone are told from")
    hint = next((hint for pattern, hint in HINTS.items() if re.search(pattern, "\n".join(lines))), "")
    return ClusterError(told + (f". That is: {hint}" if hint else ""))


def slurm_queue(*further: str) -> list[Job]:
    """Your jobs that are waiting or running, one entry a task of an array. Raises ClusterError."""
    columns, jobs = "%j|%F|%K|%T|%N|%r|%M|%l", []
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


def largest_array() -> int:
    """How many tasks one job array may have, and 1000 where that cannot be asked."""
    try:
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    except ClusterError:
        found = None
    return max(1, int(found[1])) if found else 1000


def seconds(duration: str) -> float:
    """SLURM's `[days-][hours:]minutes:seconds` in seconds; infinity for what is no duration, such as UNLIMITED."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", duration)
    days, hours, minutes, rest = (int(part or 0) for part in found.groups()) if found else (float("inf"), 0, 0, 0)
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
