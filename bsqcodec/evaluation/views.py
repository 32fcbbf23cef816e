"""Decoded pictures for the eye: the tested codec's, and those of others in files of as many bytes."""

import base64
import io
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bsqcodec.errors import BsqError
from bsqcodec.evaluation.cache import Cache, Identity
from bsqcodec.evaluation.codecs import Codec, Knob
from bsqcodec.evaluation.measures import score_frame
from bsqcodec.evaluation.sources import Item, Kind, Source, digest
from bsqcodec.evaluation.trial import Result
from bsqcodec.metrics.ms_ssim import ms_ssim_db
from bsqcodec.metrics.psnr import psnr_of_mse

VIEWS_VERSION = 1
CLOSE_ENOUGH = 0.02
MOST_ENCODES = 5


@dataclass(frozen=True)
class View:
    """The shown frames of one side, as lossless WebP in base64, with a line under each."""

    codec: str
    frames: tuple[str, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Rate:
    """One setting of the tested codec (the first view) and the others at its number of bytes."""

    label: str
    views: tuple[View, ...]


@dataclass(frozen=True)
class ItemViews:
    """An item in pictures. frame_numbers: which of a clip's frames are shown."""

    name: str
    width: int
    height: int
    frame_numbers: tuple[int, ...]
    original: View
    rates: tuple[Rate, ...]


def item_views(
    item: Item,
    tested: Codec,
    values: Sequence[float],
    others: Sequence[Codec],
    results: Sequence[Result],
    cache: Cache | None,
) -> ItemViews:
    """Pictures of one item; results: of all codecs on it, from which the others' settings are guessed."""
    of: Identity = {
        "views": VIEWS_VERSION,
        "digest": digest(item),
        "selection": item.selection,
        "codecs": [[codec.name, codec.describe(), codec.version()] for codec in (tested, *others)],
        "values": list(values),
    }
    if cache is not None and (known := cache.get_object(of)) is not None:
        return _from_object(known, item.name)
    found = _make(item, tested, values, others, results)
    if cache is not None:
        cache.put_object(of, asdict(found))
    return found


def _from_object(known: dict[str, Any], name: str) -> ItemViews:
    rates = tuple(
        Rate(rate["label"], tuple(View(**view) for view in rate["views"])) for rate in known["rates"]
    )
    original = View(**known["original"])
    return ItemViews(name, known["width"], known["height"], tuple(known["frame_numbers"]), original, rates)


def _make(
    item: Item, tested: Codec, values: Sequence[float], others: Sequence[Codec], results: Sequence[Result]
) -> ItemViews:
    source = Source(item)
    frames = next(len(result.frames) for result in results if result.item == item.name)
    numbers = (0,) if item.kind is Kind.STILL else tuple(sorted({0, frames // 2, frames - 1}))
    originals = _pick(source.rgb_frames(), numbers)
    pixels = frames * source.info.width * source.info.height
    rates = []
    with tempfile.TemporaryDirectory(prefix="bsqc-views-") as folder:
        for value in values:
            path = Path(folder) / f"{tested.name}-{value:g}{tested.suffix}"
            tested.encode(source, value, path)
            target = path.stat().st_size
            views = [_view(tested, value, path, source, originals, numbers, pixels)]
            for codec in others:
                known = [(one.value, one.file_bytes) for one in results if _is_of(one, item, codec)]
                try:
                    nearest, file = match_bytes(codec, source, target, known, Path(folder))
                    views.append(_view(codec, nearest, file, source, originals, numbers, pixels))
                except BsqError:  # the run has reported it; a picture less is no reason to have none
                    continue
            rates.append(Rate(f"{8 * target / pixels:.3f} bpp ({tested.knob.name} {value:g})", tuple(views)))
    own = View("original", tuple(map(_webp, originals)), ("original",) * len(numbers))
    return ItemViews(item.name, source.info.width, source.info.height, numbers, own, tuple(rates))


def _is_of(result: Result, item: Item, codec: Codec) -> bool:
    return result.item == item.name and result.codec == codec.name


def match_bytes(
    codec: Codec, source: Source, target: int, known: Sequence[tuple[float, int]], folder: Path
) -> tuple[float, Path]:
    """The setting whose file is nearest to `target` bytes, and that file.

    known: (setting, bytes) of this source. Settings between are tried where log(bytes) says, at most five,
    until one is within 2 %.
    """
    sizes = dict(known)
    files: dict[float, Path] = {}

    def encode(value: float) -> int:
        files[value] = folder / f"{codec.name}-{target}-{value:g}{codec.suffix}"
        codec.encode(source, value, files[value])
        return files[value].stat().st_size

    def distance(value: float) -> float:
        return abs(math.log(sizes[value] / target))

    for _ in range(MOST_ENCODES):
        value = _guess(codec.knob, sizes, target)
        if value in sizes:
            break
        sizes[value] = encode(value)
        if distance(value) <= CLOSE_ENOUGH:
            break
    best = min(sizes, key=distance)
    if best not in files:
        encode(best)
    return best, files[best]


def _guess(knob: Knob, sizes: dict[float, int], target: int) -> float:
    """The setting next to try: between the nearest smaller and larger file, or an end of the knob."""
    smaller = [value for value, size in sizes.items() if size <= target]
    larger = [value for value, size in sizes.items() if size > target]
    if not smaller:
        return knob.lowest if knob.rising else knob.highest
    if not larger:
        return knob.highest if knob.rising else knob.lowest
    below, above = max(smaller, key=lambda value: sizes[value]), min(larger, key=lambda value: sizes[value])
    share = math.log(target / sizes[below]) / math.log(sizes[above] / sizes[below])
    value = below + share * (above - below)
    return float(round(value)) if knob.whole else round(value, 2)


def _view(
    codec: Codec,
    value: float,
    path: Path,
    source: Source,
    originals: Sequence[np.ndarray],
    numbers: tuple[int, ...],
    pixels: int,
) -> View:
    pictures = _pick(codec.decode(path, source.info), numbers)
    head = f"{codec.name}, {codec.knob.name} {value:g}: {8 * path.stat().st_size / pixels:.3f} bpp"
    captions = []
    for original, picture in zip(originals, pictures, strict=True):
        score = score_frame(original, picture)
        line = f"{head}, PSNR {psnr_of_mse(score.mse):.2f} dB"
        if score.ms_ssim is not None:
            line += f", MS-SSIM {ms_ssim_db(score.ms_ssim):.2f} dB"
        captions.append(line)
    return View(codec.name, tuple(map(_webp, pictures)), tuple(captions))


def _pick(frames: Iterator[np.ndarray], numbers: tuple[int, ...]) -> list[np.ndarray]:
    return [frame for index, frame in enumerate(frames) if index in numbers]


def _webp(picture: np.ndarray) -> str:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "WEBP", lossless=True, quality=60, method=4)
    return base64.b64encode(data.getvalue()).decode()
