"""The codec as one interface: `Encoder` and `Decoder`, and arrays to bytes and back in one call."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bsqcodec.decoder import Decoder, DecodeStats, read_costs, read_tokens
from bsqcodec.encoder import SRGB, USUAL_GOP, EncodeOptions, Encoder, EncodeStats
from bsqcodec.errors import FormatError, InputError
from bsqcodec.media.types import Frame
from bsqcodec.pixels import Pixels

__all__ = [
    "SRGB",
    "USUAL_GOP",
    "DecodeStats",
    "Decoder",
    "EncodeOptions",
    "EncodeStats",
    "Encoder",
    "Pixels",
    "compress",
    "decompress",
    "read_costs",
    "read_tokens",
]


def compress(
    frames: npt.ArrayLike, *, fps: Fraction | float = 25, q: float = 5.0, options: EncodeOptions | None = None
) -> bytes:
    """A still (H, W, 3) or a clip (T, H, W, 3) of uint8 R'G'B' as the bytes of a .bsq stream.

    options override q. Raises InputError for anything else than such an array.

    Example:
        >>> data = compress(picture, q=6)
        >>> decompress(data).shape == picture.shape
        True
    """
    clip = np.asarray(frames)
    if clip.dtype != np.uint8 or clip.ndim not in (3, 4) or clip.shape[-1] != 3 or 0 in clip.shape:
        raise InputError(f"frames are {clip.dtype} {clip.shape}, expected uint8 (H, W, 3) or (T, H, W, 3)")
    still = clip.ndim == 3
    clip = clip[None] if still else clip
    rate = Fraction(fps).limit_denominator(1_001_000)
    sink = io.BytesIO()
    encoder = Encoder(
        sink,
        clip.shape[2],
        clip.shape[1],
        time_base=1 / rate,
        still=still,
        options=options or EncodeOptions(q=q),
    )
    for number, pixels in enumerate(clip):
        encoder.add(Frame(pixels, number, 1))
    encoder.close()
    return sink.getvalue()


def decompress(data: bytes, *, levels: int | None = None, model_file: Path | None = None) -> Pixels:
    """The frames of a .bsq stream: (H, W, 3) for a still, else (T, H, W, 3). Raises FormatError,
    ModelError.

    model_file: see `Decoder`.
    """
    decoder = Decoder(io.BytesIO(data), levels=levels, model_file=model_file)
    frames = [event.pixels for event in decoder.events() if isinstance(event, Frame)]
    if not frames:
        raise FormatError("the stream has no frames")
    return frames[0] if decoder.header.still else np.stack(frames)
