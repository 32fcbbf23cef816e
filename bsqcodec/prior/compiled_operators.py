"""The prior's operators for tensors on a CPU: in one pass over the numbers where torch needs five."""

import torch
from torch import Tensor

from bsqcodec.prior import kernels
from bsqcodec.prior.integer import (
    ACTIVATION_MEAN,
    NORM_FLOOR,
    NORM_SHIFT,
    SCORE_SCALE,
    SOFTMAX_SHIFT,
    Operators,
)


class CompiledOperators(Operators):
    """See Operators; the loops are in kernels.py."""

    def rounded(self, sums_NO: Tensor, multiplier_O: Tensor) -> Tensor:
        """See Operators."""
        y_NO = torch.empty(sums_NO.shape)
        kernels.rounded(sums_NO.numpy(), multiplier_O.numpy(), y_NO.numpy())
        return y_NO

    def add(self, x_NO: Tensor, sums_NO: Tensor, multiplier_O: Tensor) -> None:
        """See Operators."""
        kernels.add(x_NO.numpy(), sums_NO.numpy(), multiplier_O.numpy())

    def activations(self, sums_NO: Tensor, multiplier_O: Tensor) -> Tensor:
        """See Operators."""
        y_NO = torch.empty(sums_NO.shape, dtype=torch.int8)
        kernels.activations(sums_NO.numpy(), multiplier_O.numpy(), y_NO.numpy())
        return y_NO

    def rectified(self, sums_NO: Tensor, multiplier_O: Tensor) -> Tensor:
        """See Operators."""
        y_NO = torch.empty(sums_NO.shape, dtype=torch.int8)
        kernels.rectified(sums_NO.numpy(), multiplier_O.numpy(), y_NO.numpy())
        return y_NO

    def normalise(self, x_ND: Tensor) -> Tensor:
        """See Operators."""
        y_ND = torch.empty(x_ND.shape, dtype=torch.int8)
        kernels.normalise(x_ND.numpy(), ACTIVATION_MEAN, NORM_FLOOR, NORM_SHIFT, y_ND.numpy())
        return y_ND

    def attend(self, qkv_MPC: Tensor, bias_XPP: Tensor, exp2_256: Tensor, head_dim: int) -> Tensor:
        """See Operators."""
        windows, size, channels = qkv_MPC.shape
        heads = channels // (3 * head_dim)
        split = torch.empty(3, heads * windows, size, head_dim, dtype=bias_XPP.dtype)
        kernels.split_heads(qkv_MPC.numpy(), heads, split.numpy())
        q, k, v = split
        scores = torch.baddbmm(bias_XPP, q, k.transpose(1, 2), alpha=SCORE_SCALE)
        scale_XP = torch.empty(scores.shape[:2])
        kernels.attention_weights(scores.numpy(), exp2_256.numpy(), SOFTMAX_SHIFT, scale_XP.numpy())
        y_MPD = torch.empty(windows, size, heads * head_dim, dtype=torch.int8)
        kernels.merge_heads(torch.bmm(scores, v).numpy(), scale_XP.numpy(), y_MPD.numpy())
        return y_MPD

    def absorb(self, state_NH: Tensor, embedding_VH: Tensor, value_N: Tensor) -> Tensor:
        """See Operators."""
        y_NH = torch.empty(state_NH.shape, dtype=torch.int8)
        kernels.absorb(state_NH.numpy(), embedding_VH.numpy(), value_N.numpy(), y_NH.numpy())
        return y_NH

    def counts(self, sums_NK: Tensor, multiplier_K: Tensor, bias_K: Tensor, counts_T: Tensor) -> Tensor:
        """See Operators."""
        y_NK = torch.empty(sums_NK.shape, dtype=torch.int32)
        kernels.counts(sums_NK.numpy(), multiplier_K.numpy(), bias_K.numpy(), counts_T.numpy(), y_NK.numpy())
        return y_NK

    def along(self, counts_NK: Tensor, value_N: Tensor, bits: int, chunk: int) -> Tensor:
        """See Operators."""
        y_LN = torch.empty(bits, len(value_N), dtype=torch.int32)
        kernels.along(counts_NK.numpy(), value_N.numpy(), chunk, y_LN.numpy())
        return y_LN
