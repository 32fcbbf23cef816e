"""LPIPS with a random backbone in torchvision's layout, against the network written out another way."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bsqcodec.errors import InputError, ModelError
from bsqcodec.metrics.lpips import ALEXNET, VGG16, Backbone, Lpips


def alexnet() -> nn.Sequential:
    """torchvision's `features`."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip


def vgg16() -> nn.Sequential:
    """torchvision's `features`."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


COMPARED = {ALEXNET.name: (1, 4, 7, 9, 11), VGG16.name: (3, 8, 15, 22, 29)}
"""Places of the ReLUs that the paper compares."""


def write(network: nn.Sequential, backbone: Backbone, folder: Path) -> tuple[Path, Path]:
    """Files of a backbone and of random heads."""
    files = folder / "backbone.pth", folder / "heads.pth"
    torch.save({f"features.{name}": value for name, value in network.state_dict().items()}, files[0])
    heads = {f"lin{i}.model.1.weight": torch.rand(1, n, 1, 1) for i, n in enumerate(backbone.channels)}
    torch.save(heads, files[1])
    return files


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    torch.manual_seed(1)
    return alexnet().requires_grad_(False)


@pytest.fixture(scope="module")
def files(network: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write(network, ALEXNET, tmp_path_factory.mktemp("lpips"))


def noise(seed: int, height: int = 70, width: int = 97) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def by_hand(network: nn.Sequential, backbone: Backbone, heads: Path, pair: torch.Tensor) -> float:
    """Sum over layers of the mean over places of w . (difference of unit feature vectors)^2."""
    linear = torch.load(heads, weights_only=True)
    value = (pair * 2 - 1 - torch.tensor([-0.03, -0.088, -0.188]).view(1, 3, 1, 1)) / torch.tensor(
        [0.458, 0.448, 0.45]
    ).view(1, 3, 1, 1)
    seen = []
    for place, module in enumerate(network):
        value = module(value)
        if place in COMPARED[backbone.name]:
            seen.append(nn.functional.normalize(value, dim=1))
    return sum(
        float(torch.einsum("c,chw->hw", linear[f"lin{i}.model.1.weight"].flatten(), (a - b) ** 2).mean())
        for i, (a, b) in enumerate(seen)
    )


def pixels(*pictures: np.ndarray) -> torch.Tensor:
    return torch.stack([torch.tensor(p / 255.0, dtype=torch.float32).permute(2, 0, 1) for p in pictures])


def test_is_the_distance_of_the_paper(network: nn.Sequential, files: tuple[Path, Path]) -> None:
    expected = by_hand(network, ALEXNET, files[1], pixels(noise(1), noise(2)))
    assert Lpips(*files)(noise(1), noise(2)) == pytest.approx(expected, rel=1e-4)


def test_vgg(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = vgg16().requires_grad_(False)
    lpips = Lpips(*write(network, VGG16, tmp_path))
    assert lpips.backbone is VGG16
    expected = by_hand(network, VGG16, tmp_path / "heads.pth", pixels(noise(1), noise(2)))
    assert lpips(noise(1), noise(2)) == pytest.approx(expected, rel=1e-4)


def test_as_a_loss(files: tuple[Path, Path]) -> None:
    """One distance a pair; its gradient is that of finite differences, and finite where nothing is seen."""
    lpips = Lpips(*files)
    x, y = pixels(noise(1), noise(2), noise(3)), pixels(noise(4), noise(5), noise(3)).requires_grad_()
    distances = lpips.distance(x, y)
    single = [lpips(noise(1), noise(4)), lpips(noise(2), noise(5)), 0.0]
    assert distances.tolist() == pytest.approx(single, rel=1e-4)
    (gradient,) = torch.autograd.grad(distances.sum(), y)
    assert torch.isfinite(gradient).all()
    step = 1e-2 * gradient[:1] / gradient[:1].norm()
    with torch.no_grad():
        rise = lpips.distance(x[:1], y[:1] + step) - lpips.distance(x[:1], y[:1] - step)
    assert float(rise) == pytest.approx(2 * float((gradient[:1] * step).sum()), rel=0.05)

    lpips._convolutions = [(weight * 0, bias * 0 - 1) for weight, bias in lpips._convolutions]
    (gradient,) = torch.autograd.grad(lpips.distance(x, y).sum(), y)
    assert torch.equal(gradient, torch.zeros_like(y))


def test_equal_pictures_are_0_and_small_ones_have_none(files: tuple[Path, Path]) -> None:
    lpips = Lpips(*files)
    assert lpips(noise(1), noise(1)) == 0
    assert lpips(noise(1, 63, 90), noise(2, 63, 90)) is None
    with pytest.raises(InputError, match="differ in size"):
        lpips(noise(1), noise(1, 70, 96))


def test_the_real_heads_fit(files: tuple[Path, Path], data_dir: Path) -> None:
    value = Lpips(files[0], data_dir / "lpips" / "alex.pth")(noise(1), noise(2))
    assert value is not None
    assert value > 0


def test_other_files_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tensor 'features\.0\.weight'"):
        Lpips(files[1], files[1])
    torch.save({f"lin{i}.model.1.weight": torch.rand(1, 7, 1, 1) for i in range(5)}, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match=r"odd\.pth: heads of \(7, 7, 7, 7, 7\) channels"):
        Lpips(files[0], tmp_path / "odd.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ModelError, match=r"text\.pth: no weights that torch can read"):
        Lpips(tmp_path / "text.pth", files[1])
    with pytest.raises(ModelError, match=r"gone\.pth: no weights.*download\.pytorch\.org/models/alexnet-owt"):
        Lpips(tmp_path / "gone.pth", files[1])
