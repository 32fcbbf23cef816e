"""How steady a clip is: what changes from frame to frame, against what changes in the source."""

import numpy as np


class StepError:
    """Mean squared error of the differences between a frame and the one before; frames are given in order."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None

    def __call__(self, reference: np.ndarray, picture: np.ndarray) -> float | None:
        """Of this pair of H x W x 3 uint8 frames and the pair before it, in squared steps of 8 bits; None for
        the first."""
        error = picture.astype(np.int16) - reference
        before, self._before = self._before, error
        if before is None:
            return None
        # What was added to a change is the change of what was added.
        return float(np.square((error - before).astype(np.float32)).mean(dtype=np.float64))
