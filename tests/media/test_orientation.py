"""Pictures come out upright, whichever of the eight ways they were stored in."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from bsqcodec.media.orientation import EXIF_ROTATION, Orientation, with_upright_tag

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def matrix(a: int, b: int, c: int, d: int) -> bytes:
    one = 1 << 16
    return struct.pack("=9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)


def place(pixels: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """Move every pixel (x, y) to (a x + c y, b x + d y), then shift the picture back to the origin."""
    height, width, _ = pixels.shape
    moved = {(a * x + c * y, b * x + d * y): pixels[y, x] for y in range(height) for x in range(width)}
    left, top = min(x for x, _ in moved), min(y for _, y in moved)
    out_width, out_height = max(x for x, _ in moved) - left + 1, max(y for _, y in moved) - top + 1
    out = np.zeros((out_height, out_width, 3), np.uint8)
    for (x, y), value in moved.items():
        out[y - top, x - left] = value
    return out


@pytest.mark.parametrize(
    "coefficients",
    [
        (1, 0, 0, 1),
        (0, 1, -1, 0),
        (-1, 0, 0, -1),
        (0, -1, 1, 0),
        (-1, 0, 0, 1),
        (0, 1, 1, 0),
        (1, 0, 0, -1),
        (0, -1, -1, 0),
    ],
)
def test_display_matrices_move_pixels_as_they_say(coefficients: tuple[int, int, int, int]) -> None:
    orientation = Orientation.from_display_matrix(matrix(*coefficients))
    assert orientation is not None
    upright = orientation.apply(PIXELS)
    assert np.array_equal(upright, place(PIXELS, *coefficients))
    assert upright.flags.c_contiguous
    assert orientation.size(3, 2) == (upright.shape[1], upright.shape[0])


def test_a_slanted_matrix_is_none_of_them() -> None:
    assert (
        Orientation.from_display_matrix(struct.pack("=9i", 40000, 40000, 0, -40000, 40000, 0, 0, 0, 1))
        is None
    )
    assert Orientation.from_display_matrix(bytes(36)) is None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_tag_is_set_to_upright_and_nothing_else_changes(order: str, orientation: int) -> None:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    make = struct.pack(order + "HHI4s", 0x010F, 2, 3, b"abc\0")
    tag = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    block = (
        mark + struct.pack(order + "IH", 8, 2) + make + tag + struct.pack(order + "I", 0) + b"maker's note"
    )
    upright = with_upright_tag(block)
    assert upright == block.replace(tag, struct.pack(order + "HHIHH", 0x0112, 3, 1, 1, 0))


@pytest.mark.parametrize(
    "block", [b"", b"II", b"no TIFF at all", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"]
)
def test_a_broken_block_stays_as_it_is(block: bytes) -> None:
    assert with_upright_tag(block) == block


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_agrees_with_pillow(orientation: int) -> None:
    image = Image.fromarray(PIXELS)
    image.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    is_mirrored = orientation in (2, 4, 5, 7)
    turned = Orientation(EXIF_ROTATION[orientation], mirrored=False).apply(PIXELS)
    if is_mirrored:
        assert any(np.array_equal(upright, flipped) for flipped in (turned[:, ::-1], turned[::-1]))
    else:
        assert np.array_equal(upright, turned)
