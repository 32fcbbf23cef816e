"""Training clips: decoded once, kept in memory as uint8, cropped at random in space and time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bsqcodec.errors import InputError
from bsqcodec.media import open_reader

SUFFIXES = {".mp4", ".mkv", ".mov", ".webm"}


def load(paths: Sequence[Path], minimum: int, frames: int) -> list[np.ndarray]:
    """Clips as TxHxWx3 uint8 with both sides >= minimum and at least `frames` frames; others are left out."""
    clips = []
    for path in paths:
        with open_reader(path, audio=False) as reader:
            clip = np.stack([frame.pixels for frame in reader.frames()])
        if min(clip.shape[1:3]) >= minimum and len(clip) >= frames:
            clips.append(clip)
    if not clips:
        raise InputError(f"none of the {len(paths)} clips has {frames} frames of {minimum}x{minimum} pixels")
    return clips


class ClipSampler:
    """Random crops of clips: place, time, left-right flip, direction of time."""

    def __init__(self, clips: Sequence[np.ndarray], crop: int, frames: int) -> None:
        self.clips, self.crop, self.frames = clips, crop, frames

    def draw(self, count: int, source: random.Random) -> Tensor:
        """(count, frames, 3, crop, crop), R'G'B' in 0..1, float32."""
        return torch.stack([self._one(source) for _ in range(count)])

    def _one(self, source: random.Random) -> Tensor:
        clip = source.choice(self.clips)
        length, height, width, _ = clip.shape
        first = source.randint(0, length - self.frames)
        top, left = source.randint(0, height - self.crop), source.randint(0, width - self.crop)
        crop = clip[first : first + self.frames, top : top + self.crop, left : left + self.crop]
        x = torch.from_numpy(np.ascontiguousarray(crop)).permute(0, 3, 1, 2).float() / 255
        if source.random() < 0.5:
            x = x.flip(-1)
        return x.flip(0) if source.random() < 0.5 else x
