"""Colour conversion between what files hold (Y'CbCr, palettes, alpha) and the codec's R'G'B'.

Frames are H x W x 3 uint8 R'G'B'. The arithmetic is swscale's with accurate rounding and full chroma
interpolation; tests/media/test_colour.py holds it against the equations of H.273.
"""

from dataclasses import replace
from fractions import Fraction
from typing import Protocol

import av
import av.filter
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from bsqcodec.errors import InputError
from bsqcodec.media.orientation import Orientation
from bsqcodec.media.types import Colour

RGB, BT709, UNSPECIFIED, FCC, BT470BG, SMPTE170M, SMPTE240M, BT2020_NCL, BT2020_CL = (
    0,
    1,
    2,
    4,
    5,
    6,
    7,
    9,
    10,
)
SRGB_TRANSFER, PQ_TRANSFER, HLG_TRANSFER = 13, 16, 18
LIMITED_RANGE, FULL_RANGE = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG

STILL_COLOUR = Colour(primaries=BT709, transfer=SRGB_TRANSFER, matrix=RGB, full_range=True, bit_depth=8)

# The matrices that swscale has, by H.273 code point, with the names that its filter takes.
MATRIX_NAMES = {
    BT709: "bt709",
    FCC: "fcc",
    BT470BG: "bt470bg",
    SMPTE170M: "smpte170m",
    SMPTE240M: "smpte240m",
    BT2020_NCL: "bt2020nc",
}

# Without these flags swscale takes a table-driven path that is off by up to 5 levels, 1.6 in the mean.
SWSCALE_FLAGS = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
# swscale takes grey for full range whatever it is told.
LIMITED_TO_FULL = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)

SWSCALE_FLAG_NAMES = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"


def matrix_by_size(width: int, height: int) -> int:
    """The matrix of a picture that states none: BT.709 from high definition up, BT.601 below."""
    return BT709 if height > 576 or width > 1024 else SMPTE170M


def stated_colour(frame: av.VideoFrame, name: str, warnings: list[str]) -> Colour:
    """What the frame states of its colour, the gaps filled in. Adds to `warnings` what does not survive.

    Raises InputError for a matrix that cannot be converted (YCgCo, ICtCp and other rare ones).
    """
    pixel_format = frame.format
    bit_depth = max(component.bits for component in pixel_format.components)
    if bit_depth > 8:
        warnings.append(f"{bit_depth} bits per sample: coded with 8")
    if frame.color_trc in (PQ_TRANSFER, HLG_TRANSFER):
        warnings.append("high dynamic range (PQ or HLG): coded with 8 bits and without a change of tone")
    has_palette_or_rgb = pixel_format.is_rgb or pixel_format.has_palette
    matrix = int(frame.colorspace)
    if has_palette_or_rgb:
        matrix = RGB
    elif matrix == BT2020_CL:
        warnings.append("BT.2020 constant luminance: converted as non-constant luminance")
        matrix = BT2020_NCL
    elif matrix in (RGB, UNSPECIFIED, 3):
        matrix = matrix_by_size(frame.width, frame.height)
    elif matrix not in MATRIX_NAMES:
        raise InputError(
            f"{name}: colour matrix {matrix} (H.273) cannot be converted; expected one of"
            f" {', '.join(str(known) for known in MATRIX_NAMES)} or R'G'B'"
        )
    full_range = has_palette_or_rgb or is_full_range(frame)
    return Colour(int(frame.color_primaries), int(frame.color_trc), matrix, full_range, bit_depth)


def ycbcr_colour(colour: Colour, width: int, height: int) -> Colour:
    """What to write for `colour` in Y'CbCr: the same, or for R'G'B' the usual matrix in limited range."""
    if colour.matrix in MATRIX_NAMES:
        return colour
    return replace(colour, matrix=matrix_by_size(width, height), full_range=False)


def is_full_range(frame: av.VideoFrame) -> bool:
    """Full range where the frame says so, or its format does; grey unless it says otherwise."""
    if _is_grey(frame):
        return frame.color_range != LIMITED_RANGE
    return frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")


def _is_grey(frame: av.VideoFrame) -> bool:
    return frame.format.name.startswith(("gray", "ya"))


