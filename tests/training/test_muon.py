"""Muon, many matrices at a time: what torch's does with each."""

import torch
from bsqtrain.muon import Muon, orthogonalise


def test_singular_values_come_near_one() -> None:
    matrices = torch.randn(2, 64, 96, generator=torch.Generator().manual_seed(0))
    for shape in (matrices, matrices.mT):
        values = torch.linalg.svdvals(orthogonalise(shape))
        assert float(values.min()) > 0.6
        assert float(values.max()) < 1.3


def test_steps_are_those_of_torch_up_to_bf16() -> None:
    generator = torch.Generator().manual_seed(1)
    starts = [torch.randn(shape, generator=generator) for shape in ((64, 80), (96, 64), (64, 80))]
    gradients = [[torch.randn(s.shape, generator=generator) for s in starts] for _ in range(3)]
    ends = []
    for make in (
        lambda p: Muon(p, lr=0.1, weight_decay=0.1),
        lambda p: torch.optim.Muon(p, lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    ):
        matrices = [torch.nn.Parameter(start.clone()) for start in starts]
        optimiser = make(matrices)
        for step in gradients:
            for matrix, gradient in zip(matrices, step, strict=True):
                matrix.grad = gradient.clone()
            optimiser.step()
        ends.append([matrix.detach() - start for matrix, start in zip(matrices, starts, strict=True)])
    for ours, theirs in zip(*ends, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 0.02
