"""LPIPS v0.1 (Zhang et al. 2018), from weights that the user has: none come with the package."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bsqcodec.errors import ModelError
from bsqcodec.metrics.pair import check_pair

# B pictures · C channels · H, W pixels

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
SMALLEST_SIDE = 64
"""AlexNet has nothing left of smaller pictures."""

SOURCES = (
    "download.pytorch.org/models/{file}; heads: github.com/richzhang/PerceptualSimilarity, lpips/weights/v0.1"
)


@dataclass(frozen=True)
class Convolution:
    """One of the backbone: its place in torchvision's `features`, and whether its output is compared."""

    place: int
    stride: int = 1
    padding: int = 1
    pooled_before: bool = False
    compared: bool = True


@dataclass(frozen=True)
class Backbone:
    """A network of torchvision. channels: of the outputs that are compared. pool: side of the pools."""

    name: str
    file: str
    convolutions: tuple[Convolution, ...]
    channels: tuple[int, ...]
    pool: int


ALEXNET = Backbone(
    "AlexNet (torchvision, ImageNet)",
    "alexnet-owt-7be5be79.pth",
    (
        Convolution(0, stride=4, padding=2),
        Convolution(3, padding=2, pooled_before=True),
        Convolution(6, pooled_before=True),
        Convolution(8),
        Convolution(10),
    ),
    (64, 192, 384, 256, 256),
    pool=3,
)
_VGG_COMPARED = (2, 7, 14, 21, 28)
_VGG_POOLED_BEFORE = (5, 10, 17, 24)
VGG16 = Backbone(
    "VGG-16 (torchvision, ImageNet)",
    "vgg16-397923af.pth",
    tuple(
        Convolution(place, pooled_before=place in _VGG_POOLED_BEFORE, compared=place in _VGG_COMPARED)
        for place in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    ),
    (64, 128, 256, 512, 512),
    pool=2,
)


class Lpips:
    """A distance between pictures: 0 for equal ones, about 1 for unlike ones.

    backbone: torchvision's AlexNet or VGG-16; heads: alex.pth or vgg.pth of the same network, which decides
    which it is. ModelError where a file is not such.
    """

    def __init__(self, backbone: Path, heads: Path) -> None:
        layers, linear = _tensors(backbone), _tensors(heads)
        self.digest = hashlib.sha256(backbone.read_bytes() + heads.read_bytes()).hexdigest()[:16]
        try:
            self._heads = [
                linear[f"lin{index}.model.1.weight"].float() for index in range(len(_VGG_COMPARED))
            ]
            channels = tuple(head.shape[1] for head in self._heads)
            known = {network.channels: network for network in (ALEXNET, VGG16)}
            if channels not in known:
                raise ModelError(
                    f"{heads}: heads of {channels} channels, expected {' or '.join(map(str, known))}"
                )
            self.backbone = known[channels]
            self._convolutions = [
                (layers[f"features.{one.place}.weight"].float(), layers[f"features.{one.place}.bias"].float())
                for one in self.backbone.convolutions
            ]
        except KeyError as error:
            raise ModelError(
                f"{backbone}, {heads}: no tensor {error}, expected a backbone and its LPIPS heads"
            ) from error
        found = tuple(
            weight.shape[0]
            for one, (weight, _) in zip(self.backbone.convolutions, self._convolutions, strict=True)
            if one.compared
        )
        if found != channels:
            raise ModelError(f"{backbone}: {found} channels, expected {channels} of {self.backbone.file}")

    def to(self, device: torch.device) -> "Lpips":
        """The same on a device; this one is changed."""
        self._heads = [head.to(device) for head in self._heads]
        self._convolutions = [(weight.to(device), bias.to(device)) for weight, bias in self._convolutions]
        return self

    def __call__(self, reference: np.ndarray, picture: np.ndarray) -> float | None:
        """LPIPS of two H x W x 3 uint8 pictures; None where a side is under 64 pixels.

        InputError where the shapes differ.
        """
        check_pair(reference, picture)
        if min(reference.shape[:2]) < SMALLEST_SIDE:
            return None
        with torch.inference_mode():
            return float(self.distance(_pixels(reference), _pixels(picture)))

    def distance(self, x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
        """LPIPS of every pair, (B,), with gradients; R'G'B' in 0..1, sides of 64 and more."""
        pairs = zip(self._features(x_BCHW), self._features(y_BCHW), self._heads, strict=True)
        return sum(
            ((head * (left - right) ** 2).sum(1).mean((1, 2)) for left, right, head in pairs),
            start=x_BCHW.new_zeros(len(x_BCHW)),
        )

    def _features(self, x_BCHW: Tensor) -> list[Tensor]:
        """What each layer sees, scaled to unit length over the channels."""
        shift, scale = (x_BCHW.new_tensor(values)[:, None, None] for values in (SHIFT, SCALE))
        x_BCHW = (x_BCHW * 2 - 1 - shift) / scale
        found = []
        for one, (weight, bias) in zip(self.backbone.convolutions, self._convolutions, strict=True):
            if one.pooled_before:
                x_BCHW = functional.max_pool2d(x_BCHW, kernel_size=self.backbone.pool, stride=2)
            x_BCHW = functional.conv2d(x_BCHW, weight, bias, stride=one.stride, padding=one.padding).relu()
            if one.compared:
                seen = x_BCHW.float()
                # The root has no gradient at 0, where no channel sees anything.
                length = seen.square().sum(dim=1, keepdim=True).clamp_min(1e-20).sqrt()
                found.append(seen / (length + 1e-10))
        return found


@cache
def load_lpips(backbone: Path, heads: Path) -> Lpips:
    """Lpips of these files, read once a process."""
    return Lpips(backbone, heads)


def _pixels(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None] / 255


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError) as error:
        fault = str(error).splitlines()[0]
        files = f"{ALEXNET.file} or {VGG16.file}"
        raise ModelError(
            f"{path}: no weights that torch can read ({fault}); LPIPS needs {SOURCES.format(file=files)}"
        ) from error
    return found
