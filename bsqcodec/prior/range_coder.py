"""One run of bits through constriction's range coder, and the same interface for bits that are merely packed.

A run belongs to one level and lives for one block or for a whole GOP, as the caller likes; it does not depend
on how the bits are cut into calls.

    # N bits of one call
"""

from typing import Protocol

import constriction
import numpy as np

from bsqcodec.errors import FormatError

TOTAL = 65536
_WORD = 1 << 32
_STATE = 1 << 64
_MODEL = constriction.stream.model.Bernoulli(perfect=False)


class LevelEncoder(Protocol):
    """Takes the bits of a level in coding order."""

    def encode(self, bits_N: np.ndarray, counts_N: np.ndarray) -> None:
        """bits_N: {0, 1}; counts_N: counts of a one, 1..65535 out of 65536."""

    def finish(self) -> bytes:
        """The bytes of the run."""


class LevelDecoder(Protocol):
    """Gives back what a LevelEncoder took, for the same counts."""

    def decode(self, counts_N: np.ndarray) -> np.ndarray:
        """N bits {0, 1}, uint8. Raises FormatError where the bytes cannot be a run of such bits."""


def _probabilities(counts_N: np.ndarray) -> np.ndarray:
    """counts / 65536, exact.

    Outside 1..65535 the coder would go wrong without a word: that is a bug, not bad data.
    """
    if counts_N.size and not (int(counts_N.min()) >= 1 and int(counts_N.max()) < TOTAL):
        raise ValueError(f"counts {counts_N.min()}..{counts_N.max()}, expected 1..{TOTAL - 1}")
    probabilities: np.ndarray = counts_N * (1 / TOTAL)
    return probabilities


class RangeLevelEncoder:
    """A LevelEncoder with a range coder behind it."""

    def __init__(self) -> None:
        self._encoder = constriction.stream.queue.RangeEncoder()

    def encode(self, bits_N: np.ndarray, counts_N: np.ndarray) -> None:
        """See LevelEncoder."""
        if bits_N.shape != counts_N.shape or (bits_N.size and int(bits_N.max()) > 1):
            raise ValueError(f"{bits_N.shape} bits up to {bits_N.max(initial=0)} for {counts_N.shape} counts")
        if bits_N.size:
            self._encoder.encode(bits_N.astype(np.int32), _MODEL, _probabilities(counts_N))

    def finish(self) -> bytes:
        """The shortest bytes inside the final interval: big-endian words without the zero bytes at
        their end.
        """
        position, (lower, span) = self._encoder.pos()
        words = self._encoder.get_compressed().tolist()
        tail = [*words[position:], 0, 0]
        sealed = tail[0] * _WORD + tail[1]
        for kept in range(9):
            unit = 1 << (64 - 8 * kept)
            point = -(-lower // unit) * unit
            # The words before the state already hold the carry of the sealed point: keep to its side of it.
            if point < _STATE and sealed < lower:
                point = 0 if lower + span > _STATE else point
            if (
                point // _STATE == 0
                and (point - lower) % _STATE < span
                and (point < lower) == (sealed < lower)
            ):
                data: bytes = b"".join(word.to_bytes(4, "big") for word in words[:position]) + point.to_bytes(
                    8, "big"
                )
                return data.rstrip(b"\0")
        raise AssertionError("a 64-bit point always fits its own interval")


class RangeLevelDecoder:
    """A LevelDecoder with a range coder behind it. data: what RangeLevelEncoder.finish returned."""

    def __init__(self, data: bytes) -> None:
        words = np.frombuffer(data + bytes(8 + -len(data) % 4), dtype=">u4")
        self._decoder = constriction.stream.queue.RangeDecoder(words.astype(np.uint32))

    def decode(self, counts_N: np.ndarray) -> np.ndarray:
        """See LevelDecoder."""
        if not counts_N.size:
            return np.zeros(0, np.uint8)
        probabilities = _probabilities(counts_N)
        try:
            bits = self._decoder.decode(_MODEL, probabilities)
        except (AssertionError, KeyError, ValueError) as error:
            raise FormatError(f"coded tokens are damaged: {error}") from None
        return np.asarray(bits).astype(np.uint8)


class RawLevelEncoder:
    """A LevelEncoder that packs bits, first bit highest, and does not look at the counts."""

    def __init__(self) -> None:
        self._bits: list[np.ndarray] = []

    def encode(self, bits_N: np.ndarray, counts_N: np.ndarray) -> None:
        """See LevelEncoder."""
        self._bits.append(bits_N.astype(np.uint8))

    def finish(self) -> bytes:
        """The bits of all calls without gaps; the last byte is filled with 0."""
        return np.packbits(np.concatenate(self._bits)).tobytes() if self._bits else b""


class RawLevelDecoder:
    """A LevelDecoder for packed bits."""

    def __init__(self, data: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(data, np.uint8))
        self._position = 0

    def decode(self, counts_N: np.ndarray) -> np.ndarray:
        """See LevelDecoder."""
        bits = self._bits[self._position : self._position + counts_N.size]
        self._position += counts_N.size
        if bits.size != counts_N.size:
            raise FormatError(
                f"packed tokens end after {self._bits.size} bits, expected at least {self._position}"
            )
        return bits
