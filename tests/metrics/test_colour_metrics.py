"""PSNR-YUV and CIEDE2000 against slow, obvious versions and known values."""

import math

import numpy as np
import pytest

from bsqcodec.errors import InputError
from bsqcodec.metrics.ciede2000 import ciede2000
from bsqcodec.metrics.psnr_yuv import psnr_yuv


def noise(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def slow_planes(picture: np.ndarray) -> list[list[float]]:
    """Y, Cb, Cr by the equations of BT.709, chroma as the mean of up to four pixels with repeated edges."""
    height, width, _ = picture.shape
    ycc = np.zeros((height, width, 3))
    for row in range(height):
        for column in range(width):
            red, green, blue = (float(value) for value in picture[row, column])
            luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
            ycc[row, column] = luma, (blue - luma) / 1.8556, (red - luma) / 1.5748
    chroma: list[list[float]] = [[], []]
    for row in range(0, height, 2):
        for column in range(0, width, 2):
            corners = [
                ycc[min(row + down, height - 1), min(column + right, width - 1)]
                for down in (0, 1)
                for right in (0, 1)
            ]
            for plane in (0, 1):
                chroma[plane].append(sum(corner[1 + plane] for corner in corners) / 4)
    return [ycc[..., 0].ravel().tolist(), *chroma]


@pytest.mark.parametrize(("height", "width"), [(6, 8), (5, 7), (1, 1), (2, 9)])
def test_psnr_yuv_is_that_of_the_equations(height: int, width: int) -> None:
    one, other = noise(height, width, 1), noise(height, width, 2)
    decibels = []
    for left, right in zip(slow_planes(one), slow_planes(other), strict=True):
        error = sum((a - b) ** 2 for a, b in zip(left, right, strict=True)) / len(left)
        decibels.append(10 * math.log10(255**2 / error))
    assert psnr_yuv(one, other) == pytest.approx((6 * decibels[0] + decibels[1] + decibels[2]) / 8, abs=1e-3)


def test_psnr_yuv_of_equal_pictures_is_infinite() -> None:
    assert psnr_yuv(noise(9, 9, 1), noise(9, 9, 1)) == math.inf


def test_ciede2000_sees_a_tint_and_not_a_lack_of_detail() -> None:
    grey = np.full((32, 48, 3), 128, np.uint8)
    grain = grey.copy()
    grain[::2] += 20
    grain[1::2] -= 20
    assert ciede2000(grey, grey) == 0
    assert ciede2000(grey, grain) < 0.1
    assert ciede2000(grey, grey + np.array([12, 0, 0], np.uint8)) > 3


def test_ciede2000_of_a_known_pair() -> None:
    """White against black: the difference of their lightness, 100, which CIEDE2000 leaves as it is."""
    white, black = np.full((8, 8, 3), 255, np.uint8), np.zeros((8, 8, 3), np.uint8)
    assert ciede2000(white, black) == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 9), (17, 8)])
def test_ciede2000_takes_any_size(height: int, width: int) -> None:
    picture = np.full((height, width, 3), (200, 30, 60), np.uint8)
    assert ciede2000(picture, picture) == 0


@pytest.mark.parametrize("metric", [psnr_yuv, ciede2000])
def test_unlike_sizes_are_refused(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(InputError, match="differ in size"):
        metric(noise(8, 8, 1), noise(8, 9, 1))
