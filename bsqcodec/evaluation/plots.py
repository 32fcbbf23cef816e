"""Rate-distortion plots as SVG and PNG."""

from pathlib import Path

from bsqcodec.evaluation.measures import DRAWN, Measure
from bsqcodec.evaluation.points import Curve
from bsqcodec.evaluation.tables import TEST_CODEC, Evaluation

INCHES = (9.5, 5.5)
DOTS_PER_INCH = 130
BEYOND = 1.5
"""Others are drawn up to so much more than the largest rate of the tested codec."""
MUTED = ("#7f7f7f", "#a0785a", "#5b8aa6", "#8a7fb0", "#7a9a6c", "#b08aa0", "#b59f4c", "#5f9e9a")


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
    leading = evaluation.tested if evaluation.has_own else evaluation.compared.curves
    furthest = BEYOND * max(max(curve.series(measure)[0], default=0) for curve in leading)
    for curve in evaluation.compared.curves:
        rates, figures = _within(curve, measure, furthest)
        mine = curve.codec.startswith(TEST_CODEC)
        width, marker = (2.6, "o") if mine else (1.4, ".")
        axes.plot(rates, figures, label=curve.codec, linewidth=width, marker=marker, zorder=3 if mine else 2)
    foreign = [curve for curve in evaluation.published if _within(curve, measure, furthest)[0]]
    for index, curve in enumerate(foreign):
        rates, figures = _within(curve, measure, furthest)
        dash = ("--", ":", "-.")[index // len(MUTED) % 3]
        lone = "x" if len(rates) == 1 else ""
        axes.plot(
            rates, figures, dash, linewidth=1, marker=lone, color=MUTED[index % len(MUTED)], label=curve.codec
        )
    axes.set_xlabel("bits per pixel, whole files")
    axes.set_ylabel(measure.label)
    axes.set_title(evaluation.title, fontsize=10)
    if evaluation.is_video:
        axes.set_xscale("log")
    axes.grid(alpha=0.3, which="both")
    title = "dashed: published, not run" if foreign else None
    axes.legend(fontsize=7, title=title, title_fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    written = []
    for ending in ("svg", "png"):
        path = folder / f"rd_{measure.value}.{ending}"
        picture.savefig(path, dpi=DOTS_PER_INCH)
        written.append(path)
    return written


def _within(curve: Curve, measure: Measure, furthest: float) -> tuple[list[float], list[float]]:
    pairs = [pair for pair in zip(*curve.series(measure), strict=True) if pair[0] <= furthest]
    return [rate for rate, _ in pairs], [figure for _, figure in pairs]
