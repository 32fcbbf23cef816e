"""The measures of the paper's tables: what a tokenizer loses, and how real generated pictures look.

# N pictures or clips · D features
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bsqcodec import model
from bsqcodec.blocks import BlockKind, TubeForm
from bsqcodec.codec import EncodeOptions
from bsqcodec.errors import InputError
from bsqcodec.evaluation.distances import frechet_distance, inception_score, precision_recall
from bsqcodec.evaluation.networks import I3d, PictureNetwork
from bsqcodec.evaluation.sources import Item, Kind, find_items
from bsqcodec.files import open_pixels
from bsqcodec.machine import pick_device
from bsqcodec.metrics.lpips import Lpips
from bsqcodec.metrics.psnr import psnr
from bsqcodec.metrics.ssim import ssim
from bsqcodec.pixels import Pixels
from bsqcodec.synthesis import open_tokenizer

IDENTICAL_DB = 100.0
"""PSNR of equal frames, in means."""

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Judges:
    """Networks from files of the user's; None leaves their measures out."""

    lpips: Lpips | None = None
    inception: PictureNetwork | None = None
    i3d: I3d | None = None


def centre_square(picture: Pixels, size: int) -> Pixels:
    """Lanczos so that the shorter side is `size` pixels, then the square in the middle (paper, table 1)."""
    image = Image.fromarray(picture)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - size) // 2, (height - size) // 2
    return np.array(resized.crop((left, top, left + size, top + size)))


class Reconstructor:
    """Frames to tokens and back, without the coding of the tokens between."""

    def __init__(self, name: str | Path, q: float, device: str) -> None:
        weights, on = model.load(name), pick_device(device)
        self._rate = weights.card.rate_index(q)
        self._levels = len(weights.card.tokenizer.levels)
        self._tube = weights.card.tokenizer.tube_length(self._rate)
        self._analysis, self._synthesis = (open_tokenizer(weights, on) for _ in range(2))

    def __call__(self, frames: Sequence[Pixels]) -> list[Pixels]:
        """The frames of a clip, or of a picture, as they come back."""
        most = self._analysis.most_frames
        return [
            frame
            for start in range(0, len(frames), most)
            for frame in self._gop(frames[start : start + most])
        ]

    def _gop(self, frames: Sequence[Pixels]) -> Iterator[Pixels]:
        self._analysis.forget()
        self._synthesis.forget()
        starts = [0, *range(1, len(frames), self._tube)]
        for number, start in enumerate(starts):
            kind = BlockKind.TUBE if number else BlockKind.KEY
            block = list(frames[start : start + (self._tube if number else 1)])
            full = block + [block[-1]] * ((self._tube if number else 1) - len(block))
            more = number + 1 < len(starts)
            tokens = self._analysis.analyse(kind, full, self._rate, levels=self._levels, keep_memory=more)
            height, width, _ = block[0].shape
            form = TubeForm(self._tube)
            back = self._synthesis.synthesise(kind, tokens, self._rate, height, width, form)
            yield from back[: len(block)]


def reconstruction(
    folder: Path,
    name: str | Path,
    judges: Judges,
    *,
    q: float = EncodeOptions.q,
    size: int = 256,
    frames: int = 16,
    device: str = "auto",
    progress: Progress = lambda done, total: None,
) -> dict[str, float]:
    """Measures of a model on the pictures, or on the clips, of a folder: means over frames, then over items.

    size: of the squares that are coded. frames: of each clip. rFID and rFVD with the networks for them. PSNR
    and SSIM are of the rounded frames. Raises InputError for a folder that holds neither kind, or both.
    """
    items = _of_one_kind(folder)
    reconstruct = Reconstructor(name, q, device)
    rows: list[dict[str, float]] = []
    real: dict[str, list[Tensor]] = {"rfid": [], "rfvd": []}
    made: dict[str, list[Tensor]] = {"rfid": [], "rfvd": []}
    for number, item in enumerate(items):
        with open_pixels(item.path) as pixels:
            before = [centre_square(frame, size) for frame in islice(pixels, frames)]
        after = reconstruct(before)
        rows.append(_scores(before, after, judges.lpips))
        for sets, clip in ((real, before), (made, after)):
            if judges.inception is not None:
                sets["rfid"] += [judges.inception.features(frame) for frame in clip]
            if judges.i3d is not None and item.kind is Kind.CLIP:
                sets["rfvd"].append(judges.i3d.features(clip))
        progress(number + 1, len(items))
    found = {"items": float(len(items))}
    found |= {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    for key in real:
        if real[key]:
            found[key] = frechet_distance(torch.stack(real[key]), torch.stack(made[key]))
    return found


def _of_one_kind(folder: Path) -> list[Item]:
    items = find_items([folder])
    kinds = {item.kind for item in items}
    if len(kinds) > 1:
        raise InputError(f"{folder}: holds both pictures and clips, one kind is expected")
    return items


def _scores(before: Sequence[Pixels], after: Sequence[Pixels], lpips: Lpips | None) -> dict[str, float]:
    pairs = list(zip(before, after, strict=True))
    scores = {"psnr": [min(psnr(x, y), IDENTICAL_DB) for x, y in pairs]}
    scores["ssim"] = [ssim(x, y) or 0.0 for x, y in pairs]
    if lpips is not None:
        scores["lpips"] = [lpips(x, y) or 0.0 for x, y in pairs]
    return {key: float(np.mean(values)) for key, values in scores.items()}


def generation(
    real: Path,
    made: Path,
    inception: PictureNetwork,
    *,
    size: int = 256,
    progress: Progress = lambda done, total: None,
) -> dict[str, float]:
    """FID, IS, precision and recall of the generated pictures in a folder against real ones in another.

    Real pictures become squares of `size` pixels first; generated ones are taken as they are.
    """
    real_items, made_items = _pictures(real), _pictures(made)
    total = len(real_items) + len(made_items)
    real_features, made_features, chances = [], [], []
    for number, item in enumerate(real_items):
        real_features.append(inception.features(centre_square(_picture(item), size)))
        progress(number + 1, total)
    for number, item in enumerate(made_items):
        picture = _picture(item)
        made_features.append(inception.features(picture))
        chances.append(inception.chances(picture))
        progress(len(real_items) + number + 1, total)
    real_ND, made_ND = torch.stack(real_features), torch.stack(made_features)
    score, deviation = inception_score(torch.stack(chances))
    precision, recall = precision_recall(real_ND, made_ND)
    return {
        "real": float(len(real_items)),
        "generated": float(len(made_items)),
        "fid": frechet_distance(real_ND, made_ND),
        "inception_score": score,
        "inception_score_deviation": deviation,
        "precision": precision,
        "recall": recall,
    }


def _pictures(folder: Path) -> list[Item]:
    items = [item for item in find_items([folder]) if item.kind is Kind.STILL]
    if not items:
        raise InputError(f"{folder}: holds no pictures")
    return items


def _picture(item: Item) -> Pixels:
    with open_pixels(item.path) as pixels:
        return next(pixels)
