"""Conversions against the equations of H.273, written out in floating point."""

from dataclasses import replace

import av
import numpy as np
import numpy.typing as npt
import pytest

from bsqcodec.errors import InputError
from bsqcodec.media.colour import (
    BT709,
    SMPTE170M,
    RgbConverter,
    YcbcrConverter,
    matrix_by_size,
    over_white,
    stated_colour,
)
from bsqcodec.media.orientation import Orientation
from bsqcodec.media.types import Colour

LUMA_WEIGHTS = {BT709: (0.2126, 0.0722), SMPTE170M: (0.299, 0.114)}
HEIGHT, WIDTH = 96, 160

Array = npt.NDArray[np.float64]


def ycbcr_from_rgb(rgb: npt.NDArray[np.uint8], matrix: int, full: bool) -> tuple[Array, Array, Array]:
    red, blue = LUMA_WEIGHTS[matrix]
    r, g, b = (rgb[..., channel] / 255 for channel in range(3))
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    if full:
        return 255 * y, 255 * cb + 128, 255 * cr + 128
    return 16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr


def rgb_from_ycbcr(y: Array, cb: Array, cr: Array, matrix: int, full: bool, bits: int) -> Array:
    red, blue = LUMA_WEIGHTS[matrix]
    scale = 2 ** (bits - 8)
    if full:
        peak = 2**bits - 1
        y, cb, cr = y / peak, (cb - 128 * scale) / peak, (cr - 128 * scale) / peak
    else:
        y, cb, cr = (y / scale - 16) / 219, (cb / scale - 128) / 224, (cr / scale - 128) / 224
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([r, g, b], -1) * 255, 0, 255)


