"""Streams of .bsq as bytes, written and read front to back. Knows nothing of pixels, tokens and models."""

from bsqcodec.bitstream.audio import AudioPacket, AudioPackets, AudioTrack, AudioTracks
from bsqcodec.bitstream.cut import CutResult, cut
from bsqcodec.bitstream.gop import CodingMode, Gop, block_count, token_crc
from bsqcodec.bitstream.header import Colour, Header
from bsqcodec.bitstream.index import Index, IndexEntry
from bsqcodec.bitstream.limits import Limits
from bsqcodec.bitstream.metadata import Metadata
from bsqcodec.bitstream.reader import Damage, Event, StreamReader
from bsqcodec.bitstream.summary import GopSummary, StreamSummary, TrackSummary, describe
from bsqcodec.bitstream.writer import StreamWriter

__all__ = [
    "AudioPacket",
    "AudioPackets",
    "AudioTrack",
    "AudioTracks",
    "CodingMode",
    "Colour",
    "CutResult",
    "Damage",
    "Event",
    "Gop",
    "GopSummary",
    "Header",
    "Index",
    "IndexEntry",
    "Limits",
    "Metadata",
    "StreamReader",
    "StreamSummary",
    "StreamWriter",
    "TrackSummary",
    "block_count",
    "cut",
    "describe",
    "token_crc",
]
