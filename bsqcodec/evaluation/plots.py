"""Rate-distortion plots as SVG and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bsqcodec.evaluation.measures import DRAWN, Measure
from bsqcodec.evaluation.points import Curve
from bsqcodec.evaluation.tables import TEST_CODEC, Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = (9.5, 5.5)
DOTS_PER_INCH = 130
BEYOND = 1.5
"""Others are drawn up to so much more than the largest rate of the tested codec."""
PANELS = 3
"""Items beside each other."""
MUTED = ("#7f7f7f", "#a0785a", "#5b8aa6", "#8a7fb0", "#7a9a6c", "#b08aa0", "#b59f4c", "#5f9e9a")


def draw(evaluation: Evaluation, folder: Path) -> list[Path]:
    """One plot a measure into `folder`, as rd_NAME.svg and rd_NAME.png, and as rd_NAME_each of all items of a
    small set; the paths written."""
    written = []
    for measure in evaluation.columns:
        if measure in DRAWN or measure in (Measure.LPIPS, Measure.VMAF):
            written += _draw_one(evaluation, measure, folder)
            if evaluation.each:
                written += _draw_each(evaluation, measure, folder)
    return written


def _draw_one(evaluation: Evaluation, measure: Measure, folder: Path) -> list[Path]:
    picture = _figure(INCHES)
    axes = picture.add_subplot()
    furthest = _furthest(evaluation, evaluation.compared.curves, measure)
    _plot(axes, evaluation.compared.curves, measure, furthest)
    foreign = [curve for curve in evaluation.published if _within(curve, measure, furthest)[0]]
    for index, curve in enumerate(foreign):
        rates, figures = _within(curve, measure, furthest)
        dash = ("--", ":", "-.")[index // len(MUTED) % 3]
        lone = "x" if len(rates) == 1 else ""
        axes.plot(
            rates, figures, dash, linewidth=1, marker=lone, color=MUTED[index % len(MUTED)], label=curve.codec
        )
    _label(axes, evaluation)
    axes.set_ylabel(measure.label)
    axes.set_title(evaluation.title, fontsize=10)
    title = "dashed: published, not run" if foreign else None
    axes.legend(fontsize=7, title=title, title_fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _saved(picture, folder / f"rd_{measure.value}")


def _draw_each(evaluation: Evaluation, measure: Measure, folder: Path) -> list[Path]:
    """A panel for every item, and one for the legend."""
    each = evaluation.each
    rows = -(-(len(each) + 1) // PANELS)
    picture = _figure((INCHES[0], rows * INCHES[0] / PANELS))
    panels = list(picture.subplots(rows, PANELS, squeeze=False).flat)
    for axes, (item, curves) in zip(panels, each.items(), strict=False):
        _plot(axes, curves, measure, _furthest(evaluation, curves, measure))
        _label(axes, evaluation)
        axes.set_title(item, fontsize=8)
        axes.tick_params(labelsize=7)
        handles, labels = axes.get_legend_handles_labels()
    for axes in panels[len(each) :]:
        axes.set_axis_off()
    panels[-1].legend(handles, labels, fontsize=7, loc="center")
    picture.suptitle(f"{evaluation.title}: {measure.label}", fontsize=10)
    return _saved(picture, folder / f"rd_{measure.value}_each")


def _figure(inches: tuple[float, float]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(picture)
    return picture


def _furthest(evaluation: Evaluation, curves: Sequence[Curve], measure: Measure) -> float:
    """The largest rate that is drawn."""
    tested = {curve.codec for curve in evaluation.tested}
    leading = [curve for curve in curves if curve.codec in tested or not evaluation.has_own]
    return BEYOND * max(max(curve.series(measure)[0], default=0) for curve in leading)


def _plot(axes: Axes, curves: Sequence[Curve], measure: Measure, furthest: float) -> None:
    for curve in curves:
        rates, figures = _within(curve, measure, furthest)
        mine = curve.codec.startswith(TEST_CODEC)
        width, marker = (2.6, "o") if mine else (1.4, ".")
        axes.plot(rates, figures, label=curve.codec, linewidth=width, marker=marker, zorder=3 if mine else 2)


def _label(axes: Axes, evaluation: Evaluation) -> None:
    axes.set_xlabel("bits per pixel, whole files", fontsize=8)
    if evaluation.is_video:
        axes.set_xscale("log")
    axes.grid(alpha=0.3, which="both")


def _saved(picture: Figure, stem: Path) -> list[Path]:
    written = [stem.with_suffix(f".{ending}") for ending in ("svg", "png")]
    for path in written:
        picture.savefig(path, dpi=DOTS_PER_INCH)
    return written


def _within(curve: Curve, measure: Measure, furthest: float) -> tuple[list[float], list[float]]:
    pairs = [pair for pair in zip(*curve.series(measure), strict=True) if pair[0] <= furthest]
    return [rate for rate, _ in pairs], [figure for _, figure in pairs]
