"""LPIPS v0.1 with AlexNet (Zhang et al. 2018), from weights that the user has: none come with the package."""

import hashlib
from functools import cache
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bsqcodec.errors import ModelError
from bsqcodec.metrics.pair import check_pair

# B one picture · C channels · H, W pixels

BACKBONE = "AlexNet (torchvision, ImageNet)"
LAYERS = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))
"""Place in torchvision's `features`, stride and padding of the convolutions whose outputs are compared."""
POOLED_BEFORE = (3, 6)
CHANNELS = (64, 192, 384, 256, 256)
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
SMALLEST_SIDE = 64
"""AlexNet has nothing left of smaller pictures."""


class Lpips:
    """A distance between pictures: 0 for equal ones, about 1 for unlike ones.

    backbone: torchvision's AlexNet (alexnet-owt-7be5be79.pth); heads: lpips/weights/v0.1/alex.pth of
    github.com/richzhang/PerceptualSimilarity. ModelError where a file is not such.
    """

    def __init__(self, backbone: Path, heads: Path) -> None:
        layers, linear = _tensors(backbone), _tensors(heads)
        self.digest = hashlib.sha256(backbone.read_bytes() + heads.read_bytes()).hexdigest()[:16]
        try:
            self._convolutions = [
                (layers[f"features.{place}.weight"].float(), layers[f"features.{place}.bias"].float())
                for place, _, _ in LAYERS
            ]
            self._heads = [linear[f"lin{index}.model.1.weight"].float() for index in range(len(LAYERS))]
        except KeyError as error:
            raise ModelError(
                f"{backbone}, {heads}: not AlexNet and its LPIPS heads: no tensor {error}"
            ) from error
        found = tuple(weight.shape[0] for weight, _ in self._convolutions)
        if found != CHANNELS or tuple(head.shape[1] for head in self._heads) != CHANNELS:
            raise ModelError(f"{backbone}, {heads}: {found} channels, AlexNet and its heads have {CHANNELS}")

    def __call__(self, reference: np.ndarray, picture: np.ndarray) -> float | None:
        """LPIPS of two H x W x 3 uint8 pictures; None where a side is under 64 pixels.

        InputError where the shapes differ.
        """
        check_pair(reference, picture)
        if min(reference.shape[:2]) < SMALLEST_SIDE:
            return None
        with torch.inference_mode():
            pairs = zip(self._features(reference), self._features(picture), self._heads, strict=True)
            return float(sum((head * (left - right) ** 2).sum(dim=1).mean() for left, right, head in pairs))

    def _features(self, picture: np.ndarray) -> list[Tensor]:
        """What each layer sees, scaled to unit length over the channels."""
        scaled = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
        x_BCHW = (scaled - torch.tensor(SHIFT)[:, None, None]) / torch.tensor(SCALE)[:, None, None]
        found = []
        for (place, stride, padding), (weight, bias) in zip(LAYERS, self._convolutions, strict=True):
            if place in POOLED_BEFORE:
                x_BCHW = functional.max_pool2d(x_BCHW, kernel_size=3, stride=2)
            x_BCHW = functional.relu(functional.conv2d(x_BCHW, weight, bias, stride=stride, padding=padding))
            found.append(x_BCHW / (x_BCHW.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return found


@cache
def load_lpips(backbone: Path, heads: Path) -> Lpips:
    """Lpips of these files, read once a process."""
    return Lpips(backbone, heads)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError) as error:
        raise ModelError(f"{path}: no weights that torch can read: {str(error).splitlines()[0]}") from error
    return found
