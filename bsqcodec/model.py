"""Models on disk: one safetensors file with the tokenizer, the prior, and what the codec must know of
them."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bsqcodec.errors import ModelError
from bsqcodec.tokenizer import bsqvit_config
from bsqcodec.tokenizer.bsqvit import BsqVit
from bsqcodec.tokenizer.bsqvit_config import BsqVitConfig
from bsqcodec.tokenizer.config import RATE_STEPS, TokenizerConfig
from bsqcodec.tokenizer.ladder import Ladder

AnyConfig: TypeAlias = TokenizerConfig | BsqVitConfig
Network = TypeVar("Network", bound=nn.Module)

WEIGHTS = Path(__file__).parent / "weights"
METADATA_KEY = "bsqcodec"
FORMAT = 1
DIGEST_BYTES = 16

SCALE = ".scale"
LARGE = 1_000_000
"""Numbers in a tensor of a ladder from which on it is stored as int8 with a scale for each row: so that a
model stays below 30 MiB."""

ONE_RATE = (0, 0)
"""Quality table of a model that has one operating point."""


@dataclass(frozen=True)
class ModelCard:
    """What a model says of itself.

    quality_table: rate index of q = 1, 2, .. 10. prior: the prior's configuration, None where the file has
    no prior (such a model codes raw bits). origin: where imported weights came from, and in what form.
    """

    name: str
    tokenizer: AnyConfig
    prior: dict[str, Any] | None
    quality_table: tuple[int, ...]
    origin: dict[str, str] = field(default_factory=dict)

    def rate_index(self, q: float) -> int:
        """Rate index 0..1000 of a quality 1..10, linear between the entries of the table."""
        table = self.quality_table
        place = min(max(q, 1.0), float(len(table))) - 1
        low = min(int(place), len(table) - 2)
        return round(table[low] + (place - low) * (table[low + 1] - table[low]))

    def stated_quality(self, q: float) -> int:
        """What a stream's header says of the quality, in hundredths; 0 where the model has but one."""
        return 0 if len(set(self.quality_table)) == 1 else round(100 * q)


@dataclass(frozen=True)
class Weights:
    """A model in memory. digest: the first 16 bytes of the SHA-256 of its files, the tokenizer's first."""

    card: ModelCard
    digest: bytes
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with `prefix.`, without it."""
        return {
            k.removeprefix(prefix + "."): v for k, v in self.tensors.items() if k.startswith(prefix + ".")
        }

    def ladder(self) -> Ladder:
        """The tokenizer in float32, ready for inference. ModelError where it is none of this kind."""
        if not isinstance(self.card.tokenizer, TokenizerConfig):
            raise ModelError(f"model {self.card.name}: is a BSQ-ViT, a ladder was expected")
        with torch.device("meta"):  # memory for the weights comes with the weights
            ladder = Ladder(self.card.tokenizer)
        return self._filled(ladder)

    def bsqvit(self) -> BsqVit:
        """The paper's tokenizer in float32, ready for inference. ModelError where it is none of this kind."""
        if not isinstance(self.card.tokenizer, BsqVitConfig):
            raise ModelError(f"model {self.card.name}: is a ladder, a BSQ-ViT was expected")
        with torch.device("meta"):
            network = BsqVit(self.card.tokenizer)
        return self._filled(network)

    def _filled(self, network: Network) -> Network:
        values = {name: value.float() for name, value in self.part("tokenizer").items()}
        try:
            network.load_state_dict(values, assign=True)
        except RuntimeError as error:
            raise ModelError(f"model {self.card.name}: tensors do not fit its configuration") from error
        return network.eval().requires_grad_(False)


def find(model: str | Path) -> Path:
    """The file of a model given by name (shipped with the package) or by path."""
    shipped = WEIGHTS / f"{model}.safetensors"
    if isinstance(model, str) and "/" not in model and shipped.is_file():
        return shipped
    path = Path(model)
    if path.is_file():
        return path
    names = ", ".join(sorted(p.stem for p in WEIGHTS.glob("*.safetensors") if "." not in p.stem)) or "none"
    raise ModelError(f"model {model}: no such file, and not one that ships with this package ({names})")


