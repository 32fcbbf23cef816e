"""Colour difference CIEDE2000 of the picture at an eighth of its size: a tint, not a lack of detail."""

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab

from bsqcodec.metrics.pair import check_pair

REDUCTION = 8


def ciede2000(reference: np.ndarray, picture: np.ndarray) -> float:
    """Mean CIEDE2000 of the two pictures after the mean of each 8 x 8 pixels: 0 equal, 1 just visible.

    Both are H x W x 3 uint8 sRGB; a side that 8 does not divide repeats its last line. InputError where the
    shapes differ.
    """
    check_pair(reference, picture)
    return float(np.mean(deltaE_ciede2000(_reduced_lab(reference), _reduced_lab(picture))))


def _reduced_lab(picture: np.ndarray) -> np.ndarray:
    height, width, _ = picture.shape
    whole = np.pad(picture, ((0, -height % REDUCTION), (0, -width % REDUCTION), (0, 0)), mode="edge")
    rows, columns = whole.shape[0] // REDUCTION, whole.shape[1] // REDUCTION
    sums = whole.reshape(rows, REDUCTION, -1).sum(axis=1, dtype=np.uint16)
    blocks = sums.reshape(rows, columns, REDUCTION, 3).sum(axis=2, dtype=np.uint16)
    lab: np.ndarray = rgb2lab(blocks / (255 * REDUCTION**2))
    return lab
