"""Arms of `ablate` that change the tokenizer, its training, or what it is trained for.

# B batch · H, W token grid · D channels · N patches · P pixel values of a patch
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bsqcodec.distortion import DistortionWeights
from bsqcodec.tokenizer.config import TokenizerConfig, levels_of
from bsqcodec.tokenizer.ladder import PATCH, Ends, Ladder, Level
from bsqcodec.tokenizer.layers import Block, RMSNorm, WindowAttention
from bsqtrain.engine import Schedule
from bsqtrain.image import ImageRecipe

Alteration = Callable[[Ladder, Sequence[np.ndarray]], None]


TOKENIZER = TokenizerConfig(
    levels=levels_of((32, 32), (16, 32), (8, 24), (8, 32)),
    width=(64, 96, 128),
    encoder_depth=(1, 3, 1),
    decoder_depth=(2, 3, 2),
)
RECIPE = ImageRecipe(batch=4, crop=192, rate_warmup=0.25, rate_range=(390, 800))
SCHEDULE = Schedule(1e-3, muon_learning_rate=2e-3, warmup_steps=30, ema_decay=0.98)


@dataclass(frozen=True)
class Arm:
    """One change of the base: fields of its tokenizer, recipe or schedule, or of the network once built."""

    change: str
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    alter: Alteration | None = None
    seed: int = 0


class PlainLevel(Level):
    """Signs of a vector of any length: no projection onto the sphere."""

    def sphere(self, feature_BHWD: Tensor, state_BHWD: Tensor) -> Tensor:
        hidden = F.gelu(self.compare(torch.cat([feature_BHWD, state_BHWD], -1)))
        v: Tensor = self.project(hidden).float()
        return v / math.sqrt(v.shape[-1])  # where the sphere has its corners


class BoundedLevel(PlainLevel):
    """Signs of a vector whose entries are bounded one by one; at the start about as long as on the sphere."""

    GAIN = 8.0  # new projections give entries of about .1

    def sphere(self, feature_BHWD: Tensor, state_BHWD: Tensor) -> Tensor:
        scale = math.sqrt(self.project.out_features)
        return torch.tanh(super().sphere(feature_BHWD, state_BHWD) * scale * self.GAIN) / scale


def _ends(ladder: Ladder) -> Ends:
    ends = ladder.ends["key"]
    assert isinstance(ends, Ends)
    return ends


def signs(kind: type[PlainLevel], ladder: Ladder, _: Sequence[np.ndarray]) -> None:
    """Put levels of that kind in place of all levels."""
    levels = _ends(ladder).levels
    for number, level in enumerate(levels):
        assert isinstance(level, Level)
        plain = kind(level.project.in_features, level.project.out_features)
        plain.load_state_dict(level.state_dict())
        levels[number] = plain


def attention_at_8(wanted: bool, ladder: Ladder, _: Sequence[np.ndarray]) -> None:
    """Window attention in all blocks at stride 8, or in none."""
    config, blocks = ladder.config, [m for m in _ends(ladder).modules() if isinstance(m, Block)]
    for number, block in enumerate(blocks):
        shift = bool(number % 2)
        block.attention = (
            WindowAttention(config.width[0], config.head_width, config.window, shift) if wanted else None
        )
        block.norm_attention = RMSNorm(config.width[0]) if wanted else None


def principal_ends(ladder: Ladder, shown: Sequence[np.ndarray], patches: int = 20000) -> None:
    """Stem: the patch's principal components at a spread of one; head: the way back."""
    ends, source = _ends(ladder), random.Random(0)
    drawn = []
    for _ in range(patches):
        picture = source.choice(shown)
        top, left = (source.randint(0, side - PATCH) for side in picture.shape[:2])
        drawn.append(picture[top : top + PATCH, left : left + PATCH].transpose(2, 0, 1).reshape(-1))
    x_NP = torch.from_numpy(np.stack(drawn)).float() / 255 - 0.5
    values_P, vectors_PP = torch.linalg.eigh(torch.cov(x_NP.T))
    width = ladder.config.width[0]
    basis_PD, spread_D = vectors_PP[:, -width:], values_P[-width:].clamp(min=0).sqrt().clamp(min=0.05)
    with torch.no_grad():
        ends.stem.weight.copy_((basis_PD / spread_D).T)
        ends.stem.bias.copy_(-x_NP.mean(0) @ (basis_PD / spread_D))
        ends.head.weight.zero_()
        ends.head.weight[:, :, 1, 1] = basis_PD * spread_D
        ends.head.bias.copy_(x_NP.mean(0))  # type: ignore[union-attr]


