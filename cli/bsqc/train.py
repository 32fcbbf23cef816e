"""`bsqc train`: the stages of training, one after the other. What they do is in the package bsqtrain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bsqc.console import Console
from bsqc.options import Decorated, json_option
from bsqcodec.errors import InputError

if TYPE_CHECKING:
    from bsqtrain.engine import Budget

PATH = click.Path(path_type=Path)
LOG_ON_STDERR = Console()


def _options(*options: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    def add(function: Decorated) -> Decorated:
        for option in reversed(options):
            function = option(function)
        return function

    return add


budget_options = _options(
    click.option("--minutes", type=click.FloatRange(0, min_open=True), metavar="M", help="train so long"),
    click.option("--steps", type=click.IntRange(1), metavar="N", help="or so many steps"),
    click.option("--resume", is_flag=True, help="go on from the checkpoint in OUT"),
    click.option("--seed", type=int, default=0, show_default=True, help="of everything random"),
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps")
stage_options = _options(
    click.argument("data", nargs=-1, required=True, type=PATH, metavar="DATA..."),
    click.option("--out", required=True, type=PATH, metavar="OUT", help="folder of checkpoint and log"),
    budget_options,
    click.option("--recipe", metavar="NAME|FILE", help="the stage's numbers, in TOML [its own]"),
    click.option("--preset", default="base", show_default=True, help="shape of a new tokenizer"),
    click.option("--init", type=PATH, metavar="FILE", help="weights or a checkpoint to start from"),
    device_option,
    click.option("--no-compile", is_flag=True, help="do without torch.compile"),
)


@click.group(short_help="Train a model, stage by stage.")
def train() -> None:
    """Train a model: image, video, tokens, prior, export, in this order.

    \b
      bsqc train image pictures/ --out runs/image --minutes 60
      bsqc train video clips/ --out runs/video --minutes 60 --init runs/image/checkpoint.pt
      bsqc train tokens pictures/ --from runs/video/checkpoint.pt --out keys.npz
      bsqc train tokens clips/ --from runs/video/checkpoint.pt --out tubes.npz --tubes 4
      bsqc train prior keys.npz tubes.npz --out runs/key --minutes 30
      bsqc train prior tubes.npz --kind tube --key runs/key/checkpoint.pt --out runs/tube --minutes 30
      bsqc train export runs/video/checkpoint.pt --name mine --out mine.safetensors \\
        --tokens keys.npz --tokens tubes.npz --key runs/key/checkpoint.pt --tube runs/tube/checkpoint.pt \\
        --calibrate pictures/
      bsqc train measure runs/video/checkpoint.pt pictures/
    \b
    The paper's tokenizer, and pictures out of nothing (docs/paper.md):
      bsqc train paper pictures/ --preset bsqvit-18 --out runs/vit --steps 1000000
      bsqc train generator classes/ --tokenizer runs/vit/checkpoint.pt --out runs/generator --minutes 60
    """


@train.command()
@stage_options
def image(**values: Any) -> None:
    """Train key frames on the pictures in the folders DATA."""
    from bsqtrain import stages

    stages.image(_stage_options("image", **values), LOG_ON_STDERR.say)


@train.command()
@stage_options
def video(**values: Any) -> None:
    """Train tubes on the clips in the folders DATA, from an image model."""
    from bsqtrain import stages

    stages.video(_stage_options("video", **values), LOG_ON_STDERR.say)


@train.command()
@stage_options
@click.option("--lpips-weights", type=PATH, metavar="FILE", help="torchvision's AlexNet or VGG-16, .pth")
@click.option("--lpips-heads", type=PATH, metavar="FILE", help="LPIPS v0.1 heads of the same network, .pth")
def perceptual(lpips_weights: Path | None, lpips_heads: Path | None, **values: Any) -> None:
    """Train the decoder to look real: an adversary, and LPIPS where weights are given.

    Key frames on pictures; with --recipe perceptual-video tubes on clips, whose adversary sees five frames at
    once.

    Weights: alexnet-owt-7be5be79.pth or vgg16-397923af.pth from download.pytorch.org/models; heads: alex.pth
    or vgg.pth from github.com/richzhang/PerceptualSimilarity, lpips/weights/v0.1.
    """
    from bsqtrain import stages

    if (lpips_weights is None) != (lpips_heads is None):
        raise click.UsageError("LPIPS needs both --lpips-weights and --lpips-heads")
    lpips = (lpips_weights, lpips_heads) if lpips_weights is not None and lpips_heads is not None else None
    stages.perceptual(_stage_options("perceptual", **values), lpips, LOG_ON_STDERR.say)


@train.command()
@stage_options
@click.option("--prior", type=PATH, metavar="FILE", help="key frames' prior to start from [a new one]")
def joint(prior: Path | None, **values: Any) -> None:
    """Train key frames with the rate of their prior; leaves the prior in OUT/prior.pt."""
    from bsqtrain import stages

    stages.joint(_stage_options("joint", **values), prior, LOG_ON_STDERR.say)


@train.command()
@stage_options
def paper(**values: Any) -> None:
    """Train the paper's tokenizer: BSQ-ViT on pictures, BSQ-bcViT on clips (--preset bsqvit-18 ...)."""
    from bsqtrain import paper_stages

    paper_stages.train_tokenizer(_stage_options("paper", **values), LOG_ON_STDERR.say)


