"""Muon in float32: what torch's does in bf16."""

import torch
from bsqtrain.muon import Muon, orthogonalise


def test_singular_values_come_near_one() -> None:
    matrix = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    for shape in (matrix, matrix.T):
        values = torch.linalg.svdvals(orthogonalise(shape))
        assert float(values.min()) > 0.6
        assert float(values.max()) < 1.3


def test_steps_are_those_of_torch_up_to_bf16() -> None:
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(64, 80, generator=generator)
    gradients = [torch.randn(64, 80, generator=generator) for _ in range(3)]
    ends = []
    for make in (
        lambda p: Muon(p, lr=0.1, weight_decay=0.1),
        lambda p: torch.optim.Muon(p, lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    ):
        matrix = torch.nn.Parameter(start.clone())
        optimiser = make([matrix])
        for gradient in gradients:
            matrix.grad = gradient.clone()
            optimiser.step()
        ends.append(matrix.detach() - start)
    assert float((ends[0] - ends[1]).norm() / ends[1].norm()) < 0.02
