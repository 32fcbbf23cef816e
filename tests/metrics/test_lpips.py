"""LPIPS with a random backbone in torchvision's layout, against the network written out another way."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bsqcodec.errors import InputError, ModelError
from bsqcodec.metrics.lpips import CHANNELS, Lpips

KERNELS = (11, 5, 3, 3, 3)


def alexnet() -> nn.Sequential:
    """torchvision's `features`."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    torch.manual_seed(1)
    return alexnet().requires_grad_(False)


@pytest.fixture(scope="module")
def files(network: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("lpips")
    torch.save(
        {f"features.{name}": value for name, value in network.state_dict().items()}, folder / "alex.pth"
    )
    heads = {f"lin{i}.model.1.weight": torch.rand(1, count, 1, 1) for i, count in enumerate(CHANNELS)}
    torch.save(heads, folder / "heads.pth")
    return folder / "alex.pth", folder / "heads.pth"


def noise(seed: int, height: int = 70, width: int = 97) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_is_the_distance_of_the_paper(network: nn.Sequential, files: tuple[Path, Path]) -> None:
    """Sum over layers of the mean over places of w . (difference of unit feature vectors)^2."""
    heads = torch.load(files[1], weights_only=True)
    layers: list[list[torch.Tensor]] = []
    for picture in (noise(1), noise(2)):
        value = torch.tensor(picture / 255.0, dtype=torch.float32).permute(2, 0, 1)[None] * 2 - 1
        value = (value - torch.tensor([-0.03, -0.088, -0.188]).view(1, 3, 1, 1)) / torch.tensor(
            [0.458, 0.448, 0.45]
        ).view(1, 3, 1, 1)
        seen = []
        for module in network:
            value = module(value)
            if isinstance(module, nn.ReLU):
                seen.append(nn.functional.normalize(value, dim=1))
        layers.append(seen)
    expected = 0.0
    for index, (left, right) in enumerate(zip(*layers, strict=True)):
        weights = heads[f"lin{index}.model.1.weight"].flatten()
        expected += float(torch.einsum("c,bchw->bhw", weights, (left - right) ** 2).mean())
    assert Lpips(*files)(noise(1), noise(2)) == pytest.approx(expected, rel=1e-4)


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
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ModelError, match=r"text\.pth: no weights that torch can read"):
        Lpips(tmp_path / "text.pth", files[1])
    with pytest.raises(ModelError, match=r"gone\.pth: no weights"):
        Lpips(tmp_path / "gone.pth", files[1])
