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
    found = _newest_first(folder)
    kept = [path, *(old for old, old_step, _ in found if old_step < step)][:KEPT]
    for old, _, _ in found:
        if old not in kept:
            old.unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> tuple[int, dict] | None:
    """The newest intact checkpoint as (step, state), or None where there is none. Says which ones it passed over."""
    for path, step, digest in _newest_first(folder):
        if sha256_of(path).startswith(digest):
            return step, torch.load(path, map_location=device, weights_only=True)
        print(f"{path} is damaged (its content does not match its name): using the checkpoint before it", flush=True)
    return None


def _newest_first(folder: Path) -> list[tuple[Path, int, str]]:
    """File, step and digest of every checkpoint."""
    files = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
    named = [(path, match) for path in files if (match := NAME.fullmatch(path.name))]
    return [(path, int(match[1]), match[2]) for path, match in named]
