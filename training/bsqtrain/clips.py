"""Training clips: decoded once, kept in memory as uint8, cropped at random in space and time; and pictures
set in motion."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bsqcodec.errors import InputError

CPU = torch.device("cpu")
SUFFIXES = {".mp4", ".mkv", ".mov", ".webm"}


def load(paths: Sequence[Path], minimum: int, frames: int) -> list[np.ndarray]:
    """Clips as TxHxWx3 uint8 with both sides >= minimum and at least `frames` frames; others are left out."""
    from bsqcodec.media import open_reader  # takes PyAV, which training on pictures does without

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
    """Random crops of clips: place, time, left-right flip, direction of time.

    device: where the clips stay and the crops are made. A crop of more frames than its clip has goes to and
    fro through it.
    """

    def __init__(
        self, clips: Sequence[np.ndarray], crop: int, frames: int, device: torch.device = CPU
    ) -> None:
        self.crop, self.frames = crop, frames
        self.clips = [torch.from_numpy(clip).to(device) for clip in clips]

    def draw(self, count: int, source: random.Random, frames: int | None = None) -> Tensor:
        """(count, frames, 3, crop, crop), R'G'B' in 0..1, float32; as long as can be where frames is None."""
        return torch.stack([self._one(source, frames or self.frames) for _ in range(count)])

    def _one(self, source: random.Random, frames: int) -> Tensor:
        clip = source.choice(self.clips)
        length, height, width, _ = clip.shape
        first = source.randint(0, max(0, length - frames))
        top, left = source.randint(0, height - self.crop), source.randint(0, width - self.crop)
        crop = clip[first : first + frames, top : top + self.crop, left : left + self.crop]
        if frames > length:
            there_and_back = [*range(length), *range(length - 2, 0, -1)]
            crop = crop[[there_and_back[i % len(there_and_back)] for i in range(frames)]]
        x = crop.permute(0, 3, 1, 2).float() / 255
        if source.random() < 0.5:
            x = x.flip(-1)
        return x.flip(0) if source.random() < 0.5 else x


@dataclass(frozen=True)
class _Path:
    """Where a view of side x side pixels lies in frame t: centre (x, y), turn and scale, all linear in t."""

    centre: tuple[float, float]
    velocity: tuple[float, float]
    turn: tuple[float, float]
    log_scale: tuple[float, float]

    def places(self, frames: int, side: int, device: torch.device, samples: int | None = None) -> Tensor:
        """Pixel positions (frames, samples, samples, 2) that the view shows, in the middle of the clip at
        `centre`. samples: along each side; one a pixel where not given."""
        t = torch.arange(frames, device=device).float() - (frames - 1) / 2
        angle = self.turn[0] + self.turn[1] * t
        scale = (self.log_scale[0] + self.log_scale[1] * t).exp()
        line = torch.linspace(-(side - 1) / 2, (side - 1) / 2, samples or side, device=device)
        x, y = torch.meshgrid(line, line, indexing="xy")
        cosine, sine = (scale * angle.cos())[:, None, None], (scale * angle.sin())[:, None, None]
        left = self.centre[0] + (self.velocity[0] * t)[:, None, None] + cosine * x - sine * y
        top = self.centre[1] + (self.velocity[1] * t)[:, None, None] + sine * x + cosine * y
        return torch.stack([left, top], -1)


class MovingPictures:
    """Clips made of pictures: a view that pans, zooms and turns; in half of them another picture moves
    across.

    STILL: share of clips where nothing moves. SPEED: most pixels per frame. device: where the pictures stay
    and the views are made.
    """

    STILL = 0.2
    SPEED = 8.0

    def __init__(
        self, pictures: Sequence[np.ndarray], crop: int, frames: int, device: torch.device = CPU
    ) -> None:
        self.crop, self.frames, self.device = crop, frames, device
        self.pictures = [torch.from_numpy(picture).to(device) for picture in pictures]

    def draw(self, count: int, source: random.Random, frames: int | None = None) -> Tensor:
        """(count, frames, 3, crop, crop), R'G'B' in 0..1, float32; as long as can be where frames is None."""
        return torch.stack([self._one(source, frames or self.frames) for _ in range(count)])

    def _one(self, source: random.Random, frames: int) -> Tensor:
        still = source.random() < self.STILL
        clip, _ = self._view(source, frames, still)
        if source.random() < 0.5:
            other, places = self._view(source, frames, still)
            # An ellipse that is fixed in the other picture, and so moves with it.
            axes = torch.tensor([source.uniform(0.1, 0.4) * self.crop for _ in range(2)], device=self.device)
            centre = places[frames // 2, source.randrange(self.crop), source.randrange(self.crop)]
            far = ((places - centre) / axes).square().sum(-1)
            share = torch.sigmoid(12 * (1 - far))[:, None]
            clip = torch.lerp(clip, other, share)
        return clip

    def _view(self, source: random.Random, frames: int, still: bool) -> tuple[Tensor, Tensor]:
        """A moving view of one picture, (frames, 3, crop, crop), and the places that it shows."""
        picture = source.choice(self.pictures)
        height, width, _ = picture.shape
        speed = 0.0 if still else self.SPEED * source.random() ** 2
        heading = source.uniform(0, 2 * math.pi)
        most = math.log(max(1.0, min(height, width) / self.crop))
        path = _Path(
            centre=(
                source.uniform(min(self.crop, width) / 2, max(width - self.crop / 2, width / 2)),
                source.uniform(min(self.crop, height) / 2, max(height - self.crop / 2, height / 2)),
            ),
            velocity=(speed * math.cos(heading), speed * math.sin(heading)),
            turn=(source.gauss(0, 0.05), 0.0 if still else source.gauss(0, 0.004)),
            log_scale=(source.uniform(0, min(most, 0.5)), 0.0 if still else source.gauss(0, 0.006)),
        )
        places = path.places(frames, self.crop, self.device)
        # Only the part that is seen is taken from the picture; its corners say which.
        corners = path.places(frames, self.crop, CPU, 2)
        low = (corners.amin((0, 1, 2)) - 2).floor().long().clamp(min=0).tolist()
        high = (corners.amax((0, 1, 2)) + 3).ceil().long().tolist()
        part = picture[low[1] : max(high[1], low[1] + 2), low[0] : max(high[0], low[0] + 2)]
        x = part.permute(2, 0, 1)[None].float() / 255
        scale, shift = (
            torch.tensor(pair, device=self.device)
            for pair in zip(*(_to_grid(low[i], x.shape[-1 - i]) for i in range(2)), strict=True)
        )
        shown = F.grid_sample(
            x.expand(frames, -1, -1, -1),
            places * scale + shift,
            mode="bicubic",
            padding_mode="reflection",
            align_corners=False,
        ).clamp(0, 1)
        return shown, places


def _to_grid(first: int, size: int) -> tuple[float, float]:
    """Scale and shift from pixels of a picture to -1..1 over `size` pixels of it from `first` on."""
    return 2 / size, (0.5 - first) * 2 / size - 1


class MixedSampler:
    """Real clips and, for a share of the draws, pictures set in motion."""

    def __init__(self, clips: ClipSampler, moving: MovingPictures, share: float) -> None:
        self.clips, self.moving, self.share = clips, moving, share

    def draw(self, count: int, source: random.Random, frames: int | None = None) -> Tensor:
        """(count, frames, 3, crop, crop), R'G'B' in 0..1, float32; as long as can be where frames is None."""
        drawn = [self.moving if source.random() < self.share else self.clips for _ in range(count)]
        return torch.cat([sampler.draw(1, source, frames) for sampler in drawn])
