"""Attempts of a run in jobs: where each began, how it ended, after how many a run has failed, how far it has come.

attempts.jsonl in the run's folder has one JSON object a line; the last is open (`how` is null) while a job works on it.
"""

import json
import re
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from ablations.record import SUITE, RunBusy, RunRecord, now
from xinggan.files import write_atomically

SILENT_S = 600.0  # a run that has written nothing for so long may be on a machine that is gone
TRIES = 3  # as many attempts may end at one step without a new checkpoint
COUNTED = ("failed", "killed", "lost", "timed out")  # ends that count as a try; a preemption does not


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """All attempts of the run, oldest first; [] for a run that never was in a job."""
    try:
        return [json.loads(line) for line in (folder / "attempts.jsonl").read_text().splitlines()]
    except (OSError, ValueError):
        return []


def begin_attempt(folder: Path, **facts: Any) -> None:
    """Add an open attempt: `job`, `node`, `series` (the sweep it belongs to), `code` (see `code_version`)."""
    _write(folder, [*read_attempts(folder), {"began": now(), "from_step": saved_step(folder), **facts, "how": None}])


def end_attempt(folder: Path, how: str, **facts: Any) -> None:
    """Close the last attempt as finished, failed, refused, killed, lost, timed out, preempted or cancelled."""
    *earlier, last = read_attempts(folder)
    _write(folder, [*earlier, last | {"ended": now(), "how": how, "step": saved_step(folder), **facts}])


def given_up(attempts: list[dict[str, Any]]) -> str | None:
    """The reason to end the run as failed after these attempts; None where another attempt may help."""
    last = attempts[-1] if attempts else {"how": None}
    if last["how"] == "refused":
        return last.get("said") or "refused"
    tries = [one["how"] for one in attempts if one["how"] in COUNTED and one["step"] == last.get("step")]
    if last["how"] not in COUNTED or len(tries) < TRIES:
        return None
    advice = ""
    if set(tries) == {"timed out"}:
        advice = ". The time limit is too short for anything to be saved: raise timeout_min or signal_s"
    elif "killed" in tries:
        advice = ". What is killed without a traceback often had too little memory: raise mem_gb"
    return f"{len(tries)} attempts ended at step {last['step']} ({', '.join(tries)}){advice}"


def saved_step(folder: Path) -> int:
    """The step of the newest checkpoint, 0 without any: what the next attempt goes on from."""
    found = (re.fullmatch(r"step-(\d{8})-.*\.pt", path.name) for path in (folder / "checkpoint").glob("step-*.pt"))
    return max((int(match[1]) for match in found if match), default=0)


def progress(folder: Path, steps: int) -> tuple[int, float | None, float | None, float]:
    """(steps done, images a second, seconds of training left, seconds of silence), from the end of history.jsonl.

    Speed and seconds left are those of the last steps, None where they are not known. Silence is 0 where it is short.
    """
    losses: list[dict] = []
    try:
        with (folder / "history.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 8192))
            lines = file.read().decode(errors="replace").splitlines()
        silent_s = time.time() - max((folder / name).stat().st_mtime for name in ("history.jsonl", "status.json"))
    except OSError:
        return 0, None, None, 0.0
    for line in lines:
        if line.startswith("{") and line.endswith("}") and "losses" in (entry := json.loads(line)):  # not cut off
            losses.append(entry)
    done = losses[-1]["step"] if losses else 0
    if len(losses) < 2 or done >= steps:
        return done, None, None, 0.0
    last, first = losses[-1], losses[-6:][0]
    step_s = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
    if silent_s > max(SILENT_S, 20 * step_s * (last["step"] - losses[-2]["step"])):
        return done, None, None, silent_s
    return done, last.get("images_per_second"), (steps - done) * step_s, 0.0


def is_worked_on(folder: Path) -> bool:
    """Whether a living process holds the run's lock."""
    try:
        if folder.is_dir():
            with RunRecord(folder):
                pass
    except RunBusy:
        return True
    except OSError:  # a file system without locks: `ablations.run` refuses it with the reason
        pass
    return False


def code_version(methods: str | None) -> str:
    """A digest of the suite's code and of the user's own methods: after a change, a failed run is tried again."""
    digest = sha256()
    folders = [SUITE / "xinggan", SUITE / "baselines", SUITE / "ablations", *([Path(methods)] if methods else [])]
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*.*") if path.suffix in (".py", ".yaml")):
            digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _write(folder: Path, attempts: list[dict[str, Any]]) -> None:
    """Write attempts.jsonl anew."""
    write_atomically(folder / "attempts.jsonl", "".join(json.dumps(attempt) + "\n" for attempt in attempts))
