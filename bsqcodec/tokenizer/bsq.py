"""Binary spherical quantisation (BSQ), alone, to be read beside the paper (arXiv 2406.07548, section 4).

Shapes: N any leading dimensions · L bits per token.
Corner c of the hypercube has entries c_d in {-1/sqrt(L), +1/sqrt(L)}; bit d is 1 where c_d > 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_CHANCE = 1e-6
"""Below it a probability counts as this: the logarithm's gradient has no bound at 0."""


def project(v_NL: Tensor) -> Tensor:
    """u = v / |v|, in float32 whatever the input: near-zero signs flip in bf16."""
    return F.normalize(v_NL.float(), dim=-1)


def corners(bits_NL: Tensor) -> Tensor:
    """The corner that bits in {0, 1} name: entries +-1/sqrt(L), float32."""
    return (bits_NL.float() * 2 - 1) / math.sqrt(bits_NL.shape[-1])


def signs(u_NL: Tensor) -> Tensor:
    """Bits in {0, 1} of the nearest corner, float32; sign(0) = +1, as the paper defines it."""
    return (u_NL >= 0).float()


def straight_through(u_NL: Tensor, bits_NL: Tensor) -> Tensor:
    """The corner in the forward pass, the identity to u in the backward pass."""
    return u_NL + (corners(bits_NL) - u_NL).detach()


def quantise(v_NL: Tensor) -> Tensor:
    """Project onto the sphere and round to the nearest corner of the hypercube.

    v_NL: any float dtype; computed in float32. Returns corners with entries +-1/sqrt(L), straight-through
    gradient.
    """
    u_NL = project(v_NL)
    return straight_through(u_NL, signs(u_NL))


def error_bound(bits: int) -> float:
    """Upper bound of E|u - corner(u)| over the sphere: sqrt(2 - 2/sqrt(L)) (paper, Eq. 5)."""
    return math.sqrt(2 - 2 / math.sqrt(bits))


def bit_logits(u_NL: Tensor, tau: float) -> Tensor:
    """ln P(bit d = 1 | u) / P(bit d = 0 | u) of the soft assignment q(c|u) = exp(tau c.u) / sum, which
    factorises over the bits: 2 tau u_d / sqrt(L) (paper, Eq. 7)."""
    return 2 * tau * u_NL / math.sqrt(u_NL.shape[-1])


def binary_entropy(p: Tensor) -> Tensor:
    """-p ln p - (1-p) ln(1-p), in nats; the gradient is 0 at both ends."""
    p = p.clamp(SMALLEST_CHANCE, 1 - SMALLEST_CHANCE)
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))


def sample_entropy(u_NL: Tensor, tau: float) -> Tensor:
    """E[H(q(c|u))], exactly, as a sum over bits; nats, a scalar (paper, first entropy term)."""
    z_NL = bit_logits(u_NL, tau)
    return (F.softplus(z_NL) - z_NL * torch.sigmoid(z_NL)).sum(-1).mean()


def codebook_entropy(u_NL: Tensor, tau: float) -> Tensor:
    """H(E[q(c|u)]) by the paper's Eq. 8: the sum of the entropies of the mean bit probabilities.

    An upper bound of the exact value, since it drops what the bits tell of each other; nats, a scalar.
    """
    mean_L = torch.sigmoid(bit_logits(u_NL, tau)).reshape(-1, u_NL.shape[-1]).mean(0)
    return binary_entropy(mean_L).sum()
