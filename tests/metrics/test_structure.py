"""SSIM and MS-SSIM in one pass against the two metrics on their own, and against scikit-image."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from bsqcodec.errors import InputError
from bsqcodec.metrics.ms_ssim import ms_ssim
from bsqcodec.metrics.ssim import ssim
from bsqcodec.metrics.structure import structure


def pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(height * width)
    smooth = (
        127 + 100 * np.sin(np.arange(width) / 9)[None, :, None] * np.cos(np.arange(height) / 7)[:, None, None]
    )
    picture = (smooth + random.normal(0, 4, (height, width, 3))).clip(0, 255).astype(np.uint8)
    return picture, (picture + random.normal(0, 20, picture.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width"), [(176, 200), (161, 161), (163, 190), (160, 300), (11, 11), (40, 33)]
)
def test_equals_the_two_on_their_own(height: int, width: int) -> None:
    one, other = pair(height, width)
    together = structure(one, other)
    assert together[0] == pytest.approx(ssim(one, other), abs=1e-5)
    assert (together[1] is None) == (min(height, width) < 161)
    if together[1] is not None:
        assert together[1] == pytest.approx(ms_ssim(one, other), abs=2e-6)


def test_equals_scikit_image_where_it_takes_the_same_window() -> None:
    """Scikit-image leaves out a border of the window's half, as a filter without padding does."""
    one, other = pair(64, 80)
    theirs = structural_similarity(
        one,
        other,
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert structure(one, other)[0] == pytest.approx(theirs, abs=2e-5)


def test_too_small_for_any() -> None:
    assert structure(*pair(10, 50)) == (None, None)


def test_equal_pictures_are_1() -> None:
    one, _ = pair(170, 170)
    for value in structure(one, one):
        assert value == pytest.approx(1, abs=1e-6)


def test_unlike_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="differ in size"):
        structure(pair(20, 20)[0], pair(20, 21)[0])