@train.command()
@click.argument("data", type=PATH, metavar="DIR")
@click.option("--tokenizer", required=True, type=PATH, metavar="FILE", help="a BSQ-ViT: weights, checkpoint")
@click.option("--out", required=True, type=PATH, metavar="OUT", help="folder of generator and log")
@click.option("--recipe", default="generator", show_default=True, metavar="NAME|FILE", help="in TOML")
@budget_options
@device_option
def generator(data: Path, minutes: float | None, steps: int | None, **values: Any) -> None:
    """Train a generator on the pictures in the folders of DIR, one folder a class.

    --recipe generator-small fits a few minutes of a CPU and the tokens of bsqvit-small.
    """
    from bsqtrain import paper_stages

    paper_stages.train_generator(data, budget=_budget(minutes, steps), say=LOG_ON_STDERR.say, **values)


def _stage_options(
    stage: str,
    *,
    recipe: str | None,
    minutes: float | None,
    steps: int | None,
    no_compile: bool,
    **others: Any,
) -> Any:
    from bsqtrain.stages import StageOptions

    budget = _budget(minutes, steps)
    return StageOptions(recipe=recipe or stage, budget=budget, compile=not no_compile, **others)


def _budget(minutes: float | None, steps: int | None) -> Budget:
    from bsqtrain.engine import Budget

    if (minutes is None) == (steps is None):
        raise click.UsageError("say how long: either --minutes or --steps")
    return Budget(minutes, steps)


@train.command()
@click.argument("data", nargs=-1, required=True, type=PATH, metavar="DATA...")
@click.option("--from", "tokenizer", required=True, type=PATH, metavar="FILE", help="weights or a checkpoint")
@click.option("--out", required=True, type=PATH, metavar="FILE.npz", help="the token cache to write")
@click.option("--count", type=click.IntRange(1), default=2000, show_default=True, help="how many crops")
@click.option("--crop", type=click.IntRange(32), default=256, show_default=True, help="their side in pixels")
@click.option("--tubes", type=click.IntRange(0), default=0, show_default=True, help="per clip; 0: pictures")
@click.option("--validation", is_flag=True, help="of the held-out tenth (numbers divisible by 10)")
@click.option("--seed", type=int, default=0, show_default=True, help="of the crops and their rates")
@device_option
def tokens(tokenizer: Path, **values: Any) -> None:
    """Fill a token cache from the pictures or clips in the folders DATA."""
    from bsqtrain import paper_stages, stages

    stages.tokens(paper_stages.load_tokenizer(tokenizer), values.pop("data"), say=LOG_ON_STDERR.say, **values)


@train.command()
@click.argument("caches", nargs=-1, required=True, type=PATH, metavar="CACHE...")
@click.option("--out", required=True, type=PATH, metavar="OUT", help="folder of checkpoint and log")
@click.option("--kind", type=click.Choice(["key", "tube"]), default="key", show_default=True)
@click.option("--recipe", default="prior", show_default=True, metavar="NAME|FILE", help="in TOML")
@click.option("--key", type=PATH, metavar="FILE", help="a key frames' prior to start from, a checkpoint")
@click.option("--init", type=PATH, metavar="FILE", help="weights of a model whose prior to start from")
@click.option("--preset", default="base", show_default=True, help="shape of a new prior: base or tiny")
@click.option("--tokenizer", type=PATH, metavar="FILE", help="CACHE... are folders, made tokens of by FILE")
@budget_options
@device_option
def prior(
    caches: tuple[Path, ...],
    kind: str,
    minutes: float | None,
    steps: int | None,
    tokenizer: Path | None,
    **values: Any,
) -> None:
    """Train the prior of key frames or of tubes on token caches."""
    from bsqtrain import paper_stages, stages

    from bsqcodec.blocks import BlockKind

    if values["key"] is not None and values["init"] is not None:
        raise click.UsageError("a prior starts from --key or from --init, not from both")
    block = next(one for one in BlockKind if one.label == kind)
    budget, say = _budget(minutes, steps), LOG_ON_STDERR.say
    if tokenizer is not None:
        cache = paper_stages.tokens_for_prior(tokenizer, caches, block, values["out"], values["seed"], say)
        caches = (cache,)
    stages.prior(caches, block, budget=budget, say=say, **values)


