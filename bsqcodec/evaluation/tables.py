"""An evaluation as tables: summary.md for readers, CSV and JSON for programs, CompressAI's JSON."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bsqcodec.evaluation.bdrate import FEWEST_POINTS, BdRate, bd_rate
from bsqcodec.evaluation.measures import DRAWN, Measure, clip_figures
from bsqcodec.evaluation.points import Compared, Curve, Point, at_rate, of_item
from bsqcodec.evaluation.runner import Failure

TEST_CODEC = "bsqc"
MOST_ITEMS = 12
"""Sets of no more items than this are shown item by item as well."""
EACH_ON = (Measure.PSNR_RGB, Measure.MS_SSIM_DB)
"""Measures of which every item has its BD-rates."""
COLUMNS = (*DRAWN, Measure.CIEDE2000, Measure.LPIPS, Measure.VMAF)
SHORT = {
    Measure.PSNR_RGB: "PSNR-RGB",
    Measure.PSNR_RGB_CLIP: "PSNR-RGB (clip MSE)",
    Measure.PSNR_YUV: "PSNR-YUV 6:1:1",
    Measure.PSNR_STEPS: "PSNR of steps",
    Measure.SSIM: "SSIM",
    Measure.MS_SSIM: "MS-SSIM",
    Measure.MS_SSIM_DB: "MS-SSIM dB",
    Measure.CIEDE2000: "CIEDE2000 1/8",
    Measure.LPIPS: "LPIPS",
    Measure.VMAF: "VMAF",
}
COMPRESSAI_NAMES = {
    Measure.PSNR_RGB: "psnr-rgb",
    Measure.MS_SSIM: "ms-ssim-rgb",
    Measure.PSNR_YUV: "psnr-yuv611",
    Measure.LPIPS: "lpips",
    Measure.VMAF: "vmaf",
}


@dataclass(frozen=True)
class Evaluation:
    """All that is reported. title: of the set; notes: lines that a reader needs (colour path, counts)."""

    title: str
    compared: Compared
    published: tuple[Curve, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    is_video: bool

    @property
    def columns(self) -> tuple[Measure, ...]:
        """The measures that there are figures of; a still's two PSNR-RGB are one."""
        return tuple(
            measure
            for measure in COLUMNS
            if any(curve.series(measure)[0] for curve in self.compared.curves)
            and (self.is_video or measure is not Measure.PSNR_RGB_CLIP)
        )

    @property
    def tested(self) -> tuple[Curve, ...]:
        """bsqc's curves; without any, the first codec's: the others are compared with it."""
        mine = tuple(curve for curve in self.compared.curves if curve.codec.startswith(TEST_CODEC))
        return mine or self.compared.curves[:1]

    @property
    def has_own(self) -> bool:
        """Whether bsqc is among the codecs: plots then show the rates that it reaches."""
        return self.tested[0].codec.startswith(TEST_CODEC)

    @property
    def anchors(self) -> tuple[Curve, ...]:
        return tuple(curve for curve in self.compared.curves if curve not in self.tested)

    @cached_property
    def each(self) -> dict[str, tuple[Curve, ...]]:
        """The curves of every item, of sets that are small enough for a reader to look at each."""
        items = self.compared.items
        return {item: of_item(self.compared, item) for item in items} if 1 < len(items) <= MOST_ITEMS else {}

    def bd_rates(self) -> list[BdRate]:
        """Of every tested codec against every anchor and published curve, on every measure."""
        found = []
        for measure in self.columns:
            for test in self.tested:
                others = [line for line in self.published if len(line.series(measure)[0]) >= FEWEST_POINTS]
                found += [bd_rate(anchor, test, measure) for anchor in (*self.anchors, *others)]
        return found


