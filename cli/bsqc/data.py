"""`bsqc data`: the data sets of `bsqc rd-curve`, fetched, listed and verified."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsqc.console import Console

if TYPE_CHECKING:
    from bsqcodec.evaluation.fetch import State

FOLDER = click.Path(path_type=Path, file_okay=False)
SECONDS_BETWEEN_LINES = 5.0
MEGABYTE = 1e6


@click.group("data", short_help="Data sets for rd-curve: fetch, list, verify.")
def data() -> None:
    """The data sets of `bsqc rd-curve`: kodak, uvg, mcl-jcv.

    They lie in the user's cache folder, or where BSQC_DATA says.
    """


@data.command()
@click.argument("name")
@click.option("--only", multiple=True, metavar="NAME", help="this picture or clip alone (repeat)")
@click.option("--frames", type=click.IntRange(1), metavar="N", help="keep the first N frames of every clip")
@click.option("--path", type=FOLDER, metavar="DIR", help="put the files here")
@click.option("--host", metavar="URL", help="a mirror that is laid out like the original")
@click.option("--quiet", is_flag=True, help="no progress")
def fetch(
    name: str, only: tuple[str, ...], frames: int | None, path: Path | None, host: str | None, quiet: bool
) -> None:
    """Fetch a data set; what is there already is checked, not fetched again."""
    from bsqcodec.evaluation.datasets import data_set, members_of
    from bsqcodec.evaluation.fetch import Fetcher, data_folder

    console = Console(quiet=quiet)
    chosen = data_set(name)
    members = members_of(chosen, only)
    folder = path or data_folder() / chosen.name
    size = sum(member.size for member in members)
    console.say(f"{chosen.title}")
    console.say(f"licence: {chosen.licence}")
    console.say(f"{len(members)} files, {size / MEGABYTE:,.0f} MB unpacked, from {host or chosen.host}")
    fetcher = Fetcher(chosen, folder, host=host, update=_Bytes(quiet=quiet))
    paths = fetcher.fetch(only, frames)
    console.say(f"{folder}: {len(paths)} files, complete")


@data.command("list")
def list_sets() -> None:
    """Name, licence, size and place of every data set, and how much of it is here."""
    from bsqcodec.evaluation.datasets import DATA_SETS
    from bsqcodec.evaluation.fetch import data_folder

    for chosen in DATA_SETS.values():
        folder = data_folder() / chosen.name
        here = sum((folder / member.file).is_file() for member in chosen.members)
        size = sum(member.size for member in chosen.members)
        click.echo(f"{chosen.name}: {chosen.title}")
        click.echo(f"  licence: {chosen.licence}")
        click.echo(f"  {len(chosen.members)} files, {size / MEGABYTE:,.0f} MB, from {chosen.host}")
        click.echo(f"  {here} of them here, in {folder}")


@data.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--path", type=FOLDER, metavar="DIR", help="where the files of the one data set lie")
def verify(names: tuple[str, ...], path: Path | None) -> None:
    """Check every file of the data sets named (all that are here, by default)."""
    from bsqcodec.errors import InputError
    from bsqcodec.evaluation.datasets import DATA_SETS, data_set
    from bsqcodec.evaluation.fetch import data_folder, states

    if path is not None and len(names) != 1:
        raise click.UsageError("--path goes with one data set")
    here = [name for name in DATA_SETS if (data_folder() / name).is_dir()]
    if not names and not here:
        raise InputError(f"{data_folder()}: no data set is here; `bsqc data fetch` gets one")
    faults = 0
    for name in names or here:
        chosen = data_set(name)
        for state in states(chosen, path or data_folder() / name):
            faults += state.fault is not None
            click.echo(f"{name} {state.member.name}: {_told(state)}")
    if faults:
        raise InputError(f"{faults} files are missing or not as they should be")


def _told(state: State) -> str:
    if state.fault is not None:
        return state.fault
    if state.member.raw is None:
        return "ok"
    return f"ok, {state.frames} of {state.member.frames} frames"


class _Bytes:
    """Progress of downloads on stderr: one line, rewritten, on a terminal; a line now and then elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._last = time.monotonic()

    def __call__(self, name: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        pause = 0.1 if self._terminal else SECONDS_BETWEEN_LINES
        ended = done == total
        if self._quiet or not (now - self._last >= pause or (ended and self._terminal)):
            return
        self._last = now
        text = f"{name}: {done / MEGABYTE:.1f} MB"
        if total:
            text += f" of {total / MEGABYTE:.1f} MB, {done / total:.0%}"
        if self._terminal:
            bar = "#" * round(30 * done / total) if total else ""
            click.echo(f"\r\033[K{text} {bar}", err=True, nl=ended)
        else:
            click.echo(text, err=True)
