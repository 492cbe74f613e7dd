"""The state of each run, from its record, the queue and accounting together, and how far it has come."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.record import RunRecord
from slurm.attempts import code_version, read_attempts
from slurm.controller import Job, NoAccounting, endings
from slurm.job import is_worked_on
from slurm.rules import State
from slurm.submission import Submission

CANCELLED = "cancelled.json"  # in a submission's folder: the runs that slurm.cancel has taken out of it


@dataclass
class RunState:
    """What is known of a run at this moment."""

    run: str
    state: State
    status: dict[str, Any]  # status.json
    attempts: list[dict[str, Any]]
    submission: Submission | None  # the latest one that it is in
    index: int = 0  # its row there
    job: Job | None = None  # in the queue
    ended: str = ""  # how accounting says that its last job ended, where the record does not tell
    note: str = ""

    @property
    def identifier(self) -> str:
        """What scancel takes; "" for a run that was never submitted."""
        if self.submission is None:
            return ""
        array = self.submission.array_of(self.index)
        return f"{array.identifier}_{self.index - array.first}" if array.identifier else ""

    @property
    def error(self) -> str:
        """The last line of what went wrong, if the run is not well."""
        if self.state in (State.finished, State.running, State.elsewhere):
            return ""
        lines = (self.status.get("error") or "").strip().splitlines()
        last = self.attempts[-1] if self.attempts else {}
        told = f"{last.get('how')} at step {last.get('step')}" if last.get("how") not in (None, "finished") else ""
        return lines[-1] if lines else self.ended or told


def states_of(runs_folder: Path, runs: list[str], known: list[Submission], jobs: list[Job]) -> list[RunState]:
    """The state of each of these runs, given all submissions, oldest first, and what is in the queue."""
    latest = {row["run"]: (submission, index) for submission in known for index, row in enumerate(submission.rows)}
    waiting = {(job.name, job.index): job for job in jobs}
    codes: dict[str | None, str] = {}
    found = []
    for run in runs:
        folder = runs_folder / run
        submission, index = latest.get(run, (None, 0))
        job = None
        if submission is not None and submission.arrays:
            array = submission.array_of(index)
            job = waiting.get((array.name, index - array.first))
        record = RunRecord(folder)
        state = RunState(run, State.new, record.status, read_attempts(folder), submission, index, job)
        if job is not None:
            state.state = State.queued if job.state == "PENDING" else State.running
        elif record.finished:
            state.state = State.finished
        else:
            methods = submission.request.methods if submission else None
            if methods not in codes:
                codes[methods] = code_version(methods)
            state.state = _without_a_job(state, folder, codes[methods])
        found.append(state)
    _ask_accounting(found)
    return found


def _without_a_job(state: RunState, folder: Path, code: str) -> State:
    """By the record alone."""
    recorded = state.status.get("state")
    if recorded == "failed":
        return State.failed if state.attempts and state.attempts[-1].get("code") == code else State.repaired
    if recorded == "finished":
        return State.unscored
    if recorded is not None and is_worked_on(folder):
        return State.elsewhere
    if state.run in _cancelled_runs(state.submission) or (state.attempts and state.attempts[-1]["how"] == "cancelled"):
        return State.cancelled
    return State.interrupted if recorded or state.attempts else State.new


def _ask_accounting(states: list[RunState]) -> None:
    """What became of the jobs of runs whose records do not tell; without accounting, a note on each."""
    unclear = [state for state in states if state.state in (State.new, State.interrupted) and state.identifier]
    if not unclear:
        return
    try:
        ended = endings([state.identifier for state in unclear])
    except NoAccounting as error:
        for state in unclear:
            state.note = str(error)
        return
    for state in unclear:
        word, node = ended.get(state.identifier, ("", ""))
        if word == "CANCELLED":
            state.state = State.cancelled
        if word and word != "COMPLETED":
            state.ended = f"job {state.identifier} ended as {word} on {node}"


def _cancelled_runs(submission: Submission | None) -> list[str]:
    if submission is None:
        return []
    try:
        return json.loads((submission.folder / CANCELLED).read_text())
    except (OSError, ValueError):
        return []


@dataclass(frozen=True)
class Progress:
    """How far a run has come, from the end of its history.jsonl."""

    step: int
    steps: int
    images_per_second: float | None = None
    left_s: float | None = None


def progress_of(folder: Path, state: RunState) -> Progress:
    """Steps done and planned, the speed of the last steps and the training time left at that speed."""
    steps = int(state.status.get("steps") or 0)
    try:
        with (folder / "history.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8192))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return Progress(0, steps)
    losses = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the first line of the piece, cut in the middle
        if "losses" in entry:
            losses.append(entry)
    if not losses:
        return Progress(0, steps)
    last, first = losses[-1], losses[max(0, len(losses) - 6)]
    step, left = int(last["step"]), None
    if step > first["step"] and state.state == State.running:
        left = (steps - step) * (last["seconds"] - first["seconds"]) / (step - first["step"])
    speed = last.get("images_per_second") if state.state == State.running else None
    return Progress(step, steps, speed, left)