def summary(evaluation: Evaluation) -> str:
    """The whole evaluation in Markdown."""
    compared = evaluation.compared
    unit = "clips" if evaluation.is_video else "pictures"
    parts = [f"# {evaluation.title}", f"Means over {len(compared.items)} {unit}; bytes of whole files."]
    parts += [f"- {note}" for note in evaluation.notes]
    parts += ["", "## Settings", "", *_settings(compared.curves)]
    parts += ["", "## Points", "", *_points(evaluation)]
    if evaluation.anchors:
        parts += ["", f"## At the rates of {_names(evaluation.tested)}", "", *_equal_rate(evaluation)]
        parts += ["", "## BD-rate", "", *_bd_rates(evaluation)]
        if evaluation.each:
            parts += ["", f"## BD-rate of each {unit[:-1]}", "", *_bd_rates_of_each(evaluation)]
    parts += ["", "## Seconds", "", *_times(evaluation)]
    if evaluation.published:
        parts += ["", "## Published, not run", "", *_published(evaluation.published)]
    if compared.left_out or evaluation.failures:
        parts += ["", "## Left out", ""]
        parts += [
            f"- {item}: in no mean, since it failed: {reason}" for item, reason in compared.left_out.items()
        ]
        others = dict.fromkeys(
            f"- {failure.trial}: {failure.reason}"
            for failure in evaluation.failures
            if failure.item not in compared.left_out
        )
        parts += list(others)
    return "\n".join(parts) + "\n"


def _names(curves: Sequence[Curve]) -> str:
    return ", ".join(curve.codec for curve in curves)


def _settings(curves: Sequence[Curve]) -> list[str]:
    rows = [[curve.codec, curve.settings, curve.version, _values(curve)] for curve in curves]
    return table(["codec", "settings", "software", "points"], rows)


def _values(curve: Curve) -> str:
    return f"{curve.knob} " + ", ".join(f"{point.value:g}" for point in curve.points)


def _points(evaluation: Evaluation) -> list[str]:
    columns = evaluation.columns
    header = ["codec", "setting", "bpp", "bpp without container", *(SHORT[measure] for measure in columns)]
    rows = [
        [curve.codec, f"{curve.knob} {point.value:g}", f"{point.bpp:.4f}", f"{point.payload_bpp:.4f}"]
        + [figure(measure, point.figures.get(measure)) for measure in columns]
        for curve in evaluation.compared.curves
        for point in curve.points
    ]
    return table(header, rows)


def _equal_rate(evaluation: Evaluation) -> list[str]:
    measures = [measure for measure in evaluation.columns if measure in DRAWN]
    lines = ["Others between their own points by straight lines over log(bpp); - where they have none."]
    for test in evaluation.tested:
        others = evaluation.anchors
        for measure in measures:
            header = [f"{SHORT[measure]}, {test.codec} {test.knob}", "bpp", test.codec]
            header += [curve.codec for curve in others]
            rows = [_equal_row(test, point, others, measure) for point in test.points]
            lines += ["", *table(header, rows)]
    return lines


def _equal_row(test: Curve, point: Point, others: Sequence[Curve], measure: Measure) -> list[str]:
    own = figure(measure, point.figures.get(measure))
    there = [figure(measure, at_rate(curve, point.bpp, measure)) for curve in others]
    return [f"{point.value:g}", f"{point.bpp:.4f}", own, *there]


def _bd_rates(evaluation: Evaluation) -> list[str]:
    rows = []
    for found in evaluation.bd_rates():
        row = [found.test, found.anchor, SHORT[found.measure]]
        row += [_percent(found.akima), _percent(found.pchip), bd_span(found)]
        rows.append(row)
    header = ["codec", "against", "measure", "Akima", "PCHIP", "over"]
    return ["Negative: smaller files at equal quality.", "", *table(header, rows)]


def _bd_rates_of_each(evaluation: Evaluation) -> list[str]:
    measures = [measure for measure in EACH_ON if measure in evaluation.columns]
    pairs = [(test.codec, anchor.codec) for test in evaluation.tested for anchor in evaluation.anchors]
    rows = []
    for item, curves in evaluation.each.items():
        known = {curve.codec: curve for curve in curves}
        for measure in measures:
            found = [bd_rate(known[anchor], known[test], measure) for test, anchor in pairs]
            rows.append([item, SHORT[measure], *(_percent(rate.akima) for rate in found)])
    header = ["item", "measure", *(f"{test} against {anchor}" for test, anchor in pairs)]
    return ["Akima; - where the curves overlap too little.", "", *table(header, rows)]


def _times(evaluation: Evaluation) -> list[str]:
    machines = sorted({result.machine for result in evaluation.compared.results})
    rows = []
    for curve in evaluation.compared.curves:
        seconds = [
            [getattr(point, way) for point in curve.points] for way in ("encode_seconds", "decode_seconds")
        ]
        rows.append([curve.codec, *(f"{min(way):.3f} to {max(way):.3f}" for way in seconds)])
    unit = "clip" if evaluation.is_video else "picture"
    header = ["codec", f"encode, s per {unit}", f"decode, s per {unit}"]
    where = "Frames in memory to file, and file to R'G'B' frames in memory. On " + "; ".join(machines) + "."
    return [where, "", *table(header, rows)]


