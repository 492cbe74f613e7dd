"""How commands end."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("letters", [10, 100_000], ids=["written at exit", "written at once"])
def test_a_command_whose_output_nobody_reads_ends_without_a_word(letters):
    code = "from xinggan.command import exit_status, run_command\n"
    code += f"run_command(lambda: exit_status('command', lambda: print('x' * {letters})))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (141, b"")
