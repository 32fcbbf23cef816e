"""Kinds of value on the command line: what is taken, and what is refused with the text that was given."""

from fractions import Fraction

import click
import pytest
from bsqc.options import bits_per_pixel, byte_count, quality, seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("12.5", Fraction(25, 2)), ("1:02.25", Fraction(249, 4)), ("0:01:02", 62),
        ("1:00:00", 3600), ("0.1", Fraction(1, 10)), ("90", 90),
    ],
)  # fmt: skip
def test_seconds_are_exact(text: str, value: Fraction) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    "text", ["", "-1", "1:2:3:4", "1:-2", "x", "nan", "inf", "1/0", "1:", ":1", "+1:3", "1e9"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a time"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("300", 300), ("300k", 300000), ("2M", 2 * 10**6), ("1.5MB", 1500000), ("64Ki", 2**16), ("1g", 10**9)],
)
def test_sizes(text: str, value: int) -> None:
    assert byte_count(text) == value


@pytest.mark.parametrize("text", ["", "0", "-5", "2X", "k", "Mi", "0.4", "nan", "1/0", "2kib b"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size"):
        byte_count(text)


@pytest.mark.parametrize("text", ["0.99", "10.1", "nan", "inf", "five"])
def test_what_is_no_quality(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"out of range|not a number"):
        quality(text)


def test_numbers() -> None:
    assert (quality("1"), quality("7.25"), quality("10")) == (1, 7.25, 10)
    assert bits_per_pixel("0.1") == 0.1
    for text in ("0", "-1", "nan", "inf"):
        with pytest.raises(click.BadParameter, match="more than 0"):
            bits_per_pixel(text)
