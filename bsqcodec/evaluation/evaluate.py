"""From what is asked (a set, codecs, settings) to the evaluation and its files."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

from bsqcodec.errors import InputError
from bsqcodec.evaluation.cache import Cache
from bsqcodec.evaluation.codecs import Codec
from bsqcodec.evaluation.datasets import DATA_SETS, DataSet, items_of
from bsqcodec.evaluation.fetch import data_folder
from bsqcodec.evaluation.plots import draw
from bsqcodec.evaluation.points import Compared, compare
from bsqcodec.evaluation.published import published_curves
from bsqcodec.evaluation.report import report
from bsqcodec.evaluation.runner import Outcome, Progress, plan, run
from bsqcodec.evaluation.sources import Item, Kind, Source, find_items
from bsqcodec.evaluation.tables import Evaluation, compressai_json, points_csv, points_json, summary
from bsqcodec.evaluation.trial import Judges
from bsqcodec.evaluation.views import ItemViews, item_views
from bsqcodec.metrics.lpips import load_lpips
from bsqcodec.metrics.ms_ssim import SMALLEST_SIDE
from bsqcodec.whole_file import whole_file

VIEWED = (0.25, 0.75)
"""Which of the tested codec's points are shown in pictures, as shares of the way along its curve."""


@dataclass(frozen=True)
class Selection:
    """Which part of what is found: names, frames of a clip, size to scale to, one kind of the two."""

    only: tuple[str, ...] = ()
    max_frames: int | None = None
    size: tuple[int, int] | None = None
    kind: Kind | None = None
    folders_are_clips: bool = False


@dataclass(frozen=True)
class Chosen:
    """The items of an evaluation, all of one kind. data_set: None for a user's own files."""

    title: str
    items: tuple[Item, ...]
    kind: Kind
    data_set: DataSet | None
    whole: bool


def choose(names: Sequence[str], folder: Path | None, selection: Selection) -> Chosen:
    """Items of a data set (by name, in `folder` or where it was fetched to) or of files and folders.

    InputError for a data set among files, for pictures among clips, for names that are not there.
    """
    if any(name in DATA_SETS for name in names):
        if len(names) > 1:
            raise InputError(f"{' '.join(names)}: a data set is evaluated alone")
        data_set = DATA_SETS[names[0]]
        place = folder if folder is not None else data_folder() / data_set.name
        items, title = items_of(data_set, place, selection.only), data_set.title
        if selection.only:
            title += f": {len(items)} of them"
    else:
        data_set = None
        items = find_items([Path(name) for name in names], folders_are_clips=selection.folders_are_clips)
        items = _named(items, selection.only)
        title = ", ".join(Path(name).resolve().name for name in names[:3]) + (" ..." if names[3:] else "")
    kinds = {item.kind for item in items}
    if len(kinds) > 1 and selection.kind is None:
        raise InputError("pictures and clips are evaluated apart: ask for --kind still or --kind clip")
    kind = selection.kind or next(iter(kinds))
    items = [item for item in items if item.kind is kind]
    if not items:
        raise InputError(f"{title}: no {kind.value} in it")
    chosen = tuple(replace(item, max_frames=selection.max_frames, size=selection.size) for item in items)
    whole = not selection.only and (selection.max_frames is None or kind is Kind.STILL)
    return Chosen(title, chosen, kind, data_set, whole)


def _named(items: list[Item], only: tuple[str, ...]) -> list[Item]:
    known = {item.name: item for item in items}
    if unknown := [name for name in only if name not in known]:
        raise InputError(f"{unknown[0]}: not among the {len(items)} found: {', '.join(list(known)[:10])} ...")
    return [known[name] for name in only] if only else items


def evaluate(
    chosen: Chosen,
    codecs: Sequence[Codec],
    *,
    cache: Cache | None,
    executor: Executor | None,
    judges: Judges | None = None,
    jobs: int = 1,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Evaluation, Outcome]:
    """Run all trials and compare; InputError where every one of them failed, with the first reason."""
    trials, unreadable = plan(chosen.items, codecs, judges)
    outcome = run(trials, cache=cache, executor=executor, on_progress=on_progress)
    failures = (*unreadable, *outcome.failures)
    compared = compare(outcome.results, failures, codecs)
    if not compared.curves:
        reasons = list(dict.fromkeys(failure.reason for failure in failures))
        raise InputError("; ".join(reasons[:3]) or "nothing to evaluate")
    published = tuple(
        curve
        for curve in published_curves(_published_name(chosen))
        if any(measured.series(next(iter(curve.points[0].figures)))[0] for measured in compared.curves)
    )
    notes = tuple(_notes(chosen, compared, jobs) + _judge_notes(judges or Judges(), chosen.kind))
    return Evaluation(chosen.title, compared, published, failures, notes, chosen.kind is Kind.CLIP), outcome


