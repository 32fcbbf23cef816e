"""Whether tubes pay: where what moves is too fast for them, frames are better coded alone."""

from __future__ import annotations

from bsqcodec.synthesis import Judgement

SHORTEST_WAIT, LONGEST_WAIT = 4, 32
"""Frames that are coded alone after tubes did not pay; twice as many every time they do not again."""


class TubeChoice:
    """Decides for every tube, by J = D + lambda * R, whether it is better than its frames alone would be;
    their J is taken to be that of the picture that the GOP begins with."""

    def __init__(self, lagrangian: float) -> None:
        self._lagrangian = lagrangian
        self._single = 0.0
        self._wait = SHORTEST_WAIT
        self._alone = 0

    def takes_alone(self) -> bool:
        """Whether the next frame is to be coded alone."""
        alone = self._alone > 0
        self._alone -= alone
        return alone

    def begin(self, judgement: Judgement) -> None:
        """A GOP begins; judgement: of its first frame, were it coded alone."""
        self._single = judgement.cost(self._lagrangian)

    def pays(self, judgement: Judgement) -> bool:
        """Whether this tube stays. If not, some frames are to be coded alone from its first one on."""
        if judgement.cost(self._lagrangian) <= self._single:
            self._wait = SHORTEST_WAIT
            return True
        self._alone = self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        return False

    def new_scene(self) -> None:
        """What was found out about the last scene does not hold here."""
        self._alone, self._wait = 0, SHORTEST_WAIT
