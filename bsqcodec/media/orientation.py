"""Upright pictures: the display matrix of ISO base media files and the orientation tag of EXIF."""

import math
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

EXIF_ORIENTATION = 0x0112
# Degrees clockwise by EXIF orientation (1 to 8); the even and mirrored ones are flipped left to right
# besides.
EXIF_ROTATION = {1: 0, 2: 0, 3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}


@dataclass(frozen=True)
class Orientation:
    """How a coded picture is made upright: first mirrored left to right, then turned clockwise."""

    rotation: int = 0
    mirrored: bool = False

    @classmethod
    def from_display_matrix(cls, data: bytes) -> "Orientation | None":
        """Read AV_FRAME_DATA_DISPLAYMATRIX (nine int32, row-major). None for odd angles."""
        a, b, _, c, d, *_ = struct.unpack("=9i", data)
        determinant = a * d - b * c
        if determinant == 0:
            return None
        mirrored = determinant < 0
        # A point (x, y) goes to (a x + c y, b x + d y), y downwards; a mirrored matrix is the turned one with
        # -a, -b.
        angle = math.degrees(math.atan2(-b, -a) if mirrored else math.atan2(b, a))
        rotation = round(angle / 90) * 90
        if abs(angle - rotation) > 1:
            return None
        return cls(rotation % 360, mirrored)

    @property
    def is_identity(self) -> bool:
        return self.rotation == 0 and not self.mirrored

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return (height, width) if self.rotation in (90, 270) else (width, height)

    def apply(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The upright picture of an H x W x 3 one, contiguous in memory."""
        if self.is_identity:
            return pixels
        upright = pixels[:, ::-1] if self.mirrored else pixels
        return np.ascontiguousarray(np.rot90(upright, k=-self.rotation // 90))


def with_upright_tag(exif: bytes) -> bytes:
    """The same EXIF block (TIFF, without the "Exif" prefix) with the orientation tag set to 1, else
    untouched.

    Patched in place: rewriting the block would break the offsets inside makers' notes. A block that cannot be
    read is returned as it is.
    """
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return exif
    (offset,) = struct.unpack_from(order + "I", exif, 4)
    if offset + 2 > len(exif):
        return exif
    (count,) = struct.unpack_from(order + "H", exif, offset)
    for entry in range(offset + 2, min(offset + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == EXIF_ORIENTATION and kind == 3:
            return exif[: entry + 8] + struct.pack(order + "H", 1) + exif[entry + 10 :]
    return exif
