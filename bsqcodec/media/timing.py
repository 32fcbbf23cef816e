"""Presentation times: choosing a part of a stream, and putting damaged timestamps in order."""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Generic, TypeVar

from bsqcodec.errors import InputError
from bsqcodec.media.types import Frame

Item = TypeVar("Item")

# How many frames early or late a timestamp may stand and still be sorted back. Small, because that many
# decoded frames wait in memory; AVI with packed B-frames needs 1.
REORDER_DEPTH = 4
# A step back further than this is not a frame out of place but a clock that started again (joined
# recordings).
CLOCK_RESTART = Fraction(1)


@dataclass(frozen=True)
class Selection:
    """Which frames are wanted: those with start <= time < end, at most max_frames of them.

    start and end are seconds after the first frame.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    max_frames: int | None = None

    @classmethod
    def of(cls, start: Fraction | None, duration: Fraction | None, max_frames: int | None) -> "Selection":
        """Check what the user asked for. Raises InputError naming the number that cannot be."""
        start = Fraction(0) if start is None else Fraction(start)
        if start < 0:
            raise InputError(f"start is {float(start):g} s: expected 0 or more")
        if duration is not None and duration <= 0:
            raise InputError(f"duration is {float(duration):g} s: expected more than 0")
        if max_frames is not None and max_frames < 1:
            raise InputError(f"the number of frames is {max_frames}: expected 1 or more")
        return cls(start, None if duration is None else start + Fraction(duration), max_frames)

    @property
    def is_everything(self) -> bool:
        return self.start == 0 and self.end is None and self.max_frames is None


@dataclass(frozen=True)
class Timed(Generic[Item]):
    """An item with the time it is shown at and for how long, in ticks."""

    item: Item
    pts: int
    duration: int


class FrameClock(Generic[Item]):
    """Gives every frame a strictly increasing time and the duration up to the next one.

    Frames are pushed in the order in which the decoder hands them out, which is the order of display whatever
    their timestamps say. Timestamps that are merely swapped (AVI with packed B-frames) are sorted back, equal
    ones are moved half-way to the next, missing ones are estimated, and a clock that starts again is carried
    on. Sound timestamps are left as they are. repairs: how many frames got another time than the file states.
    """

    def __init__(self, time_base: Fraction, usual_duration: int) -> None:
        self._time_base = time_base
        self._usual_duration = max(1, usual_duration)
        self._waiting: deque[tuple[Item, int, int]] = deque()
        self._times: list[int] = []
        self._newest: int | None = None
        self._offset = 0
        self._held: Timed[Item] | None = None
        self._stated = 0
        self.repairs = 0

    def push(self, item: Item, pts: int | None, duration: int) -> Iterator[Timed[Item]]:
        """Take the next frame; yields those whose time and duration are settled. duration 0 = not stated."""
        if pts is None:
            pts = 0 if self._newest is None else self._newest + self._usual_duration
            self.repairs += 1
        else:
            if (
                self._newest is not None
                and (self._newest - pts - self._offset) * self._time_base > CLOCK_RESTART
            ):
                self._offset = self._newest + self._usual_duration - pts
            pts += self._offset
        if duration > 0:
            self._usual_duration = duration
        self._newest = pts if self._newest is None else max(self._newest, pts)
        self._waiting.append((item, pts, duration))
        heapq.heappush(self._times, pts)
        if len(self._waiting) > REORDER_DEPTH:
            yield from self._settle_one()

    def flush(self) -> Iterator[Timed[Item]]:
        """The end of the stream: yields all that waits. The last frame lasts as stated, or as long as the one
        before.

        Stated durations are believed where the frame before lasted as long as it stated (streams of
        interlaced fields state half of it).
        """
        while self._waiting:
            yield from self._settle_one()
        if self._held is not None:
            yield self._held
            self._held = None

    def _settle_one(self) -> Iterator[Timed[Item]]:
        item, stated_pts, stated_duration = self._waiting.popleft()
        duration = stated_duration
        pts = heapq.heappop(self._times)
        if self._held is not None and pts <= self._held.pts:
            pts = self._free_time_after(self._held.pts)
        if pts != stated_pts:
            self.repairs += 1
        if self._held is not None:
            gap = pts - self._held.pts
            yield replace(self._held, duration=gap)
            if duration == 0 or abs(self._stated - gap) > 1:
                duration = gap
        self._stated = stated_duration
        self._held = Timed(item, pts, duration)

    def _free_time_after(self, last: int) -> int:
        following = min((time for time in self._times if time > last), default=None)
        return last + (self._usual_duration if following is None else max(1, (following - last) // 2))


def select_frames(frames: Iterable[Frame], time_base: Fraction, selection: Selection) -> Iterator[Frame]:
    """The selected ones of frames that start at 0, re-based so that the first has pts 0 again."""
    first: int | None = None
    count = 0
    for frame in frames:
        seconds = frame.pts * time_base
        if selection.end is not None and seconds >= selection.end:
            return
        if seconds < selection.start:
            continue
        if first is None:
            first = frame.pts
        yield replace(frame, pts=frame.pts - first)
        count += 1
        if count == selection.max_frames:
            return


def nothing_selected(name: str, selection: Selection, last: Fraction) -> InputError:
    """The error for a selection without a frame. last: the time of the last one looked at, in seconds."""
    end = "" if selection.end is None else f" and before {float(selection.end):g} s"
    return InputError(
        f"{name}: no frame at or after {float(selection.start):g} s{end};"
        f" the last one looked at is at {float(last):g} s"
    )
