"""Every package that imports torch has said before how OpenMP's threads are to wait."""

import os
import subprocess
import sys

import pytest

LOOK = "import sys, os, {package}; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


@pytest.mark.parametrize("package", ["xinggan", "baselines", "ablations"])
@pytest.mark.parametrize(("own", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_passively_unless_the_user_says_otherwise_before_torch_is_imported(package, own, expected):
    variables = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    variables |= {"OMP_WAIT_POLICY": own} if own else {}
    command = [sys.executable, "-c", LOOK.format(package=package)]
    answer = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [expected, "False"]