@train.command()
@click.argument("tokenizer", type=PATH)
@click.argument("data", nargs=-1, required=True, type=PATH, metavar="DATA...")
@click.option("--count", type=click.IntRange(1), metavar="N", help="so many pictures or clips only")
@click.option(
    "--tubes", type=click.IntRange(1), metavar="N", help="clips, in GOPs of a key frame and N long tubes"
)
@click.option("--tube-frames", type=click.IntRange(1), metavar="N", help="that a tube holds [by the rate]")
@json_option
@device_option
def measure(
    tokenizer: Path,
    data: tuple[Path, ...],
    count: int | None,
    tubes: int | None,
    tube_frames: int | None,
    as_json: bool,
    device: str,
) -> None:
    """Figures of TOKENIZER, a checkpoint or weights, on the pictures held out in the folders DATA, or with
    --tubes on the clips.

    Some rates; bits per pixel are the side prior's: to compare tokenizers by, more than a stream has.
    """
    from bsqtrain import measure_clips, stages

    console = Console(as_json=as_json)
    if tubes is not None:
        clips = stages.measure_clips(
            stages.load_ladder(tokenizer, "base"), data, tubes, count, device, tube_frames, console.say
        )
        if as_json:
            console.result({"tokenizer": str(tokenizer)} | measure_clips.as_object(*clips))
        else:
            click.echo("\n".join(measure_clips.lines(*clips)))
        return
    found = stages.measure_pictures(stages.load_ladder(tokenizer, "base"), data, count, device, console.say)
    if as_json:
        console.result({"tokenizer": str(tokenizer)} | found.as_object())
        return
    for line in found.lines():
        click.echo(line)


@train.command()
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN...")
@click.option("--out", required=True, type=PATH, metavar="FILE.png", help="the picture to write")
def curves(runs: tuple[Path, ...], out: Path) -> None:
    """Draw the logs of the stages whose --out was RUN as one picture."""
    from bsqtrain.curves import draw, of_stage

    if out.suffix.lower() != ".png":
        raise InputError(f"{out}: curves are drawn as .png")
    charts = [(run, of_stage(run)) for run in runs]
    for run, found in charts:
        if not found:
            raise InputError(f"{run}: there is no log of a stage, expected log.jsonl")
    draw([chart for _, found in charts for chart in found], out)


@train.command()
@click.argument("tokenizer", type=PATH)
@click.option("--name", required=True, help="what streams will ask for")
@click.option("--out", required=True, type=PATH, metavar="FILE", help="the .safetensors file to write")
@click.option("--tokens", "caches", multiple=True, type=PATH, metavar="CACHE", help="for the static tables")
@click.option("--key", type=PATH, metavar="FILE", help="the key frames' prior; raw bits without it")
@click.option("--tube", type=PATH, metavar="FILE", help="the tubes' prior")
@click.option("--held-out", multiple=True, type=PATH, metavar="CACHE", help="report on these tokens")
@click.option(
    "--calibrate",
    multiple=True,
    type=PATH,
    metavar="DIR",
    help="even steps of quality for q, by the pictures held out in DIR",
)
@device_option
def export(tokenizer: Path, name: str, out: Path, key: Path | None, **values: Any) -> None:
    """Write a model from TOKENIZER, a checkpoint or weights, and from priors."""
    from bsqtrain import paper_stages, stages

    if key is not None and not values["caches"]:
        raise click.UsageError("--key needs --tokens: the static tables are counted on them")
    if not out.parent.is_dir():
        raise InputError(f"{out}: the folder {out.parent} does not exist")
    network, origin = paper_stages.load_tokenizer(tokenizer), paper_stages.origin_of(tokenizer)
    stages.export(network, name, out, key=key, origin=origin, say=LOG_ON_STDERR.say, **values)
