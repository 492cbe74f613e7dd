"""Files that appear whole or not at all: written to a temporary name in the same folder, flushed to disk, renamed."""

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOLCK, ENOSYS, EOPNOTSUPP
from pathlib import Path

SUITE = Path(__file__).resolve().parents[1]


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`: on success it becomes `path`, on an error it is removed.

    An OSError that says no path, as that of a full disk, or the temporary one, says `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        says_no_path = error.filename is None or Path(os.fsdecode(error.filename)) == temporary
        if error.errno is not None and says_no_path:
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_atomically(path: Path | str, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) so that a reader sees the old file or the new one, never a part."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def user_path(name: str) -> Path:
    """The path of a name as a user gives it: `~/` is the home; a `~` before anything else is part of the name."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 (Path.expanduser raises where there is no such home)


def without_places(text: str) -> str:
    """`text` with the suite's folder and Python's left out of paths, and the home as `~`: a record names no machine."""
    places = {SUITE: "", Path(sys.prefix): "", Path.home(): "~/"}
    for place, short in sorted(places.items(), key=lambda item: -len(str(item[0]))):  # the inner one of two first
        if place != place.parent:  # a home may be the root of the file system
            text = re.sub(rf"(?<![\w./:~-]){re.escape(f'{place}{os.sep}')}", short, text)
    return text


def sha256_of(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path, wait_s: float = -1) -> Iterator[None]:
    """Hold the lock of a file. The kernel drops it with the process, however that ends.

    Raises filelock.Timeout where another process holds it for longer than `wait_s` (-1: wait as long as it takes), and
    OSError, with the folder and what to do, on a file system that has no locks.
    """
    from filelock import FileLock

    lock = FileLock(path, timeout=wait_s, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in (ENOSYS, ENOLCK, EOPNOTSUPP):
            raise
        what = f"{error.strerror}: the folder's file system has no locks, which keep two processes from working in it"
        raise OSError(error.errno, f"{what}; name a folder on a local disk, say", str(path.parent)) from error
    try:
        yield
    finally:
        lock.release()
