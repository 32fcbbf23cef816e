"""The stages of the paper's models as functions: what `bsqc train paper|generator` call, and tokens of either
kind of tokenizer for `bsqc train tokens|prior|export`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bsqcodec import model
from bsqcodec.blocks import BlockKind
from bsqcodec.errors import InputError
from bsqcodec.generator import files
from bsqcodec.machine import pick_device
from bsqcodec.tokenizer.bsqvit import BsqVit
from bsqcodec.tokenizer.ladder import Ladder
from bsqtrain import paper, stages
from bsqtrain.engine import Budget, Trainer
from bsqtrain.generator import GeneratorRecipe, GeneratorTask, classes_in, new_language, tokenise
from bsqtrain.recipe import read as read_recipe

TOKENS_FOR_PRIOR = 2000
"""Crops that a prior is trained on where it is given pictures in place of a token cache."""

LADDER_CROP, LADDER_TUBES = 256, 4


def train_tokenizer(options: stages.StageOptions, say: Callable[[str], None] = print) -> None:
    """Train a BSQ-ViT on pictures, or a BSQ-bcViT on clips."""
    schedule, recipe = read_recipe(options.recipe, paper.PaperRecipe)
    device = pick_device(options.device)
    with stages.process_group():
        network = paper.load_network(options.init, options.preset).to(device)
        sampler = paper.sampler_for(network.config, options.data)
        task = paper.PaperTask(network, sampler, recipe, device, options.seed)
        trainer = Trainer(task, schedule, options.budget, options.out, compile=options.compile)
        if options.resume:
            trainer.resume(options.out / "checkpoint.pt")
        trainer.run(say=say)


def load_tokenizer(source: Path) -> Ladder | BsqVit:
    """A tokenizer of either kind, from weights or from a checkpoint's average."""
    return paper.read_network(source) or stages.load_ladder(source, "base")


def origin_of(source: Path) -> dict[str, str]:
    """Where imported weights came from; nothing for others."""
    return model.load(source).card.origin if source.suffix == ".safetensors" else {}


def tokens_for_prior(
    tokenizer: Path, data: Sequence[Path], kind: BlockKind, out: Path, seed: int, say: Callable[[str], None]
) -> Path:
    """A token cache in the folder `out`, of the pictures (for tubes: of the clips) in the folders `data`."""
    network = load_tokenizer(tokenizer)
    crop, tubes = LADDER_CROP, LADDER_TUBES
    if isinstance(network, BsqVit):
        crop, tubes = network.config.image_size, network.config.frames - 1
    cache = out / "tokens.npz"
    out.mkdir(parents=True, exist_ok=True)
    stages.tokens(
        network,
        data,
        cache,
        TOKENS_FOR_PRIOR,
        crop=crop,
        tubes=tubes if kind is BlockKind.TUBE else 0,
        seed=seed,
        say=say,
    )
    return cache


def train_generator(
    data: Path,
    tokenizer: Path,
    out: Path,
    budget: Budget,
    *,
    recipe: str | Path,
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> None:
    """Train a masked language model on the pictures in the folders of `data`, one folder a class.

    Leaves checkpoint, log and the generator, with its tokenizer, in the folder `out`.
    """
    schedule, numbers = read_recipe(recipe, GeneratorRecipe)
    network = load_tokenizer(tokenizer)
    if not isinstance(network, BsqVit):
        raise InputError(f"{tokenizer}: is a ladder, a BSQ-ViT was expected")
    folders = classes_in(data)
    language = new_language(network, [folder.name for folder in folders], numbers, seed)
    codes, labels = tokenise(network, folders, numbers, language.config.groups, seed, say)
    on = pick_device(device)
    task = GeneratorTask(language.to(on), codes, labels, numbers, on, seed)
    trainer = Trainer(task, schedule, budget, out, compile=False)
    if resume:
        trainer.resume(out / "checkpoint.pt")
    trainer.run(say=say)
    language.load_state_dict(trainer.ema)
    files.save(out / "generator.safetensors", out.name, language.cpu(), network)
