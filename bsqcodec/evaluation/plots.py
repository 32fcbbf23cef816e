"""Rate-distortion plots as SVG and PNG."""

from pathlib import Path

from bsqcodec.evaluation.measures import DRAWN, Measure
from bsqcodec.evaluation.points import Curve
from bsqcodec.evaluation.tables import TEST_CODEC, Evaluation

INCHES = (8.0, 5.5)
DOTS_PER_INCH = 130
BEYOND = 1.3
"""Published curves are drawn up to so much more than the largest rate measured here."""


def draw(evaluation: Evaluation, folder: Path) -> list[Path]:
    """One plot a measure into `folder`, as rd_NAME.svg and rd_NAME.png; the paths written."""
    written = []
    for measure in evaluation.columns:
        if measure in DRAWN or measure in (Measure.LPIPS, Measure.VMAF):
            written += _draw_one(evaluation, measure, folder)
    return written


def _draw_one(evaluation: Evaluation, measure: Measure, folder: Path) -> list[Path]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=INCHES, layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.add_subplot()
    furthest = max(max(curve.series(measure)[0], default=0) for curve in evaluation.compared.curves)
    for curve in evaluation.compared.curves:
        rates, figures = curve.series(measure)
        mine = curve.codec.startswith(TEST_CODEC)
        width, marker = (2.4, "o") if mine else (1.3, ".")
        axes.plot(rates, figures, label=curve.codec, linewidth=width, marker=marker)
    for curve in evaluation.published:
        rates, figures = _within(curve, measure, BEYOND * furthest)
        lone = "x" if len(rates) == 1 else ""
        axes.plot(
            rates, figures, linestyle="--", linewidth=0.9, marker=lone, label=f"{curve.codec} (published)"
        )
    axes.set_xlabel("bits per pixel, whole files")
    axes.set_ylabel(measure.label)
    axes.set_title(
        evaluation.title + ("; dashed: published, not run" if evaluation.published else ""), fontsize=10
    )
    if evaluation.is_video:
        axes.set_xscale("log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7)
    written = []
    for ending in ("svg", "png"):
        path = folder / f"rd_{measure.value}.{ending}"
        picture.savefig(path, dpi=DOTS_PER_INCH)
        written.append(path)
    return written


def _within(curve: Curve, measure: Measure, furthest: float) -> tuple[list[float], list[float]]:
    pairs = [pair for pair in zip(*curve.series(measure), strict=True) if pair[0] <= furthest]
    return [rate for rate, _ in pairs], [figure for _, figure in pairs]
