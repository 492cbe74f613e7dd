"""The digest of a data set's files: SHA-256 over names and bytes, whatever the folder they lie in.

Reading 50,000 files takes a while, so a cache may remember the digest of files by their names, sizes and times; then
asking again costs no more than looking at these.
"""

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xinggan.data.layout import find_files
from xinggan.data.packed import SPLITS
from xinggan.data.settings import DatasetSettings
from xinggan.data.tables import annotated_names
from xinggan.files import write_atomically
from xinggan.progress import track

MEMORY = ".digests"  # folder inside the cache
SETTLED_AFTER_S = 2.0  # a file changed later than this before it was read may change again with the same time stamp


@dataclass(frozen=True)
class FileStates:
    """Files of a data set and what the file system says about them."""

    root: Path
    names: list[str]  # relative to root, in a fixed order; missing files too
    states: list[tuple[int, ...] | None]  # size, times of change; None: not there
    looked_at: float  # seconds since the epoch

    @property
    def key(self) -> str:
        whole = hashlib.sha256()
        for name, state in zip(self.names, self.states, strict=True):
            whole.update(f"{name}\0{state}\n".encode())
        return whole.hexdigest()

    @property
    def settled(self) -> bool:
        newest_ns = max((max(state[1:]) for state in self.states if state), default=0)
        return self.looked_at - newest_ns / 1e9 > SETTLED_AFTER_S


def file_states(settings: DatasetSettings) -> FileStates:
    """The tables of the layout and every image that is annotated. Raises ValueError where there is no layout."""
    files = find_files(settings)
    names: list[str] = []
    looked_at = time.time()
    for split in SPLITS:
        annotations = files.annotations(split)
        names += [annotations, files.pairs(split)]
        with suppress(OSError):  # what cannot be read is told with all other problems
            names += [f"{split}/{name}" for name in annotated_names(files.root / annotations)]
    return FileStates(files.root, names, [_state(files.root / name) for name in names], looked_at)


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def content_digest(files: FileStates, cache: Path | str | None = None, progress: bool = False) -> str:
    """SHA-256 (hex) of the files' names and bytes, from the cache's memory where these very files are known."""
    if cache is not None:
        try:
            return (Path(cache) / MEMORY / files.key).read_text(encoding="ascii")
        except OSError:
            pass
    return _digest_of_bytes(files.root, files.names, progress)


def remember(files: FileStates, digest: str, cache: Path | str) -> None:
    """Keep the digest for the next time, unless the files are so new that they might change unnoticed."""
    if files.settled:
        write_atomically(Path(cache) / MEMORY / files.key, digest)


def _digest_of_bytes(root: Path, names: Sequence[str], progress: bool) -> str:
    whole = hashlib.sha256()
    for name in track(names, "reading the files' bytes", len(names), "files", enabled=progress):
        try:
            content = hashlib.sha256((root / name).read_bytes()).hexdigest()
        except OSError:
            content = "missing"
        whole.update(f"{name}\0{content}\n".encode())
    return whole.hexdigest()
