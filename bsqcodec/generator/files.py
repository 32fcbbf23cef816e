"""A generator on disk: one safetensors file with the masked language model and the tokenizer it speaks to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bsqcodec.errors import InputError, ModelError
from bsqcodec.generator.masked_lm import GeneratorConfig, MaskedLm, bits_of
from bsqcodec.generator.sampling import SamplingOptions, generate
from bsqcodec.model import read_file, write_file
from bsqcodec.pixels import Pixels, to_pixels
from bsqcodec.tokenizer import bsq
from bsqcodec.tokenizer.bsqvit import BsqVit

PICTURES_AT_ONCE = 16


@dataclass(frozen=True)
class Generator:
    """A masked language model and its tokenizer, ready for use."""

    language: MaskedLm
    tokenizer: BsqVit

    def label(self, name: str | None) -> int:
        """The label of a class, by name or by number; None is any class. InputError where there is none."""
        classes = self.language.config.classes
        if name is None:
            return self.language.no_class
        if name in classes:
            return classes.index(name)
        if name.isdecimal() and int(name) < len(classes):
            return int(name)
        raise InputError(f"class {name}: not one of this generator, which has {', '.join(classes)}")

    def pictures(self, label: int, count: int, seed: int, options: SamplingOptions) -> Iterator[Pixels]:
        """New pictures of a class, H x W x 3 uint8 each; the same seed gives the same on the same machine."""
        random = torch.Generator().manual_seed(seed)
        for start in range(0, count, PICTURES_AT_ONCE):
            labels = torch.full((min(PICTURES_AT_ONCE, count - start),), label)
            yield from self._some(generate(self.language, labels, options, random))

    @torch.inference_mode()
    def _some(self, codes_BNG: Tensor) -> list[Pixels]:
        corners_BHWL = bsq.corners(bits_of(codes_BNG, self.language.config.groups))
        return to_pixels(self.tokenizer.pixels(corners_BHWL[:, None])[:, 0])


def save(path: Path, name: str, language: MaskedLm, tokenizer: BsqVit) -> None:
    """Write a generator."""
    tensors = {f"language.{key}": value for key, value in language.state_dict().items()}
    tensors |= {f"tokenizer.{key}": value for key, value in tokenizer.state_dict().items()}
    write_file(path, {"name": name, "generator": language.config.to_dict()}, tensors)


def load(path: Path) -> Generator:
    """Read a generator. ModelError where the file is none."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    fields, tensors, _ = read_file(path)
    if "generator" not in fields:
        raise ModelError(f"{path}: holds no generator; `bsqc train generator` makes one")
    config = GeneratorConfig.from_dict(fields["generator"])
    language, tokenizer = MaskedLm(config), BsqVit(config.tokenizer)
    try:
        language.load_state_dict(_part(tensors, "language."))
        tokenizer.load_state_dict(_part(tensors, "tokenizer."))
    except RuntimeError as error:
        raise ModelError(f"{path}: tensors do not fit the configuration") from error
    return Generator(language.eval().requires_grad_(False), tokenizer.eval().requires_grad_(False))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
