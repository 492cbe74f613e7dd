"""torchvision and what builds on it can be imported whatever torchvision was compiled for."""

import subprocess
import sys


def test_torchvision_lpips_and_torch_fidelity_import_in_a_fresh_process():
    program = (
        "from xinggan.torchvision_operators import import_torchvision\n"
        "torchvision = import_torchvision()\n"
        "assert import_torchvision() is torchvision\n"
        "import lpips, torch_fidelity\n"
        "print(torchvision.models.squeezenet1_1(weights=None).__class__.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "SqueezeNet", done.stderr
