"""`bsqc generate`: new pictures of a class."""

from __future__ import annotations

import math
from pathlib import Path

import click

from bsqc.console import Console
from bsqcodec.errors import InputError
from bsqcodec.whole_file import check_target, whole_file

PATH = click.Path(path_type=Path)


@click.command(short_help="New pictures of a class, by a generator.")
@click.argument("out", type=PATH, metavar="OUT")
@click.option("--model", required=True, type=PATH, metavar="FILE", help="what `bsqc train generator` wrote")
@click.option("--class", "class_", metavar="K", help="name or number of the class [any]")
@click.option("-n", "count", type=click.IntRange(1, 100_000), default=16, show_default=True, help="pictures")
@click.option("--steps", type=click.IntRange(1, 1000), default=12, show_default=True, help="more is slower")
@click.option("--temperature", type=click.FloatRange(0, 1000), default=15.0, show_default=True)
@click.option("--guidance", type=click.FloatRange(0, 100), default=0.5, show_default=True, help="0: none")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="of everything random")
@click.option("--force", is_flag=True, help="overwrite what is there")
@click.option("--quiet", is_flag=True, help="no closing line")
def generate(
    out: Path,
    model: Path,
    class_: str | None,
    count: int,
    steps: int,
    temperature: float,
    guidance: float,
    seed: int,
    force: bool,
    quiet: bool,
) -> None:
    """Generate pictures: one sheet OUT.png, or numbered PNGs where OUT is a folder (or ends in /).

    \b
      bsqc generate --model generator.safetensors --class dogs -n 16 sheet.png
    """
    from PIL import Image

    from bsqcodec.generator import files
    from bsqcodec.generator.sampling import SamplingOptions

    as_folder = out.is_dir() or out.suffix == ""
    if not as_folder and out.suffix.lower() != ".png":
        raise InputError(f"{out}: a sheet is written as .png")
    if as_folder and out.is_dir() and any(out.iterdir()) and not force:
        raise InputError(f"{out}: is not empty; --force overwrites")
    if not as_folder:
        check_target(out, force=force)
    generator = files.load(model)
    options = SamplingOptions(steps, temperature, guidance)
    pictures = generator.pictures(generator.label(class_), count, seed, options)
    if as_folder:
        out.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures):
            with whole_file(out / f"{number:05}.png", force=True) as file:
                Image.fromarray(picture).save(file, "PNG")
    else:
        side, columns = generator.tokenizer.config.image_size, math.ceil(math.sqrt(count))
        sheet = Image.new("RGB", (columns * side, math.ceil(count / columns) * side))
        for number, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (number % columns * side, number // columns * side))
        with whole_file(out, force=force) as file:
            sheet.save(file, "PNG")
    Console(quiet=quiet).say(f"{out}: {count} pictures in {steps} steps")
