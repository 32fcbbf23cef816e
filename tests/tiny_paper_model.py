"""The tiny paper model with random weights, large enough for everything to matter."""

import dataclasses
from pathlib import Path

import torch

from bsqcodec import model
from bsqcodec.tokenizer.bsqvit import BsqVit
from bsqcodec.tokenizer.bsqvit_config import BSQVIT_PRESETS


def make(path: Path, *, frames: int = 1) -> Path:
    """Write the weights file; with frames > 1 of the video model."""
    config = dataclasses.replace(BSQVIT_PRESETS["bsqvit-tiny"], frames=frames)
    generator = torch.Generator().manual_seed(0)
    network = BsqVit(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    model.save(path, model.ModelCard("tiny-paper", config, None, model.ONE_RATE), network, None)
    return path
