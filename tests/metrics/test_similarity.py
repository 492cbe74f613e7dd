"""SSIM, Mask-SSIM, PSNR and L1 of whole batches equal scikit-image's and numpy's, one image at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from xinggan.metrics.protocol import SsimSettings
from xinggan.metrics.similarity import l1, mean_inside, psnr, ssim, ssim_map


def slow_ssim(a: torch.Tensor, b: torch.Tensor, **options) -> tuple[np.ndarray, np.ndarray]:
    """scikit-image on one pair [3, H, W] at a time: the means, and the maps averaged over the channels."""
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255} | options
    pairs = zip(a.permute(0, 2, 3, 1).numpy(), b.permute(0, 2, 3, 1).numpy(), strict=True)
    results = [structural_similarity(x, y, channel_axis=2, full=True, **options) for x, y in pairs]
    return np.stack([mean for mean, _ in results]), np.stack([full.mean(2) for _, full in results])


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
    means, maps = slow_ssim(a, b)
    assert np.abs(ssim(a, b).numpy() - means).max() < 1e-9
    assert np.abs(ssim_map(a, b).numpy() - maps).max() < 1e-9


@pytest.mark.parametrize("size", [(51, 60), (70, 51), (128, 64), (256, 176)])
@pytest.mark.parametrize(
    ("chosen", "options"),
    [
        (SsimSettings(sigma_px=1.2, data_range=200.0), {"sigma": 1.2, "data_range": 200}),
        *(
            (
                SsimSettings.uniform(window_px, covariance=covariance),
                {"gaussian_weights": False, "win_size": window_px, "use_sample_covariance": covariance == "sample"},
            )
            for window_px in (3, 7, 51)
            for covariance in ("sample", "population")
        ),
    ],
)
def test_other_windows_ranges_and_covariances_are_scikit_images(size, chosen, options):
    a, b = noisy_pairs(3, 2, *size)
    a[0] = 255  # a white image: no variance to hide rounding behind
    means, maps = slow_ssim(a, b, **options)
    assert np.abs(ssim(a, b, chosen).numpy() - means).max() < 1e-9
    assert np.abs(ssim_map(a, b, chosen).numpy() - maps).max() < 1e-9


def test_mask_ssim_is_the_mean_of_the_map_inside_the_mask_and_nan_where_the_mask_is_empty():
    a, b = noisy_pairs(6, 3, 64, 32)
    mask = torch.rand(3, 1, 64, 32, generator=torch.Generator().manual_seed(0)) < 0.3
    mask[2] = False
    values = mean_inside(ssim_map(a, b), mask)
    _, maps = slow_ssim(a, b)
    expected = [maps[i][mask[i, 0].numpy()].mean() for i in range(2)]
    assert values[:2].tolist() == pytest.approx(expected, abs=1e-9)
    assert values[2].isnan()


def test_psnr_and_l1_equal_scikit_image_and_numpy():
    a, b = noisy_pairs(8, 4, 50, 20)
    expected = [peak_signal_noise_ratio(x.numpy(), y.numpy(), data_range=255) for x, y in zip(a, b, strict=True)]
    assert np.allclose(psnr(a, b).numpy(), expected, atol=1e-9)
    assert psnr(a, a).isinf().all()
    assert np.allclose(l1(a, b).numpy(), np.abs(a.numpy() / 255 - b.numpy() / 255).mean((1, 2, 3)), atol=1e-12)


def test_images_that_cannot_be_compared_are_refused():
    small = torch.zeros(1, 3, 40, 10, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"40x10.*11x11"):
        ssim(small, small)
    with pytest.raises(ValueError, match="uint8"):
        ssim(torch.zeros(1, 3, 40, 40), torch.zeros(1, 3, 40, 40))
