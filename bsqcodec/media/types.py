"""What goes in and out of `media`: frames, copied sound, and what a file says about itself."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Colour:
    """Colour as the file states it, in code points of ITU-T H.273 (ISO/IEC 23091-2). 2 = not stated.

    matrix and full_range are what the conversion used, so they are always definite: 1 = BT.709, 5 and 6 =
    BT.601, 0 = R'G'B'. bit_depth is the source's; frames have 8 bits whatever it says.
    """

    primaries: int
    transfer: int
    matrix: int
    full_range: bool
    bit_depth: int


@dataclass(frozen=True)
class Frame:
    """One picture. pixels: H x W x 3 uint8 R'G'B', rotation already applied.

    pts and duration: in units of `VideoInfo.time_base`. pts is >= 0 and strictly increasing; duration is the
    time up to the next frame, 0 = unknown.
    """

    pixels: npt.NDArray[np.uint8]
    pts: int
    duration: int


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before its first frame. Width and height are those after rotation.

    frame_rate (average) and frame_count are hints, None where the file does not say. rotation: degrees
    clockwise that were applied to the coded pictures (0, 90, 180, 270).
    """

    width: int
    height: int
    time_base: Fraction
    frame_rate: Fraction | None
    frame_count: int | None
    colour: Colour
    rotation: int
    is_still: bool


@dataclass(frozen=True)
class AudioTrack:
    """A track of sound whose packets are copied, never re-encoded. codec: ffmpeg's name ("aac", "opus")."""

    codec: str
    sample_rate: int
    channels: int
    layout: str
    frame_size: int
    bit_rate: int
    time_base: Fraction
    extradata: bytes


@dataclass(frozen=True)
class AudioPacket:
    """One packet of track number `track`. Times count from the zero of the frames; they may be negative."""

    track: int
    pts: int
    dts: int
    duration: int
    is_keyframe: bool
    data: bytes


@dataclass(frozen=True)
class Metadata:
    """What is carried beside the pixels. exif: a TIFF block without the "Exif" prefix. icc: a profile."""

    exif: bytes | None
    icc: bytes | None
    tags: dict[str, str]
