"""Writing of single pictures through Pillow."""

from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from bsqcodec.errors import InputError
from bsqcodec.media.interfaces import Writer
from bsqcodec.media.stills import EXIF_PREFIX
from bsqcodec.media.target import Target
from bsqcodec.media.types import AudioPacket, Frame, Metadata, VideoInfo

# Pillow's format by file name ending, with what makes it as good as the format allows.
STILL_OUTPUTS: dict[str, tuple[str, dict[str, object]]] = {
    "avif": ("AVIF", {"quality": 95, "subsampling": "4:4:4", "speed": 6}),
    "bmp": ("BMP", {}),
    "jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    "jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    # zlib-ng packs pictures as well at 2 as at 6, in a third of the time.
    "png": ("PNG", {"compress_level": 2}),
    "ppm": ("PPM", {}),
    "tif": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "webp": ("WEBP", {"lossless": True, "method": 2}),
}
CARRY_METADATA = {"AVIF", "JPEG", "PNG", "TIFF", "WEBP"}


def save_picture(file: BinaryIO, pixels: npt.NDArray[np.uint8], ending: str, metadata: Metadata) -> None:
    """Write one picture in the format of a file name ending, with EXIF and ICC where the format has room."""
    pillow_format, options = STILL_OUTPUTS[ending]
    options = dict(options)
    if pillow_format in CARRY_METADATA:
        if metadata.exif is not None:
            options["exif"] = EXIF_PREFIX + metadata.exif
        if metadata.icc is not None:
            options["icc_profile"] = metadata.icc
    Image.fromarray(pixels).save(file, pillow_format, **options)


class StillWriter(Writer):
    """A picture file. Sound is dropped with a warning, a second frame is an InputError."""

    def __init__(self, target: Target, ending: str, info: VideoInfo, metadata: Metadata, tracks: int) -> None:
        if not info.is_still and info.frame_count is not None and info.frame_count > 1:
            target.discard()
            raise _too_many(target, f"the video has {info.frame_count} frames")
        self.warnings = [f"{tracks} sound tracks left out: a picture holds none"] if tracks else []
        self._target = target
        self._ending = ending
        self._metadata = metadata
        self._frames = 0

    def write(self, frame: Frame) -> None:
        if self._frames:
            raise _too_many(self._target, "the video has more than one frame")
        self._frames += 1
        save_picture(self._target.open(), frame.pixels, self._ending, self._metadata)

    def write_audio(self, packet: AudioPacket) -> None:
        """Dropped."""

    def close(self) -> None:
        if not self._frames:
            raise InputError(f"{self._target.name}: no picture came; expected one")
        self._target.commit()

    def abort(self) -> None:
        self._target.discard()


def _too_many(target: Target, found: str) -> InputError:
    return InputError(
        f"{target.name}: {found}, this format holds one picture;"
        " write to a folder (name ending in /), .mp4, .mkv or .gif"
    )
