"""The shape of a prior: what is stored beside the weights and decides every tensor's shape."""

from dataclasses import asdict, dataclass
from typing import Any

from bsqcodec.blocks import BlockKind
from bsqcodec.errors import ModelError

RATE_ROWS = 11  # one row per 100 steps of the rate index
MAX_RATE = 1000
GROUPS = 4
CHUNK = 4  # bits of a token that are coded through one binary tree
NODES = (1 << CHUNK) - 1  # inner nodes of that tree
MAX_SUM = 1032  # products of |a| <= 128 and |w| <= 127 in one sum that stay below 2**24


@dataclass(frozen=True)
class LevelPriorConfig:
    """One level's net.

    blocks: a string of `c` (convolution), `w` (window attention), `s` (shifted windows).
    """

    stride: int
    bits: int
    width: int = 192
    blocks: str = "cws"
    hidden: int = 576
    head_dim: int = 64
    window: int = 8
    head: int = 128

    @property
    def heads(self) -> int:
        """Attention heads."""
        return self.width // self.head_dim

    @property
    def chunks(self) -> int:
        """Chunks of up to four bits in one token."""
        return -(-self.bits // CHUNK)

    def check(self) -> None:
        """Raise ModelError unless every sum of this net is exact and every shape fits."""
        for name, size in (
            ("bits * 4", 4 * self.bits),
            ("width", self.width),
            ("hidden", self.hidden),
            ("head", self.head),
        ):
            if not 0 < size <= MAX_SUM or size % 8:
                raise ModelError(
                    f"prior level at stride {self.stride}: {name} is {size}, "
                    f"expected a multiple of 8 up to {MAX_SUM}"
                )
        if not 2 <= self.bits <= 256:
            raise ModelError(
                f"prior level at stride {self.stride}: {self.bits} bits a token, expected 2..256"
            )
        if self.width % self.head_dim or self.head_dim > 64 or self.width > 512:
            raise ModelError(
                f"prior level at stride {self.stride}: width {self.width} and head width "
                f"{self.head_dim}, expected at most 512 and a divisor of it up to 64"
            )
        if self.window not in (2, 4, 8):
            raise ModelError(f"prior level at stride {self.stride}: window {self.window}, expected 2, 4 or 8")
        if not self.blocks or set(self.blocks) - set("cws"):
            raise ModelError(
                f"prior level at stride {self.stride}: blocks {self.blocks!r}, expected letters c, w and s"
            )


@dataclass(frozen=True)
class PriorConfig:
    """All levels, coarse to fine; each stride divides the one before it or equals it.

    tube_passes: how often a tube's nets run for a level, 1, 2 or 4; groups of one pass do not know each
    other. Those of key frames run once for each of the four groups.
    """

    levels: tuple[LevelPriorConfig, ...]
    tube_passes: int = GROUPS

    def passes(self, kind: BlockKind) -> list[range]:
        """The groups of every pass, in their order."""
        size = GROUPS // (self.tube_passes if kind is BlockKind.TUBE else GROUPS)
        return [range(first, first + size) for first in range(0, GROUPS, size)]

    def check(self) -> None:
        """Raise ModelError unless the levels form a ladder."""
        if self.tube_passes not in (1, 2, 4):
            raise ModelError(f"prior: {self.tube_passes} passes for a level of a tube, expected 1, 2 or 4")
        if not self.levels:
            raise ModelError("prior: no levels")
        for level in self.levels:
            level.check()
        for coarse, fine in zip(self.levels, self.levels[1:], strict=False):
            if fine.stride < 1 or fine.stride not in {coarse.stride >> shift for shift in range(16)}:
                raise ModelError(
                    f"prior: stride {fine.stride} follows {coarse.stride}, expected it divided by 1, 2, 4.."
                )

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain values for the weights' metadata."""
        return asdict(self)

    @staticmethod
    def from_json(values: Any) -> "PriorConfig":
        """Read what `to_json` wrote. Raises ModelError where it does not fit."""
        try:
            levels = tuple(LevelPriorConfig(**level) for level in values["levels"])
            config = PriorConfig(levels, values.get("tube_passes", GROUPS))
        except (TypeError, KeyError) as error:
            raise ModelError(f"prior: configuration not understood: {error}") from None
        config.check()
        return config

    @staticmethod
    def preset(levels: tuple[tuple[int, int], ...], size: str = "base") -> "PriorConfig":
        """The nets that ship, for a tokenizer's (stride, bits) pairs. size: `base` or `tiny`."""
        if size == "base":
            nets = [
                LevelPriorConfig(
                    stride, bits, blocks="ws" if stride >= 32 else "cws", window=4 if stride >= 32 else 8
                )
                for stride, bits in levels
            ]
        elif size == "tiny":
            nets = [
                LevelPriorConfig(
                    stride, bits, width=64, blocks="ws", hidden=128, head_dim=32, window=4, head=32
                )
                for stride, bits in levels
            ]
        else:
            raise ModelError(f"prior: preset {size!r}, expected base or tiny")
        config = PriorConfig(tuple(nets), tube_passes=2)
        config.check()
        return config
