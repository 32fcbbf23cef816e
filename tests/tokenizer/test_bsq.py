"""The quantiser against the paper's formulae, spelt out."""

import itertools
import math

import pytest
import torch

from bsqcodec.tokenizer import bsq


def test_quantise_gives_corners_and_zero_counts_as_plus() -> None:
    corner = bsq.quantise(torch.tensor([[3.0, -4.0, 0.0, -1e-9]]))
    assert torch.equal(corner, torch.tensor([[0.5, -0.5, 0.5, -0.5]]))


def test_quantise_computes_in_float32() -> None:
    v = torch.tensor([[1.0, 2.0**-126]], dtype=torch.float64).to(torch.bfloat16)
    assert bsq.quantise(v).dtype == torch.float32


def test_straight_through_gradient_is_that_of_the_projection() -> None:
    v = torch.randn(5, 8, dtype=torch.float32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = torch.arange(8.0)
    (quantised,) = torch.autograd.grad((bsq.quantise(v) * weights).sum(), v)
    (projected,) = torch.autograd.grad(((v / v.norm(dim=-1, keepdim=True)) * weights).sum(), v)
    assert torch.allclose(quantised, projected, atol=1e-6)
    assert projected.abs().max() > 0.1


@pytest.mark.parametrize("bits", [1, 2, 5, 10])
def test_entropy_terms_against_all_corners(bits: int) -> None:
    """Softmax over all 2^L corners, then both entropies by their definitions."""
    tau = 3.0
    u = bsq.project(torch.randn(7, bits, generator=torch.Generator().manual_seed(1))).double()
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=bits)), dtype=torch.float64)
    q = torch.softmax(tau * u @ (signs / math.sqrt(bits)).T, -1)
    exact = -(q * q.log()).sum(-1).mean()
    assert torch.allclose(bsq.sample_entropy(u, tau), exact, atol=1e-9)

    ones = (q @ (signs > 0).double()).mean(0)  # P(bit = 1) of the mean distribution, by marginalising
    per_bit = -(ones * ones.log() + (1 - ones) * (1 - ones).log()).sum()
    assert torch.allclose(bsq.codebook_entropy(u, tau), per_bit, atol=1e-9)

    mean = q.mean(0)
    assert bsq.codebook_entropy(u, tau) >= -(mean * mean.log()).sum() - 1e-9  # Eq. 8 is an upper bound


@pytest.mark.parametrize("bits", [2, 9, 18, 36])
def test_error_bound(bits: int) -> None:
    u = bsq.project(torch.randn(4000, bits, generator=torch.Generator().manual_seed(2)))
    error = (u - bsq.corners(bsq.signs(u))).norm(dim=-1).mean()
    assert 0 < error < bsq.error_bound(bits) < math.sqrt(2)


def test_corners_name_their_bits() -> None:
    bits = torch.tensor([[1, 0, 0, 1]], dtype=torch.uint8)
    assert torch.equal(bsq.signs(bsq.corners(bits)), bits.float())
    assert bsq.corners(bits).norm() == pytest.approx(1.0)


def test_entropies_have_gradients_where_bits_are_certain() -> None:
    """At the paper's temperature probabilities of 0 and 1 are common; 0 ln 0 has no gradient of its own."""
    v = torch.randn(50, 4, generator=torch.Generator().manual_seed(3)).requires_grad_()
    for entropy in (bsq.sample_entropy, bsq.codebook_entropy):
        for u in (bsq.project(v), bsq.project(v.abs() + 1)):
            (gradient,) = torch.autograd.grad(entropy(u, 100.0), v)
            assert gradient.isfinite().all()
