"""Checkpoints that survive being killed: written whole or not at all, checked when read, the last two kept.

The file name carries the SHA-256 of the content, so one rename publishes both; a truncated or altered file does not
match its name and the one before it is used.
"""

import io
import re
from hashlib import sha256
from pathlib import Path

import torch

from xinggan.files import sha256_of, write_atomically

NAME = re.compile(r"step-(\d{8})-([0-9a-f]{16})\.pt")
KEPT = 2


def save_checkpoint(folder: Path, step: int, state: dict) -> Path:
    """Write `state` (tensors and plain values) as the checkpoint of `step`; keep it and the newest one before it.

    Files of later steps go too: a training that has come to `step` only now found them damaged.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    path = folder / f"step-{step:08d}-{sha256(content).hexdigest()[:16]}.pt"
    write_atomically(path, content)
    earlier = [old for old in _newest_first(folder) if _step_and_digest(old)[0] < step]
    for old in _newest_first(folder):
        if old not in (path, *earlier[: KEPT - 1]):
            old.unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> tuple[int, dict] | None:
    """The newest intact checkpoint as (step, state), or None where there is none. Says which ones it passed over."""
    for path in _newest_first(folder):
        step, digest = _step_and_digest(path)
        if sha256_of(path).startswith(digest):
            return step, torch.load(path, map_location=device, weights_only=True)
        print(f"{path} is damaged (its content does not match its name): using the checkpoint before it", flush=True)
    return None


def _step_and_digest(path: Path) -> tuple[int, str]:
    step, digest = NAME.fullmatch(path.name).groups()  # type: ignore[union-attr]
    return int(step), digest


def _newest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if NAME.fullmatch(path.name)), reverse=True)
