"""The prior: counts for every bit of a block's tokens, computed in exact integers, and the range coder
behind it.
"""

from bsqcodec.blocks import BlockKind
from bsqcodec.prior.coder import PriorCoder, PriorContext, TokenCoder
from bsqcodec.prior.config import LevelPriorConfig, PriorConfig
from bsqcodec.prior.integer import Carrier
from bsqcodec.prior.model import Prior
from bsqcodec.prior.range_coder import LevelDecoder, LevelEncoder
from bsqcodec.prior.raw import RawCoder
from bsqcodec.prior.static import StaticPrior
from bsqcodec.prior.tensors import tensor_specs

__all__ = [
    "BlockKind",
    "Carrier",
    "LevelDecoder",
    "LevelEncoder",
    "LevelPriorConfig",
    "Prior",
    "PriorCoder",
    "PriorConfig",
    "PriorContext",
    "RawCoder",
    "StaticPrior",
    "TokenCoder",
    "tensor_specs",
]
