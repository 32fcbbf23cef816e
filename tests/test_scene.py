"""Key frames at cuts between scenes."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tiny_model

from bsqcodec import bitstream, codec, samples
from bsqcodec.bitstream import Gop
from bsqcodec.media.types import Frame
from bsqcodec.scene import CutDetector


def pan(step: int, count: int, *, turned: bool = False) -> codec.Pixels:
    """A view that moves by `step` pixels a frame."""
    picture = samples.picture()
    picture = picture[::-1] if turned else picture
    return np.stack([picture[20:148, step * n : step * n + 160] for n in range(count)])


def cuts(frames: codec.Pixels) -> list[int]:
    detector = CutDetector()
    return [number for number, frame in enumerate(frames) if detector.is_cut(frame)]


def test_a_cut_is_found_and_nothing_else() -> None:
    assert cuts(np.concatenate([pan(3, 8), pan(3, 8, turned=True)])) == [8]


@pytest.mark.parametrize("step", [0, 2, 12])
def test_a_pan_has_no_cuts(step: int) -> None:
    frames = pan(step, 10)
    assert cuts(frames) == []


def test_small_frames() -> None:
    dark, bright = np.zeros((2, 2, 2, 3), np.uint8)
    assert cuts(np.stack([dark, dark, bright + 200])) == [2]


@pytest.mark.parametrize(("scene_cuts", "lengths"), [(True, [6, 7]), (False, [13])])
def test_a_scene_begins_a_gop(scene_cuts: bool, lengths: list[int], tmp_path: Path) -> None:
    tiny_weights = tiny_model.make(tmp_path / "tiny.safetensors", prior=False)
    frames = np.concatenate([pan(2, 6), pan(2, 7, turned=True)])
    sink = io.BytesIO()
    options = codec.EncodeOptions(gop=20, scene_cuts=scene_cuts, model=tiny_weights)
    encoder = codec.Encoder(sink, 160, 128, time_base=Fraction(1, 25), options=options)
    for number, frame in enumerate(frames):
        encoder.add(Frame(frame, number, 1))
    encoder.close()
    events = list(bitstream.StreamReader(io.BytesIO(sink.getvalue())))
    assert [len(event.pts) for event in events if isinstance(event, Gop)] == lengths
    decoded = codec.Decoder(io.BytesIO(sink.getvalue()), model_file=tiny_weights)
    assert sum(isinstance(event, Frame) for event in decoded.events()) == 13


@pytest.mark.parametrize(("gop", "better"), [(1, False), (9, True)])
def test_key_frames_that_tubes_draw_on_are_better(gop: int, better: bool, tmp_path: Path) -> None:
    tiny_weights = tiny_model.make(tmp_path / "tiny.safetensors", prior=False)
    options = codec.EncodeOptions(gop=gop, model=tiny_weights)
    data = codec.compress(pan(1, 3), options=options)
    gops = [event for event in bitstream.StreamReader(io.BytesIO(data)) if isinstance(event, Gop)]
    assert all((event.key_rate > event.tube_rate) == better for event in gops)
    assert codec.decompress(data, model_file=tiny_weights).shape == (3, 128, 160, 3)
