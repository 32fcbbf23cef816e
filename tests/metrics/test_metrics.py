"""Each metric against another implementation of it: by hand, scikit-image's, or SciPy's filters."""

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage import metrics as skimage_metrics

from bsqcodec.errors import InputError
from bsqcodec.metrics.ms_ssim import SMALLEST_SIDE, ms_ssim, ms_ssim_db
from bsqcodec.metrics.psnr import mse, psnr
from bsqcodec.metrics.ssim import ssim
from bsqcodec.samples import picture

METRICS = [psnr, ssim, ms_ssim]
WEIGHTS = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return picture()[80:256, 160:336]


@pytest.fixture(scope="module")
def noisy(photograph: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 12, photograph.shape)
    return np.clip(photograph + noise, 0, 255).round().astype(np.uint8)


def test_psnr_by_hand() -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    grey = black.copy()
    grey[0, 0] = (3, 0, 0)
    assert mse(black, grey) == 9 / 12
    assert psnr(black, grey) == pytest.approx(10 * math.log10(65025 / 0.75))
    assert psnr(black, np.full_like(black, 255)) == 0


def test_psnr_of_equal_pictures_is_infinite(photograph: np.ndarray) -> None:
    assert psnr(photograph, photograph) == math.inf


def test_psnr_agrees_with_scikit_image(photograph: np.ndarray, noisy: np.ndarray) -> None:
    expected = skimage_metrics.peak_signal_noise_ratio(photograph, noisy, data_range=255)
    assert psnr(photograph, noisy) == pytest.approx(expected, rel=1e-9)


def test_ssim_agrees_with_scikit_image(photograph: np.ndarray, noisy: np.ndarray) -> None:
    expected = skimage_metrics.structural_similarity(
        photograph, noisy, channel_axis=2, data_range=255,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert 0.3 < expected < 0.95
    assert ssim(photograph, noisy) == pytest.approx(expected, abs=2e-5)


def _blur(plane: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(plane, 1.5, truncate=3.5)[5:-5, 5:-5]


def _ms_ssim_of_plane(a: np.ndarray, b: np.ndarray) -> float:
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    product = 1.0
    for scale, weight in enumerate(WEIGHTS):
        mean_a, mean_b = _blur(a), _blur(b)
        var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
        structure = (2 * (_blur(a * b) - mean_a * mean_b) + c2) / (var_a + var_b + c2)
        if scale == len(WEIGHTS) - 1:
            structure = structure * (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        product *= float(structure.mean()) ** weight
        if scale < len(WEIGHTS) - 1:
            a, b = (p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2).mean((1, 3)) for p in (a, b))
    return product


def test_ms_ssim_agrees_with_scipy_filters(photograph: np.ndarray, noisy: np.ndarray) -> None:
    a, b = photograph.astype(float), noisy.astype(float)
    expected = float(np.mean([_ms_ssim_of_plane(a[..., c], b[..., c]) for c in range(3)]))
    assert 0.8 < expected < 0.99
    assert ms_ssim(photograph, noisy) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("metric", [ssim, ms_ssim])
def test_structural_metrics_are_one_for_equal_pictures(metric, photograph: np.ndarray) -> None:
    assert metric(photograph, photograph) == pytest.approx(1, abs=1e-6)


def test_small_pictures_have_no_structural_figure() -> None:
    def grey(height: int, width: int) -> np.ndarray:
        return np.full((height, width, 3), 90, np.uint8)

    assert ssim(grey(10, 40), grey(10, 40)) is None
    assert ssim(grey(11, 40), grey(11, 40)) is not None
    assert ms_ssim(grey(SMALLEST_SIDE - 1, 300), grey(SMALLEST_SIDE - 1, 300)) is None
    assert ms_ssim(grey(SMALLEST_SIDE, 300), grey(SMALLEST_SIDE, 300)) is not None


def test_ms_ssim_in_decibels() -> None:
    assert ms_ssim_db(0.9) == pytest.approx(10)
    assert ms_ssim_db(0.95) == pytest.approx(13.0103, abs=1e-4)
    assert ms_ssim_db(1.0) == math.inf


@pytest.mark.parametrize("metric", METRICS)
def test_sizes_must_agree(metric, photograph: np.ndarray) -> None:
    with pytest.raises(InputError, match="176x176 and 175x176"):
        metric(photograph, photograph[:, :-1])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("shape", "dtype"), [((20, 20), "u1"), ((20, 20, 4), "u1"), ((20, 20, 3), "f4")])
def test_only_rgb_bytes_are_taken(metric, shape: tuple[int, ...], dtype: str) -> None:
    wrong = np.zeros(shape, dtype)
    with pytest.raises(InputError, match="H x W x 3 uint8"):
        metric(wrong, wrong)