def prior_file(path: Path) -> Path:
    """Where the prior of a tokenizer's file lies."""
    return path.with_suffix(".prior.safetensors")


@lru_cache(maxsize=4)
def load(model: str | Path) -> Weights:
    """Read a model. ModelError where it is missing, damaged or of another version."""
    path = find(model)
    fields, tensors, digest = read_file(path)
    tensors = {f"tokenizer.{name}": value for name, value in _whole(tensors).items()}
    prior = None
    if prior_file(path).is_file():
        prior, integers, more = read_file(prior_file(path))
        tensors |= {f"prior.{name}": value for name, value in integers.items()}
        digest += more
    try:
        card = ModelCard(
            name=fields["name"],
            tokenizer=_config(fields["tokenizer"]),
            prior=None if prior is None else prior["prior"],
            quality_table=tuple(fields["quality_table"]),
            origin=fields.get("origin", {}),
        )
    except KeyError as error:
        raise ModelError(f"{path}: the weights do not say {error}") from error
    return Weights(card, hashlib.sha256(digest).digest()[:DIGEST_BYTES], tensors)


def _config(fields: dict[str, Any]) -> AnyConfig:
    if fields.get("kind") == bsqvit_config.KIND:
        return BsqVitConfig.from_dict(fields)
    return TokenizerConfig.from_dict(fields)


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], bytes]:
    """What a weights file says of itself, its tensors, the SHA-256 of its bytes; ModelError for others."""
    try:
        tensors = load_file(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            file.seek(0)
            header = file.read(struct.unpack("<Q", file.read(8))[0])
        fields: dict[str, Any] = json.loads(json.loads(header)["__metadata__"][METADATA_KEY])
    except (SafetensorError, struct.error, KeyError, ValueError) as error:
        raise ModelError(f"{path}: not a bsqcodec weights file: {error}") from error
    if fields.get("format") != FORMAT:
        raise ModelError(f"{path}: weights of format {fields.get('format')}, expected format {FORMAT}")
    return fields, tensors, digest


def save(path: Path, card: ModelCard, tokenizer: Ladder | BsqVit, prior: dict[str, Tensor] | None) -> None:
    """Write a model, and the prior's integers as they are beside it.

    A ladder is stored in float16 (LARGE says what is not), a BSQ-ViT in float32, so that its tokens are those
    of the authors' code.
    """
    if len(card.quality_table) < 2 or not all(0 <= rate <= RATE_STEPS for rate in card.quality_table):
        raise ModelError(f"the quality table {card.quality_table} needs rate indices from 0 to {RATE_STEPS}")
    fields = {
        "name": card.name,
        "tokenizer": card.tokenizer.to_dict(),
        "quality_table": list(card.quality_table),
    }
    if card.origin:
        fields["origin"] = card.origin
    stored = tokenizer.state_dict()
    if isinstance(tokenizer, Ladder):
        stored = _small(stored)
    write_file(path, fields, stored)
    prior_file(path).unlink(missing_ok=True)
    if prior is not None:
        write_file(prior_file(path), {"prior": card.prior}, prior)


def _small(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as a ladder's file has them."""
    stored = {name: value.half() for name, value in tensors.items() if value.numel() < LARGE}
    for name in tensors.keys() - stored.keys():
        value = tensors[name]
        rows = tuple(range(1, value.ndim))
        stored[name + SCALE] = scale = value.abs().amax(rows, keepdim=True).clamp(min=1e-12) / 127
        stored[name] = (value / scale).round().to(torch.int8)
    return stored


def _whole(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `_small`."""
    scales = {name: value for name, value in stored.items() if name.endswith(SCALE)}
    return {
        name: value * scales[name + SCALE] if name + SCALE in scales else value
        for name, value in stored.items()
        if name not in scales
    }


def write_file(path: Path, fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a weights file, which appears whole. fields: JSON types."""
    part = path.with_name(path.name + ".part")
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    save_file(contiguous, part, metadata={METADATA_KEY: json.dumps({"format": FORMAT} | fields)})
    part.chmod(0o644)
    part.replace(path)
