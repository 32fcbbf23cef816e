"""Clips frame by frame: the two customs of averaging, and what must agree."""

import math

import numpy as np
import pytest

from bsqcodec.errors import InputError
from bsqcodec.metrics.comparison import Comparison, score_frames


def flat(level: int, size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), level, np.uint8)


def test_means_over_frames() -> None:
    comparison = Comparison(tuple(score_frames([flat(100), flat(100)], [flat(101), flat(104)])))
    assert [frame.mse for frame in comparison.frames] == [1, 16]
    assert comparison.psnr == pytest.approx(10 * math.log10(65025) - 10 * math.log10(4))
    assert comparison.psnr_of_mean_mse == pytest.approx(10 * math.log10(65025 / 8.5))
    assert comparison.ssim == pytest.approx(sum(frame.ssim or 0 for frame in comparison.frames) / 2)
    assert comparison.ms_ssim is None
    assert comparison.ms_ssim_db is None


def test_flicker_is_what_changes_between_frames() -> None:
    reference = [flat(100), flat(110), flat(120)]
    shifted = Comparison(tuple(score_frames(reference, [flat(103), flat(113), flat(123)])))
    assert [frame.step_mse for frame in shifted.frames] == [None, 0, 0]
    assert shifted.psnr_of_steps == math.inf
    flickering = Comparison(tuple(score_frames(reference, [flat(103), flat(107), flat(123)])))
    assert [frame.step_mse for frame in flickering.frames] == [None, 36, 36]
    assert flickering.psnr_of_steps == pytest.approx(10 * math.log10(65025 / 36))
    assert Comparison(tuple(score_frames(reference[:1], reference[:1]))).psnr_of_steps is None


def test_ms_ssim_is_averaged_before_it_becomes_decibels() -> None:
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 256, (2, 176, 176, 3), np.uint8)
    other = reference.copy()
    other[0, ::2] //= 2
    other[1, ::9] //= 2
    comparison = Comparison(tuple(score_frames(reference, other)))
    linear = [frame.ms_ssim for frame in comparison.frames]
    assert linear[0] != linear[1]
    assert comparison.ms_ssim_db == pytest.approx(-10 * math.log10(1 - float(np.mean(linear))), rel=1e-6)


@pytest.mark.parametrize(("left", "right"), [(3, 2), (2, 5), (0, 1)])
def test_frame_counts_must_agree(left: int, right: int) -> None:
    scores = score_frames([flat(0)] * left, [flat(0)] * right)
    with pytest.raises(InputError, match=f"frame counts differ: {left} and {right}"):
        list(scores)


def test_frames_are_taken_one_at_a_time() -> None:
    taken = []

    def frames():
        for index in range(1000):
            taken.append(index)
            yield flat(index % 256)

    scores = score_frames(frames(), frames())
    next(scores)
    assert taken == [0, 0]
