"""The catalogue names every metric with its direction, and is read without any heavy library."""

import subprocess
import sys

from xinggan.metrics.catalogue import METRICS, heading, higher_is_better


def test_directions_are_those_of_the_literature():
    better_high = {"ssim", "mask_ssim", "psnr", "is", "mask_is", "precision", "recall", "pckh_embedded"}
    better_low = {"l1", "lpips", "fid", "kid", "perceptual_embedded", "fd_embedded", "kd_embedded"}
    assert all(higher_is_better(name) for name in better_high)
    assert not any(higher_is_better(name) for name in better_low)
    assert heading("psnr") == "PSNR [dB] ↑"
    assert (heading("of_another_version"), higher_is_better("of_another_version")) == ("of_another_version", None)


def test_metrics_have_titles_of_their_own_and_those_of_two_sets_three_references():
    assert all(name == metric.name for name, metric in METRICS.items())
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)
    for name in ("fid", "kid", "precision", "recall", "fd_embedded", "kd_embedded"):
        variants = [METRICS[name + suffix] for suffix in ("", "_train", "_real")]
        assert len({metric.higher_is_better for metric in variants}) == 1


def test_the_catalogue_imports_no_heavy_library():
    program = "import sys, xinggan.metrics.catalogue; print({'torch', 'numpy', 'skimage'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
