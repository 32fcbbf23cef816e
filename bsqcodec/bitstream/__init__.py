"""Streams of .bsq as bytes, written and read front to back. Knows nothing of pixels, tokens and models."""

from bsqcodec.bitstream.audio import AudioPacket, AudioPackets, AudioTrack, AudioTracks
from bsqcodec.bitstream.gop import CodingMode, Gop, block_count, token_crc
from bsqcodec.bitstream.header import Colour, Header
from bsqcodec.bitstream.limits import Limits
from bsqcodec.bitstream.metadata import Metadata
from bsqcodec.bitstream.reader import Damage, Event, StreamReader
from bsqcodec.bitstream.writer import StreamWriter

__all__ = [
    "AudioPacket",
    "AudioPackets",
    "AudioTrack",
    "AudioTracks",
    "CodingMode",
    "Colour",
    "Damage",
    "Event",
    "Gop",
    "Header",
    "Limits",
    "Metadata",
    "StreamReader",
    "StreamWriter",
    "block_count",
    "token_crc",
]
