"""`bsqc model`: the models that are here, what they are, whether they work; imports of checkpoints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bsqc.console import Console, printable
from bsqc.options import json_option
from bsqcodec.whole_file import check_target

if TYPE_CHECKING:
    from bsqcodec.inspection import Summary

PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group("model", short_help="Models: import, list, show, verify.")
def model() -> None:
    """The models that streams are coded with, and checkpoints of the paper's authors.

    \b
      bsqc model import checkpoint.pt bsqvit-18.safetensors --ema
      bsqc model list models/
      bsqc model show bsqvit-18.safetensors
      bsqc model verify base
    """


@model.command("import")
@click.argument("checkpoint", type=PATH, metavar="CKPT")
@click.argument("out", type=PATH, metavar="OUT.safetensors")
@click.option("--ema", is_flag=True, help="the averaged weights of the checkpoint")
@click.option("--name", help="what streams will ask for [bsqvit-18 and the like]")
@click.option("--force", is_flag=True, help="overwrite what is there")
def import_(checkpoint: Path, out: Path, ema: bool, name: str | None, force: bool) -> None:
    """Make a model of a published checkpoint of BSQ-ViT (.pt). No code in the file is run."""
    from bsqcodec.checkpoints.official import import_checkpoint

    check_target(out, force=force)
    card = import_checkpoint(checkpoint, out, ema=ema, name=name)
    Console().say(f"{out}: {card.name}, from {card.origin['weights']} of {checkpoint.name}")


@model.command("list")
@click.argument("folders", nargs=-1, type=FOLDER, metavar="[DIR...]")
@json_option
def list_models(folders: tuple[Path, ...], as_json: bool) -> None:
    """The models that come with bsqc and those in the folders DIR."""
    from bsqcodec.errors import ModelError
    from bsqcodec.inspection import find_models, summarise

    console = Console(as_json=as_json)
    found = []
    for path in find_models(folders):
        try:
            found.append(summarise(path))
        except ModelError as error:
            console.warn(str(error))
    if as_json:
        console.result({"models": [_as_object(summary) for summary in found]})
        return
    for summary in found:
        prior = "with a prior" if summary.has_prior else "without a prior"
        size = f"{summary.parameters / 1e6:.1f} M parameters, {summary.raw_bpp:.4f} bpp of tokens, {prior}"
        click.echo(printable(f"{summary.name}: {summary.kind}, {size}: {summary.path}"))


@model.command()
@click.argument("name", metavar="NAME|FILE")
@json_option
def show(name: str, as_json: bool) -> None:
    """What a model is: shape, number of parameters, digest, origin."""
    from bsqcodec.inspection import summarise

    summary = summarise(name)
    if as_json:
        Console(as_json=True).result(_as_object(summary))
        return
    for key, value in _rows(summary).items():
        click.echo(printable(f"{key}: {value}"))


@model.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME|FILE...")
def verify(names: tuple[str, ...]) -> None:
    """Check models from end to end: tensors, and a sample coded and decoded."""
    from bsqcodec.inspection import verify as check

    for name in names:
        for line in check(name):
            click.echo(printable(f"{name}: {line}"))


def _rows(summary: Summary) -> dict[str, Any]:
    rows: dict[str, Any] = {
        "name": summary.name,
        "file": summary.path,
        "digest": summary.digest.hex(),
        "kind": summary.kind,
        "parameters": f"{summary.parameters:,}",
        "tokens": f"{summary.raw_bpp:.4f} bpp without a prior",
        "prior": "yes" if summary.has_prior else "none: tokens are stored as raw bits",
    }
    return rows | asdict(summary.config) | summary.origin


def _as_object(summary: Summary) -> dict[str, Any]:
    values = asdict(summary) | {"path": str(summary.path), "digest": summary.digest.hex()}
    return values | {"config": summary.config.to_dict()}
