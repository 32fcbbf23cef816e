"""Stage `paper`: BSQ-ViT on crops of pictures, BSQ-bcViT on clips (arXiv 2406.07548).

# B batch · T frames · C = 3 · H, W pixels or token grid · L bits per token

Loss = |x - y| + entropy terms of the quantiser. The paper adds LPIPS (of a VGG) and a StyleGAN2
discriminator, which this stage leaves out.
"""

from __future__ import annotations

import copy
import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bsqcodec import model
from bsqcodec.errors import InputError, ModelError
from bsqcodec.machine import half_precision
from bsqcodec.tokenizer import bsq
from bsqcodec.tokenizer.bsqvit import BsqVit, with_time
from bsqcodec.tokenizer.bsqvit_config import BSQVIT_PRESETS, KIND, BsqVitConfig
from bsqtrain import clips, pictures
from bsqtrain.engine import load_checkpoint
from bsqtrain.tokens import Clip


@dataclass(frozen=True)
class PaperRecipe:
    """Numbers of the stage; the same names stand in the recipe file.

    sample_entropy, codebook_entropy: weights of the two terms, which are divided by tau. tau: inverse
    temperature of the soft assignment.
    """

    batch: int = 8
    sample_entropy: float = 0.1
    codebook_entropy: float = 0.1
    tau: float = 100.0


class PaperObjective(nn.Module):
    """Frames -> loss, and what the codes are used like."""

    def __init__(self, network: BsqVit, recipe: PaperRecipe, device: torch.device) -> None:
        super().__init__()
        self.network, self.recipe, self.device = network, recipe, device

    def forward(self, x_BTCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with half_precision(self.device):
            y_BTCHW, u_BTHWL = self.network(x_BTCHW)
        pixels = (y_BTCHW - x_BTCHW).abs().mean()
        single = bsq.sample_entropy(u_BTHWL, self.recipe.tau)
        whole = bsq.codebook_entropy(u_BTHWL, self.recipe.tau)
        entropy = self.recipe.sample_entropy * single - self.recipe.codebook_entropy * whole
        mse = (y_BTCHW.clamp(0, 1) - x_BTCHW).square().mean()
        figures = {"l1": pixels, "psnr": -10 * mse.log10()}
        return pixels + entropy / self.recipe.tau, figures | {
            "sample_entropy": single,
            "codebook_entropy": whole,
        }


class PaperTask:
    """What the trainer needs."""

    helper = None

    def __init__(
        self,
        network: BsqVit,
        sampler: pictures.CropSampler | clips.ClipSampler,
        recipe: PaperRecipe,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        self.model, self.sampler, self.recipe, self.device, self.seed = network, sampler, recipe, device, seed
        self.config = network.config.to_dict()
        self.objective = PaperObjective(network, recipe, device)

    def batch(self, step: int, rank: int, progress: float) -> tuple[Tensor, ...]:
        """A batch of frames."""
        x = self.sampler.draw(self.recipe.batch, random.Random(f"{self.seed} {step} {rank}"))
        return ((x if x.ndim == 5 else x[:, None]).to(self.device, non_blocking=True),)


def load_network(source: Path | None, preset: str) -> BsqVit:
    """A BSQ-ViT to train: from weights or from a checkpoint's average, or a new one.

    preset: a name, or a TOML file with the fields of BsqVitConfig. Where it is a video model and the source
    an image model, temporal embeddings of zero are added.
    """
    config = _config(preset)
    if source is None:
        torch.manual_seed(0)
        return BsqVit(config).initialise()
    found = read_network(source)
    if found is None:
        raise InputError(f"{source}: is a ladder, a BSQ-ViT was expected")
    if found.config.frames == 1 and config.frames > 1:
        found = with_time(found, config.frames)
    return found.train().requires_grad_(True)


def _config(preset: str) -> BsqVitConfig:
    if preset in BSQVIT_PRESETS:
        return BSQVIT_PRESETS[preset]
    if not Path(preset).is_file():
        names = ", ".join(BSQVIT_PRESETS)
        raise InputError(f"preset {preset}: neither known nor a file, expected one of {names}, or TOML")
    try:
        return BsqVitConfig.from_dict(tomllib.loads(Path(preset).read_text()))
    except (tomllib.TOMLDecodeError, ModelError) as error:
        raise InputError(f"{preset}: {error}") from error


def read_network(source: Path) -> BsqVit | None:
    """The BSQ-ViT of weights (.safetensors) or of a checkpoint's average (.pt); None where it is a ladder."""
    if source.suffix == ".safetensors":
        weights = model.load(source)
        if not isinstance(weights.card.tokenizer, BsqVitConfig):
            return None
        return copy.deepcopy(weights.bsqvit())  # whoever loads the file next shares its tensors
    state = load_checkpoint(source)
    if state["config"].get("kind") != KIND:
        return None
    network = BsqVit(BsqVitConfig.from_dict(state["config"]))
    network.load_state_dict(state["ema"])
    return network.eval().requires_grad_(False)


def sampler_for(config: BsqVitConfig, data: Sequence[Path]) -> pictures.CropSampler | clips.ClipSampler:
    """Crops of a tile: of pictures for an image model, of clips of config.frames frames for a video model."""
    crop = config.image_size
    if config.frames == 1:
        found = pictures.find(data, validation=False)
        return pictures.CropSampler(pictures.load(found, crop), crop)
    found = pictures.find(data, validation=False, suffixes=clips.SUFFIXES)
    return clips.ClipSampler(clips.load(found, crop, config.frames), crop, config.frames)


@dataclass(frozen=True)
class TileTokeniser:
    """A frozen BSQ-ViT on a device, for token caches; see tokenise.Tokeniser."""

    network: BsqVit
    device: torch.device

    @torch.no_grad()
    def clips(self, x_BTCHW: Tensor, rates: list[int]) -> list[Clip]:
        """Tokens of whole clips, frame by frame, whose sides are multiples of a tile; rates mean nothing."""
        config = self.network.config
        B, T, C, H, W = x_BTCHW.shape
        size, side = config.image_size, config.side
        rows, columns = H // size, W // size
        if H % size or W % size or config.frames < T:
            raise InputError(
                f"crops of {T} frames of {W}x{H} pixels, expected multiples of {size} pixels and at most "
                f"{config.frames} frames"
            )
        tiles = x_BTCHW.reshape(B, T, C, rows, size, columns, size).permute(0, 3, 5, 1, 2, 4, 6)
        with half_precision(self.device):
            u = self.network.sphere(tiles.reshape(-1, T, C, size, size).to(self.device))
        bits = self.network.bits(u).to(torch.uint8).cpu()
        grids = bits.reshape(B, rows, columns, T, side, side, -1).permute(0, 3, 1, 4, 2, 5, 6)
        grids_BTHWL = grids.reshape(B, T, rows * side, columns * side, -1).numpy()
        return [Clip.from_bits(0, 0, [[frame] for frame in clip]) for clip in grids_BTHWL]
