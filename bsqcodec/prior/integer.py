"""Exact integer operators of the prior. Every value here is an integer (or an integer times a power of two).

Tensors of integers are held in float32, where sums of integers are exact in any order, with or without fused
multiply-add, while every partial sum stays below 2**24. Products of matrices run on one of three carriers
(int8, float32, float64) which therefore return equal numbers; everything else is the same code for all
carriers. The only inexact steps are single IEEE 754 float32 multiplications, rounded to nearest even as the
standard prescribes, and each is followed by a rounding to an integer, so that no compiler can contract it
with anything. No function of a mathematics library is called: tables come with the weights.

    # N rows · K inputs · O outputs · B batch · h, w cells · D channels · P cells of a window · M windows · A
    # heads · E head width
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from time import perf_counter

import torch
from torch import Tensor

RESIDUAL_LIMIT = 32767
ACTIVATION_MEAN = 24  # mean magnitude of a normalised row
ACTIVATION_LIMIT = 127
NORM_FLOOR = 4  # rows with a smaller mean magnitude are not amplified further
NORM_SHIFT = 20
SCORE_SCALE = 2.0**-7  # a product of queries and keys in steps of the exponential's table
SOFTMAX_SHIFT = 26
MASK = -(2.0**15)  # in steps of the exponential's table: beyond its end


class Carrier(StrEnum):
    """What matrix products are computed with. The results are equal; the speed is not."""

    INT8 = "int8"
    FLOAT32 = "float32"
    FLOAT64 = "float64"

    @staticmethod
    def pick(device: torch.device) -> "Carrier":
        """The fastest carrier on this machine."""
        return _pick(device.type)


@cache
def _pick(device_type: str) -> Carrier:
    """Time one product each way, in turn: instruction sets differ too much for a rule."""
    device = torch.device(device_type)
    inputs = torch.ones(256, 192, dtype=torch.int8, device=device)
    carriers = (Carrier.INT8, Carrier.FLOAT32)
    weights = {c: Matrix(torch.ones(576, 192, dtype=torch.int8, device=device), c) for c in carriers}
    seconds = dict.fromkeys(carriers, math.inf)
    for _ in range(12):
        for carrier in carriers:
            start = perf_counter()
            weights[carrier].product(inputs).sum().item()
            seconds[carrier] = min(seconds[carrier], perf_counter() - start)
    return min(seconds, key=lambda carrier: seconds[carrier])


@cache
def _int8_is_exact(device_type: str) -> bool:
    """Whether products of the largest int8 numbers come out right: oneDNN's saturate on x86 CPUs without
    VNNI, where pairs of them are added in 16 bits."""
    numbers = torch.tensor([127, -127, 1, -128], dtype=torch.int8)
    left_NK, right_KO = numbers.repeat(48)[:, None].repeat(1, 192), numbers.repeat(6).repeat(192, 1)
    left_NK[:, ::3] = 127
    try:
        found = torch._int_mm(left_NK.to(device_type), right_KO.to(device_type)).cpu()
    except RuntimeError:  # this kind of device has no such product
        return False
    return torch.equal(found, (left_NK.double() @ right_KO.double()).int())


class Matrix:
    """An int8 matrix, O x K, ready to be multiplied on a carrier."""

    def __init__(self, weight_OK: Tensor, carrier: Carrier) -> None:
        self.carrier = carrier
        outputs, inputs = weight_OK.shape
        # The accelerator's int8 product wants sizes in multiples of 8; float32 carries the others, and what a
        # CPU would get wrong, equally exact.
        self._int8 = (
            carrier is Carrier.INT8
            and inputs % 8 == 0
            and (weight_OK.device.type == "cpu" or outputs % 8 == 0)
            and _int8_is_exact(weight_OK.device.type)
        )
        self._weight_KO = weight_OK.t() if self._int8 else weight_OK.to(float_type(carrier)).t()

    def product(self, a_NK: Tensor) -> Tensor:
        """N x O integers, int32, float32 or float64. a_NK: int8."""
        if self._int8 and (a_NK.device.type == "cpu" or a_NK.shape[0] > 16):
            return torch._int_mm(a_NK, self._weight_KO)
        weight_KO = self._weight_KO if not self._int8 else self._weight_KO.to(float_type(self.carrier))
        return torch.mm(a_NK.to(weight_KO.dtype), weight_KO)


def float_type(carrier: Carrier) -> torch.dtype:
    """float32 only where nobody has allowed it to be computed as TF32 or bfloat16."""
    exact = torch.get_float32_matmul_precision() == "highest"
    return torch.float64 if carrier is Carrier.FLOAT64 or not exact else torch.float32


@dataclass(frozen=True)
class Linear:
    """A matrix and one multiplier per output, a 15-bit integer times a power of two."""

    matrix: Matrix
    multiplier_O: Tensor
    operators: "Operators"

    def rounded(self, a_NK: Tensor) -> Tensor:
        """See `Operators.rounded`."""
        return self.operators.rounded(self.matrix.product(a_NK), self.multiplier_O)

    def add(self, x_NO: Tensor, a_NK: Tensor) -> None:
        """See `Operators.add`."""
        self.operators.add(x_NO, self.matrix.product(a_NK), self.multiplier_O)

    def activations(self, a_NK: Tensor) -> Tensor:
        """See `Operators.activations`."""
        return self.operators.activations(self.matrix.product(a_NK), self.multiplier_O)

    def rectified(self, a_NK: Tensor) -> Tensor:
        """See `Operators.rectified`."""
        return self.operators.rectified(self.matrix.product(a_NK), self.multiplier_O)


def multiplier(mantissa: Tensor, exponent: Tensor) -> Tensor:
    """mantissa * 2**exponent as float32: exact, the mantissa has 15 bits."""
    return torch.ldexp(mantissa.to(torch.float32), exponent.to(torch.int32))


class Operators:
    """Everything but the products of matrices, for tensors on any device."""

    @staticmethod
    def pick(device: torch.device) -> "Operators":
        """The fastest for a device."""
        if device.type != "cpu":
            return Operators()
        from bsqcodec.prior.compiled_operators import (
            CompiledOperators,
        )  # where one trains numba may be missing

        return CompiledOperators()

    def rounded(self, sums_NO: Tensor, multiplier_O: Tensor) -> Tensor:
        """N x O float32: sums times multiplier, rounded to the nearest integer (ties to even), clamped to a
        residual's range; may change sums_NO, here and below.
        """
        y_NO = sums_NO.to(torch.float32).mul_(multiplier_O).round_()
        return y_NO.clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)

    def add(self, x_NO: Tensor, sums_NO: Tensor, multiplier_O: Tensor) -> None:
        """Adds sums times multiplier, rounded to the nearest integer (ties to even), to a residual in
        place.
        """
        x_NO.add_(sums_NO.to(torch.float32).mul_(multiplier_O).round_())
        x_NO.clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)

    def activations(self, sums_NO: Tensor, multiplier_O: Tensor) -> Tensor:
        """N x O int8 in -127..127: sums, rounded, times multiplier, rounded to the nearest integer (ties to
        even).
        """
        y_NO = sums_NO.to(torch.float32).round_().mul_(multiplier_O).round_()
        return y_NO.clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT).to(torch.int8)

    def rectified(self, sums_NO: Tensor, multiplier_O: Tensor) -> Tensor:
        """N x O int8 in 0..127: sums times multiplier, rounded down."""
        return sums_NO.to(torch.float32).mul_(multiplier_O).clamp_(0, ACTIVATION_LIMIT).to(torch.int8)

    def normalise(self, x_ND: Tensor) -> Tensor:
        """Scale each row to a mean magnitude of 24 and round; int8, -127..127.

        x_ND: residual, integers up to 32767 in magnitude. The sum of magnitudes is exact: 512 * 32767 <
        2**24.
        """
        width = x_ND.shape[-1]
        total_N1 = x_ND.abs().sum(-1, keepdim=True).clamp_(min=NORM_FLOOR * width).to(torch.int64)
        # At most 24 * 2**20 / 4 < 2**24, hence exact in float32.
        factor_N1 = torch.div(ACTIVATION_MEAN * width << NORM_SHIFT, total_N1, rounding_mode="floor")
        scale_N1 = factor_N1.to(torch.float32).mul_(2.0**-NORM_SHIFT)
        y_ND = torch.mul(x_ND, scale_N1).round_().clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)
        return y_ND.to(torch.int8)

    def convolve(self, a_BhwD: Tensor, weight_9D: Tensor, multiplier_D: Tensor) -> Tensor:
        """Depthwise 3x3 with zeros beyond the border, times multiplier, rounded; int8, -127..127.

        The sums stay below 9 * 127**2 < 2**18; rounding them removes what a library's transform domain
        (Winograd, FFT) could leave, so that any algorithm gives the same integers.
        """
        channels = a_BhwD.shape[-1]
        kernel = weight_9D.t().reshape(channels, 1, 3, 3)
        a_BDhw = a_BhwD.to(weight_9D.dtype).permute(0, 3, 1, 2)
        sums = torch.nn.functional.conv2d(a_BDhw, kernel, padding=1, groups=channels)
        sums_ND = sums.permute(0, 2, 3, 1).reshape(-1, channels)
        return self.activations(sums_ND, multiplier_D).view(a_BhwD.shape)

    def attend(self, qkv_MPC: Tensor, bias_XPP: Tensor, exp2_256: Tensor, head_dim: int) -> Tensor:
        """Attention inside windows: M x P x D int8 in -127..127.

        qkv_MPC: C = 3 * D channels, queries then keys then values, int8 in -127..127. bias_XPP: X = A * M,
        in steps of the table. Weights are exp2_256[min(floor(largest - score), 255)] (0 in the last entry),
        the result round(sum(weight * value) * (floor(2**26 / sum(weight)) / 2**26)). Exact: 64 * 127**2 +
        2**7 * bias < 2**24 in units of 2**-7, and 64 * 1023 * 127 < 2**24.
        """
        windows, size, channels = qkv_MPC.shape
        width = channels // 3
        heads = width // head_dim
        kind = bias_XPP.dtype
        split = qkv_MPC.view(windows, size, 3, heads, head_dim).permute(2, 3, 0, 1, 4).to(kind)
        q, k, v = split.contiguous().view(3, heads * windows, size, head_dim)
        scores = torch.baddbmm(bias_XPP, q, k.transpose(1, 2), alpha=SCORE_SCALE).to(torch.float32)
        steps = torch.sub(scores.amax(-1, keepdim=True), scores).clamp_(max=255)
        weights = exp2_256.index_select(0, steps.to(torch.int32).view(-1)).view_as(scores)
        total = weights.sum(-1, keepdim=True).to(torch.int64)
        scale = torch.div(1 << SOFTMAX_SHIFT, total, rounding_mode="floor").to(torch.float32)
        mixed = torch.bmm(weights.to(kind), v).to(torch.float32)
        mixed.mul_(scale.mul_(2.0**-SOFTMAX_SHIFT)).round_()
        y_MPD = mixed.view(heads, windows, size, head_dim).permute(1, 2, 0, 3)
        return y_MPD.reshape(windows, size, width).to(torch.int8)

    def absorb(self, state_NH: Tensor, embedding_VH: Tensor, value_N: Tensor) -> Tensor:
        """Adds each row's embedding to the head's state in place; N x H int8, what of the state is in 0..127,
        rounded down.
        """
        state_NH.add_(embedding_VH.index_select(0, value_N))
        return state_NH.clamp(0, ACTIVATION_LIMIT).to(torch.int8)

    def counts(self, sums_NK: Tensor, multiplier_K: Tensor, bias_K: Tensor, counts_T: Tensor) -> Tensor:
        """N x K int32 from a table: at sums times multiplier, rounded, plus bias, or at the nearer end."""
        logits = sums_NK.to(torch.float32).mul_(multiplier_K).round_().add_(bias_K)
        logits.clamp_(0, counts_T.shape[0] - 1)
        return counts_T.index_select(0, logits.to(torch.int32).view(-1)).view_as(logits)

    def along(self, counts_NK: Tensor, value_N: Tensor, bits: int, chunk: int) -> Tensor:
        """L x N int32: the counts that the first bits of values of `chunk` bits meet on their way down a tree
        (see head.py)."""
        nodes = [(1 << bit) - 1 + (value_N >> (chunk - bit)) for bit in range(bits)]
        return counts_NK.gather(1, torch.stack(nodes, 1)).t()
