"""SSIM, Mask-SSIM, PSNR and L1 of whole batches equal scikit-image's and numpy's, one image at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from xinggan.metrics.protocol import CLEAN, SsimSettings
from xinggan.metrics.similarity import l1, mean_inside, psnr, ssim, ssim_map


def slow_ssim(a: torch.Tensor, b: torch.Tensor, full: bool = False, sigma: float = 1.5, data_range: float = 255):
    """scikit-image on one pair [3, H, W] at a time: the mean, or the map averaged over the channels."""
    pairs = zip(a.permute(0, 2, 3, 1).numpy(), b.permute(0, 2, 3, 1).numpy(), strict=True)
    options = {"gaussian_weights": True, "sigma": sigma, "use_sample_covariance": False, "data_range": data_range}
    results = [structural_similarity(x, y, channel_axis=2, full=full, **options) for x, y in pairs]
    return np.stack([result[1].mean(2) for result in results] if full else results)


def noisy_pairs(seed: int, count: int, height: int, width: int, noise: float = 20.0):
    """Random flat patches, the second image with Gaussian noise: uint8 [count, 3, height, width] twice."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (count, 3, -(-height // 8), -(-width // 8))).repeat(8, 2).repeat(8, 3)
    a = patches[:, :, :height, :width].astype(np.uint8)
    b = np.clip(a + rng.normal(0, noise, a.shape), 0, 255).astype(np.uint8)
    return torch.from_numpy(a), torch.from_numpy(b)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(11, 70),
    width=st.integers(11, 70),
    count=st.integers(1, 5),
    noise=st.sampled_from([0.0, 0.3, 5.0, 80.0]),
    seed=st.integers(0, 2**31),
)
def test_ssim_and_its_map_equal_scikit_image(height, width, count, noise, seed):
    a, b = noisy_pairs(seed, count, height, width, noise)
    assert np.abs(ssim(a, b).numpy() - slow_ssim(a, b)).max() < 1e-9
    assert np.abs(ssim_map(a, b).numpy() - slow_ssim(a, b, full=True)).max() < 1e-9


@pytest.mark.parametrize("size", [(128, 64), (256, 176)])
def test_ssim_equals_scikit_image_at_the_benchmarks_sizes(size):
    a, b = noisy_pairs(3, 3, *size)
    a[0] = 255  # a white image: no variance to hide rounding behind
    assert np.abs(ssim(a, b).numpy() - slow_ssim(a, b)).max() < 1e-9


def test_other_windows_and_ranges_are_scikit_images_too():
    a, b = noisy_pairs(4, 2, 60, 50)
    chosen = SsimSettings(sigma_px=1.2, data_range=200.0)
    assert np.abs(ssim(a, b, chosen).numpy() - slow_ssim(a, b, sigma=1.2, data_range=200)).max() < 1e-9


def test_ssim_of_an_image_with_itself_is_one():
    a, _ = noisy_pairs(5, 2, 40, 30)
    assert torch.allclose(ssim(a, a), torch.ones(2, dtype=torch.float64), atol=1e-12)


def test_mask_ssim_is_the_mean_of_scikit_images_map_inside_the_mask():
    a, b = noisy_pairs(6, 3, 64, 32)
    mask = torch.rand(3, 1, 64, 32, generator=torch.Generator().manual_seed(0)) < 0.3
    expected = [
        similarity[inside[0].numpy()].mean() for similarity, inside in zip(slow_ssim(a, b, True), mask, strict=True)
    ]
    assert np.abs(mean_inside(ssim_map(a, b), mask).numpy() - expected).max() < 1e-9


def test_an_empty_mask_gives_nan_and_leaves_the_other_pairs_alone():
    a, b = noisy_pairs(7, 2, 32, 32)
    mask = torch.ones(2, 1, 32, 32, dtype=torch.bool)
    mask[0] = False
    values = mean_inside(ssim_map(a, b), mask)
    assert values[0].isnan()
    assert values[1].isfinite()


def test_psnr_equals_scikit_image_and_is_infinite_for_equal_images():
    a, b = noisy_pairs(8, 4, 50, 20)
    expected = [peak_signal_noise_ratio(x.numpy(), y.numpy(), data_range=255) for x, y in zip(a, b, strict=True)]
    assert np.allclose(psnr(a, b).numpy(), expected, atol=1e-9)
    assert psnr(a, a).isinf().all()


def test_l1_is_the_mean_absolute_difference_on_the_unit_range():
    a, b = noisy_pairs(9, 4, 50, 20)
    expected = np.abs(a.numpy() / 255.0 - b.numpy() / 255.0).mean((1, 2, 3))
    assert np.allclose(l1(a, b).numpy(), expected, atol=1e-12)


def test_images_smaller_than_the_window_are_refused_with_both_sizes():
    small = torch.zeros(1, 3, 40, 10, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"11x11.*40x10"):
        ssim(small, small)


def test_images_that_are_no_bytes_are_refused():
    images = torch.zeros(1, 3, 40, 40)
    with pytest.raises(ValueError, match="uint8"):
        ssim(images, images)


def test_the_published_evaluations_ssim_follows_from_its_data_range(shared):
    """The golden values use max - min of the generated image as data range; everything else is the clean protocol's."""
    import json

    golden = json.loads((shared / "golden" / "pose_transfer_metrics.json").read_text())["pairs"][:20]
    folder = next((shared / "data").glob("*/test"))
    for pair in golden:
        a, b = (
            torch.from_numpy(np.array(Image.open(folder / pair[role]).convert("RGB"))).permute(2, 0, 1)[None]
            for role in ("source", "target")
        )
        assert float(ssim(a, b, SsimSettings(data_range=float(a.max()) - float(a.min())))) == pytest.approx(
            pair["ssim"], abs=1e-6
        )
        assert float(l1(a, b)) * 2 == pytest.approx(pair["l1"], abs=1e-6)
    assert CLEAN.ssim.data_range == 255
