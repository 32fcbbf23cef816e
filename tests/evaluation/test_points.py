"""From results to curves, means, BD-rates and tables."""

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from bsqcodec.evaluation.bdrate import bd_rate
from bsqcodec.evaluation.codecs import Codec
from bsqcodec.evaluation.measures import FrameScore, Measure, clip_figures, set_figures
from bsqcodec.evaluation.points import Curve, Point, at_rate, compare, of_item
from bsqcodec.evaluation.published import DRAWN, published_curves
from bsqcodec.evaluation.runner import Failure
from bsqcodec.evaluation.stills import PillowCodec
from bsqcodec.evaluation.tables import Evaluation, compressai_json, points_csv, points_json, summary

from .conftest import MakeResult

JPEG, WEBP = PillowCodec("jpeg"), PillowCodec("webp")
CODECS: list[Codec] = [JPEG, WEBP]


def curve(name: str, rates: list[float], figures: list[float]) -> Curve:
    points = [
        Point(0, rate, rate, {Measure.PSNR_RGB: figure}, 0, 0)
        for rate, figure in zip(rates, figures, strict=True)
    ]
    return Curve(name, "quality", tuple(points))


RATES = [0.1, 0.2, 0.4, 0.8, 1.6]
FIGURES = [25.0, 28.0, 31.0, 34.0, 37.0]


def test_bd_rate_of_a_curve_with_half_the_rate() -> None:
    found = bd_rate(curve("a", RATES, FIGURES), curve("b", [r / 2 for r in RATES], FIGURES), Measure.PSNR_RGB)
    assert found.reason is None
    assert found.akima == pytest.approx(-50, abs=1e-6)
    assert found.pchip == pytest.approx(-50, abs=1e-6)
    assert (found.lowest, found.highest, found.share_anchor, found.share_test) == (25, 37, 1, 1)


def test_bd_rate_states_the_overlap() -> None:
    found = bd_rate(curve("a", RATES, FIGURES), curve("b", RATES[:4], FIGURES[:4]), Measure.PSNR_RGB)
    assert (found.lowest, found.highest) == (25, 34)
    assert (found.share_anchor, found.share_test) == (0.75, 1)
    assert found.akima == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ([f + 20 for f in FIGURES], "the curves share 0.0 % of the shorter, under 50 %"),
        ([f + 8 for f in FIGURES], "the curves share 33.3 % of the shorter"),
        ([25, 28, 27, 34, 37], "the figures of b do not rise with its rate"),
        ([25, 28, 31], "b has 3 points, 4 are needed"),
    ],
)
def test_bd_rate_is_refused_with_a_reason(figures: list[float], reason: str) -> None:
    found = bd_rate(curve("a", RATES, FIGURES), curve("b", RATES[: len(figures)], figures), Measure.PSNR_RGB)
    assert found.akima is None
    assert found.pchip is None
    assert found.reason is not None
    assert reason in found.reason


def test_bd_rate_where_less_is_better() -> None:
    def tints(name: str, rates: list[float]) -> Curve:
        figures = [4.0, 3.0, 2.0, 1.5, 1.0]
        points = [
            Point(0, rate, rate, {Measure.CIEDE2000: figure}, 0, 0)
            for rate, figure in zip(rates, figures, strict=True)
        ]
        return Curve(name, "quality", tuple(points))

    found = bd_rate(tints("a", RATES), tints("b", [2 * r for r in RATES]), Measure.CIEDE2000)
    assert found.pchip == pytest.approx(100, abs=1e-6)
    assert (found.lowest, found.highest) == (1, 4)


def test_figures_between_points_and_none_outside() -> None:
    line = curve("a", RATES, FIGURES)
    assert at_rate(line, 0.2, Measure.PSNR_RGB) == pytest.approx(28)
    assert at_rate(line, math.sqrt(0.2 * 0.4), Measure.PSNR_RGB) == pytest.approx(29.5)
    assert at_rate(line, 0.09, Measure.PSNR_RGB) is None
    assert at_rate(line, 2.0, Measure.PSNR_RGB) is None


def frame(mse: float, ms_ssim: float | None = 0.9) -> FrameScore:
    return FrameScore(mse=mse, psnr_yuv=30, ssim=0.8, ms_ssim=ms_ssim, ciede2000=1)


def test_both_customs_of_a_clip() -> None:
    figures = clip_figures([frame(65.025), frame(6.5025)])
    assert figures[Measure.PSNR_RGB] == pytest.approx(35)
    assert figures[Measure.PSNR_RGB_CLIP] == pytest.approx(10 * math.log10(65025 / ((65.025 + 6.5025) / 2)))


def test_ms_ssim_in_db_is_that_of_the_mean() -> None:
    found = set_figures([clip_figures([frame(10, 0.99)]), clip_figures([frame(10, 0.9)])])
    assert found[Measure.MS_SSIM] == pytest.approx(0.945)
    assert found[Measure.MS_SSIM_DB] == pytest.approx(-10 * math.log10(0.055))


def test_a_frame_too_small_leaves_the_measure_out() -> None:
    found = set_figures([clip_figures([frame(10)]), clip_figures([frame(10, None)])])
    assert found[Measure.MS_SSIM] is None
    assert found[Measure.MS_SSIM_DB] is None
    assert found[Measure.PSNR_RGB] is not None


def test_a_lossless_frame_is_100_db() -> None:
    assert clip_figures([frame(0)])[Measure.PSNR_RGB] == 100


