"""How many bytes of a coded file are the codec's own, and how many its container's."""

import io
from pathlib import Path

from bsqcodec.bitstream import Gop, StreamReader

BOXES = frozenset({".mp4", ".avif", ".jp2"})
PAYLOAD_BOXES = (b"mdat", b"jp2c")
JPEG_START_OF_SCAN = 0xDA
JPEG_APPLICATION = range(0xE0, 0xF0)


def payload_bytes(path: Path) -> int:
    """Bytes of the file that are coded pictures: without the boxes of MP4, AVIF and JP2, the chunk headers of
    WebP, the application segments of JPEG, all but the coded tokens of .bsq. Others count whole."""
    data = path.read_bytes()
    if path.suffix in BOXES:
        return _boxes(data)
    if path.suffix == ".webp":
        return _webp(data)
    if path.suffix == ".jpg":
        return _jpeg(data)
    if path.suffix == ".bsq":
        return _bsq(data)
    return len(data)


def _boxes(data: bytes) -> int:
    payload, at = 0, 0
    while at + 8 <= len(data):
        length, kind, header = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if length == 1:
            length, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif length == 0:
            length = len(data) - at
        if kind in PAYLOAD_BOXES:
            payload += length - header
        at += max(length, header)
    return payload


def _webp(data: bytes) -> int:
    payload, at = 0, 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] in (b"VP8 ", b"VP8L", b"ALPH"):
            payload += length
        at += 8 + length + length % 2
    return payload


def _jpeg(data: bytes) -> int:
    application, at = 0, 2
    while at + 4 <= len(data) and data[at + 1] != JPEG_START_OF_SCAN:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] in JPEG_APPLICATION:
            application += length
        at += length
    return len(data) - application


def _bsq(data: bytes) -> int:
    gops = (event for event in StreamReader(io.BytesIO(data)) if isinstance(event, Gop))
    return sum(len(part) for gop in gops for row in gop.parts for part in row)
