"""Attempts of a run on the cluster: where each began and how it ended, and when enough is enough.

They are kept in the run's own folder, in attempts.jsonl, one JSON object a line; the last is open while a job works.
"""

import json
import re
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from xinggan.files import write_atomically

FILE = "attempts.jsonl"
TRIES = 3  # as many attempts may end at one step without a new checkpoint
COUNTED = ("failed", "killed", "lost", "timed out")  # what counts as a try; a preemption is nobody's fault
_CHECKPOINT = re.compile(r"step-(\d{8})-.*\.pt")
_SUITE = Path(__file__).resolve().parents[1]


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """All attempts of the run, oldest first; [] for a run that was never on the cluster."""
    try:
        return [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    except (OSError, ValueError):
        return []


def begin_attempt(folder: Path, **facts: Any) -> None:
    """Add an open attempt: `job`, `node`, `series` (the sweep it belongs to), `code` (see `code_version`)."""
    opened = {"began": _now(), "from_step": saved_step(folder), **facts, "ended": None, "how": None}
    _write(folder, [*read_attempts(folder), opened])


def end_attempt(folder: Path, how: str, **facts: Any) -> None:
    """Close the last attempt as finished, failed, refused, killed, lost, timed out, preempted or cancelled."""
    attempts = read_attempts(folder)
    attempts[-1] |= {"ended": _now(), "how": how, "step": saved_step(folder), **facts}
    _write(folder, attempts)


def is_open(attempts: list[dict[str, Any]]) -> bool:
    """Whether the last attempt has no end: a job works on it, or died without a word."""
    return bool(attempts) and attempts[-1].get("how") is None


def given_up(attempts: list[dict[str, Any]]) -> str | None:
    """Why the run's last series of attempts is to end here as failed; None while there is hope."""
    if not attempts:
        return None
    last = attempts[-1]
    if last["how"] == "refused":
        return "refused: the last lines of its log say why"
    series = [attempt for attempt in attempts if attempt.get("series") == last.get("series")]
    tries = [attempt for attempt in series if attempt["how"] in COUNTED and attempt.get("step") == last.get("step")]
    if last["how"] not in COUNTED or len(tries) < TRIES:
        return None
    ends = ", ".join(attempt["how"] for attempt in tries)
    advice = ""
    if {attempt["how"] for attempt in tries} == {"timed out"}:
        advice = ". The time limit is too short for anything to be saved: raise timeout_min or signal_s"
    elif "killed" in ends:
        advice = ". What is killed without a traceback often had too little memory: raise mem_gb"
    return f"{len(tries)} attempts ended at step {last.get('step')} ({ends}){advice}"


def saved_step(folder: Path) -> int:
    """The step of the newest checkpoint, 0 without any: what the next attempt goes on from."""
    found = (_CHECKPOINT.fullmatch(path.name) for path in (folder / "checkpoint").glob("step-*.pt"))
    return max((int(match[1]) for match in found if match), default=0)


def code_version(methods: str | None) -> str:
    """A digest of the suite's code and of the methods of one's own: a failed run is worth a try after a change."""
    folders = [_SUITE / name for name in ("xinggan", "baselines", "ablations")]
    folders += [Path(methods)] if methods else []
    digest = sha256()
    for folder in folders:
        for path in sorted(path for suffix in ("py", "yaml") for path in folder.rglob(f"*.{suffix}")):
            digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _write(folder: Path, attempts: list[dict[str, Any]]) -> None:
    write_atomically(folder / FILE, "".join(json.dumps(attempt) + "\n" for attempt in attempts))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
