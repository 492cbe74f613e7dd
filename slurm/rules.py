"""What a sweep does with each of its runs: one table, by the run's state and by what was asked for."""

from enum import Enum, StrEnum


class State(StrEnum):
    """A run's state, from its record, the queue and accounting together."""

    new = "new"  # there is no record of it
    queued = "queued"  # waiting for its first job, or for the next one
    running = "running"
    elsewhere = "elsewhere"  # worked on by a process outside SLURM
    interrupted = "interrupted"  # begun, and no job is left
    cancelled = "cancelled"  # by slurm.cancel or scancel
    failed = "failed"
    repaired = "failed, code changed"  # since then: worth another try
    unscored = "unscored"  # trained, but its metrics.json was deleted
    finished = "finished"


class Action(Enum):
    """What becomes of the run."""

    skip = "skip"
    start = "start"
    resume = "resume"  # goes on from its last checkpoint
    retry = "retry"  # the same after a failure, with three tries again
    replace = "replace"  # its record is put aside, and it starts anew


class Mode(Enum):
    """What was asked for."""

    sweep = "sweep"  # the usual command
    retry = "retry"  # --retry, and slurm.retry
    replace = "replace"  # --replace
    rescue = "rescue"  # what the report's job does when all jobs have ended


_SKIP, _START, _RESUME, _RETRY, _REPLACE = Action.skip, Action.start, Action.resume, Action.retry, Action.replace

RULES: dict[State, dict[Mode, Action]] = {
    state: dict(zip(Mode, actions, strict=True))
    for state, actions in {
        #                  sweep    retry    replace   rescue
        State.new:         (_START,  _START,  _START,   _START),
        State.queued:      (_SKIP,   _SKIP,   _SKIP,    _SKIP),
        State.running:     (_SKIP,   _SKIP,   _SKIP,    _SKIP),
        State.elsewhere:   (_SKIP,   _SKIP,   _SKIP,    _SKIP),
        State.interrupted: (_RESUME, _RESUME, _REPLACE, _RESUME),
        State.cancelled:   (_RESUME, _RESUME, _REPLACE, _SKIP),
        State.failed:      (_SKIP,   _RETRY,  _REPLACE, _SKIP),
        State.repaired:    (_RETRY,  _RETRY,  _REPLACE, _SKIP),
        State.unscored:    (_RESUME, _RESUME, _REPLACE, _RESUME),
        State.finished:    (_SKIP,   _SKIP,   _REPLACE, _SKIP),
    }.items()
}  # fmt: skip
