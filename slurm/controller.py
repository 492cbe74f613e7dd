"""The conversation with SLURM: each command has a time limit, and what goes wrong is said in one sentence.

Nothing here waits for a job. Jobs are told by their names, which are unique, because a new cluster counts its job
numbers from 1 again and a submission that was interrupted never learnt them.
"""

import re
import subprocess
from dataclasses import dataclass

LIMIT_S = 40.0  # for one answer; SLURM's own commands may try for minutes

# What a command printed -> what to do about it.
_HINTS = (
    (r"[Uu]nable to contact slurm controller|[Cc]onnection refused|controller not responding|configuration source",
     "the SLURM controller cannot be reached. Is this a machine of the cluster? `scontrol ping` tells more"),
    (r"SubmitJob|MaxJobCount|QOS.*Limit|Assoc.*Limit|policy|temporarily unable to accept|[Rr]esource temporarily",
     "the queue takes no more jobs now (a limit of the cluster, QOS or account). The same command later submits what "
     "is missing"),
    (r"[Ii]nvalid partition", "there is no such partition; `sinfo` lists what there is"),
    (r"[Ii]nvalid account", "account= or partition= is not open to you; `sacctmgr show associations` lists what is"),
    (r"[Ii]nvalid qos", "qos= is not open to you"),
    (r"[Nn]ode configuration is not available|[Ii]nvalid (generic resource|feature)|[Mm]emory specification",
     "no node offers this many gpus, cpus or mem_gb, or this constraint"),
    (r"accounting storage is disabled|slurmdbd|association", "this cluster keeps no accounting that answers"),
)  # fmt: skip


class ClusterError(RuntimeError):
    """SLURM refused or did not answer; the message says what was asked, what it said, and what to do."""


class NoAccounting(ClusterError):
    """`sacct` cannot be asked here: how a job ended is known from the run records alone."""


def ask(*command: str, limit_s: float | None = None) -> str:
    """Standard output of a SLURM command. Raises ClusterError if it fails or has not answered after `limit_s`."""
    limit_s = limit_s or LIMIT_S
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]} is not installed here: this is no machine of a SLURM cluster") from error
    try:
        answer, said = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        process.kill()
        _, said = process.communicate()
        raise ClusterError(_explained(command[0], said, f"gave no answer within {limit_s:g} s")) from error
    if process.returncode:
        kind = NoAccounting if command[0] == "sacct" else ClusterError
        raise kind(_explained(command[0], said, f"ended with exit status {process.returncode}"))
    return answer


def _explained(program: str, said: str, problem: str) -> str:
    lines = [re.sub(rf"^{program}: (error|fatal): ", "", line.strip()) for line in said.splitlines() if line.strip()]
    quoted = f": {'; '.join(dict.fromkeys(lines))}" if lines else ""
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, said)), "")
    if not lines:
        hint = "the SLURM controller does not answer; `scontrol ping` tells more"
    return f"{program} {problem}{quoted}" + (f". That is: {hint}" if hint else "")


@dataclass(frozen=True)
class Job:
    """One job, or one task of an array, that is in the queue."""

    name: str
    index: int | None  # of the task in its array
    identifier: str  # what scancel takes, such as 17_3
    state: str  # PENDING, RUNNING, COMPLETING, ...
    node: str
    reason: str  # why it waits
    used: str  # time so far, [days-]hours:minutes:seconds
    limit: str


def queue(limit_s: float | None = None) -> list[Job]:
    """Your jobs that are waiting or running, one entry a task of an array."""
    columns = "%j|%F|%K|%T|%N|%r|%M|%l"
    jobs = []
    for line in ask("squeue", "--noheader", "--me", "--array", f"--format={columns}", limit_s=limit_s).splitlines():
        if line.count("|") != columns.count("|"):
            continue  # somebody's job whose name has bars in it
        name, number, index, state, node, reason, used, limit = line.split("|")
        task = int(index) if index.isdigit() else None
        identifier = number if task is None else f"{number}_{task}"
        jobs.append(Job(name, task, identifier, state, node, reason, used, limit))
    return jobs


def endings(identifiers: list[str], repeated: bool = False) -> dict[str, tuple[str, str]]:
    """Job identifier -> (its last state, node) as accounting has it. Raises NoAccounting where there is none.

    With `repeated`, the state before the requeue that a job is running after.
    """
    found: dict[str, tuple[str, str]] = {}
    for start in range(0, len(identifiers), 200):
        some = ",".join(identifiers[start : start + 200])
        words = ["--noheader", "--parsable2", "--allocations", "--duplicates", f"--jobs={some}"]
        for line in ask("sacct", *words, "--format=JobID,State,NodeList").splitlines():
            identifier, state, node = line.split("|")[:3]
            word = state.split()[0] if state else "UNKNOWN"  # "CANCELLED by 1000"
            if not (repeated and word in ("PENDING", "RUNNING")):
                found[identifier] = (word, node)
    return found


def largest_array() -> int:
    """How many tasks one job array may have."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    return max(1, int(found[1])) if found else 1000


def seconds(duration: str) -> float:
    """SLURM's `[days-][hours:]minutes:seconds` in seconds; infinity for what is no duration, such as UNLIMITED."""
    days, _, rest = duration.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in parts) or not 2 <= len(parts) <= 3:
        return float("inf")
    total = 0
    for part in parts:
        total = 60 * total + int(part)
    return total + 86400 * int(days or 0)
