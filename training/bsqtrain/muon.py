"""Muon: momentum whose matrices are made orthogonal; matrices of one shape at a time.

torch's takes one matrix after the other, a thousand small products a step, and computes in bf16 even where a
CPU has no such products, fifty times slower.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bsqcodec.machine import fast_bf16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that drives singular values towards 1 (Jordan et al., Muon, 2024)."""


def orthogonalise(matrices_NRC: Tensor, steps: int = 5) -> Tensor:
    """N matrices with all their singular values brought near 1 (.7 to 1.2), by Newton-Schulz; in their own
    precision."""
    wide = matrices_NRC.shape[1] <= matrices_NRC.shape[2]
    x = matrices_NRC if wide else matrices_NRC.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """As torch.optim.Muon with `adjust_lr_fn="match_rms_adamw"`; products in bf16 where that is fast, else in
    float32. For matrices alone."""

    def __init__(
        self, params: Sequence[Tensor], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step; matrices without a gradient stay."""
        for group in self.param_groups:
            by_shape: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append(matrix)
            for matrices in by_shape.values():
                self._step(matrices, group)

    def _step(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        """One step of matrices of one shape."""
        rate, momentum = group["lr"], group["momentum"]
        for matrix in matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        means = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        blended = torch.stack(torch._foreach_lerp(gradients, means, momentum))
        if fast_bf16(blended.device):
            blended = blended.bfloat16()
        updates = orthogonalise(blended).to(matrices[0].dtype).unbind()
        torch._foreach_mul_(matrices, 1 - rate * group["weight_decay"])
        torch._foreach_add_(matrices, updates, alpha=-rate * 0.2 * math.sqrt(max(matrices[0].shape)))
