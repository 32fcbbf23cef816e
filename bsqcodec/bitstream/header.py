"""The HEAD chunk: what is true of the whole stream."""

import math
from dataclasses import dataclass
from fractions import Fraction

from bsqcodec.bitstream import cbor
from bsqcodec.bitstream.limits import DEFAULT_LIMITS, Limits

DIGEST_BYTES = 16
RATE_INDEX_MAX = 1000
RATIONAL_MAX = 2**31 - 1

_WIDTH, _HEIGHT, _MODEL_NAME, _MODEL_DIGEST, _LEVELS, _QUALITY, _STILL, _MAX_GOP_FRAMES = range(8)
_TUBE_FRAMES, _TIME_BASE, _ROTATION, _COLOUR, _CREATOR, _TILE_OVERLAP = range(8, 14)


@dataclass(frozen=True)
class Colour:
    """Colour as the source stated it, in code points of ITU-T H.273. The default is sRGB."""

    primaries: int = 1
    transfer: int = 13
    matrix: int = 0
    full_range: bool = True
    bit_depth: int = 8


@dataclass(frozen=True)
class Header:
    """What is true of the whole stream.

    width, height: pixels after rotation. model_digest: first 16 bytes of the SHA-256 of the weights file.
    levels: levels coded, before any cut. quality_hundredths: 100..1000 for q = 1..10, informational; 0 = not
    stated. still: one GOP of one frame. max_gop_frames: no GOP has more. tube_frames: frames per tube.
    time_base: seconds per unit of the frames' times. rotation: degrees that were applied (0, 90, 180, 270).
    tile_overlap: pixels that neighbouring tiles share, where the model codes tiles.
    """

    width: int
    height: int
    model_name: str
    model_digest: bytes
    levels: int
    quality_hundredths: int = 500
    still: bool = False
    max_gop_frames: int = 1
    tube_frames: int = 4
    time_base: Fraction = Fraction(1, 25)
    rotation: int = 0
    colour: Colour = Colour()
    creator: str = ""
    tile_overlap: int = 0


_DEFAULT = Header(width=1, height=1, model_name="-", model_digest=bytes(DIGEST_BYTES), levels=1)


def encode_header(header: Header) -> bytes:
    """Payload of the HEAD chunk: a CBOR map from which fields at their default are left out."""
    optional: dict[int, tuple[object, object]] = {
        _QUALITY: (header.quality_hundredths, _DEFAULT.quality_hundredths),
        _STILL: (header.still, _DEFAULT.still),
        _MAX_GOP_FRAMES: (header.max_gop_frames, _DEFAULT.max_gop_frames),
        _TUBE_FRAMES: (header.tube_frames, _DEFAULT.tube_frames),
        _TIME_BASE: (_ratio(header.time_base), _ratio(_DEFAULT.time_base)),
        _ROTATION: (header.rotation, _DEFAULT.rotation),
        _COLOUR: (_code_points(header.colour), _code_points(_DEFAULT.colour)),
        _CREATOR: (header.creator, _DEFAULT.creator),
        _TILE_OVERLAP: (header.tile_overlap, _DEFAULT.tile_overlap),
    }
    fields: dict[int, object] = {
        _WIDTH: header.width,
        _HEIGHT: header.height,
        _MODEL_NAME: header.model_name,
        _MODEL_DIGEST: header.model_digest,
        _LEVELS: header.levels,
    }
    fields.update({key: value for key, (value, default) in optional.items() if value != default})
    return cbor.encode(fields)


def decode_header(payload: memoryview, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> Header:
    """The header in a HEAD chunk's payload. FormatError where a field is missing or not as it should be."""
    fields = cbor.Fields(cbor.decode(payload, offset, max_items=256), "header", offset)
    width = fields.integer(_WIDTH, "width", None, 1, limits.width)
    height = fields.integer(_HEIGHT, "height", None, 1, limits.height)
    if width * height > limits.pixels:
        raise fields.fault(f"{width}x{height} are more than {limits.pixels} pixels")
    digest = fields.binary(_MODEL_DIGEST, "model digest", None)
    if len(digest) != DIGEST_BYTES:
        raise fields.fault(f"model digest has {len(digest)} bytes, expected {DIGEST_BYTES}")
    name = fields.text(_MODEL_NAME, "model name", None)
    if not name:
        raise fields.fault("model name is empty")
    rotation = fields.integer(_ROTATION, "rotation", _DEFAULT.rotation, 0, 270)
    if rotation % 90:
        raise fields.fault(f"rotation is {rotation}, expected 0, 90, 180 or 270")
    quality = fields.integer(_QUALITY, "quality", _DEFAULT.quality_hundredths, 0, 1000)
    if 0 < quality < 100:
        raise fields.fault(f"quality is {quality}, expected 100 to 1000, or 0 for none stated")
    header = Header(
        width=width,
        height=height,
        model_name=name,
        model_digest=digest,
        levels=fields.integer(_LEVELS, "levels", None, 1, limits.levels),
        quality_hundredths=quality,
        still=fields.flag(_STILL, "still", _DEFAULT.still),
        max_gop_frames=fields.integer(
            _MAX_GOP_FRAMES, "frames per GOP", _DEFAULT.max_gop_frames, 1, limits.frames_per_gop
        ),
        tube_frames=fields.integer(
            _TUBE_FRAMES, "frames per tube", _DEFAULT.tube_frames, 1, limits.tube_frames
        ),
        time_base=decode_ratio(fields, _TIME_BASE, "time base", _DEFAULT.time_base),
        rotation=rotation,
        colour=_decode_colour(fields),
        creator=fields.text(_CREATOR, "creator", _DEFAULT.creator),
        tile_overlap=fields.integer(_TILE_OVERLAP, "tile overlap", _DEFAULT.tile_overlap, 0, limits.width),
    )
    fields.finish()
    if header.still and header.max_gop_frames != 1:
        raise fields.fault(f"a still with GOPs of {header.max_gop_frames} frames, expected 1")
    return header


def decode_ratio(fields: cbor.Fields, key: int, name: str, default: Fraction | None) -> Fraction:
    """A positive fraction in lowest terms, stored as an array of numerator and denominator."""
    pair = fields.array(key, name, None if default is None else list(_ratio(default)), 2)
    numerator, denominator = (fields.whole_number(value, name, 1, RATIONAL_MAX) for value in pair)
    if math.gcd(numerator, denominator) != 1:
        raise fields.fault(f"{name} {numerator}/{denominator} is not in lowest terms")
    return Fraction(numerator, denominator)


def _decode_colour(fields: cbor.Fields) -> Colour:
    entries = fields.array(_COLOUR, "colour", list(_code_points(_DEFAULT.colour)), 5)
    primaries, transfer, matrix, full_range, bit_depth = entries
    if type(full_range) is not bool:
        raise fields.fault("full range is not true or false")
    return Colour(
        primaries=fields.whole_number(primaries, "colour primaries", 0, 255),
        transfer=fields.whole_number(transfer, "transfer characteristics", 0, 255),
        matrix=fields.whole_number(matrix, "matrix coefficients", 0, 255),
        full_range=full_range,
        bit_depth=fields.whole_number(bit_depth, "bit depth", 1, 32),
    )


def _ratio(value: Fraction) -> list[object]:
    return [value.numerator, value.denominator]


def _code_points(colour: Colour) -> list[object]:
    return [colour.primaries, colour.transfer, colour.matrix, colour.full_range, colour.bit_depth]
