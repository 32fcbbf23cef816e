"""The search of a target over whole files, with an encoder that makes sizes to order."""

import math
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest
from PIL import Image

from bsqcodec import files
from bsqcodec.codec import EncodeOptions, EncodeStats
from bsqcodec.errors import InputError
from bsqcodec.files import Encoded, Source, Unit, encode_to_target

WIDTH, HEIGHT, SOUND = 16, 8, 1000


@dataclass
class FakeEncoder:
    """Files of 100 bytes a frame at q = 1, doubling every two steps of q, and 1000 bytes of sound."""

    calls: list[tuple[float, int | None, Fraction | None]]
    frames: int

    def __call__(
        self, source: Source, out: BinaryIO, options: EncodeOptions, progress: files.Progress
    ) -> Encoded:
        self.calls.append((options.q, source.max_frames, source.start))
        frames = min(self.frames, source.max_frames or self.frames)
        sound = SOUND if source.audio else 0
        size = round(100 * frames * 2 ** ((options.q - 1) / 2)) + sound
        out.write(f"{options.q:g}".encode().ljust(size, b"."))
        stats = EncodeStats(
            size, {"GOPS": size - sound, "AUDI": sound}, frames, frames * WIDTH * HEIGHT, 1, {}, (), {}
        )
        return Encoded(WIDTH, HEIGHT, options.q, 1, 1.0, (), stats)


def folder(path: Path, frames: int) -> Path:
    path.mkdir()
    for number in range(frames):
        Image.new("RGB", (WIDTH, HEIGHT)).save(path / f"{number}.png")
    return path


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    fake = FakeEncoder([], 0)
    monkeypatch.setattr(files, "encode_file", fake)
    return fake


def test_a_short_clip_is_encoded_whole(encoder: FakeEncoder, tmp_path: Path) -> None:
    encoder.frames = 10
    out = BytesIO()
    encoded = encode_to_target(Source(folder(tmp_path / "a", 10)), out, EncodeOptions(), 9000, Unit.BYTES)
    assert 0.98 * 9000 <= encoded.stats.bytes == len(out.getvalue()) <= 9000
    assert out.getvalue().startswith(f"{encoded.q:g}.".encode())
    assert encoded.q == pytest.approx(1 + 2 * math.log2(8), abs=0.06)
    assert encoded.encodes == len(encoder.calls) <= 4
    assert {frames for _, frames, _ in encoder.calls} == {None}


def test_bits_per_pixel_leave_out_the_sound(encoder: FakeEncoder, tmp_path: Path) -> None:
    encoder.frames = 10
    target = 8 * 400 / (WIDTH * HEIGHT)
    source = Source(folder(tmp_path / "a", 10))
    encoded = encode_to_target(source, BytesIO(), EncodeOptions(), target, Unit.BPP)
    assert 0.98 * target <= encoded.bpp <= target
    assert encoded.stats.bytes == pytest.approx(4000 + SOUND, rel=0.02)


def test_of_a_long_clip_a_part_comes_first(encoder: FakeEncoder, tmp_path: Path) -> None:
    encoder.frames = 150
    source = Source(folder(tmp_path / "a", 150))
    target = 150 * 100 * 2**3 + SOUND
    encoded = encode_to_target(source, BytesIO(), EncodeOptions(q=1.5, gop=16), target, Unit.BYTES)
    assert 0.98 * target <= encoded.stats.bytes <= target
    parts = [call for call in encoder.calls if call[1] is not None]
    assert parts[0] == (1.5, 32, Fraction(2))  # a third of 150 frames, 25 a second
    assert encoder.calls[: len(parts)] == parts
    assert encoded.encodes == len(encoder.calls) - len(parts) <= 3


def test_what_cannot_be_reached_names_the_file(encoder: FakeEncoder, tmp_path: Path) -> None:
    encoder.frames = 10
    path = folder(tmp_path / "a", 10)
    out = BytesIO()
    message = rf"^{path}: 1500 bytes cannot be reached: at q 1 the file has 2000$"
    with pytest.raises(InputError, match=message):
        encode_to_target(Source(path), out, EncodeOptions(), 1500, Unit.BYTES)
    assert out.getvalue() == b""