def _published_name(chosen: Chosen) -> str:
    if chosen.data_set is None or not chosen.whole:
        return ""
    size = chosen.items[0].size
    return chosen.data_set.published.get("" if size is None else f"{size[0]}x{size[1]}", "")


def _notes(chosen: Chosen, compared: Compared, jobs: int) -> list[str]:
    kept = [item for item in chosen.items if item.name in compared.items]
    if chosen.kind is Kind.STILL:
        notes = [
            "Colour: every codec is given 8-bit R'G'B' and converts to and from it by itself.",
            "Figures: per picture, then the mean over pictures.",
        ]
    else:
        paths = "; ".join(sorted({Source(item).info.colour.describe() for item in kept}))
        frames = sum(_frames(compared, item.name) for item in kept)
        notes = [
            f"Colour: {paths}; the same for every codec.",
            "Files of 8-bit 4:2:0 go to the video encoders as they are, others as R'G'B'; bsqc gets R'G'B'.",
            "Figures: per frame, mean per clip, mean over clips. PSNR-RGB (clip MSE), CompressAI's custom:"
            " the PSNR of each clip's mean squared error, then mean over clips.",
            f"Frames: {frames} in all.",
        ]
    small = [item.name for item in kept if _too_small(compared, item.name)]
    if small:
        side = f"a side under {SMALLEST_SIDE} pixels, too small for five scales"
        notes += [f"MS-SSIM is not given: {len(small)} of {len(kept)} have {side} ({', '.join(small[:5])})."]
    if chosen.items[0].size is not None:
        width, height = chosen.items[0].size
        notes += [f"Scaled first to {width}x{height}, bicubic."]
    if jobs != 1:
        notes += ["Times: of several trials at once on one machine, so longer than alone."]
    return notes


def _judge_notes(judges: Judges, kind: Kind) -> list[str]:
    notes = []
    if judges.lpips is not None:
        lpips = load_lpips(*judges.lpips)
        notes.append(f"LPIPS v0.1, backbone {lpips.backbone.name}, {lpips.digest}.")
    if judges.vmaf is not None and kind is Kind.CLIP:
        notes.append(f"VMAF: default model of {judges.vmaf.version()}, on 4:2:0 made of R'G'B'.")
    return notes


def _frames(compared: Compared, item: str) -> int:
    return next(len(result.frames) for result in compared.results if result.item == item)


def _too_small(compared: Compared, item: str) -> bool:
    return any(result.item == item and result.frames[0].ms_ssim is None for result in compared.results)


def pictures(
    chosen: Chosen, codecs: Sequence[Codec], evaluation: Evaluation, cache: Cache | None, count: int
) -> Iterator[ItemViews]:
    """Pictures for the report, of `count` items spread over the set, at two settings of the tested codec."""
    tested_name = evaluation.tested[0].codec
    anchors = {curve.codec for curve in evaluation.anchors}
    tested = next(codec for codec in codecs if codec.name == tested_name)
    others = [codec for codec in codecs if codec.name in anchors]
    points = evaluation.tested[0].points
    values = list(dict.fromkeys(points[round(share * (len(points) - 1))].value for share in VIEWED))
    kept = [item for item in chosen.items if item.name in evaluation.compared.items]
    count = min(count, len(kept))
    for index in range(count):
        item = kept[index * len(kept) // count]
        yield item_views(item, tested, values, others, evaluation.compared.results, cache)


def write_outputs(
    evaluation: Evaluation, folder: Path, *, plots: bool = True, views: Sequence[ItemViews] = ()
) -> list[Path]:
    """Tables, CompressAI's files, report and plots into `folder`, made where it is not there; the paths."""
    foreign = folder / "compressai"
    foreign.mkdir(parents=True, exist_ok=True)
    texts = {
        "summary.md": summary(evaluation),
        "points.csv": points_csv(evaluation),
        "points.json": points_json(evaluation),
        "report.html": report(evaluation, views),
    }
    texts |= {
        f"compressai/{curve.codec}.json": compressai_json(curve) for curve in evaluation.compared.curves
    }
    written = []
    for name, text in texts.items():
        with whole_file(folder / name, force=True) as stream:
            stream.write(text.encode())
        written.append(folder / name)
    return written + (draw(evaluation, folder) if plots else [])
