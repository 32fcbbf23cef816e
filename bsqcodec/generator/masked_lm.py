"""The masked language model: which bits stand at the positions that are masked, given the others and a class.

# B batch · N positions of a picture · G groups of bits per token · D width · V values of a group, 2**bits

A token's L bits are cut into groups of at most nine, each with an embedding and a head of its own, so that no
table has 2**L rows. All groups of a position are masked together.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsqcodec.errors import ModelError
from bsqcodec.tokenizer.bsqvit_config import BsqVitConfig

MASKED = -1
"""Code of a position whose bits are not known."""

INITIAL_STD = 0.02


@dataclass(frozen=True)
class GeneratorConfig:
    """Shape of a generator. The defaults are the paper's.

    tokenizer: whose tokens it makes. classes: their names. group_bits: most bits of a group.
    """

    tokenizer: BsqVitConfig
    classes: tuple[str, ...]
    width: int = 768
    depth: int = 24
    heads: int = 12
    group_bits: int = 9

    def __post_init__(self) -> None:
        sizes = (self.width, self.depth, self.heads, self.group_bits)
        if any(type(size) is not int or size < 1 for size in sizes) or self.width % self.heads:
            raise ModelError(f"a generator of width {self.width}, {self.depth} layers, {self.heads} heads")
        if self.group_bits > 9 or not self.classes or self.tokenizer.frames != 1:
            raise ModelError("a generator needs groups of at most 9 bits, a class, and an image tokenizer")

    @property
    def positions(self) -> int:
        """Tokens of a picture."""
        return self.tokenizer.side**2

    @property
    def groups(self) -> tuple[int, ...]:
        """Bits of each group, as equal as can be: 18 bits are 9 + 9, 6 bits are 6."""
        bits = self.tokenizer.bits
        count = -(-bits // self.group_bits)
        return tuple(bits // count + (number < bits % count) for number in range(count))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self) | {"tokenizer": self.tokenizer.to_dict(), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> GeneratorConfig:
        """The inverse of `to_dict`; ModelError where a field is missing, unknown or of a wrong kind."""
        try:
            values = dict(fields)
            tokenizer = BsqVitConfig.from_dict(values.pop("tokenizer"))
            return cls(tokenizer=tokenizer, classes=tuple(map(str, values.pop("classes"))), **values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"the generator's configuration is not one of this version: {error}") from error


def codes_of(bits_BHWL: Tensor, groups: tuple[int, ...]) -> Tensor:
    """The groups of every token as numbers, (B, N, G) int64; the first bit of a group is the highest."""
    parts = torch.split(bits_BHWL.flatten(1, 2).long(), list(groups), -1)
    return torch.stack([(part * _places(part.shape[-1], part.device)).sum(-1) for part in parts], -1)


def bits_of(codes_BNG: Tensor, groups: tuple[int, ...]) -> Tensor:
    """The inverse of `codes_of`, with the grid square: (B, H, W, L) {0, 1} uint8."""
    parts = [
        (codes_BNG[..., number, None] & _places(bits, codes_BNG.device)) > 0
        for number, bits in enumerate(groups)
    ]
    side = int(codes_BNG.shape[1] ** 0.5)
    return torch.cat(parts, -1).reshape(len(codes_BNG), side, side, -1).to(torch.uint8)


def _places(bits: int, device: torch.device) -> Tensor:
    return 2 ** torch.arange(bits - 1, -1, -1, device=device)


class MaskedLm(nn.Module):
    """A post-norm transformer over the positions of a picture and one token for the class."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed = nn.ModuleList(nn.Embedding(2**bits + 1, width) for bits in config.groups)  # last: masked
        self.label = nn.Embedding(len(config.classes) + 1, width)  # last: no class
        self.position = nn.Parameter(torch.zeros(config.positions + 1, width))
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, config.heads, 4 * width, dropout=0.0, activation=F.gelu, batch_first=True
            )
            for _ in range(config.depth)
        )
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.heads = nn.ModuleList(nn.Linear(width, 2**bits) for bits in config.groups)

    def initialise(self) -> MaskedLm:
        """Draw new weights: matrices normal of deviation .02, biases 0."""
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                nn.init.trunc_normal_(parameter, std=INITIAL_STD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        return self

    @property
    def no_class(self) -> int:
        """The label of pictures of any class."""
        return len(self.config.classes)

    def forward(self, codes_BNG: Tensor, label_B: Tensor) -> list[Tensor]:
        """Logits (B, N, V) per group. codes_BNG: MASKED where not known."""
        x_BND = self.label(label_B)[:, None]
        tokens_BND = torch.zeros((), device=x_BND.device)
        for number, (embed, bits) in enumerate(zip(self.embed, self.config.groups, strict=True)):
            codes_BN = codes_BNG[..., number]
            tokens_BND = tokens_BND + embed(torch.where(codes_BN == MASKED, 2**bits, codes_BN))
        x_BND = self.norm(torch.cat([x_BND, tokens_BND], 1) + self.position)
        for layer in self.layers:
            x_BND = layer(x_BND)
        x_BND = self.mix(x_BND[:, 1:])
        return [head(x_BND) for head in self.heads]
