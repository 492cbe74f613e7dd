"""The folders that people have: read-only ones, full disks and file systems without locks."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

READ_ONLY = """
import os, sys
from pathlib import Path
from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings

root, cache = map(Path, sys.argv[1:])
settings = DatasetSettings("folder", root=str(root))
prepare(settings, cache, progress=False)
for path in (cache, *cache.rglob("*")):
    path.chmod(0o555 if path.is_dir() else 0o444)
if os.geteuid() == 0:
    os.setuid(65534)  # root may write anywhere
assert not os.access(cache, os.W_OK)
print(len(prepare(settings, cache, progress=False).train))
try:
    prepare(DatasetSettings("folder", root=str(root), mask_radius=3), cache, progress=False)
except ValueError as error:
    print(error)
"""


def test_a_packed_data_set_is_used_where_nothing_can_be_written_and_nothing_is_packed_there(dotted):
    with tempfile.TemporaryDirectory() as folder:  # other users may look into it
        Path(folder).chmod(0o755)
        root = dotted(root=Path(folder) / "people")
        command = [sys.executable, "-c", READ_ONLY, str(root), str(Path(folder) / "cache")]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        assert answer.stdout.splitlines()[0] == "24"
        assert "cannot be written to; name a folder for packed data sets" in answer.stdout.splitlines()[1]
        for path in (Path(folder) / "cache").rglob("*"):
            path.chmod(0o755)


SMALL_DISK = """
import resource, signal, sys
from xinggan.data.prepare import main

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # bytes of a file: writing fails as on a full disk
sys.exit(main(sys.argv[1:]))
"""


def test_a_failed_writing_names_the_path_and_leaves_nothing(dotted, tmp_path):
    words = ["folder", "--root", str(dotted()), "--cache", str(tmp_path / "cache")]
    answer = subprocess.run([sys.executable, "-c", SMALL_DISK, *words], capture_output=True, text=True)
    assert answer.returncode == 2 and str(tmp_path / "cache") in answer.stderr and "File too large" in answer.stderr
    assert not (tmp_path / "cache").exists()


WITHOUT_LOCKS = """
import errno, sys
sys.path.insert(0, sys.argv.pop(1))
from test_files import without_flock
from xinggan.data.prepare import main

words = ["folder", "--root", sys.argv[1], "--cache", sys.argv[2]]
main(words)
without_flock(errno.ENOLCK)
print(main(words), main([*words, "--mask-radius", "3"]))
"""


def test_without_locks_a_packed_data_set_is_used_and_packing_names_the_folder(dotted, tmp_path):
    tests, cache = Path(__file__).parents[1], tmp_path / "cache"
    command = [sys.executable, "-c", WITHOUT_LOCKS, str(tests), str(dotted()), str(cache)]
    answer = subprocess.run(command, capture_output=True, text=True)
    if "no filter" in answer.stderr:
        pytest.skip("the system calls of a process cannot be filtered here")
    assert answer.stdout.splitlines()[-1] == "0 2"
    assert f"{cache}: No locks available: the folder's file system has no locks" in answer.stderr
    assert len([path for path in cache.iterdir() if path.is_dir() and path.name.startswith("folder-")]) == 1
