"""One process at a time may decide and submit for a folder of run records, on whichever machine of the cluster it is.

Not `flock`: cluster file systems may lack it or keep it to one machine. The lock is a row of numbered files that are
never deleted. Who creates the next number, which a file system allows to one process only, holds the lock, if the
number before was given back or its holder is dead. A holder renews its file every few seconds; on this machine a holder
is dead when its process is gone, elsewhere when its file has not changed for LEASE_S of the observer's own clock.
"""

import json
import os
import re
import socket
import threading
import time
from pathlib import Path

from xinggan.files import write_atomically

RENEWED_S = 5.0  # a holder says so often that it lives
LEASE_S = 60.0  # a holder elsewhere is dead after so long without a word
PATIENCE_S = 180.0  # after so long, give up waiting for a living holder


class Locked(RuntimeError):
    """Another living process holds the lock; the message says which."""


class LockLost(RuntimeError):
    """This process was taken for dead, and another one holds the lock now."""


class SubmissionLock:
    """Use as a context manager; `check` before each step that must not be done twice."""

    def __init__(self, folder: Path, patience_s: float = PATIENCE_S, lease_s: float = LEASE_S):
        self.folder, self.patience_s, self.lease_s = folder, patience_s, lease_s
        self._number, self._beats = 0, 0
        self._released = threading.Event()

    def __enter__(self) -> "SubmissionLock":
        self.folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + self.patience_s
        seen, since = None, time.monotonic()
        while True:
            newest = self._newest()
            holder = self._holder(newest)
            if holder != seen:
                seen, since = holder, time.monotonic()
            silent_s = time.monotonic() - since
            if (newest == 0 or _is_free(holder, silent_s > self.lease_s)) and self._create(newest + 1):
                break
            if time.monotonic() > deadline:
                raise Locked(
                    f"{_who(holder)} is submitting runs of {self.folder.parent.parent}. Wait for it, or end it"
                )
            time.sleep(0.2)
        self._released.clear()
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self._renewing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._renewing.join()
        self._write(released=True)

    def check(self) -> None:
        """Raise LockLost if this process was away for so long that another one took over."""
        if self._newest() > self._number:
            holder = self._holder(self._newest())
            raise LockLost(f"this process did not run for a while, and {_who(holder)} took over. Nothing more is done")

    def _create(self, number: int) -> bool:
        path = self.folder / f"{number:06d}.json"
        try:
            with path.open("x") as file:  # O_EXCL: succeeds for one process only
                file.write(json.dumps(_this_process() | {"beats": 0}))
        except FileExistsError:
            return False
        self._number, self._beats = number, 0
        return True

    def _renew(self) -> None:
        while not self._released.wait(RENEWED_S):
            self._write(released=False)

    def _write(self, released: bool) -> None:
        self._beats += 1
        content = _this_process() | {"beats": self._beats, "released": released}
        write_atomically(self.folder / f"{self._number:06d}.json", json.dumps(content))

    def _newest(self) -> int:
        return max((int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdigit()), default=0)

    def _holder(self, number: int) -> dict:
        try:
            return json.loads((self.folder / f"{number:06d}.json").read_text())
        except (OSError, ValueError):
            return {}  # created but not yet written: dead if it stays so


def _is_free(holder: dict, silent: bool) -> bool:
    if holder.get("released"):
        return True
    here = _this_process()
    if all(holder.get(key) == here[key] for key in ("host", "boot", "namespace")):
        return _birth(holder.get("process", 0)) != holder.get("birth")
    return silent


def _this_process() -> dict:
    """Where this process is, told apart from every other one, past ones with the same number included."""
    process = os.getpid()
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "namespace": str(namespace.readlink()) if namespace.exists() else "",
        "process": process,
        "birth": _birth(process),
    }


def _birth(process: int) -> str | None:
    """When the process was started, in the kernel's ticks; None when there is no such process (a zombie is none)."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    state, *rest = re.sub(r"^.*\) ", "", text).split()
    return None if state in "ZX" else rest[18]


def _who(holder: dict) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('process')} on {holder.get('host')}"
