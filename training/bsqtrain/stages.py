"""The stages as functions: what the commands of `bsqc train` call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

from bsqcodec import model
from bsqcodec.blocks import BlockKind
from bsqcodec.errors import InputError
from bsqcodec.machine import pick_device
from bsqcodec.metrics.lpips import load_lpips
from bsqcodec.model import ONE_RATE, ModelCard
from bsqcodec.prior import PriorConfig
from bsqcodec.tokenizer.bsqvit import BsqVit
from bsqcodec.tokenizer.config import PRESETS, TokenizerConfig, tube_fault
from bsqcodec.tokenizer.ladder import Ladder
from bsqtrain import clips, paper, pictures
from bsqtrain.engine import Budget, Schedule, Task, Trainer, load_checkpoint
from bsqtrain.image import ImageRecipe, ImageTask
from bsqtrain.joint import JointRecipe, JointTask, save_twin
from bsqtrain.measure import EVEN_RATES, Measurement, held_out, measure
from bsqtrain.measure_clips import GopPoint
from bsqtrain.measure_clips import held_out as held_out_clips
from bsqtrain.measure_clips import measure as measure_gops
from bsqtrain.perceptual import PerceptualRecipe, PerceptualTask
from bsqtrain.prior import (
    PriorRecipe,
    checkpoint_prior,
    export_prior,
    key_weights,
    load_twin,
    measure_prior,
    train_prior,
)
from bsqtrain.prior_twin import PriorTwin
from bsqtrain.recipe import read as read_recipe
from bsqtrain.tokenise import Tokeniser, sample
from bsqtrain.tokens import Clip, Levels, load_clips, save_clips
from bsqtrain.video import VideoRecipe, VideoTask

Say = Callable[[str], None]

CALIBRATION_PICTURES = 24
"""How many held-out pictures the quality table is measured on, at most."""


@dataclass(frozen=True)
class StageOptions:
    """What every tokenizer stage needs.

    init: weights (.safetensors), a checkpoint (.pt) or a folder of shards to start from. shards: a folder to
    write small checkpoints to as well; `resume` then goes on from there. save_every: seconds.
    """

    data: tuple[Path, ...]
    out: Path
    budget: Budget
    recipe: str | Path
    preset: str = "base"
    init: Path | None = None
    resume: bool = False
    device: str = "auto"
    seed: int = 0
    compile: bool = True
    shards: Path | None = None
    save_every: float = 300.0


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes that `torchrun` started, if there are any."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    # The clock's share of the budget is a CPU tensor whatever the devices are.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def load_ladder(source: Path | None, preset: str) -> Ladder:
    """A tokenizer from weights or from a checkpoint's average, or a new one of a preset."""
    if source is None:
        if preset not in PRESETS:
            raise InputError(f"preset {preset}: not known, expected one of {', '.join(PRESETS)}")
        torch.manual_seed(0)
        return Ladder(PRESETS[preset])
    if source.suffix == ".safetensors":
        return model.load(source).ladder().train().requires_grad_(True)
    state = load_checkpoint(source)
    ladder = Ladder(TokenizerConfig.from_dict(state["config"]))
    ladder.load_state_dict(state["ema"])
    return ladder


def image(options: StageOptions, say: Say = print) -> None:
    """Train key frames on pictures."""
    schedule, recipe = read_recipe(options.recipe, ImageRecipe)
    device = pick_device(options.device)
    with process_group():
        ladder = load_ladder(options.init, options.preset).to(device)
        sampler = _crop_sampler(options.data, recipe.crop, device)
        task = ImageTask(ladder, sampler, recipe, device, options.seed)
        _train(task, schedule, options, say)


def video(options: StageOptions, say: Say = print) -> None:
    """Train tubes, and key frames unless the recipe freezes them, on clips."""
    schedule, recipe = read_recipe(options.recipe, VideoRecipe)
    device = pick_device(options.device)
    with process_group():
        ladder = load_ladder(options.init, options.preset).to(device)
        if options.init is not None and not options.resume and not _has_tubes(ladder):
            ladder.inherit_tubes()
        length = 1 + (recipe.run_in + recipe.tubes) * ladder.config.tube_frames
        sampler = _clip_sampler(options.data, recipe, length, device)
        stills = _crop_sampler(options.data, recipe.still_crop, device) if recipe.stills else None
        task = VideoTask(ladder, sampler, recipe, device, options.seed, stills)
        _train(task, schedule, options, say)


def perceptual(options: StageOptions, lpips: tuple[Path, Path] | None = None, say: Say = print) -> None:
    """Train the decoder of key frames, or of tubes where the recipe has more than one frame, to look real.
    lpips: files of the backbone and of its heads."""
    schedule, recipe = read_recipe(options.recipe, PerceptualRecipe)
    device = pick_device(options.device)
    judge = load_lpips(*lpips).to(device) if lpips is not None else None
    with process_group():
        ladder = _trained(options).to(device)
        sampler: pictures.CropSampler | clips.ClipSampler | clips.MixedSampler
        if recipe.frames == 1:
            sampler = _crop_sampler(options.data, recipe.crop, device)
        else:
            sampler = _clip_sampler(options.data, recipe, recipe.frames, device)
        task = PerceptualTask(ladder, sampler, recipe, device, judge, options.seed)
        _train(task, schedule, options, say)