def _published(curves: Sequence[Curve]) -> list[str]:
    rows = [
        [curve.codec, SHORT[next(iter(curve.points[0].figures))], str(curve.published)] for curve in curves
    ]
    return table(["curve", "measure", "source"], rows)


def bd_span(found: BdRate) -> str:
    """Between which figures a BD-rate holds and how much of each curve that is, or why there is none."""
    if found.reason is not None:
        return f"none: {found.reason}"
    span = f"{figure(found.measure, found.lowest)} to {figure(found.measure, found.highest)}"
    return f"{span}: {found.share_test:.0%} of {found.test}, {found.share_anchor:.0%} of {found.anchor}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"


def decimals(measure: Measure) -> int:
    """How many decimals of a measure mean something."""
    return 4 if measure in (Measure.SSIM, Measure.MS_SSIM, Measure.LPIPS) else 2


def figure(measure: Measure, value: float | None) -> str:
    """A figure with the digits that mean something; - for one that is not there."""
    return "-" if value is None else f"{value:.{decimals(measure)}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def points_csv(evaluation: Evaluation) -> str:
    """One row a trial, and one a point with item "(mean)"; empty where there is no figure."""
    measures = list(Measure)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["codec", "knob", "value", "item", "frames", "bytes", "payload_bytes", "bpp", "payload_bpp"]
    writer.writerow([*head, *(measure.value for measure in measures), "encode_seconds", "decode_seconds"])
    knobs = {curve.codec: curve.knob for curve in evaluation.compared.curves}
    for result in evaluation.compared.results:
        figures = clip_figures(result.frames, result.vmaf)
        writer.writerow(
            [result.codec, knobs[result.codec], f"{result.value:g}", result.item, len(result.frames)]
            + [result.file_bytes, result.payload_bytes, f"{result.bpp:.6f}", f"{result.payload_bpp:.6f}"]
            + [_cell(figures.get(measure)) for measure in measures]
            + [f"{result.encode_seconds:.4f}", f"{result.decode_seconds:.4f}"]
        )
    for curve in evaluation.compared.curves:
        for point in curve.points:
            writer.writerow(
                [curve.codec, curve.knob, f"{point.value:g}", "(mean)", "", "", ""]
                + [f"{point.bpp:.6f}", f"{point.payload_bpp:.6f}"]
                + [_cell(point.figures.get(measure)) for measure in measures]
                + [f"{point.encode_seconds:.4f}", f"{point.decode_seconds:.4f}"]
            )
    return text.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def points_json(evaluation: Evaluation) -> str:
    """Everything as one object: notes, curves with settings and points, BD-rates, published curves."""
    found: dict[str, Any] = {
        "title": evaluation.title,
        "notes": evaluation.notes,
        "items": evaluation.compared.items,
        "left_out": evaluation.compared.left_out,
        "curves": [_curve_object(curve) for curve in evaluation.compared.curves],
        "published": [_curve_object(curve) for curve in evaluation.published],
        "bd_rates": [vars(rate) | {"measure": rate.measure.value} for rate in evaluation.bd_rates()],
    }
    return json.dumps(found, indent=1, allow_nan=False) + "\n"


def _curve_object(curve: Curve) -> dict[str, Any]:
    points = [
        vars(point) | {"figures": {measure.value: value for measure, value in point.figures.items()}}
        for point in curve.points
    ]
    return vars(curve) | {"points": points}


def compressai_json(curve: Curve) -> str:
    """A curve in the schema of CompressAI's result files, which `python -m compressai.utils.plot` reads."""
    results: dict[str, list[float]] = {"bpp": [point.bpp for point in curve.points]}
    for measure, name in COMPRESSAI_NAMES.items():
        _, figures = curve.series(measure)
        if len(figures) == len(curve.points):
            results[name] = figures
    results["encoding_time"] = [point.encode_seconds for point in curve.points]
    results["decoding_time"] = [point.decode_seconds for point in curve.points]
    described = f"{curve.settings}; {curve.version}"
    return json.dumps({"name": curve.codec, "description": described, "results": results}, indent=1) + "\n"
