"""Stage `generator`: the masked language model on the tokens of pictures, a class per folder.

# B batch · M pictures · N positions of a picture · G groups of bits per token
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsqcodec.errors import InputError
from bsqcodec.generator.masked_lm import MASKED, GeneratorConfig, MaskedLm, codes_of
from bsqcodec.generator.sampling import masked_share
from bsqcodec.machine import half_precision
from bsqcodec.tokenizer.bsqvit import BsqVit
from bsqtrain import pictures

CROPS_AT_ONCE = 16


@dataclass(frozen=True)
class GeneratorRecipe:
    """Numbers of the stage; the same names stand in the recipe file.

    width, depth, heads: of the transformer. crops: of the training pictures, made tokens of beforehand, the
    same number of every class. condition_drop: share of the pictures whose class is not told.
    """

    batch: int = 1024
    width: int = 768
    depth: int = 24
    heads: int = 12
    crops: int = 4000
    condition_drop: float = 0.2


def classes_in(folder: Path) -> list[Path]:
    """The folders in a folder, one a class, sorted by name."""
    found = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not found:
        raise InputError(f"{folder}: holds no folders, one for each class is expected")
    return found


@torch.no_grad()
def tokenise(
    tokenizer: BsqVit,
    folders: Sequence[Path],
    recipe: GeneratorRecipe,
    groups: tuple[int, ...],
    seed: int,
    say: Callable[[str], None],
) -> tuple[Tensor, Tensor]:
    """Codes (M, N, G) int16 of random crops of the pictures in the folders, and their labels (M,)."""
    source, size = random.Random(seed), tokenizer.config.image_size
    codes, labels = [], []
    for label, folder in enumerate(folders):
        found = pictures.find([folder], validation=False)
        sampler = pictures.CropSampler(pictures.load(found, size), size)
        for _ in range(max(1, recipe.crops // (len(folders) * CROPS_AT_ONCE))):
            with half_precision(torch.device("cpu")):
                u_BTHWL = tokenizer.sphere(sampler.draw(CROPS_AT_ONCE, source)[:, None])
            codes.append(codes_of(tokenizer.bits(u_BTHWL)[:, 0], groups).short())
            labels.append(torch.full((CROPS_AT_ONCE,), label))
        say(f"{folder.name}: {len(found)} pictures")
    return torch.cat(codes), torch.cat(labels)


class GeneratorObjective(nn.Module):
    """Cross-entropy of the masked groups, in bits for each bit of a token: 1 is chance."""

    def __init__(self, language: MaskedLm, device: torch.device) -> None:
        super().__init__()
        self.language, self.device = language, device

    def forward(
        self, codes_BNG: Tensor, hidden_BN: Tensor, label_B: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        shown_BNG = codes_BNG.masked_fill(hidden_BN[..., None], MASKED)
        with half_precision(self.device):
            logits = self.language(shown_BNG, label_B)
        total = torch.zeros((), device=self.device)
        for number, logits_BNV in enumerate(logits):
            total = total + F.cross_entropy(logits_BNV[hidden_BN].float(), codes_BNG[..., number][hidden_BN])
        loss = total / (math.log(2) * sum(self.language.config.groups))
        return loss, {"masked": hidden_BN.float().mean()}


class GeneratorTask:
    """What the trainer needs."""

    helper = None

    def __init__(
        self,
        language: MaskedLm,
        codes_MNG: Tensor,
        labels_M: Tensor,
        recipe: GeneratorRecipe,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        self.model, self.recipe, self.device, self.seed = language, recipe, device, seed
        self.codes, self.labels = codes_MNG, labels_M
        self.config = language.config.to_dict()
        self.objective = GeneratorObjective(language, device)

    def batch(self, step: int, rank: int, progress: float) -> tuple[Tensor, ...]:
        """Codes, which positions are hidden (a quarter of a cosine's share of them), labels."""
        source = torch.Generator().manual_seed(hash((self.seed, step, rank)))
        chosen = torch.randint(len(self.codes), (self.recipe.batch,), generator=source)
        codes = self.codes[chosen].long()
        B, N = codes.shape[:2]
        shares = torch.tensor([masked_share(x) for x in torch.rand(B, generator=source).tolist()])
        order = torch.rand(B, N, generator=source).argsort(-1)
        hidden = order < (shares * N).clamp(min=1)[:, None]
        dropped = torch.rand(B, generator=source) < self.recipe.condition_drop
        labels = self.labels[chosen].masked_fill(dropped, self.model.no_class)
        return tuple(tensor.to(self.device) for tensor in (codes, hidden, labels))


def new_language(tokenizer: BsqVit, classes: Sequence[str], recipe: GeneratorRecipe, seed: int) -> MaskedLm:
    """An untrained masked language model."""
    shape = {"width": recipe.width, "depth": recipe.depth, "heads": recipe.heads}
    torch.manual_seed(seed)
    return MaskedLm(GeneratorConfig(tokenizer.config, tuple(classes), **shape)).initialise()
