"""`bsqc eval`: the measures of the paper's tables."""

from __future__ import annotations

from pathlib import Path

import click

from bsqc.console import Console
from bsqc.options import json_option, quality

PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)

size_option = click.option(
    "--size", type=click.IntRange(16, 4096), default=256, show_default=True, help="side of the squares"
)
inception_option = click.option(
    "--inception-weights", type=PATH, metavar="FILE", help="Inception, TorchScript"
)
quiet_option = click.option("--quiet", is_flag=True, help="no progress")


@click.group("eval", short_help="The paper's measures: reconstruction, generation.")
def eval_() -> None:
    """What a tokenizer loses, how real generated pictures look.

    Feature networks do not come with bsqc; docs/paper.md says where to get them.
    """


@eval_.command()
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--model", default="base", show_default=True, metavar="NAME|FILE", help="whose tokens")
@click.option("-q", "q", type=quality, default=5.0, show_default=True, metavar="Q", help="if it has any")
@size_option
@click.option("--frames", type=click.IntRange(1), default=16, show_default=True, help="of each clip")
@inception_option
@click.option("--i3d-weights", type=PATH, metavar="FILE", help="I3D, TorchScript")
@click.option("--lpips", type=(PATH, PATH), metavar="BACKBONE HEADS", help="torchvision's .pth, LPIPS heads")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps")
@quiet_option
@json_option
def reconstruction(
    folder: Path,
    model: str,
    q: float,
    size: int,
    frames: int,
    inception_weights: Path | None,
    i3d_weights: Path | None,
    lpips: tuple[Path, Path] | None,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """PSNR, SSIM, LPIPS, rFID, rFVD of a model on the pictures, or on the clips, in DIR.

    Every frame is resized (Lanczos) to --size and cropped to the square in its middle first.
    """
    from bsqcodec.evaluation import quality as measures
    from bsqcodec.evaluation.networks import I3d, Inception
    from bsqcodec.metrics.lpips import load_lpips

    console = Console(quiet=quiet, as_json=as_json)
    judges = measures.Judges(
        None if lpips is None else load_lpips(*lpips),
        None if inception_weights is None else Inception(inception_weights),
        None if i3d_weights is None else I3d(i3d_weights),
    )
    with console.progress(f"eval {folder}") as update:
        found = measures.reconstruction(
            folder, model, judges, q=q, size=size, frames=frames, device=device, progress=update
        )
    _tell(console, found, as_json=as_json)


@eval_.command()
@click.argument("real", type=FOLDER, metavar="REAL")
@click.argument("generated", type=FOLDER, metavar="GENERATED")
@size_option
@inception_option
@quiet_option
@json_option
def generation(
    real: Path, generated: Path, size: int, inception_weights: Path | None, quiet: bool, as_json: bool
) -> None:
    """FID, IS, precision and recall of the pictures in GENERATED against those in REAL.

    \b
      bsqc generate --model generator.safetensors -n 5000 made/
      bsqc eval generation imagenet-val/ made/ --inception-weights inception-2015-12-05.pt
    """
    from bsqcodec.errors import InputError
    from bsqcodec.evaluation import quality as measures
    from bsqcodec.evaluation.networks import INCEPTION, Inception

    if inception_weights is None:
        raise InputError(f"--inception-weights is needed: {INCEPTION}")
    console = Console(quiet=quiet, as_json=as_json)
    with console.progress(f"eval {generated}") as update:
        found = measures.generation(real, generated, Inception(inception_weights), size=size, progress=update)
    _tell(console, found, as_json=as_json)


def _tell(console: Console, found: dict[str, float], *, as_json: bool) -> None:
    if as_json:
        console.result(found)
        return
    for name, value in found.items():
        click.echo(f"{name:<26}{value:g}" if value == int(value) else f"{name:<26}{value:.4f}")
