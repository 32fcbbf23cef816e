"""Feature networks that judge sets of pictures and clips, from TorchScript files that the user has.

# B pictures or clips at once · T frames · H, W pixels · D features
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bsqcodec.errors import ModelError
from bsqcodec.pixels import Pixels

INCEPTION = (
    "Inception-v3 of 2015-12-05 as TorchScript: "
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"
)
I3D = "I3D of Kinetics-400 as TorchScript: https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt"


class PictureNetwork(Protocol):
    """Judges pictures one by one."""

    def features(self, picture: Pixels) -> Tensor:
        """(D,) float32 of a picture, H x W x 3 uint8."""

    def chances(self, picture: Pixels) -> Tensor:
        """Probabilities of the classes of ImageNet, (1008,) float32."""


class Inception:
    """The network of FID, IS, precision and recall.

    weights: a TorchScript file, which holds the network's program too: use one that you trust. ModelError
    where it is none. Its forward takes (B, 3, H, W) uint8 and return_features or no_output_bias.
    """

    def __init__(self, weights: Path) -> None:
        self._network = _load(weights, f"--inception-weights {INCEPTION}")

    def features(self, picture: Pixels) -> Tensor:
        """See PictureNetwork."""
        return self._run(picture, return_features=True)

    def chances(self, picture: Pixels) -> Tensor:
        """See PictureNetwork; without the bias of the last layer, as the score is defined."""
        return self._run(picture, no_output_bias=True)

    @torch.inference_mode()
    def _run(self, picture: Pixels, **options: bool) -> Tensor:
        x_BCHW = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        return _row(self._network(x_BCHW, **options))


class I3d:
    """The network of FVD.

    weights: a TorchScript file, which holds the network's program too: use one that you trust. ModelError
    where it is none. Its forward takes (B, 3, T, H, W) uint8 and rescale, resize, return_features.
    """

    def __init__(self, weights: Path) -> None:
        self._network = _load(weights, f"--i3d-weights {I3D}")

    @torch.inference_mode()
    def features(self, clip: list[Pixels]) -> Tensor:
        """(D,) float32 of the frames of a clip, H x W x 3 uint8 each."""
        x_BCTHW = torch.from_numpy(np.stack(clip)).permute(3, 0, 1, 2)[None]
        return _row(self._network(x_BCTHW, rescale=True, resize=True, return_features=True))


def _load(weights: Path, wanted: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the published networks are TorchScript
            return torch.jit.load(str(weights), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        reason = "no such file" if not weights.is_file() else "not a TorchScript file"
        raise ModelError(f"{weights}: {reason}; expected {wanted}") from error


def _row(values: Tensor) -> Tensor:
    return values.float().reshape(-1)
