"""Loops that numba compiles."""

import numpy as np

from bsqcodec.compiled import compiled


def test_a_function_that_cannot_be_kept_is_compiled_all_the_same() -> None:
    """One that stands in no file, as where neither the package's folder nor the user's can be written."""
    names: dict[str, object] = {}
    exec("def double(x):\n    for i in range(x.shape[0]):\n        x[i] *= 2\n", names)
    double = compiled(names["double"])  # type: ignore[type-var]
    numbers = np.arange(3)
    double(numbers)
    assert numbers.tolist() == [0, 2, 4]
    assert double.signatures
