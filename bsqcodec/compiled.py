"""Loops over numpy arrays that numba compiles."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {
    "nogil": True,  # threads go on meanwhile
    "fastmath": {"reassoc", "nnan", "nsz"},  # sums in any order, no NaN; products are not contracted
    "error_model": "numpy",
}


def compiled(function: F) -> F:
    """Compiled at its first call, once and for all where a folder for that can be written."""
    try:
        return njit(cache=True, **_OPTIONS)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # neither beside the function's file nor in the user's cache
        return njit(**_OPTIONS)(function)  # type: ignore[no-any-return]