def joint(options: StageOptions, prior_from: Path | None = None, say: Say = print) -> None:
    """Train key frames with the rate of a prior. prior_from: a key prior's checkpoint; without, a new one.

    Leaves the prior in OUT/prior.pt, for `prior` to start from.
    """
    schedule, recipe = read_recipe(options.recipe, JointRecipe)
    if prior_from is None and not recipe.train_prior:
        raise InputError(
            f"{options.recipe}: with train_prior = false a trained prior is needed: --prior FILE"
        )
    device = pick_device(options.device)
    with process_group():
        ladder = _trained(options).to(device)
        config = prior_config(ladder) if prior_from is None else checkpoint_prior(prior_from)
        torch.manual_seed(options.seed)
        twin = PriorTwin(config, BlockKind.KEY)
        if prior_from is not None:
            twin.load_state_dict(key_weights(prior_from, config))
        sampler = _crop_sampler(options.data, recipe.crop, device)
        task = JointTask(ladder, twin, sampler, recipe, device, options.seed)
        trainer = _train(task, schedule, options, say)
        if trainer.rank == 0:
            save_twin(options.out / "prior.pt", twin)


def _trained(options: StageOptions) -> Ladder:
    """The tokenizer that a stage starts from, which has to be given."""
    if options.init is None:
        raise InputError("this stage starts from a trained tokenizer: --init FILE, a checkpoint or weights")
    return load_ladder(options.init, options.preset)


def _crop_sampler(
    data: Sequence[Path], crop: int, device: torch.device, *, validation: bool = False
) -> pictures.CropSampler:
    """Crops of the pictures in the folders; on an accelerator the pictures stay there."""
    found = pictures.find(data, validation=validation)
    return pictures.CropSampler(pictures.load(found, crop), crop, device)


def _clip_sampler(
    data: Sequence[Path], recipe: VideoRecipe | PerceptualRecipe, length: int, device: torch.device
) -> clips.ClipSampler | clips.MixedSampler:
    """Of the clips in the folders; where there are pictures too, a share of the clips is made of them."""
    found = pictures.find(data, validation=False, suffixes=clips.SUFFIXES | pictures.SUFFIXES)
    real = [path for path in found if path.suffix.lower() in clips.SUFFIXES]
    sampler = clips.ClipSampler(clips.load(real, recipe.crop, length), recipe.crop, length, device)
    stills = [path for path in found if path not in set(real)]
    if not stills or not recipe.moving_pictures:
        return sampler
    moving = clips.MovingPictures(pictures.load(stills, recipe.crop), recipe.crop, length, device)
    return clips.MixedSampler(sampler, moving, recipe.moving_pictures)


def _has_tubes(ladder: Ladder) -> bool:
    """Whether tubes were ever trained: the memory adds something."""
    return any(bool(p.any()) for n, p in ladder.recall.named_parameters() if n.endswith("carry.weight"))


def _train(task: Task, schedule: Schedule, options: StageOptions, say: Say) -> Trainer:
    shards = options.shards
    trainer = Trainer(task, schedule, options.budget, options.out, compile=options.compile, shards=shards)
    if options.resume:
        trainer.resume(shards or options.out / "checkpoint.pt")
    trainer.run(save_every=options.save_every, say=say)
    return trainer


def tokens(
    tokenizer: Ladder | BsqVit,
    sources: Sequence[Path],
    out: Path,
    count: int,
    *,
    crop: int,
    tubes: int,
    device: str = "auto",
    validation: bool = False,
    seed: int = 0,
    say: Say = print,
) -> None:
    """Fill a token cache with `count` random crops: of pictures, or, with tubes > 0, of clips."""
    on = pick_device(device)
    tokenizer = tokenizer.to(on).eval()
    tokeniser = (
        Tokeniser(tokenizer, on) if isinstance(tokenizer, Ladder) else paper.TileTokeniser(tokenizer, on)
    )
    sampler: pictures.CropSampler | clips.ClipSampler
    if tubes:
        length = 1 + tubes * tokenizer.config.tube_frames
        found = pictures.find(sources, validation=validation, suffixes=clips.SUFFIXES)
        sampler = clips.ClipSampler(clips.load(found, crop, length), crop, length, on)
    else:
        sampler = _crop_sampler(sources, crop, on, validation=validation)
    at_once = 4 if on.type == "cpu" else 32
    sampled = sample(tokeniser.clips, sampler, count, seed, at_once, say)
    save_clips(out, tuple((level.stride, level.bits) for level in tokenizer.config.levels), sampled)


def prior_config(ladder: Ladder) -> PriorConfig:
    """The prior that ships for a tokenizer."""
    return PriorConfig.preset(tuple((level.stride, level.bits) for level in ladder.config.levels))


