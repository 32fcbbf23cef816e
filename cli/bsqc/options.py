"""Options and kinds of value that several verbs share."""

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?" + _NUMBER, re.ASCII)
_SIZE = re.compile(_NUMBER + r"(|[kmg]i?)b?", re.ASCII | re.IGNORECASE)


def seconds(text: str) -> Fraction:
    """A time as seconds or [hours:]minutes:seconds, exact: 12.5, 1:02.25, 0:01:02."""
    found = _TIME.fullmatch(text)
    if found is None:
        forms = "seconds (12.5) or hours:minutes:seconds (0:01:02.5)"
        raise click.BadParameter(f"{text!r} is not a time: {forms}")
    hours, minutes, rest = found.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + Fraction(rest)


def byte_count(text: str) -> int:
    """A size in bytes: 300000, 300k, 2M, 1.5MB, 64Ki."""
    found = _SIZE.fullmatch(text)
    size = 0 if found is None else int(Fraction(found[1]) * UNITS[found[2].lower()])
    if size < 1:
        forms = "bytes, or with k, M, G (thousands), Ki, Mi, Gi"
        raise click.BadParameter(f"{text!r} is not a size: {forms}")
    return size


def quality(text: str) -> float:
    """A real number 1..10; click's own FloatRange lets `nan` through."""
    value = _real(text)
    if not 1 <= value <= 10:
        raise click.BadParameter(f"{text} is out of range: 1 (smallest file) to 10 (best picture)")
    return value


def bits_per_pixel(text: str) -> float:
    """A positive real number."""
    value = _real(text)
    if not 0 < value < math.inf:
        raise click.BadParameter(f"{text} is out of range: more than 0")
    return value


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a number") from error


def compute_options(function: Decorated) -> Decorated:
    """--device and --threads."""
    device = click.Choice(["auto", "cpu", "cuda", "mps"])
    for option in (
        click.option("--threads", type=click.IntRange(1, 256), metavar="N", help="CPU threads [all]"),
        click.option("--device", type=device, default="auto", show_default=True, help="where to compute"),
    ):
        function = option(function)
    return function


def range_options(function: Decorated) -> Decorated:
    """--start and --duration."""
    for option in (
        click.option("--duration", type=seconds, metavar="T", help="how much of it: seconds or h:mm:ss"),
        click.option("--start", type=seconds, metavar="T", help="from this time on: seconds or h:mm:ss"),
    ):
        function = option(function)
    return function


def output_options(function: Decorated) -> Decorated:
    """--force, --json and --quiet."""
    for option in (
        click.option("--quiet", is_flag=True, help="no progress, no warnings, no closing line"),
        click.option("--json", "as_json", is_flag=True, help="one JSON object (on stderr if OUT is -)"),
        click.option("--force", is_flag=True, help="overwrite what is there"),
    ):
        function = option(function)
    return function


levels_option = click.option(
    "--levels", type=click.IntRange(1, 255), metavar="N", help="only the N coarsest levels"
)
json_option = click.option("--json", "as_json", is_flag=True, help="one JSON object on stdout")
