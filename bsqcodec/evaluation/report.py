"""report.html: curves, tables and pictures in one file that needs no network."""

import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from bsqcodec.evaluation.measures import Measure
from bsqcodec.evaluation.points import Curve
from bsqcodec.evaluation.tables import SHORT, Evaluation, bd_span, decimals
from bsqcodec.evaluation.views import ItemViews, View

TEMPLATE = "report.html"
NOT_DRAWN = (Measure.MS_SSIM,)


def report(evaluation: Evaluation, views: Sequence[ItemViews]) -> str:
    """The page; views may be none."""
    shown = [*evaluation.columns, *(m for m in NOT_DRAWN if m not in evaluation.columns)]
    own = {curve.codec for curve in evaluation.tested}
    data: dict[str, Any] = {
        "title": evaluation.title,
        "notes": evaluation.notes,
        "video": evaluation.is_video,
        "focus": evaluation.has_own,
        "measures": {
            measure.value: {
                "label": measure.label,
                "short": SHORT[measure],
                "digits": decimals(measure),
                "drawn": measure not in NOT_DRAWN,
            }
            for measure in shown
        },
        "curves": [_curve(curve, curve.codec in own) for curve in evaluation.compared.curves]
        + [_curve(curve, False) for curve in evaluation.published],
        "bd_rates": [
            {
                "test": rate.test,
                "anchor": rate.anchor,
                "measure": rate.measure.value,
                "akima": rate.akima,
                "pchip": rate.pchip,
                "over": bd_span(rate),
            }
            for rate in evaluation.bd_rates()
        ],
        "views": [_item(view) for view in views],
    }
    template = files("bsqcodec.evaluation").joinpath(TEMPLATE).read_text()
    inside = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    page = template.replace(
        "<title>Rate-distortion report</title>", f"<title>{html.escape(evaluation.title)}</title>"
    )
    before, after = page.split(">DATA<")
    return f"{before}>{inside}<{after}"


def _curve(curve: Curve, own: bool) -> dict[str, Any]:
    points = [
        {
            "value": point.value,
            "bpp": point.bpp,
            "payload_bpp": point.payload_bpp,
            "encode_seconds": point.encode_seconds,
            "decode_seconds": point.decode_seconds,
            "figures": {measure.value: value for measure, value in point.figures.items()},
        }
        for point in curve.points
    ]
    return {
        "codec": curve.codec,
        "knob": curve.knob,
        "settings": curve.settings,
        "version": curve.version,
        "published": curve.published,
        "own": own,
        "points": points,
    }


def _item(views: ItemViews) -> dict[str, Any]:
    return {
        "name": views.name,
        "width": views.width,
        "height": views.height,
        "frame_numbers": views.frame_numbers,
        "original": _side(views.original),
        "rates": [
            {"label": rate.label, "views": [_side(view) for view in rate.views]} for rate in views.rates
        ],
    }


def _side(view: View) -> dict[str, Any]:
    frames = [f"data:image/webp;base64,{frame}" for frame in view.frames]
    return {"codec": view.codec, "frames": frames, "captions": view.captions}
