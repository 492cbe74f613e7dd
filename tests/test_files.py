"""Files appear whole or not at all, errors name the file that was asked for, and locks say where there are none."""

import ctypes
import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from xinggan.command import reason
from xinggan.files import SUITE, atomic_path, locked, without_places, write_atomically

FLOCK = {"x86_64": 73, "aarch64": 32}.get(os.uname().machine)  # number of the system call


def test_what_fails_leaves_the_old_file_and_no_part(tmp_path):
    write_atomically(tmp_path / "file", "old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "file") as part:
        part.write_text("half")
        raise RuntimeError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def limited(code, **arguments):
    """The last line of a process that may write no file of more than 1000 bytes: as a full disk, the system says it."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    done = subprocess.run([sys.executable, "-c", limit + code], capture_output=True, text=True, **arguments)
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def test_an_error_of_the_system_names_the_file_and_not_its_temporary_one(tmp_path):
    code = "from xinggan.files import write_atomically; from xinggan.command import exit_status\n"
    code += f"exit_status('command', lambda: write_atomically({str(tmp_path / 'scores.json')!r}, bytes(5000)))"
    assert limited(code) == f"command: {tmp_path / 'scores.json'}: File too large"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "below" / "x", tmp_path / "file" / "x"):
        with pytest.raises(OSError) as raised:
            write_atomically(path, "")
        assert reason(raised.value).startswith(f"{tmp_path / 'file'}")
        assert ".part" not in str(raised.value)


def without_flock(error):
    """Every `flock` of this process answers with this error from now on, by a filter of the kernel (seccomp)."""
    libc = ctypes.CDLL(None, use_errno=True)
    load, is_flock = (0x20, 0, 0, 0), (0x15, 0, 1, FLOCK)
    fail, allow = (6, 0, 0, 0x50000 | error), (6, 0, 0, 0x7FFF0000)
    packed = b"".join(struct.pack("HBBI", *rule) for rule in (load, is_flock, fail, allow))
    rules = ctypes.create_string_buffer(packed)
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(rules)))
    if FLOCK is None or libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program):
        sys.exit("no filter")


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS])
def test_on_a_file_system_without_locks_the_folder_and_the_way_out_are_said(error, tmp_path):
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfrom test_files import *\n"
    code += "from ablations.record import RunRecord\nfrom xinggan.command import exit_status\n"
    code += "without_flock(int(sys.argv[2]))\n"
    code += "exit_status('command', lambda: RunRecord(Path(sys.argv[3])).__enter__() and None)"
    words = [str(Path(__file__).parent), str(error), str(tmp_path / "run")]
    said = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True).stderr.strip()
    if said == "no filter":
        pytest.skip("the system calls of a process cannot be filtered here")
    assert said.startswith(f"command: {tmp_path / 'run'}: {os.strerror(error)}: the folder's file system has no locks")
    assert "name a folder on a local disk" in said


def test_a_lock_is_one_processs_and_free_again_afterwards(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "lock"), pytest.raises(TimeoutError), locked(tmp_path / "lock", wait_s=0):
            pass


def test_places_of_this_machine_are_left_out_of_a_text():
    code, library, home = SUITE / "xinggan" / "files.py", Path(sys.prefix, "lib", "torch.py"), Path.home() / ".cache"
    text = f'File "{code}", line 3; File "{library}"; put it into {home}; not /mnt{home}'
    told = f'File "xinggan/files.py", line 3; File "lib/torch.py"; put it into ~/.cache; not /mnt{home}'
    assert without_places(text) == told