def over_white(pixels_RGBA: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Lay an H x W x 4 picture with straight alpha over white. Returns H x W x 3."""
    alpha = pixels_RGBA[..., 3:].astype(np.uint16)
    mixed = pixels_RGBA[..., :3] * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


class RgbConverter:
    """Turns decoded frames into upright R'G'B' pictures of one size."""

    def __init__(
        self, colour: Colour, width: int, height: int, orientation: Orientation, warnings: list[str]
    ) -> None:
        """width, height: of the coded picture, not yet upright; other sizes are scaled, with a warning."""
        self._colour = colour
        self._size = (width, height)
        self._orientation = orientation
        self._warnings = warnings
        self._reformatter = VideoReformatter()
        self._said: set[str] = set()

    def convert(self, frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
        """The picture as H x W x 3 uint8."""
        if (frame.width, frame.height) != self._size:
            self._say(
                f"the picture size changes from {self._size[0]}x{self._size[1]}"
                f" to {frame.width}x{frame.height}: scaled to the first size"
            )
        if self._colour.matrix != RGB:
            frame.colorspace = self._colour.matrix
            frame.color_range = FULL_RANGE if self._colour.full_range else LIMITED_RANGE
        has_alpha = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
        converted = self._reformatter.reformat(
            frame,
            *self._size,
            format="rgba" if has_alpha else "rgb24",
            interpolation=int(SWSCALE_FLAGS),
            threads=1,
        )
        pixels: npt.NDArray[np.uint8] = converted.to_ndarray()  # type: ignore[assignment]
        if has_alpha:
            if pixels[..., 3].min() < 255:
                self._say("transparent parts are laid over white")
                pixels = over_white(pixels)
            else:
                pixels = np.ascontiguousarray(pixels[..., :3])
        if _is_grey(frame) and not self._colour.full_range:
            pixels = LIMITED_TO_FULL[pixels]
        return self._orientation.apply(pixels)

    def _say(self, warning: str) -> None:
        if warning not in self._said:
            self._said.add(warning)
            self._warnings.append(warning)


class PictureConverter(Protocol):
    """Turns H x W x 3 uint8 R'G'B' into a frame for an encoder; the caller sets its time."""

    def convert(self, pixels: npt.NDArray[np.uint8]) -> av.VideoFrame: ...


class YcbcrConverter:
    """Y'CbCr of one matrix, range and pixel format.

    Chroma of 4:2:0 lies where H.264 has it by default: half-way between rows, on the even columns.
    """

    def __init__(self, width: int, height: int, *, pixel_format: str, colour: Colour) -> None:
        self._graph = av.filter.Graph()
        self._graph.threads = 1
        rgb24 = av.VideoFormat("rgb24", width, height)
        source = self._graph.add_buffer(width=width, height=height, format=rgb24, time_base=Fraction(1, 25))
        scale = self._graph.add(
            "scale",
            f"flags={SWSCALE_FLAG_NAMES}:out_color_matrix={MATRIX_NAMES[colour.matrix]}"
            f":out_range={'full' if colour.full_range else 'limited'}:out_chroma_loc=left",
        )
        wanted = self._graph.add("format", pixel_format)
        sink = self._graph.add("buffersink")
        source.link_to(scale)
        scale.link_to(wanted)
        wanted.link_to(sink)
        self._graph.configure()

    def convert(self, pixels: npt.NDArray[np.uint8]) -> av.VideoFrame:
        self._graph.vpush(av.VideoFrame.from_ndarray(pixels, "rgb24"))
        return self._graph.vpull()


class BgrConverter:
    """The same values in the order that FFV1 wants them; nothing is lost."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def convert(self, pixels: npt.NDArray[np.uint8]) -> av.VideoFrame:
        frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
        return self._reformatter.reformat(frame, format="bgr0", threads=1)


class PaletteConverter:
    """256 colours chosen for each picture by an octree, without dithering: fast, and small as a GIF."""

    def convert(self, pixels: npt.NDArray[np.uint8]) -> av.VideoFrame:
        image = Image.fromarray(pixels).quantize(256, method=Image.Quantize.FASTOCTREE)
        palette_ARGB = np.full((256, 4), 255, np.uint8)
        colours = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
        palette_ARGB[: len(colours), 1:] = colours
        return av.VideoFrame.from_ndarray((np.asarray(image), palette_ARGB), "pal8")  # type: ignore[arg-type]
