"""Crops of pictures: which, from where, and that a step of training reads nothing back from its device."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bsqtrain import pictures
from bsqtrain.engine import Budget, Trainer
from bsqtrain.pictures import CropSampler
from PIL import Image
from test_engine import SCHEDULE, image_task
from torch.utils._python_dispatch import TorchDispatchMode

from bsqcodec.errors import InputError


def test_crops_are_parts_of_the_pictures() -> None:
    """Unscaled ones exactly; scaled ones as Pillow's bicubic filter, which averages too, has them."""
    rows, columns = np.mgrid[:160, :200]
    picture = np.stack([rows, columns, (rows + columns) // 2], -1).astype(np.uint8)
    sampler, source = CropSampler([picture], 64), random.Random(3)
    scaled = flipped = 0
    for _ in range(30):
        x = sampler.draw(1, source)[0]
        assert x.shape == (3, 64, 64)
        values = (x * 255).permute(1, 2, 0).numpy()
        mirrored = values[32, 0, 1] > values[32, -1, 1]
        values = values[:, ::-1] if mirrored else values
        flipped += bool(mirrored)
        top, left = values[0, 0, 0], values[0, 0, 1]
        step = (values[-9, 32, 0] - values[8, 32, 0]) / 47
        if step == 1:
            part = picture[round(float(top)) :, round(float(left)) :][:64, :64]
            assert np.allclose(values, part, atol=1e-3)
        else:
            scaled += 1
            assert 1 < step < 2.1
    assert 5 < scaled < 30
    assert 5 < flipped < 25


def test_same_source_same_crops() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (120, 100, 3), dtype=np.uint8)
    sampler = CropSampler([picture, picture[::-1].copy()], 64)
    assert torch.equal(sampler.draw(4, random.Random(7)), sampler.draw(4, random.Random(7)))
    assert sampler.pictures[0].dtype == torch.uint8


def test_small_pictures_are_left_out_and_order_is_kept(tmp_path: Path) -> None:
    for number, side in enumerate((70, 60, 90, 80), 1):
        Image.new("RGB", (side, 100)).save(tmp_path / f"{number}.png")
    paths = pictures.find([tmp_path], validation=False)
    assert [p.shape[1] for p in pictures.load(paths, 65)] == [70, 90, 80]
    with pytest.raises(InputError, match="none of the 4 training pictures has both sides >= 200"):
        pictures.load(paths, 200)


def test_a_step_does_not_wait_for_the_device(tmp_path: Path) -> None:
    """Reading a number back (.item(), bool(), float()) would stop an accelerator."""

    class Reads(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            self.count += func is torch.ops.aten._local_scalar_dense.default
            return func(*args, **(kwargs or {}))

    trainer = Trainer(image_task(), SCHEDULE, Budget(steps=9), tmp_path, compile=False)
    with Reads() as reads:
        figures = trainer._one_step(0.5)
    assert reads.count == 0
    with reads:
        float(figures["loss"])
    assert reads.count == 1  # what would have been seen