def prior(
    caches: Sequence[Path],
    kind: BlockKind,
    out: Path,
    budget: Budget,
    *,
    recipe: str | Path = "prior",
    preset: str = "base",
    key: Path | None = None,
    init: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
    shards: Path | None = None,
    save_every: float = 300.0,
    say: Say = print,
) -> None:
    """Train the prior of one kind of block on token caches. key: checkpoint of a key prior to start from.
    init: weights of a model, whose prior of this kind to start from.

    shards, save_every: see StageOptions.
    """
    schedule, numbers = read_recipe(recipe, PriorRecipe)
    levels, sampled = _load_caches(caches)
    config, integers = PriorConfig.preset(levels, preset), None
    if init is not None:
        config, integers = _model_prior(init, levels)
    on = pick_device(device)
    train_prior(
        config,
        sampled,
        kind,
        out,
        budget,
        schedule=schedule,
        recipe=numbers,
        key=key,
        init=integers,
        device=on,
        seed=seed,
        resume=resume,
        shards=shards,
        save_every=save_every,
        say=say,
    )


def _model_prior(path: Path, levels: Levels) -> tuple[PriorConfig, dict[str, Tensor]]:
    """Shape and integers of the prior in a model's weights. InputError where it is for other levels."""
    weights = model.load(path)
    if weights.card.prior is None:
        raise InputError(f"{path}: has no prior to start from")
    config = PriorConfig.from_json(weights.card.prior)
    found = tuple((level.stride, level.bits) for level in config.levels)
    if found != levels:
        raise InputError(f"{path}: its prior is for levels {found}, the tokens are of {levels}")
    return config, weights.part("prior")


def _load_caches(caches: Sequence[Path]) -> tuple[Levels, list[Clip]]:
    found = [load_clips(path) for path in caches]
    if len({levels for levels, _ in found}) != 1:
        raise InputError(f"token caches of different tokenizers: {', '.join(map(str, caches))}")
    return found[0][0], [clip for _, sampled in found for clip in sampled]


def measure_pictures(
    ladder: Ladder, data: Sequence[Path], count: int | None = None, device: str = "auto", say: Say = print
) -> Measurement:
    """Figures of a tokenizer on the held-out pictures of folders, all or `count` of them."""
    return measure(ladder, held_out(data, count), pick_device(device), say=say)


def measure_clips(
    ladder: Ladder,
    data: Sequence[Path],
    tubes: int,
    count: int | None = None,
    device: str = "auto",
    tube_frames: int | None = None,
    say: Say = print,
) -> tuple[list[GopPoint], int]:
    """Figures of a tokenizer on the held-out clips of folders, and the number of those clips.

    GOPs are a key frame and what so many of the longest tubes hold, in tubes of tube_frames (None: as the
    rate asks for).
    """
    if tube_frames and (fault := tube_fault(ladder.config.tube_lengths, tube_frames, "this model")):
        raise InputError(fault)
    held = held_out_clips(data, tubes, ladder.config, count)
    return measure_gops(ladder, held, pick_device(device), tube_frames=tube_frames, say=say), len(held)


def export(
    tokenizer: Ladder | BsqVit,
    name: str,
    out: Path,
    *,
    calibrate: Sequence[Path] = (),
    calibration_pictures: int = CALIBRATION_PICTURES,
    device: str = "auto",
    caches: Sequence[Path] = (),
    key: Path | None = None,
    tube: Path | None = None,
    held_out: Sequence[Path] = (),
    origin: dict[str, str] | None = None,
    say: Say = print,
) -> None:
    """Write a model. Without `key`, a trained prior's checkpoint, it codes raw bits.

    calibrate: folders whose held-out pictures the quality table is measured on; without, it has even steps of
    log lambda. caches: training tokens, for the static tables. held_out: tokens to report on what the prior
    saves. origin: of imported weights.
    """
    table = EVEN_RATES if isinstance(tokenizer, Ladder) else ONE_RATE
    if calibrate and isinstance(tokenizer, Ladder):
        table = measure_pictures(tokenizer, calibrate, calibration_pictures, device, say).quality_table()
    tokenizer = tokenizer.cpu()
    card = ModelCard(name, tokenizer.config, None, table, origin or {})
    if key is None:
        model.save(out, card, tokenizer, None)
        return
    config = checkpoint_prior(key)
    _, sampled = _load_caches(caches)
    nets = {BlockKind.KEY: load_twin(key, config, BlockKind.KEY)}
    if tube is not None:
        nets[BlockKind.TUBE] = load_twin(tube, config, BlockKind.TUBE)
    integers = export_prior(config, sampled, nets[BlockKind.KEY], nets.get(BlockKind.TUBE))
    model.save(out, replace(card, prior=config.to_json()), tokenizer, integers)
    if held_out:
        _, unseen = _load_caches(held_out)
        for net in nets.values():
            say(str(measure_prior(config, integers, net, unseen)))
