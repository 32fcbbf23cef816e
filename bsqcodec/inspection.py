"""What a model is, and whether it works: for `bsqc model list|show|verify`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bsqcodec import model
from bsqcodec.blocks import BlockKind
from bsqcodec.codec import EncodeOptions, compress, read_tokens
from bsqcodec.errors import InputError, ModelError
from bsqcodec.gop_coder import Tokens
from bsqcodec.machine import pick_device
from bsqcodec.model import AnyConfig
from bsqcodec.samples import picture
from bsqcodec.synthesis import open_tokenizer
from bsqcodec.tokenizer.bsqvit_config import BsqVitConfig

SIDE = 256
"""Of the part of the sample picture that a check codes."""


@dataclass(frozen=True)
class Summary:
    """A model in a few words. parameters: of the tokenizer; bpp: of its tokens as they are."""

    name: str
    path: Path
    digest: bytes
    kind: str
    parameters: int
    raw_bpp: float
    has_prior: bool
    config: AnyConfig
    origin: dict[str, str]


def find_models(folders: Sequence[Path]) -> list[Path]:
    """The weights files that ship with the package and those in the folders; priors lie beside them.

    InputError where a folder is missing.
    """
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
    found = [path for folder in (model.WEIGHTS, *folders) for path in sorted(folder.glob("*.safetensors"))]
    return [path for path in found if not path.name.endswith(".prior.safetensors")]


def summarise(name: str | Path) -> Summary:
    """Read a model and tell what it is. ModelError where it is none."""
    weights = model.load(name)
    config = weights.card.tokenizer
    return Summary(
        name=weights.card.name,
        path=model.find(name),
        digest=weights.digest,
        kind=_kind(config),
        parameters=sum(value.numel() for value in weights.part("tokenizer").values()),
        raw_bpp=sum(level.bits / level.stride**2 for level in config.levels),
        has_prior=weights.card.prior is not None,
        config=config,
        origin=weights.card.origin,
    )


def _kind(config: AnyConfig) -> str:
    if not isinstance(config, BsqVitConfig):
        return "BSQ ladder"
    return "BSQ-ViT" if config.frames == 1 else "BSQ-bcViT"


def verify(name: str | Path) -> list[str]:
    """Check a model from end to end; a line for every check passed. ModelError at the first that fails."""
    weights = model.load(name)
    tensors = weights.part("tokenizer")
    for key, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise ModelError(f"{name}: tensor {key} is not finite")
    tokenizer = open_tokenizer(weights, pick_device("cpu"))
    passed = [f"{len(tensors)} tensors, of the shapes of the configuration, all finite"]
    part = np.ascontiguousarray(picture()[:SIDE, :SIDE])
    data = compress(part, options=EncodeOptions(model=name, device="cpu"))
    levels, rate = len(weights.card.tokenizer.levels), weights.card.rate_index(EncodeOptions().q)
    chosen = tokenizer.analyse(BlockKind.KEY, [part], rate, levels=levels, keep_memory=False)
    passed.append(_check_stream(name, data, chosen))
    return passed


def _check_stream(name: str | Path, data: bytes, chosen: Tokens) -> str:
    """The stream must hold exactly the tokens that were chosen."""
    ((gop, blocks),) = read_tokens(io.BytesIO(data), model_file=model.find(name))
    ((_, tokens),) = blocks
    if not all(np.array_equal(one, other) for one, other in zip(tokens, chosen, strict=True)):
        raise ModelError(f"{name}: the tokens that were decoded are not those that were encoded")
    count = sum(grid.size for grid in tokens)
    return f"{count:,} bits of tokens of a sample coded ({gop.mode.name.lower()}) and decoded, exactly"
