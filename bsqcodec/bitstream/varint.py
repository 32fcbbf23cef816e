"""Integers of variable length (LEB128: seven bits a byte, the lowest first), and a cursor to read them."""

from bsqcodec.errors import FormatError, InputError

VARINT_BYTES = 9
VARINT_END = 1 << 7 * VARINT_BYTES


def encode_varint(value: int) -> bytes:
    """Write 0 <= value < 2^63 in as few bytes as it takes, 1 to 9. InputError outside that range."""
    if not 0 <= value < VARINT_END:
        raise InputError(f"{value} cannot be stored: whole numbers from 0 to 2^63 - 1 can")
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_signed(value: int) -> bytes:
    """Write a signed integer as the varint of its zigzag number: 0, -1, 1, -2, ... become 0, 1, 2, 3, ..."""
    return encode_varint(value << 1 if value >= 0 else (-value << 1) - 1)


def encode_runs(values: tuple[int, ...]) -> bytes:
    """Write numbers as runs: value, then how often; no count where one number only is still to come."""
    encoded = bytearray()
    start = 0
    while start < len(values):
        end = start + 1
        while end < len(values) and values[end] == values[start]:
            end += 1
        encoded += encode_varint(values[start])
        if start + 1 < len(values):
            encoded += encode_varint(end - start)
        start = end
    return bytes(encoded)


class Cursor:
    """Reads a chunk's payload front to back; every fault becomes a FormatError with its place in the stream.

    offset: where the payload begins in the stream.
    """

    def __init__(self, payload: memoryview, offset: int) -> None:
        self._payload = payload
        self._offset = offset
        self._position = 0

    @property
    def remaining(self) -> int:
        return len(self._payload) - self._position

    def fault(self, message: str) -> FormatError:
        return FormatError(message, self._offset + self._position)

    def take(self, size: int, what: str) -> bytes:
        if size > self.remaining:
            raise self.fault(f"{what} takes {size} bytes, but {self.remaining} are left in the chunk")
        start = self._position
        self._position += size
        return bytes(self._payload[start : self._position])

    def byte(self, what: str) -> int:
        return self.take(1, what)[0]

    def varint(self, what: str, low: int = 0, high: int = VARINT_END - 1) -> int:
        value = 0
        start = self._position
        for index in range(VARINT_BYTES):
            if start + index == len(self._payload):
                raise self.fault(f"{what} is missing its last byte: the chunk ends here")
            byte = self._payload[start + index]
            value |= (byte & 127) << 7 * index
            if byte < 128:
                if byte == 0 and index > 0:
                    raise self.fault(f"{what} is written with more bytes than it takes")
                if not low <= value <= high:
                    raise self.fault(f"{what} is {value}, expected {low} to {high}")
                self._position += index + 1
                return value
        raise self.fault(f"{what} is longer than {VARINT_BYTES} bytes")

    def signed(self, what: str) -> int:
        value = self.varint(what)
        return -(value + 1 >> 1) if value & 1 else value >> 1

    def runs(self, count: int, what: str, low: int = 0, high: int = VARINT_END - 1) -> list[int]:
        """Read what `encode_runs` wrote for `count` numbers."""
        values: list[int] = []
        while len(values) < count:
            value = self.varint(what, low, high)
            left = count - len(values)
            values += [value] * (1 if left == 1 else self.varint(f"run length of {what}", 1, left))
        return values

    def finish(self, what: str) -> None:
        if self.remaining:
            raise self.fault(f"{self.remaining} bytes follow the end of {what}")