def test_an_item_that_failed_once_is_in_no_mean(make_result: MakeResult) -> None:
    results = [
        make_result("a", "jpeg", 5, size=100, mse=50),
        make_result("b", "jpeg", 5, size=300, mse=50),
        make_result("a", "webp", 5, size=90, mse=50),
    ]
    compared = compare(results, [Failure("b", "webp", 5, "b.png: cannot be coded")], CODECS)
    assert compared.items == ("a",)
    assert compared.left_out == {"b": "webp at 5: b.png: cannot be coded"}
    assert [round(line.points[0].bpp, 4) for line in compared.curves] == [0.08, 0.072]


def test_a_codec_that_is_not_there_leaves_the_others(make_result: MakeResult) -> None:
    results = [make_result(item, "jpeg", 5, size=100, mse=50) for item in "ab"]
    failures = [
        Failure(item, "webp", value, "built without it") for item in "ab" for value in WEBP.knob.values
    ]
    compared = compare(results, failures, CODECS)
    assert compared.items == ("a", "b")
    assert [line.codec for line in compared.curves] == ["jpeg"]


@pytest.fixture
def evaluation(make_result: MakeResult) -> Evaluation:
    results = [
        make_result(item, codec.name, value, size=int(factor * 100 * 2**place), mse=200 / 2**place)
        for item in "ab"
        for codec, factor in ((JPEG, 2), (WEBP, 1.0))
        for place, value in enumerate(codec.knob.values[:5])
    ]
    return Evaluation("A set", compare(results, [], CODECS), (), (), ("a note",), False)


def test_summary_names_settings_points_bd_rates_and_machine(evaluation: Evaluation) -> None:
    text = summary(evaluation)
    assert "| jpeg | Pillow JPEG, baseline, subsampling=4:2:0 | Pillow" in text
    assert "| jpeg | quality 2 | 0.1600 | 0.1520 | 25.12 |" in text
    assert (
        "| jpeg | webp | PSNR-RGB | +100.0 % | +100.0 % | 25.12 to 37.16: 100% of jpeg, 100% of webp |"
        in text
    )
    assert "On a machine." in text
    assert "Means over 2 pictures" in text


def test_each_item_of_a_small_set_has_a_bd_rate_of_its_own(make_result: MakeResult) -> None:
    results = [
        make_result(item, codec.name, value, size=int(factor * 100 * 2**place), mse=200 / 2**place)
        for item, worse in (("a", 2), ("b", 4))
        for codec, factor in ((JPEG, worse), (WEBP, 1.0))
        for place, value in enumerate(codec.knob.values[:5])
    ]
    evaluation = Evaluation("A set", compare(results, [], CODECS), (), (), (), False)
    assert [curve.points[0].bpp for curve in of_item(evaluation.compared, "b")] == [0.32, 0.08]
    text = summary(evaluation)
    assert "## BD-rate of each picture" in text
    assert "| item | measure | jpeg against webp |" in text
    assert "| a | PSNR-RGB | +100.0 % |" in text
    assert "| b | PSNR-RGB | +300.0 % |" in text
    one = compare([result for result in results if result.item == "a"], [], CODECS)
    assert "of each" not in summary(replace(evaluation, compared=one))


def test_csv_has_every_trial_and_the_means(evaluation: Evaluation) -> None:
    rows = list(csv.DictReader(io.StringIO(points_csv(evaluation))))
    assert len(rows) == 2 * 2 * 5 + 2 * 5
    means = [row for row in rows if row["item"] == "(mean)"]
    assert {row["bytes"] for row in means} == {""}
    assert float(means[0]["psnr_rgb"]) == pytest.approx(10 * math.log10(65025 / 200), abs=1e-5)
    assert means[0]["lpips"] == ""


def test_json_is_strict_and_complete(evaluation: Evaluation) -> None:
    found = json.loads(points_json(evaluation))
    assert [line["codec"] for line in found["curves"]] == ["jpeg", "webp"]
    assert found["bd_rates"][0]["measure"] == "psnr_rgb"


def test_compressai_reads_our_points(evaluation: Evaluation) -> None:
    """What their plot command asks of a file: results with bpp, the metric, lists of one length."""
    found = json.loads(compressai_json(evaluation.compared.curves[0]))
    assert set(found) == {"name", "description", "results"}
    results = found["results"]
    assert {"bpp", "psnr-rgb", "ms-ssim-rgb", "encoding_time", "decoding_time"} <= set(results)
    assert {len(values) for values in results.values()} == {5}
    assert results["bpp"] == sorted(results["bpp"])
    assert all(0 < value < 1 for value in results["ms-ssim-rgb"]), "linear, not dB"


def test_published_curves_have_their_sources() -> None:
    curves = published_curves("kodak")
    assert {line.codec for line in curves} == {one.label for one in DRAWN if one.dataset == "kodak"}
    assert all(line.published for line in curves)
    by_name = {(line.codec, next(iter(line.points[0].figures))): line for line in curves}
    bpg = by_name["BPG 4:4:4", Measure.MS_SSIM_DB]
    assert at_rate(bpg, 0.352, Measure.MS_SSIM_DB) == pytest.approx(-10 * math.log10(1 - 0.9611), abs=0.02)
    elic = by_name["ELIC (MS-SSIM)", Measure.MS_SSIM_DB]
    assert 10 < elic.points[0].figures[Measure.MS_SSIM_DB] < 30  # type: ignore[operator]
    assert published_curves("") == []


def test_published_video_curves_are_of_the_clips_mean_error() -> None:
    measures = {next(iter(line.points[0].figures)) for line in published_curves("UVG-1080p")}
    assert measures == {Measure.PSNR_RGB_CLIP, Measure.MS_SSIM_DB}
    assert np.all(np.diff([point.bpp for point in published_curves("UVG-1080p")[0].points]) > 0)
