"""The filter behind the decoder, against section 8 of FORMAT.md written out, and the encoder's choice."""

import io
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from bitstream.samples import read_back

from bsqcodec import bitstream, samples
from bsqcodec.bitstream import Damage, Gop
from bsqcodec.codec import Decoder, EncodeOptions, Encoder, Pixels
from bsqcodec.errors import FormatError
from bsqcodec.media.types import Frame
from bsqcodec.smoothing import Smoother, SmoothingChoice, shares


def by_the_book(frames: Pixels, strength: int) -> Pixels:
    """T x H x W x 3, pixel by pixel."""
    end = 75 * strength
    height, width = frames.shape[1:3]

    def pulled(a: int, b: int, y: int, x: int, c: int) -> int:
        if a < 0 or b == len(frames):
            return 0
        s = 0
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                row, column = min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)
                s += int(np.abs(frames[b, row, column].astype(int) - frames[a, row, column]).sum())
        w = (64 * (end**2 - s**2) ** 2 + end**4 // 2) // end**4 if s < end else 0
        return w * (int(frames[b, y, x, c]) - int(frames[a, y, x, c]))

    found = np.empty_like(frames)
    for t, y, x, c in np.ndindex(*frames.shape):
        total = int(frames[t, y, x, c]) * 256 + pulled(t, t + 1, y, x, c) - pulled(t - 1, t, y, x, c) + 128
        found[t, y, x, c] = total // 256
    return found


def smoothed(frames: Pixels, strength: int) -> Pixels:
    smoother = Smoother(strength)
    found = [ready for frame in frames if (ready := smoother.push(frame)) is not None]
    return np.stack(found + smoother.end())


def noisy(frames: int, height: int, width: int, size: int, seed: int = 0) -> tuple[Pixels, Pixels]:
    """A picture that stands still, and with noise up to so large on every frame."""
    rng = np.random.default_rng(seed)
    still = np.repeat(rng.integers(40, 216, (1, height, width, 3)), frames, 0)
    return still.astype(np.uint8), (still + rng.integers(-size, size + 1, still.shape)).astype(np.uint8)


@pytest.mark.parametrize("strength", [1, 6, 20, 32])
@pytest.mark.parametrize(("frames", "height", "width"), [(1, 3, 4), (2, 7, 5), (4, 9, 12), (3, 1, 1)])
def test_as_specified(strength: int, frames: int, height: int, width: int) -> None:
    for size in (2, 12, 40):
        _, clip = noisy(frames, height, width, size)
        assert np.array_equal(smoothed(clip, strength), by_the_book(clip, strength))


def test_the_largest_numbers_fit() -> None:
    """A single component that jumps by 255 and back, in what stands still: the most that can be pulled."""
    clip = np.zeros((3, 9, 9, 3), np.uint8)
    clip[1, 4, 4, 1] = 255
    for frames in (clip, 255 - clip):
        assert np.array_equal(smoothed(frames, 32), by_the_book(frames, 32))


def test_what_changes_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    cut = rng.integers(0, 256, (4, 30, 40, 3), dtype=np.uint8)
    assert np.array_equal(smoothed(cut, 12), cut)
    assert shares(12)[75 * 12 - 1] == shares(12)[75 * 12] == 0
    assert shares(12)[0] == 64


def mean_squared(some: Pixels, others: Pixels) -> float:
    return float(np.square(some.astype(float) - others).mean())


def test_the_strength_that_helps_most_is_chosen() -> None:
    """The strongest where all that changes is noise, none where it is the source, a weak one where the source
    changes by more than the noise."""
    found = []
    for moves, noise in ((0, 9), (9, 0), (9, 2)):
        source, _ = noisy(12, 40, 50, 0)
        rng = np.random.default_rng(1)
        half = rng.integers(-moves, moves + 1, source[:, :, 25:].shape)
        source[:, :, 25:] = source[:, :, 25:] + half
        clip = (source + rng.integers(-noise, noise + 1, source.shape)).astype(np.uint8)
        choice = SmoothingChoice()
        for at in range(0, 12, 2):
            choice.add(list(clip[at : at + 2]), list(source[at : at + 2]))
        found.append(choice.best())
        errors = {0: mean_squared(clip, source)} | {
            strength: mean_squared(smoothed(clip, strength), source) for strength in choice.STRENGTHS
        }
        assert errors[found[-1]] == min(errors.values())
    assert found == [28, 0, 6]


def test_a_clip_too_short_to_tell_is_left_alone() -> None:
    still, clip = noisy(2, 40, 50, 9)
    choice = SmoothingChoice()
    choice.add(list(clip), list(still))
    assert choice.best() == 0


def encode(frames: Pixels, **options: object) -> bytes:
    sink = io.BytesIO()
    chosen = EncodeOptions(scene_cuts=False, tube_frames=2, **options)  # type: ignore[arg-type]
    encoder = Encoder(sink, frames.shape[2], frames.shape[1], time_base=Fraction(1, 30), options=chosen)
    for number, frame in enumerate(frames):
        encoder.add(Frame(frame, number, 1))
    encoder.close()
    return sink.getvalue()


def decode(data: bytes, **options: object) -> Pixels:
    decoder = Decoder(io.BytesIO(data), **options)  # type: ignore[arg-type]
    return np.stack([event.pixels for event in decoder.events() if isinstance(event, Frame)])


def with_gops(data: bytes, **fields: object) -> tuple[bytes, list[Gop]]:
    """The stream with other values in its GOPs, and the GOPs that it had."""
    stream, _ = read_back(bitstream.StreamReader(io.BytesIO(data)))
    gops = tuple(replace(gop, **fields) for gop in stream.gops)  # type: ignore[arg-type]
    return replace(stream, gops=gops).to_bytes(), list(stream.gops)


def clip(frames: int) -> Pixels:
    """A pan over the photograph."""
    picture = samples.picture()
    return np.stack([picture[100:140, 100 + 5 * n : 150 + 5 * n] for n in range(frames)])


def test_every_gop_is_smoothed_for_itself() -> None:
    """By the strength that it states, whatever is decoded of it; the decoder's memory is not."""
    data = encode(clip(14), gop=6)
    plain, gops = with_gops(data, smoothing=0)
    assert [len(gop.pts) for gop in gops] == [6, 6, 2]
    assert gops[-1].smoothing == 0  # too short to tell
    strong, _ = with_gops(data, smoothing=32)
    as_decoded = decode(plain)
    expected = np.concatenate([smoothed(part, 32) for part in np.split(as_decoded, [6, 12])])
    assert not np.array_equal(expected, as_decoded)
    assert np.array_equal(decode(strong), expected)
    part = decode(strong, start=Fraction(8, 30), duration=Fraction(5, 30))
    assert np.array_equal(part, expected[8:13])


def test_smoothing_is_chosen_by_what_is_decoded() -> None:
    """Repeats too; the last tube's frames are not decoded by the encoder."""
    still, rest = np.repeat(clip(1), 5, 0), clip(11)[1:]
    _, shaking = noisy(15, 40, 50, 20)
    found = set()
    for frames in (shaking, clip(15), np.concatenate([still, rest])):
        data = encode(frames, gop=15)
        plain, (gop,) = with_gops(data, smoothing=0)
        as_decoded, choice = decode(plain), SmoothingChoice()
        choice.add(list(as_decoded[:13]), list(frames[:13]))
        assert gop.smoothing == choice.best()
        found.add(gop.smoothing)
    assert gop.repeats
    assert len(found) > 1
    assert with_gops(encode(clip(15), gop=15, smoothing=False), smoothing=0)[1][0].smoothing == 0


def test_frames_before_damage_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that were decoded, the last of them too."""
    data, _ = with_gops(encode(clip(11), gop=11), smoothing=32)
    whole = decode(with_gops(data, smoothing=0)[0])
    synthesise, calls = Decoder._synthesise, []

    def fails_at_last(self: Decoder, gop: Gop, block: Any) -> list[Pixels]:
        calls.append(block)
        if len(calls) == 6:
            raise FormatError("damaged")
        return synthesise(self, gop, block)

    monkeypatch.setattr(Decoder, "_synthesise", fails_at_last)
    events = list(Decoder(io.BytesIO(data), keep_going=True).events())
    shown = [event.pixels for event in events if isinstance(event, Frame)]
    assert isinstance(events[-1], Damage)
    assert len(shown) == 9
    assert np.array_equal(np.stack(shown), smoothed(whole[:9], 32))
