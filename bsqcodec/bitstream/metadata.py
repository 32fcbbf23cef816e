"""The META chunk: what is carried beside the pixels and plays no part in decoding them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bsqcodec.bitstream import cbor
from bsqcodec.bitstream.limits import DEFAULT_LIMITS, Limits

_EXIF, _ICC, _TAGS = range(3)


@dataclass(frozen=True)
class Metadata:
    """EXIF block and ICC profile as they were in the source, and tags such as title and artist."""

    exif: bytes | None = None
    icc: bytes | None = None
    tags: dict[str, str] = field(default_factory=dict)


class MetadataLike(Protocol):
    """Anything with the fields of a `Metadata`."""

    @property
    def exif(self) -> bytes | None: ...
    @property
    def icc(self) -> bytes | None: ...
    @property
    def tags(self) -> dict[str, str]: ...


def encode_metadata(metadata: MetadataLike) -> bytes:
    """Payload of the META chunk: a CBOR map of what is there."""
    fields: dict[int, object] = {}
    if metadata.exif is not None:
        fields[_EXIF] = metadata.exif
    if metadata.icc is not None:
        fields[_ICC] = metadata.icc
    if metadata.tags:
        fields[_TAGS] = dict(metadata.tags)
    return cbor.encode(fields)


def decode_metadata(payload: memoryview, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> Metadata:
    """The metadata in a META chunk's payload."""
    fields = cbor.Fields(cbor.decode(payload, offset, max_items=limits.tags), "metadata", offset)
    metadata = Metadata(
        exif=fields.binary(_EXIF, "EXIF", None) if fields.has(_EXIF) else None,
        icc=fields.binary(_ICC, "ICC profile", None) if fields.has(_ICC) else None,
        tags=_decode_tags(fields),
    )
    fields.finish()
    return metadata


def _decode_tags(fields: cbor.Fields) -> dict[str, str]:
    if not fields.has(_TAGS):
        return {}
    tags = fields.take(_TAGS, "tags")
    if not isinstance(tags, Mapping):
        raise fields.fault("tags are not a map")
    if not all(isinstance(text, str) for pair in tags.items() for text in pair):
        raise fields.fault("tags hold something that is not text")
    return dict(tags)
