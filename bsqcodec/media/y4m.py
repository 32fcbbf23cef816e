"""YUV4MPEG2: uncompressed video for pipes, 4:4:4 so that nothing but rounding is lost."""

from dataclasses import replace
from fractions import Fraction

from bsqcodec.errors import InputError
from bsqcodec.media.colour import YcbcrConverter, matrix_by_size, ycbcr_colour
from bsqcodec.media.interfaces import Writer
from bsqcodec.media.target import Target
from bsqcodec.media.types import AudioPacket, Frame, VideoInfo

DEFAULT_FRAME_RATE = Fraction(25)


class Y4mWriter(Writer):
    """One rate for all frames and no sound: that is all the format has.

    It cannot state a matrix either, so readers go by the size (BT.709 from high definition up); so does this
    writer.
    """

    def __init__(self, target: Target, info: VideoInfo, tracks: int) -> None:
        self.warnings = [f"{tracks} sound tracks left out: Y4M holds none"] if tracks else []
        self._target = target
        rate = info.frame_rate or DEFAULT_FRAME_RATE
        self._duration = 1 / (rate * info.time_base)
        colour = replace(
            ycbcr_colour(info.colour, info.width, info.height), matrix=matrix_by_size(info.width, info.height)
        )
        self._converter = YcbcrConverter(info.width, info.height, pixel_format="yuv444p", colour=colour)
        self._frames = 0
        self._uneven = False
        self._write(
            f"YUV4MPEG2 W{info.width} H{info.height} F{rate.numerator}:{rate.denominator} Ip A1:1 C444"
            f" XCOLORRANGE={'FULL' if colour.full_range else 'LIMITED'}\n".encode()
        )

    def write(self, frame: Frame) -> None:
        if not self._uneven and abs(frame.pts - self._frames * self._duration) > self._duration / 2:
            self._uneven = True
            self.warnings.append("Y4M has one rate for all frames: uneven times are not kept")
        planes = self._converter.convert(frame.pixels).to_ndarray()
        self._write(b"FRAME\n" + planes.tobytes())
        self._frames += 1

    def write_audio(self, packet: AudioPacket) -> None:
        """Dropped."""

    def close(self) -> None:
        self._target.commit()

    def abort(self) -> None:
        self._target.discard()

    def _write(self, data: bytes) -> None:
        try:
            self._target.open().write(data)
        except OSError as error:
            raise InputError(f"{self._target.name}: writing failed ({error.strerror or error})") from None
