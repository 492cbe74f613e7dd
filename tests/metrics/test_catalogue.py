"""The catalogue names every metric with its direction, and is read without any heavy library."""

import subprocess
import sys

from xinggan.metrics.catalogue import METRICS


def test_directions_are_those_of_the_literature():
    better_high = {"ssim", "mask_ssim", "psnr", "is", "mask_is", "precision", "recall", "pckh_embedded"}
    better_low = {"l1", "lpips", "fid", "kid", "perceptual_embedded", "fd_embedded", "kd_embedded"}
    assert all(METRICS[name].higher_is_better for name in better_high)
    assert not any(METRICS[name].higher_is_better for name in better_low)


def test_every_two_set_metric_has_its_three_references():
    for name in ("fid", "kid", "precision", "recall", "fd_embedded", "kd_embedded"):
        variants = [METRICS[name + suffix] for suffix in ("", "_train", "_real")]
        assert len({metric.title for metric in variants}) == 3
        assert len({metric.higher_is_better for metric in variants}) == 1


def test_names_are_the_keys_and_titles_are_unique():
    assert all(name == metric.name for name, metric in METRICS.items())
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)


def test_the_catalogue_imports_no_heavy_library():
    program = (
        "import sys, xinggan.metrics.catalogue; print(any(m in sys.modules for m in ('torch', 'numpy', 'skimage')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
