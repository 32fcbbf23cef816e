"""Bjontegaard's delta rate between two curves, with what it rests on, or the reason why there is none."""

import warnings
from dataclasses import dataclass

import numpy as np

from bsqcodec.evaluation.measures import Measure
from bsqcodec.evaluation.points import Curve

FEWEST_POINTS = 4
SMALLEST_OVERLAP = 0.5


@dataclass(frozen=True)
class BdRate:
    """Mean change of rate, in percent, of `test` against `anchor` at equal quality; negative: smaller.

    akima, pchip: by the interpolation used, None where refused; lowest, highest: the figures between which it
    holds; share_anchor, share_test: how much of each curve's range of figures that is; reason: of a refusal.
    """

    anchor: str
    test: str
    measure: Measure
    akima: float | None
    pchip: float | None
    lowest: float
    highest: float
    share_anchor: float
    share_test: float
    reason: str | None


def bd_rate(anchor: Curve, test: Curve, measure: Measure) -> BdRate:
    """The rate `test` needs against `anchor`, by the bjontegaard package.

    Refused where a curve has fewer than 4 points, where its figures do not rise with its rate, or where the
    common range is less than half of the shorter curve's.
    """
    import bjontegaard

    sign = 1 if measure.better_up else -1
    (rates_a, figures_a), (rates_t, figures_t) = (
        (np.array(rates), sign * np.array(figures))
        for rates, figures in (anchor.series(measure), test.series(measure))
    )
    for curve, figures in ((anchor, figures_a), (test, figures_t)):
        if len(figures) < FEWEST_POINTS:
            return _refused(anchor, test, measure, f"{curve.codec} has {len(figures)} points, 4 are needed")
        if np.any(np.diff(figures) <= 0):
            return _refused(anchor, test, measure, f"the figures of {curve.codec} do not rise with its rate")
    lowest, highest = max(figures_a[0], figures_t[0]), min(figures_a[-1], figures_t[-1])
    common = max(0.0, float(highest - lowest))
    share_anchor = common / float(figures_a[-1] - figures_a[0])
    share_test = common / float(figures_t[-1] - figures_t[0])
    shares = {"share_anchor": share_anchor, "share_test": share_test}
    if max(share_anchor, share_test) < SMALLEST_OVERLAP:
        widest = max(share_anchor, share_test)
        return _refused(
            anchor,
            test,
            measure,
            f"the curves share {100 * widest:.1f} % of the shorter, under 50 %",
            **shares,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns of overlaps under its own figure: ours is stated
        akima, pchip = (
            float(
                bjontegaard.bd_rate(
                    rates_a,
                    figures_a,
                    rates_t,
                    figures_t,
                    method,
                    require_matching_points=False,
                    min_overlap=0,
                )
            )
            for method in ("akima", "pchip")
        )
    ends = sorted((sign * float(lowest), sign * float(highest)))
    return BdRate(
        anchor.codec, test.codec, measure, akima, pchip, ends[0], ends[1], share_anchor, share_test, None
    )


def _refused(
    anchor: Curve,
    test: Curve,
    measure: Measure,
    reason: str,
    share_anchor: float = 0.0,
    share_test: float = 0.0,
) -> BdRate:
    return BdRate(anchor.codec, test.codec, measure, None, None, 0.0, 0.0, share_anchor, share_test, reason)
