"""The filter for key frames: it takes noise and leaves what moves; frames are coded as without it."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tiny_model
import torch

from bsqcodec import bitstream, model, samples
from bsqcodec.blocks import BlockKind
from bsqcodec.codec import Decoder, EncodeOptions, Encoder, Pixels
from bsqcodec.key_filter import FRAMES, Drawn, drawn, filtered
from bsqcodec.media.types import Frame
from bsqcodec.synthesis import LadderTokenizer


def pan(frames: int, noise: float, step: int = 3) -> tuple[Pixels, Pixels]:
    """A view of the photograph that moves to the right, and with noise of this deviation."""
    picture = samples.picture()
    clean = np.stack([picture[100:196, 150 + step * n : 278 + step * n] for n in range(frames)])
    rng = np.random.default_rng(0)
    return clean, (clean + noise * rng.standard_normal(clean.shape)).clip(0, 255).round().astype(np.uint8)


def through(frames: Pixels) -> Pixels:
    x_TCHW = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    y_CHW = filtered(x_TCHW[0], drawn(x_TCHW[0], x_TCHW[1:]))
    return (255 * y_CHW.permute(1, 2, 0)).round().clamp(0, 255).to(torch.uint8).numpy()


def off(one: Pixels, other: Pixels) -> float:
    return float(np.square(one.astype(float) - other).mean())


def test_noise_is_taken_from_what_moves() -> None:
    clean, noisy = pan(1 + FRAMES, 8)
    inner = np.s_[:, :-16]  # the border is where the others do not see
    assert off(through(noisy)[inner], clean[0][inner]) < 0.6 * off(noisy[0][inner], clean[0][inner])
    assert off(through(clean)[inner], clean[0][inner]) < 4


def test_what_the_others_do_not_show_is_left_alone() -> None:
    picture = samples.picture()
    frames = np.stack(
        [picture[:96, :128], *(255 - picture[200:296, 40 * n : 40 * n + 128] for n in range(3))]
    )
    shown = through(frames)
    inner = np.s_[16:-16, 16:-16]  # a smooth border may be taken for what lies beyond another frame's
    assert off(shown[inner], frames[0][inner]) < 1
    assert off(shown, frames[0]) < 1.5


def test_sums_of_others_are_added() -> None:
    x_TCHW = torch.rand(4, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    parts = drawn(x_TCHW[0], x_TCHW[1:2]) | drawn(x_TCHW[0], x_TCHW[2:])
    for one, other in zip(parts, drawn(x_TCHW[0], x_TCHW[1:]), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    nothing = Drawn(torch.zeros(1, 32, 64), torch.zeros(3, 32, 64))
    assert torch.equal(filtered(x_TCHW[0], nothing), x_TCHW[0])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.make(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def encode(frames: Pixels, weights: Path, **options: object) -> bytes:
    sink = io.BytesIO()
    settings = EncodeOptions(model=weights, scene_cuts=False, **options)  # type: ignore[arg-type]
    encoder = Encoder(sink, frames.shape[2], frames.shape[1], time_base=Fraction(1, 30), options=settings)
    for number, frame in enumerate(frames):
        encoder.add(Frame(frame, 2 * number, 2))
    encoder.close()
    return sink.getvalue()


@pytest.mark.parametrize("tube_frames", [4, None])
@pytest.mark.parametrize("gop", [2, 5, 8, None])
@pytest.mark.parametrize("count", [1, 4, 6, 11])
def test_every_frame_is_coded_once_and_in_order(
    weights: Path, count: int, gop: int | None, tube_frames: int | None
) -> None:
    """Frames that are looked at early, in GOPs that end before, with and after them."""
    clean, _ = pan(count, 0)
    options = {"gop": gop, "tube_frames": tube_frames}
    found = []
    for key_filter in (True, False):
        data = encode(clean[:, :40, :50], weights, key_filter=key_filter, **options)
        events = list(Decoder(io.BytesIO(data), model_file=weights).events())
        assert [frame.pts for frame in events if isinstance(frame, Frame)] == list(range(0, 2 * count, 2))
        gops = [e for e in bitstream.StreamReader(io.BytesIO(data)) if isinstance(e, bitstream.Gop)]
        found.append([len(event.pts) for event in gops])
    if gop is not None:
        assert found[0] == found[1] == [gop] * (count // gop) + [count % gop] * bool(count % gop)


def test_key_frames_are_coded_as_they_are_filtered(weights: Path) -> None:
    """From the frames that follow; not without them, nor for frames alone, nor where it is not wanted."""
    _, noisy = pan(7, 8)
    loaded, cpu = model.load(weights), torch.device("cpu")
    tokenizer = LadderTokenizer(loaded, cpu)

    def key(data: bytes) -> Pixels:
        return next(e.pixels for e in Decoder(io.BytesIO(data), model_file=weights).events())  # type: ignore[union-attr]

    def expected(frame: Pixels, gop: bytes) -> Pixels:
        (event,) = [e for e in bitstream.StreamReader(io.BytesIO(gop)) if isinstance(e, bitstream.Gop)]
        tokenizer.forget()
        tokens = tokenizer.analyse(BlockKind.KEY, [frame], event.key_rate, levels=4)
        return tokenizer.synthesise(BlockKind.KEY, tokens, event.key_rate, 96, 128)[0]

    usual = {"gop": 33, "tube_frames": 2, "smoothing": False}
    with_all, with_two = (encode(noisy[:count], weights, **usual) for count in (7, 3))
    without = encode(noisy, weights, key_filter=False, **usual)
    alone = encode(noisy[:1], weights, **usual)
    for data, others in ((with_all, noisy[1 : 1 + FRAMES]), (with_two, noisy[1:3])):
        frame = tokenizer.filtered(noisy[0], tokenizer.drawn(noisy[0], others))
        assert off(frame, noisy[0]) > 4
        assert np.array_equal(key(data), expected(frame, data))
    for data in (without, alone):
        assert np.array_equal(key(data), expected(noisy[0], data))
    assert not np.array_equal(key(with_all), key(without))
