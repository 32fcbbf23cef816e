"""The part of CBOR (RFC 8949) that streams use, in deterministic form; the rest is refused before decoding.

Allowed: unsigned integers, byte and text strings, arrays, true and false, maps with numbers or text as keys
in ascending order. Lengths and integers in their shortest form, none indefinite, no tags, no floats, nesting
at most MAX_DEPTH.
"""

import cbor2

from bsqcodec.errors import FormatError, InputError

MAX_DEPTH = 4
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FALSE, _TRUE = 20, 21


def encode(value: object) -> bytes:
    """Encode deterministically. InputError for what CBOR cannot hold (text with lone surrogates)."""
    try:
        return cbor2.dumps(value, canonical=True)
    except (cbor2.CBOREncodeError, UnicodeError, OverflowError) as error:
        raise InputError(f"cannot be stored in the stream: {error}") from error


def decode(payload: memoryview, offset: int, max_items: int) -> object:
    """Decode one item that fills the payload. FormatError for anything outside the allowed part.

    offset: of the payload in the stream. max_items: entries that one array or map may have.
    """
    data = bytes(payload)
    end = _check(data, 0, MAX_DEPTH, max_items, offset)
    if end != len(data):
        raise FormatError(f"{len(data) - end} bytes follow the end of the CBOR item", offset + end)
    try:
        value: object = cbor2.loads(data)
    except Exception as error:
        raise FormatError(f"CBOR that cannot be decoded: {error}", offset) from error
    return value


def _check(data: bytes, start: int, depth: int, max_items: int, offset: int) -> int:
    """Hold the item at `start` against the rules; returns where it ends."""
    if depth == 0:
        raise FormatError(f"CBOR nested deeper than {MAX_DEPTH}", offset + start)
    major, value, position = _head(data, start, offset)
    if major == _UNSIGNED or (major == _SIMPLE and value in (_FALSE, _TRUE) and position == start + 1):
        return position
    if major in (_BYTES, _TEXT):
        if value > len(data) - position:
            raise FormatError(
                f"CBOR string of {value} bytes, but {len(data) - position} are left in the chunk",
                offset + start,
            )
        return position + value
    if major not in (_ARRAY, _MAP):
        raise FormatError(f"CBOR item 0x{data[start]:02x} is of a type not used in streams", offset + start)
    if value > max_items:
        raise FormatError(
            f"CBOR array or map of {value} entries, expected at most {max_items}", offset + start
        )
    previous = b""
    for _ in range(value):
        if major == _MAP:
            key_start = position
            if key_start < len(data) and data[key_start] >> 5 not in (_UNSIGNED, _TEXT):
                raise FormatError("CBOR map with a key that is neither number nor text", offset + key_start)
            position = _check(data, position, depth - 1, max_items, offset)
            key = data[key_start:position]
            if key <= previous:
                raise FormatError("CBOR map with keys out of order or twice", offset + key_start)
            previous = key
        position = _check(data, position, depth - 1, max_items, offset)
    return position


def _head(data: bytes, start: int, offset: int) -> tuple[int, int, int]:
    """Major type, argument, and where the rest of the item begins."""
    if start >= len(data):
        raise FormatError("CBOR ends in the middle of an item", offset + start)
    major, argument = data[start] >> 5, data[start] & 31
    if argument < 24:
        return major, argument, start + 1
    size = 1 << argument - 24
    value = int.from_bytes(data[start + 1 : start + 1 + size])
    smallest = 24 if size == 1 else 1 << 4 * size
    if argument > 27 or start + 1 + size > len(data) or value < smallest:
        raise FormatError(f"CBOR item 0x{data[start]:02x} is cut off or not in shortest form", offset + start)
    return major, value, start + 1 + size


class Fields:
    """A decoded CBOR map with integer keys, asked for one field after the other, each with type and range.

    Keys from CRITICAL_END on are additions that a reader may pass over; `finish` refuses unknown ones below.
    """

    CRITICAL_END = 64

    def __init__(self, value: object, what: str, offset: int) -> None:
        if not isinstance(value, dict) or not all(type(key) is int for key in value):
            raise FormatError(f"{what} is not a CBOR map with whole numbers as keys", offset)
        self._left = dict(value)
        self._what = what
        self._offset = offset

    def fault(self, message: str) -> FormatError:
        return FormatError(f"{self._what}: {message}", self._offset)

    def has(self, key: int) -> bool:
        return key in self._left

    def take(self, key: int, name: str) -> object:
        if key not in self._left:
            raise self.fault(f"{name} (key {key}) is missing")
        return self._left.pop(key)

    def integer(self, key: int, name: str, default: int | None, low: int, high: int) -> int:
        value = self.take(key, name) if default is None or key in self._left else default
        return self.whole_number(value, name, low, high)

    def whole_number(self, value: object, name: str, low: int, high: int) -> int:
        if type(value) is not int:
            raise self.fault(f"{name} is of type {type(value).__name__}, expected a whole number")
        if not low <= value <= high:
            raise self.fault(f"{name} is {value}, expected {low} to {high}")
        return value

    def flag(self, key: int, name: str, default: bool) -> bool:
        value = self._left.pop(key, default)
        if type(value) is not bool:
            raise self.fault(f"{name} is of type {type(value).__name__}, expected true or false")
        return value

    def text(self, key: int, name: str, default: str | None) -> str:
        value = self.take(key, name) if default is None else self._left.pop(key, default)
        if type(value) is not str:
            raise self.fault(f"{name} is of type {type(value).__name__}, expected text")
        return value

    def binary(self, key: int, name: str, default: bytes | None) -> bytes:
        value = self.take(key, name) if default is None else self._left.pop(key, default)
        if type(value) is not bytes:
            raise self.fault(f"{name} is of type {type(value).__name__}, expected bytes")
        return value

    def array(self, key: int, name: str, default: list[object] | None, length: int) -> list[object]:
        value = self.take(key, name) if default is None else self._left.pop(key, default)
        if type(value) is not list or len(value) != length:
            raise self.fault(f"{name} is not an array of {length} entries")
        return value

    def finish(self) -> None:
        unknown = [key for key in self._left if key < self.CRITICAL_END]
        if unknown:
            raise self.fault(f"key {min(unknown)} is not known to this version; a newer reader is needed")
