"""bsqcodec: a neural image and video codec on BSQ tokens.

The names below are loaded when they are asked for: `import bsqcodec` takes no torch, `bsqc info` neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bsqcodec.codec import (
        Decoder,
        DecodeStats,
        EncodeOptions,
        Encoder,
        EncodeStats,
        compress,
        decompress,
    )
    from bsqcodec.media.types import AudioPacket, AudioTrack, Colour, Frame, Metadata

_CODEC = ("DecodeStats", "Decoder", "EncodeOptions", "EncodeStats", "Encoder", "compress", "decompress")

__all__ = [
    "AudioPacket",
    "AudioTrack",
    "Colour",
    "DecodeStats",
    "Decoder",
    "EncodeOptions",
    "EncodeStats",
    "Encoder",
    "Frame",
    "Metadata",
    "compress",
    "decompress",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("bsqcodec.codec" if name in _CODEC else "bsqcodec.media.types"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
