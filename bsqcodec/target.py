"""Search of the quality whose file has the size that was asked for: real encodes, no estimate."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bsqcodec.errors import InputError

# Qualities are counted in hundredths here, as the stream's header stores them.
LOWEST, HIGHEST = 100, 1000
OCTAVES_PER_HUNDREDTH = 0.0044  # before two sizes are known: q 1 to 10 spans about a factor of 16
SHORTEST_LEAP = 25


class TargetError(InputError):
    """No quality gives a file as small as was asked for."""


@dataclass(frozen=True)
class Found:
    """q: the quality; size: of its file, at most the target; encodes: how many it took to find."""

    q: float
    size: float
    encodes: int


def search_quality(
    size_at: Callable[[float], float],
    target: float,
    *,
    unit: str = "bytes",
    first: float = 5.0,
    tolerance: float = 0.02,
    max_encodes: int = 10,
) -> Found:
    """Find a q whose file is within the target, and below it by at most `tolerance` where q can do it.

    size_at: encodes at q (1..10, in hundredths) and returns the size, which should grow with q.
    unit: of the sizes, for messages.
    first: where to look first. Steps follow the logarithm of the size, which is nearly straight in q, and
    halve the interval where that gains little. After max_encodes the best so far is taken.
    Raises TargetError where even the file at q = 1 is larger than the target.
    """
    aim = math.log2(target * (1 - tolerance / 2))
    low: tuple[int, float] | None = None  # the highest quality known to fit and the log2 of its size
    high: tuple[int, float] | None = None  # the lowest known not to fit
    low_size = 0.0
    encodes = 0
    halve = False
    quality = min(max(round(100 * first), LOWEST), HIGHEST)
    while True:
        width = _width(low, high)
        size = size_at(quality / 100)
        encodes += 1
        if size <= target:
            low, low_size = (quality, math.log2(size)), size
        elif quality == LOWEST:
            raise TargetError(f"{_text(target)} {unit} cannot be reached: at q 1 the file has {_text(size)}")
        else:
            high = (quality, math.log2(size))
        if low is not None and (
            low_size >= target * (1 - tolerance)
            or low[0] == HIGHEST
            or _width(low, high) == 1
            or encodes >= max_encodes
        ):
            return Found(low[0] / 100, low_size, encodes)
        halve = not halve and 2 * _width(low, high) > width
        quality = LOWEST if encodes >= max_encodes else _next_quality(low, high, aim, halve)


def _width(low: tuple[int, float] | None, high: tuple[int, float] | None) -> int:
    return (HIGHEST + 1 if high is None else high[0]) - (LOWEST - 1 if low is None else low[0])


def _next_quality(
    low: tuple[int, float] | None, high: tuple[int, float] | None, aim: float, halve: bool
) -> int:
    """A quality strictly between the two, either of which may be unknown."""
    if low is not None and high is not None:
        share = 0.5 if halve else (aim - low[1]) / (high[1] - low[1])
        guess = low[0] + round(share * (high[0] - low[0]))
        return min(max(guess, low[0] + 1), high[0] - 1)
    known = low or high
    assert known is not None  # one quality at least has been tried
    leap = max(SHORTEST_LEAP, round(abs(aim - known[1]) / OCTAVES_PER_HUNDREDTH))
    return min(known[0] + leap, HIGHEST) if high is None else max(known[0] - leap, LOWEST)


def _text(size: float) -> str:
    return str(size) if isinstance(size, int) else f"{size:.4f}"
