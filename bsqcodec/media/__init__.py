"""Reading and writing of ordinary media files: PyAV for video, Pillow for stills.

`open_reader` and `open_writer` are loaded when they are asked for: arrays are coded without PyAV.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bsqcodec.media.interfaces import Reader, Writer
from bsqcodec.media.types import AudioPacket, AudioTrack, Colour, Frame, Metadata, VideoInfo

if TYPE_CHECKING:
    from bsqcodec.media.reader import open_reader
    from bsqcodec.media.writer import open_writer

_OPENERS = {"open_reader": "bsqcodec.media.reader", "open_writer": "bsqcodec.media.writer"}

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


def __getattr__(name: str) -> Any:
    if name not in _OPENERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_OPENERS[name]), name)