def ramps(bits: int, full: bool, chroma_shape: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Luma from black to white, chroma in slow waves through most of its range."""
    scale, peak = 2 ** (bits - 8), 2**bits - 1
    low, high = (0, peak) if full else (16 * scale, 235 * scale)
    y = np.round(np.linspace(low, high, WIDTH)[None] * np.ones((HEIGHT, 1)))
    down, across = (np.linspace(0, 3, size) for size in chroma_shape)
    amplitude = 0.35 * (peak if full else 224 * scale)
    cb = np.round(128 * scale + amplitude * np.sin(down)[:, None] * np.cos(across)[None])
    cr = np.round(128 * scale + amplitude * np.cos(down)[:, None] * np.sin(across)[None])
    return y, cb, cr


def frame_of(planes: tuple[Array, Array, Array], pixel_format: str) -> av.VideoFrame:
    frame = av.VideoFrame(WIDTH, HEIGHT, pixel_format)
    dtype = np.uint16 if "10" in pixel_format else np.uint8
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // np.dtype(dtype).itemsize), dtype)
        rows[:, : values.shape[1]] = values
        plane.update(rows.tobytes())
    return frame


def converter(colour: Colour, said: list[str] | None = None) -> RgbConverter:
    return RgbConverter(colour, WIDTH, HEIGHT, Orientation(), [] if said is None else said)


def doubled(chroma: Array) -> Array:
    """4:2:0 chroma at every pixel: half-way between rows and columns, linear between samples."""
    for axis in (0, 1):
        positions = np.clip((np.arange(2 * chroma.shape[axis]) - 0.5) / 2, 0, chroma.shape[axis] - 1)
        low = np.floor(positions).astype(int)
        high = np.minimum(low + 1, chroma.shape[axis] - 1)
        weight = (positions - low)[:, None] if axis == 0 else (positions - low)[None]
        chroma = chroma.take(low, axis) * (1 - weight) + chroma.take(high, axis) * weight
    return chroma


@pytest.mark.parametrize("layout", ["444", "420"])
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [BT709, SMPTE170M])
def test_reading_follows_matrix_range_and_depth(matrix: int, full: bool, bits: int, layout: str) -> None:
    planes = ramps(bits, full, (HEIGHT, WIDTH) if layout == "444" else (HEIGHT // 2, WIDTH // 2))
    frame = frame_of(planes, f"yuv{layout}p" + ("10le" if bits == 10 else ""))
    pixels = converter(Colour(2, 2, matrix, full, bits)).convert(frame)
    y, cb, cr = planes if layout == "444" else (planes[0], doubled(planes[1]), doubled(planes[2]))
    error = pixels - rgb_from_ycbcr(y, cb, cr, matrix, full, bits)
    # Rounding alone makes .25; 10 bits in full range are cut, not rounded, by swscale: .4.
    assert np.abs(error).mean() < 0.45
    assert np.abs(error).max() < 2


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [BT709, SMPTE170M])
def test_writing_follows_matrix_and_range(matrix: int, full: bool) -> None:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    rgb = np.stack([255 * x / WIDTH, 255 * y / HEIGHT, 255 - 127 * (x / WIDTH + y / HEIGHT)], -1).astype(
        np.uint8
    )
    writer = YcbcrConverter(WIDTH, HEIGHT, pixel_format="yuv444p", colour=Colour(2, 2, matrix, full, 8))
    planes = np.asarray(writer.convert(rgb).to_ndarray(), np.float64)
    for plane, wanted in zip(planes, ycbcr_from_rgb(rgb, matrix, full), strict=True):
        # swscale cuts instead of rounding when it widens chroma to full range: .5.
        assert np.abs(plane - wanted).mean() < 0.6
        assert np.abs(plane - wanted).max() < 1.2


def test_chroma_of_420_lies_on_the_even_columns() -> None:
    # A steep ramp of red and blue shows a shift of half a pixel as 1.5 levels of chroma.
    x = np.arange(WIDTH)[None] * np.ones((HEIGHT, 1))
    rgb = np.stack([40 + x, 128 + 0 * x, 200 - x], -1).astype(np.uint8)
    writer = YcbcrConverter(WIDTH, HEIGHT, pixel_format="yuv420p", colour=Colour(2, 2, BT709, False, 8))
    frame = writer.convert(rgb)
    for plane, wanted in zip(frame.planes[1:], ycbcr_from_rgb(rgb, BT709, False)[1:], strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        # Away from the borders a linear ramp filtered around a pixel keeps the value of that pixel.
        error = rows[:, 4:-4] - wanted[::2, ::2][:, 4:-4]
        assert abs(error.mean()) < 0.1
        assert np.abs(error).max() < 1


def test_there_and_back_through_444_loses_rounding_only() -> None:
    rgb = np.random.default_rng(1).integers(60, 190, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    colour = Colour(2, 2, BT709, False, 8)
    frame = YcbcrConverter(WIDTH, HEIGHT, pixel_format="yuv444p", colour=colour).convert(rgb)
    back = converter(colour).convert(frame)
    assert np.abs(back.astype(int) - rgb).max() <= 3
    assert abs((back.astype(int) - rgb).mean()) < 0.1


@pytest.mark.parametrize(
    ("width", "height", "matrix"),
    [
        (720, 576, SMPTE170M),
        (1024, 576, SMPTE170M),
        (1025, 576, BT709),
        (720, 577, BT709),
        (1920, 1080, BT709),
    ],
)
def test_size_decides_where_no_matrix_is_stated(width: int, height: int, matrix: int) -> None:
    assert matrix_by_size(width, height) == matrix
    assert stated_colour(av.VideoFrame(width, height, "yuv420p"), "clip", []).matrix == matrix


def test_stated_colour_is_taken_over() -> None:
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p10le")
    frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = 9, 1, 9, 14
    said: list[str] = []
    assert stated_colour(frame, "clip", said) == Colour(9, 14, 9, False, 10)
    assert said == ["10 bits per sample: coded with 8"]


@pytest.mark.parametrize("pixel_format", ["yuvj420p", "gray", "rgb24", "gbrp", "bgra"])
def test_formats_that_are_full_range_by_themselves(pixel_format: str) -> None:
    assert stated_colour(av.VideoFrame(WIDTH, HEIGHT, pixel_format), "clip", []).full_range


@pytest.mark.parametrize("matrix", [8, 14])
def test_a_matrix_that_cannot_be_converted_is_refused_by_number(matrix: int) -> None:
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv444p")
    frame.colorspace = matrix
    with pytest.raises(InputError, match=rf"clip: colour matrix {matrix} .* cannot be converted"):
        stated_colour(frame, "clip", [])


def test_constant_luminance_and_high_dynamic_range_are_said() -> None:
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p10le")
    frame.colorspace, frame.color_trc = 10, 16
    said: list[str] = []
    assert stated_colour(frame, "clip", said).matrix == 9
    assert len(said) == 3


@pytest.mark.parametrize("pixel_format", ["rgb24", "gbrp", "bgr24", "rgb0"])
def test_rgb_comes_through_untouched(pixel_format: str) -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixel_format)
    colour = stated_colour(frame, "clip", [])
    assert np.array_equal(converter(colour).convert(frame), rgb)


def test_grey_keeps_its_levels() -> None:
    grey = np.arange(HEIGHT * WIDTH, dtype=np.uint32).reshape(HEIGHT, WIDTH).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(grey, "gray")
    pixels = converter(stated_colour(frame, "clip", [])).convert(frame)
    assert np.array_equal(pixels, np.repeat(grey[..., None], 3, axis=2))


def test_grey_in_limited_range_is_stretched() -> None:
    frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH), 235, np.uint8), "gray")
    frame.color_range = 1
    colour = stated_colour(frame, "clip", [])
    assert not colour.full_range
    assert converter(colour).convert(frame).min() == 255


def test_alpha_is_laid_over_white_and_said_once() -> None:
    rgba = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(rgba, "rgba")
    said: list[str] = []
    laid = converter(stated_colour(frame, "clip", []), said)
    pixels = laid.convert(frame)
    laid.convert(frame)
    alpha = rgba[..., 3:] / 255
    assert np.abs(pixels - (rgba[..., :3] * alpha + 255 * (1 - alpha))).max() <= 0.5001
    assert said == ["transparent parts are laid over white"]


def test_over_white_is_exact_at_its_ends() -> None:
    rgba = np.array([[[7, 8, 9, 255], [7, 8, 9, 0]]], np.uint8)
    assert over_white(rgba).tolist() == [[[7, 8, 9], [255, 255, 255]]]


def test_a_change_of_size_is_scaled_and_said() -> None:
    colour = Colour(2, 2, BT709, False, 8)
    said: list[str] = []
    pixels = converter(colour, said).convert(av.VideoFrame(WIDTH * 2, HEIGHT, "yuv420p"))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert said == [
        f"the picture size changes from {WIDTH}x{HEIGHT} to {WIDTH * 2}x{HEIGHT}: scaled to the first size"
    ]


def test_stated_colour_of_each_depth() -> None:
    base = stated_colour(av.VideoFrame(WIDTH, HEIGHT, "yuv420p"), "clip", [])
    assert replace(base, bit_depth=12) == stated_colour(
        av.VideoFrame(WIDTH, HEIGHT, "yuv420p12le"), "clip", []
    )
