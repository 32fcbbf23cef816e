"""The one colour path of an evaluation: how Y'CbCr becomes R'G'B' and back, for every codec alike."""

from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from bsqcodec.media.colour import BT470BG, BT709, SMPTE170M, SWSCALE_FLAGS, is_full_range, matrix_by_size


@dataclass(frozen=True)
class ColourPath:
    """Matrix (H.273 code point) and range that all conversions of one clip use."""

    matrix: int = BT709
    full_range: bool = False

    def describe(self) -> str:
        matrix = "BT.709" if self.matrix == BT709 else "BT.601"
        span = "full" if self.full_range else "limited"
        return f"{matrix} matrix, {span} range, chroma resampled bicubic (swscale, accurate rounding)"

    @property
    def _space(self) -> Colorspace:
        return Colorspace.ITU709 if self.matrix == BT709 else Colorspace.ITU601

    @property
    def _range(self) -> ColorRange:
        return ColorRange.JPEG if self.full_range else ColorRange.MPEG

    def to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """H x W x 3 uint8 R'G'B' of a frame in any format; the frame's own tags are not looked at."""
        converted = frame.reformat(
            format="rgb24",
            src_colorspace=self._space,
            src_color_range=self._range,
            dst_color_range=ColorRange.JPEG,
            interpolation=SWSCALE_FLAGS,
            threads=1,
        )
        return converted.to_ndarray()

    def to_yuv420(self, pixels: np.ndarray) -> av.VideoFrame:
        """8-bit 4:2:0 frame of H x W x 3 uint8 R'G'B'; an odd side repeats its last line first."""
        height, width, _ = pixels.shape
        even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        return av.VideoFrame.from_ndarray(even, format="rgb24").reformat(
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_colorspace=self._space,
            dst_color_range=self._range,
            interpolation=SWSCALE_FLAGS,
            threads=1,
        )


def path_of(frame: av.VideoFrame) -> ColourPath:
    """The path a decoded frame asks for: by its tags, or where it has none as `media` takes it."""
    tagged = int(frame.colorspace)
    if tagged == BT709:
        matrix = BT709
    elif tagged in (BT470BG, SMPTE170M):
        matrix = SMPTE170M
    else:
        matrix = matrix_by_size(frame.width, frame.height)
    return ColourPath(matrix, is_full_range(frame))
