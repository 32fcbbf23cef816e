"""The prior's weights by name: what must be there, in which shape and type, and how a net takes its part."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bsqcodec.blocks import BlockKind
from bsqcodec.errors import ModelError
from bsqcodec.prior.config import CHUNK, GROUPS, NODES, RATE_ROWS, PriorConfig
from bsqcodec.prior.head import LOGIT_LIMIT
from bsqcodec.prior.integer import Carrier, Linear, Matrix, Operators, multiplier

Spec = tuple[torch.dtype, tuple[int, ...]]


def _linear(name: str, *shape: int) -> dict[str, Spec]:
    """weight int8 (..., outputs, inputs), and per output a mantissa and the power of two it is
    multiplied by.
    """
    return {
        f"{name}.weight": (torch.int8, shape),
        f"{name}.mantissa": (torch.int16, shape[:-1]),
        f"{name}.exponent": (torch.int8, shape[:-1]),
    }


def _level_specs(config: PriorConfig, kind: BlockKind, index: int) -> dict[str, Spec]:
    level = config.levels[index]
    width = level.width

    def seen(name: str, k: int) -> dict[str, Spec]:
        other = config.levels[k]
        if other.stride == level.stride:
            return _linear(name, width, 4 * other.bits)
        factor = other.stride // (2 * level.stride)
        return _linear(name, factor**2 * width, other.bits)

    specs: dict[str, Spec] = {
        "rate": (torch.int16, (RATE_ROWS, width)),
        "step": (torch.int16, (GROUPS, width)),
    }
    specs |= _linear("own", width, 4 * level.bits)
    for k in range(index):
        specs |= seen(f"coarse.{k}", k)
    if kind is BlockKind.TUBE:
        for before in BlockKind:
            for k in range(index + 1):
                specs |= seen(f"after_{before.label}.{k}", k)
    for i, letter in enumerate(level.blocks):
        block = f"block.{i}"
        specs |= {
            f"{block}.mix.weight": (torch.int8, (9, width)),
            f"{block}.mix.mantissa": (torch.int16, (width,)),
            f"{block}.mix.exponent": (torch.int8, (width,)),
        }
        if letter != "c":
            specs |= _linear(f"{block}.qkv", 3 * width, width)
            specs |= _linear(f"{block}.out", width, width)
            specs[f"{block}.position"] = (torch.int16, (level.heads, (2 * level.window - 1) ** 2))
        specs |= _linear(f"{block}.up", level.hidden, width)
        specs |= _linear(f"{block}.down", width, level.hidden)
    specs |= _linear("start", GROUPS, level.head, width)
    specs["start.bias"] = (torch.int16, (GROUPS, level.head))
    specs["embedding"] = (torch.int16, (level.chunks, 1 << CHUNK, level.head))
    specs |= _linear("node", level.chunks, NODES, level.head)
    specs["node.bias"] = (torch.int16, (level.chunks, NODES))
    return specs


def tensor_specs(config: PriorConfig) -> dict[str, Spec]:
    """Every tensor of a prior: type and shape by name."""
    specs: dict[str, Spec] = {"exp2": (torch.int16, (256,)), "counts": (torch.int32, (2 * LOGIT_LIMIT + 1,))}
    for kind in BlockKind:
        for index, level in enumerate(config.levels):
            prefix = f"{kind.label}.{index}"
            specs |= {f"{prefix}.{name}": spec for name, spec in _level_specs(config, kind, index).items()}
            specs[f"static.{prefix}"] = (torch.int32, (RATE_ROWS, level.bits))
    return specs


@dataclass(frozen=True)
class Tensors:
    """A view of the weights below a prefix, on one device, for one carrier and one kind of operators."""

    values: dict[str, Tensor]
    carrier: Carrier
    operators: Operators
    prefix: str = ""

    @staticmethod
    def checked(
        config: PriorConfig,
        tensors: dict[str, Tensor],
        carrier: Carrier,
        operators: Operators,
        device: torch.device,
    ) -> "Tensors":
        """Take the weights of a prior.

        Raises ModelError where a name is missing or a shape, type or value is wrong.
        """
        values = {}
        for name, (dtype, shape) in tensor_specs(config).items():
            tensor = tensors.get(name)
            if tensor is None:
                raise ModelError(f"prior: tensor {name} is missing")
            if tensor.dtype != dtype or tuple(tensor.shape) != shape:
                raise ModelError(
                    f"prior: tensor {name} is {tensor.dtype} {tuple(tensor.shape)}, expected {dtype} {shape}"
                )
            values[name] = tensor.to(device)
        _check_range("counts", values["counts"], 1, 65535)
        _check_range("exp2", values["exp2"], 0, 1023)
        if values["exp2"][0] != 1023 or values["exp2"][255] != 0:
            raise ModelError("prior: table exp2 does not run from 1023 to 0")
        for name, tensor in values.items():
            if name.endswith(".weight"):
                _check_range(name, tensor, -127, 127)
            elif name.endswith(".mantissa"):
                _check_range(name, tensor, 0, 32767)
            elif name.endswith(".exponent"):
                _check_range(name, tensor, -60, 0)
        return Tensors(values, carrier, operators)

    def below(self, name: str) -> "Tensors":
        """The part of the weights whose names start with `name.`."""
        return Tensors(self.values, self.carrier, self.operators, f"{self.prefix}{name}.")

    def plain(self, name: str) -> Tensor:
        """A tensor as it is."""
        return self.values[self.prefix + name]

    def shared(self, name: str) -> Tensor:
        """A table that all nets share."""
        return self.values[name]

    def multiplier(self, name: str) -> Tensor:
        """Multipliers of a product as float32."""
        return multiplier(self.plain(f"{name}.mantissa"), self.plain(f"{name}.exponent"))

    def linear(self, name: str, index: int | None = None) -> Linear:
        """A matrix with its multipliers; index picks one of a stack."""
        weight, scale = self.plain(f"{name}.weight"), self.multiplier(name)
        if index is not None:
            weight, scale = weight[index], scale[index]
        return Linear(Matrix(weight, self.carrier), scale, self.operators)


def _check_range(name: str, tensor: Tensor, low: int, high: int) -> None:
    smallest, largest = int(tensor.min()), int(tensor.max())
    if smallest < low or largest > high:
        raise ModelError(f"prior: tensor {name} holds {smallest}..{largest}, expected {low}..{high}")
