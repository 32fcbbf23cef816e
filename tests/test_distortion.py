"""The distortion that training and the encoder's search lower, against its terms written out."""

import pytest
import torch
from pytorch_msssim import ms_ssim

from bsqcodec.distortion import DistortionWeights, distortion, reduced_ycbcr

NONE = DistortionWeights(0, 0, 0, 0, 0)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 176, 168, generator=generator)
    return x, x + 0.1 * torch.randn(x.shape, generator=generator)


def test_terms() -> None:
    x, y = pair()
    difference = y - x
    reduced = (reduced_ycbcr(y) - reduced_ycbcr(x)).square().mean((2, 3))
    luma = torch.tensor([0.299, 0.587, 0.114])
    blocks = torch.einsum("c,bchw->bhw", luma, difference).reshape(2, 22, 8, 21, 8).mean((2, 4))
    assert torch.allclose(reduced[:, 0], blocks.square().mean((1, 2)), atol=1e-7)
    terms = {
        "mse": difference.square().mean((1, 2, 3)),
        "l1": difference.abs().mean((1, 2, 3)),
        "ms_ssim": 1 - ms_ssim(y.clamp(-0.2, 1.2), x, data_range=1.0, size_average=False),
        "luma_8": reduced[:, 0],
        "chroma_8": reduced[:, 1:].mean(1),
    }
    for name, expected in terms.items():
        found, _ = distortion(y, x, DistortionWeights(**{**vars(NONE), name: 3.0}))
        assert torch.allclose(found, 3 * expected, atol=1e-6), name
    total, figures = distortion(y, x, DistortionWeights(1, 4, 2, 10, 30))
    weights = {"ms_ssim": 1, "mse": 4, "l1": 2, "luma_8": 10, "chroma_8": 30}
    assert torch.allclose(total, sum(weights[name] * value for name, value in terms.items()), atol=1e-5)
    assert float(figures["mse"]) == pytest.approx(float(terms["mse"].mean()))


def test_equal_pictures_have_none() -> None:
    x, _ = pair()
    assert distortion(x, x, DistortionWeights(l1=1.0))[0].abs().max() < 1e-5


def test_autocast_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 176, 176, generator=generator)
    y = (x + 0.05 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    plain, _ = distortion(y, x, DistortionWeights())
    with torch.autocast("cpu", torch.bfloat16):
        under, _ = distortion(y, x, DistortionWeights())
    assert torch.equal(plain, under)