def _distortion(ms_ssim: float, mse: float) -> dict[str, Any]:
    return {"distortion": DistortionWeights(ms_ssim=ms_ssim, mse=mse)}


ARMS: dict[str, Arm] = {
    "base": Arm("base, seed 0"),
    "base-1": Arm("base, seed 1", seed=1),
    "base-2": Arm("base, seed 2", seed=2),
    "sign": Arm("plain signs, no sphere", alter=partial(signs, PlainLevel)),
    "sign-tanh": Arm("signs of tanh, no sphere", alter=partial(signs, BoundedLevel)),
    "adamw": Arm("AdamW 1e-3 alone", schedule={"muon_learning_rate": 0.0}),
    "adamw-fast": Arm("AdamW 2e-3 alone", schedule={"muon_learning_rate": 0.0, "learning_rate": 2e-3}),
    "levels-1": Arm("1 level: 32 at 8", {"levels": levels_of((8, 32))}),
    "levels-2": Arm("2 levels: 32 at 16, 32 at 8", {"levels": levels_of((16, 32), (8, 32))}),
    "levels-3": Arm("3 levels: 32 each", {"levels": levels_of((32, 32), (16, 32), (8, 32))}),
    "levels-5": Arm(
        "5 levels: 32 32 24 32 32", {"levels": levels_of((32, 32), (16, 32), (8, 24), (8, 32), (8, 32))}
    ),
    "bits-16": Arm("16 bits a level", {"levels": levels_of((32, 16), (16, 16), (8, 16), (8, 16))}),
    "bits-64": Arm("64 bits a level", {"levels": levels_of((32, 64), (16, 64), (8, 64), (8, 64))}),
    "ssim-half": Arm("MS-SSIM .5, MSE 17", recipe=_distortion(0.5, 17)),
    "ssim-none": Arm("MS-SSIM 0, MSE 30", recipe=_distortion(0, 30)),
    "encoder-8": Arm("3 encoder blocks at stride 8", {"encoder_depth": (3, 3, 1)}),
    "decoder-8": Arm("4 decoder blocks at stride 8", {"decoder_depth": (4, 3, 2)}),
    "shallow-16": Arm("1 block at stride 16", {"encoder_depth": (1, 1, 1), "decoder_depth": (2, 1, 2)}),
    "wide-8": Arm(
        "width 96 at 8, 1 block at 16 and 32",
        {"width": (96, 96, 128), "encoder_depth": (1, 1, 1), "decoder_depth": (2, 1, 1)},
    ),
    "wide-16": Arm("width 64 128 192", {"width": (64, 128, 192)}),
    "attention-8": Arm("attention in all blocks at 8", alter=partial(attention_at_8, True)),
    "no-attention-8": Arm("no attention at 8", alter=partial(attention_at_8, False)),
    "pca": Arm("stem and head from PCA", alter=principal_ends),
    "crop-256": Arm("crops of 256, batch 2", recipe={"crop": 256, "batch": 2}),
    "rates-full": Arm("all rates from the start", recipe={"rate_range": (0, 1000)}),
    "rates-widen": Arm("all rates after .5 to .8", recipe={"widen": (0.5, 0.8)}),
    "warmup-0": Arm("no rate warm-up", recipe={"rate_warmup": 0.01}),
    "warmup-half": Arm("rate warm-up .5", recipe={"rate_warmup": 0.5}),
}
