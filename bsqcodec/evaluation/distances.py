"""How far two sets of pictures or clips are apart: FID (FVD), inception score, precision and recall.

# N, M members of a set · D features · K classes
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from bsqcodec.errors import DependencyError, InputError

NEIGHBOURS = 3
"""k of precision and recall (Kynkäänniemi et al. 2019)."""

SPLITS = 10
ROWS_AT_ONCE = 1024


class _Given(nn.Module):
    """In place of a network: the features are there already."""

    def forward(self, values: Tensor) -> Tensor:
        return values


def frechet_distance(real_ND: Tensor, other_MD: Tensor) -> float:
    """FID of Inception's features, FVD of I3D's: the distance of two normal distributions.

    InputError with fewer than two members a set; DependencyError without torchmetrics.
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        raise _missing() from error
    _need(2, real_ND, other_MD)
    metric = FrechetInceptionDistance(feature=_Given(), input_img_size=(1, 1, real_ND.shape[1]))
    metric.set_dtype(torch.float64)
    metric.update(real_ND.double(), real=True)
    metric.update(other_MD.double(), real=False)
    return float(metric.compute())


def inception_score(chances_NK: Tensor) -> tuple[float, float]:
    """IS of the class probabilities of generated pictures: mean and deviation over up to ten parts."""
    try:
        from torchmetrics.image.inception import InceptionScore
    except ImportError as error:
        raise _missing() from error
    _need(1, chances_NK)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # that it keeps the features: it is given them
        torch.manual_seed(0)  # the parts are drawn at random
        metric = InceptionScore(feature=_Given(), splits=min(SPLITS, len(chances_NK)))
        metric.update(chances_NK.double().clamp_min(1e-38).log())
        mean, deviation = metric.compute()
    return float(mean), float(deviation.nan_to_num(0.0))


def precision_recall(real_ND: Tensor, other_MD: Tensor) -> tuple[float, float]:
    """The share of generated pictures that look real, and of real ones that could have been generated.

    A member looks like a set if it is as near to one of its members as that one's third neighbour in the set.
    """
    _need(NEIGHBOURS + 1, real_ND, other_MD)
    return _covered(other_MD, real_ND), _covered(real_ND, other_MD)


def _covered(asked_MD: Tensor, set_ND: Tensor) -> float:
    set_ND, asked_MD = set_ND.double(), asked_MD.double()
    # Distances one by one: through products of matrices, a point is not exactly at 0 from itself.
    one_by_one = "donot_use_mm_for_euclid_dist"
    reach_N = torch.cat(
        [  # the nearest is the member itself
            torch.cdist(rows, set_ND, compute_mode=one_by_one).kthvalue(NEIGHBOURS + 1).values
            for rows in torch.split(set_ND, ROWS_AT_ONCE)
        ]
    )
    inside = [
        (torch.cdist(rows, set_ND, compute_mode=one_by_one) <= reach_N).any(1)
        for rows in torch.split(asked_MD, ROWS_AT_ONCE)
    ]
    return float(torch.cat(inside).double().mean())


def _need(count: int, *sets: Tensor) -> None:
    if min(map(len, sets)) < count:
        raise InputError(f"a set of {min(map(len, sets))} pictures or clips, at least {count} are needed")


def _missing() -> DependencyError:
    return DependencyError("this measure needs torchmetrics: pip install 'bsqcodec[paper]'")
