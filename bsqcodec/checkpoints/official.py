"""Checkpoints of the paper's authors (github.com/zhaoyue-zephyrus/bsq-vit) as models of this package."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bsqcodec import model
from bsqcodec.checkpoints.inert import Archive, StoredTensor
from bsqcodec.errors import InputError, ModelError
from bsqcodec.model import ONE_RATE, ModelCard
from bsqcodec.tokenizer.bsqvit import BsqVit
from bsqcodec.tokenizer.bsqvit_config import BsqVitConfig

HEAD_WIDTH = 64
"""Channels of an attention head in all published models; the tensors do not tell."""

CONVENTIONS = {
    "zero": "the bit of an exact 0 is 0: +1 only where u > 0, as in the authors' code",
    "bit order": "bit 0 is the first dimension of u, the highest bit of the authors' index",
    "value range": "R'G'B' from -1 to 1 inside of the network",
}


def read_checkpoint(path: Path, *, ema: bool) -> tuple[BsqVit, dict[str, str]]:
    """The network of a checkpoint, and where it came from. ema: the averaged weights, not the last ones.

    Nothing in the file is run. ModelError where it is not of the published layout.
    """
    try:
        with path.open("rb") as file:
            archive = Archive(path, file)
            tensors, which = _tensors(path, archive, ema=ema)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    config = _config(path, tensors)
    with torch.device("meta"):
        network = BsqVit(config)
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ModelError(f"{path}: {' '.join(str(error).split())}") from error
    return network.eval().requires_grad_(False), {"checkpoint": path.name, "weights": which, **CONVENTIONS}


def import_checkpoint(path: Path, out: Path, *, ema: bool = False, name: str | None = None) -> ModelCard:
    """Write a checkpoint as a model of this package, without a prior: it codes raw bits until one is trained.

    name: what streams will ask for; bsqvit-L or bsqbcvit-L where None. Raises as read_checkpoint.
    """
    network, origin = read_checkpoint(path, ema=ema)
    family = "bsqvit" if network.config.frames == 1 else "bsqbcvit"
    card = ModelCard(name or f"{family}-{network.config.bits}", network.config, None, ONE_RATE, origin)
    model.save(out, card, network, None)
    return card


def _tensors(path: Path, archive: Archive, *, ema: bool) -> tuple[dict[str, Tensor], str]:
    which = "ema_state_dict" if ema else "state_dict"
    contents: Any = archive.contents
    stored = contents.get(which) if isinstance(contents, dict) else None
    if not isinstance(stored, dict):
        raise ModelError(f"{path}: has no {which}, the published checkpoints do")
    found = {}
    for key, value in stored.items():
        if not isinstance(key, str) or not isinstance(value, StoredTensor):
            raise ModelError(f"{path}: {which} holds something else than named tensors: {key!r}")
        while key.startswith("module."):
            key = key.removeprefix("module.")
        if not key.startswith("quantize."):  # place values of the bits: buffers, not weights
            found[key] = archive.tensor(value).float()
    return found, which


def _config(path: Path, tensors: dict[str, Tensor]) -> BsqVitConfig:
    """The configuration that the shapes tell."""
    try:
        width, inputs = tensors["encoder.conv1.weight"].shape
        tokens = tensors["encoder.positional_embedding"].shape[0]
        bits = tensors["quant_embed.weight"].shape[0]
        temporal = tensors.get("encoder.temporal_positional_embedding")
        frames = 1 if temporal is None else temporal.shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(f"{path}: not a BSQ-ViT: {error} is missing or of another shape") from error
    patch, side = math.isqrt(inputs // 3), math.isqrt(tokens)
    blocks = {key.split(".")[3] for key in tensors if key.startswith("encoder.transformer.resblocks.")}
    return BsqVitConfig(
        bits=bits,
        image_size=side * patch,
        patch=patch,
        width=width,
        heads=max(1, width // HEAD_WIDTH),
        depth=len(blocks),
        frames=frames,
        zero_bit=0,
        signed_pixels=True,
    )
