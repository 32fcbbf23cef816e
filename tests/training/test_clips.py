"""Training clips: crops of real ones, pictures set in motion, the mix of both."""

import random

import numpy as np
import torch
from bsqtrain.clips import ClipSampler, MixedSampler, MovingPictures, _Path


def picture() -> np.ndarray:
    rows, columns = np.mgrid[0:120, 0:160]
    return np.stack([rows * 2, columns, (rows + columns) // 2], -1).astype(np.uint8)


def test_a_clip_is_a_crop_of_its_source() -> None:
    clip = np.random.default_rng(0).integers(0, 256, (6, 40, 50, 3), dtype=np.uint8)
    drawn = ClipSampler([clip], 32, 5).draw(3, random.Random(1), 2)
    assert drawn.shape == (3, 2, 3, 32, 32)
    values = {tuple(pixel) for pixel in clip.reshape(-1, 3)}
    assert tuple((drawn[0, 0, :, 5, 5] * 255).round().int().tolist()) in values


def test_more_frames_than_a_clip_has_go_to_and_fro() -> None:
    clip = np.arange(4, dtype=np.uint8)[:, None, None, None].repeat(40, 1).repeat(40, 2).repeat(3, 3)
    drawn = {
        tuple((255 * frames[:, 0, 0, 0]).round().int().tolist())
        for seed in range(20)
        for frames in ClipSampler([clip], 32, 3).draw(1, random.Random(seed), 9)
    }
    there = (0, 1, 2, 3, 2, 1, 0, 1, 2)
    assert drawn == {there, there[::-1]}


def test_a_path_moves_by_its_velocity() -> None:
    path = _Path(centre=(50.0, 40.0), velocity=(3.0, -1.0), turn=(0.0, 0.0), log_scale=(0.0, 0.0))
    places = path.places(3, 8, torch.device("cpu"))
    assert torch.allclose(places[1].mean((0, 1)), torch.tensor([50.0, 40.0]))
    assert torch.allclose(places[2] - places[1], torch.tensor([3.0, -1.0]).expand(8, 8, 2), atol=1e-5)
    assert torch.allclose(places[0, 0, 1] - places[0, 0, 0], torch.tensor([1.0, 0.0]), atol=1e-5)


def test_a_view_shows_the_picture_where_it_says() -> None:
    sampler = MovingPictures([picture()], 32, 5)
    inside = 0
    for seed in range(20):
        shown, places = sampler._view(random.Random(seed), 5, False)
        x, y = places[..., 0], places[..., 1]
        seen = (x > 2) & (x < 157) & (y > 2) & (y < 117)
        expected = torch.stack([2 * y, x, (x + y) / 2], 1) / 255
        error = (shown - expected).abs().amax(1)
        assert float(error[seen].max()) < 0.012  # the picture is rounded to whole numbers
        inside += int(seen.sum())
    assert inside > 20 * 5 * 32 * 32 / 2


def test_pictures_move_and_some_stand_still() -> None:
    texture = np.random.default_rng(2).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    drawn = MovingPictures([texture], 32, 5).draw(60, random.Random(3))
    assert drawn.shape == (60, 5, 3, 32, 32)
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) <= 1
    still = (drawn[:, 0] - drawn[:, -1]).abs().amax((1, 2, 3)) == 0
    assert 4 < int(still.sum()) < 20


def test_the_mix_keeps_its_share() -> None:
    black = np.zeros((5, 32, 32, 3), np.uint8)
    white = np.full((40, 40, 3), 255, np.uint8)
    mixed = MixedSampler(ClipSampler([black], 32, 5), MovingPictures([white], 32, 5), 0.4)
    drawn = mixed.draw(300, random.Random(4))
    assert 0.3 < float(drawn[:, 0, 0, 16, 16].mean()) < 0.5
