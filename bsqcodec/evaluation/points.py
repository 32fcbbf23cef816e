"""Results of trials as curves: one point a setting, the mean over the pictures or clips of the set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bsqcodec.evaluation.codecs import Codec
from bsqcodec.evaluation.measures import Measure, clip_figures, mean, set_figures
from bsqcodec.evaluation.runner import Failure
from bsqcodec.evaluation.trial import Result


@dataclass(frozen=True)
class Point:
    """One setting of one codec: means over the items of bpp, figures and seconds per item."""

    value: float
    bpp: float
    payload_bpp: float
    figures: dict[Measure, float | None]
    encode_seconds: float
    decode_seconds: float


@dataclass(frozen=True)
class Curve:
    """A codec's points, smallest file first. published: source of figures that were not measured here."""

    codec: str
    knob: str
    points: tuple[Point, ...]
    settings: str = ""
    version: str = ""
    published: str | None = None

    def series(self, measure: Measure) -> tuple[list[float], list[float]]:
        """(bpp, figures) of the points that have this measure."""
        pairs = [(point.bpp, point.figures.get(measure)) for point in self.points]
        known = [(bpp, value) for bpp, value in pairs if value is not None]
        return [bpp for bpp, _ in known], [value for _, value in known]


@dataclass(frozen=True)
class Compared:
    """Curves over one and the same set of items.

    items: their names; left_out: why an item is in no mean; results: those that are.
    """

    curves: tuple[Curve, ...]
    items: tuple[str, ...]
    left_out: dict[str, str]
    results: tuple[Result, ...]


def compare(results: Sequence[Result], failures: Sequence[Failure], codecs: Sequence[Codec]) -> Compared:
    """Curves of all codecs over the items that every one of them coded at every setting.

    A setting that failed on every item is left out alone; an item that failed at another is left out of all
    means, so that curves stay comparable. Empty where nothing is left.
    """
    reached = {(result.codec, result.value) for result in results}
    left_out = {
        failure.item: f"{failure.trial}: {failure.reason}"
        for failure in reversed(failures)
        if (failure.codec, failure.value) in reached or failure.value is None
    }
    kept = tuple(result for result in results if result.item not in left_out)
    curves = tuple(curve for codec in codecs if (curve := _curve(codec, kept)).points)
    items = tuple(dict.fromkeys(result.item for result in kept))
    return Compared(curves, items, left_out, kept)


def of_item(compared: Compared, item: str) -> tuple[Curve, ...]:
    """All codecs' curves of one item alone."""
    results = [result for result in compared.results if result.item == item]
    return tuple(
        replace(curve, points=_measured(curve.codec, [point.value for point in curve.points], results))
        for curve in compared.curves
    )


def _curve(codec: Codec, results: Sequence[Result]) -> Curve:
    points = _measured(codec.name, codec.knob.values, results)
    return Curve(codec.name, codec.knob.name, points, codec.describe(), codec.version())


def _measured(codec: str, values: Iterable[float], results: Sequence[Result]) -> tuple[Point, ...]:
    """A point for each of the values that there are results of."""
    points = []
    for value in values:
        here = [result for result in results if result.codec == codec and result.value == value]
        if here:
            points.append(_point(value, here))
    return tuple(sorted(points, key=lambda point: point.bpp))


def _point(value: float, results: Sequence[Result]) -> Point:
    return Point(
        value=value,
        bpp=_mean([result.bpp for result in results]),
        payload_bpp=_mean([result.payload_bpp for result in results]),
        figures=set_figures([clip_figures(result.frames, result.vmaf) for result in results]),
        encode_seconds=_mean([result.encode_seconds for result in results]),
        decode_seconds=_mean([result.decode_seconds for result in results]),
    )


def _mean(values: Sequence[float]) -> float:
    found = mean(values)
    assert found is not None
    return found


def at_rate(curve: Curve, bpp: float, measure: Measure) -> float | None:
    """The curve's figure at this rate, straight lines over log(bpp) between points; None outside of them."""
    import numpy as np

    rates, figures = curve.series(measure)
    if not rates or not rates[0] <= bpp <= rates[-1]:
        return None
    return float(np.interp(np.log(bpp), np.log(rates), figures))
