"""The bundled sample is a real photograph, reachable without a network and without pooch."""

import subprocess
import sys

import numpy as np

from bsqcodec import samples


def test_picture_and_clip() -> None:
    photograph, clip = samples.picture(), samples.clip(9)
    assert photograph.shape == (512, 512, 3)
    assert clip.shape == (9, 192, 320, 3)
    assert photograph.dtype == clip.dtype == np.uint8
    assert len(np.unique(photograph.reshape(-1, 3), axis=0)) > 50_000


def test_every_frame_of_the_clip_moves() -> None:
    clip = samples.clip(60)
    assert all((clip[t] != clip[t + 1]).any() for t in range(59))
    assert (clip[0] == samples.clip(61)[60]).all()


def test_the_picture_needs_no_pooch() -> None:
    code = "import sys; sys.modules['pooch'] = None; from bsqcodec import samples; samples.picture()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
