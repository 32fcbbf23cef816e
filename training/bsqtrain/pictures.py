"""Training pictures: decoded once, kept in memory, cropped at random.

A tenth of the files (file number divisible by 10) is the validation part.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from bsqcodec.errors import InputError

CPU = torch.device("cpu")
SUFFIXES = {".avif", ".png", ".jpg", ".jpeg", ".webp"}


def is_validation(path: Path) -> bool:
    """Whether a file belongs to the validation part: its number is divisible by 10."""
    digits = re.findall(r"\d+", path.stem)
    return bool(digits) and int(digits[-1]) % 10 == 0


def find(folders: Sequence[Path], *, validation: bool, suffixes: set[str] = SUFFIXES) -> list[Path]:
    """The files of the training or of the validation part, sorted by name."""
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder of training data")
        found += [
            p
            for p in sorted(folder.iterdir())
            if p.suffix.lower() in suffixes and is_validation(p) == validation
        ]
    if not found:
        wanted = "held-out files, whose number is divisible by 10," if validation else "training data"
        raise InputError(
            f"no {wanted} in {', '.join(map(str, folders))} (looked for {', '.join(sorted(suffixes))})"
        )
    return found


def load(paths: Sequence[Path], minimum: int) -> list[np.ndarray]:
    """Pictures as HxWx3 uint8 with both sides >= minimum; smaller ones are left out."""
    with ThreadPoolExecutor() as threads:
        decoded = threads.map(_decode, paths)
        pictures = [picture for picture in decoded if min(picture.shape[:2]) >= minimum]
    if not pictures:
        raise InputError(f"none of the {len(paths)} training pictures has both sides >= {minimum}")
    return pictures


def _decode(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.array(ImageOps.exif_transpose(file).convert("RGB"))


GROUP = 8
"""Crops that share a scale, so that they can be resized together."""


class CropSampler:
    """Random crops: position, scale (down to half; one for a few crops), left-right flip.

    device: where the pictures stay and the crops are made; which crops are drawn does not depend on it.
    """

    def __init__(self, pictures: Sequence[np.ndarray], crop: int, device: torch.device = CPU) -> None:
        self.crop = crop
        self.pictures = [torch.from_numpy(picture).to(device) for picture in pictures]

    def draw(self, count: int, source: random.Random) -> Tensor:
        """(count, 3, crop, crop), R'G'B' in 0..1, float32."""
        groups = [self._group(min(GROUP, count - first), source) for first in range(0, count, GROUP)]
        return torch.cat(groups)

    def _group(self, count: int, source: random.Random) -> Tensor:
        pictures = [source.choice(self.pictures) for _ in range(count)]
        shortest = min(min(picture.shape[:2]) for picture in pictures)
        scale = source.uniform(max(0.5, self.crop / shortest), 1.0) if source.random() < 0.7 else 1.0
        side = min(round(self.crop / scale), shortest)
        cut = []
        for picture in pictures:
            top, left = (source.randint(0, size - side) for size in picture.shape[:2])
            cut.append(picture[top : top + side, left : left + side])
        flipped = torch.tensor([source.random() < 0.5 for _ in range(count)])[:, None, None, None]
        x = torch.stack(cut).permute(0, 3, 1, 2).float() / 255
        if side != self.crop:
            size = (self.crop, self.crop)
            x = F.interpolate(x, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        return torch.where(flipped.to(x.device, non_blocking=True), x.flip(-1), x)
