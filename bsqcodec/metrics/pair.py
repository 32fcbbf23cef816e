"""What every metric asks of the two pictures it is given."""

import numpy as np

from bsqcodec.errors import InputError


class PairError(InputError):
    """Two pictures, or two clips, that cannot be compared."""


def check_pair(reference: np.ndarray, picture: np.ndarray) -> None:
    """Raise unless both are H x W x 3 uint8 arrays (InputError) of one shape (PairError), not empty."""
    for array in (reference, picture):
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
            found = f"{array.dtype} of shape {array.shape}"
            raise InputError(f"a metric takes H x W x 3 uint8 pictures, not {found}")
    if reference.shape != picture.shape:
        (height, width, _), (other_height, other_width, _) = reference.shape, picture.shape
        raise PairError(f"pictures differ in size: {width}x{height} and {other_width}x{other_height}")
