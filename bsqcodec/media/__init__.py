"""Reading and writing of ordinary media files: PyAV for video, Pillow for stills."""

from bsqcodec.media.interfaces import Reader, Writer
from bsqcodec.media.reader import open_reader
from bsqcodec.media.types import AudioPacket, AudioTrack, Colour, Frame, Metadata, VideoInfo
from bsqcodec.media.writer import open_writer

__all__ = [
    "AudioPacket",
    "AudioTrack",
    "Colour",
    "Frame",
    "Metadata",
    "Reader",
    "VideoInfo",
    "Writer",
    "open_reader",
    "open_writer",
]
