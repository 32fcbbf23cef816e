"""Which inputs become which outputs: the rules of IN, OUT and --out-dir, settled before any work is done."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bsqc.streams import PIPE, check_pipe
from bsqcodec.errors import InputError
from bsqcodec.whole_file import check_target

SUFFIX = ".bsq"
# What a folder is searched for with --out-dir, and what is cut off a name before .bsq is put there.
MEDIA_SUFFIXES = {
    *(".avif", ".bmp", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
    *(".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
    *(".ogv", ".ts", ".webm", ".wmv", ".y4m"),
}


@dataclass(frozen=True)
class Job:
    """One file to encode. source and target: a path, or "-" for stdin and stdout."""

    source: str
    target: str


def plan(arguments: Sequence[str], out_dir: str | None, *, force: bool) -> list[Job]:
    """The jobs that the command line asks for; raises for every one that could not be written.

    IN OUT; IN alone becomes IN.bsq beside it; several, and whole folders, go to out_dir, a folder's files one
    by one. A folder as IN of IN OUT is one clip of numbered frames. Raises click.UsageError, InputError.
    """
    if out_dir is not None:
        jobs = list(_into(Path(out_dir), arguments))
    elif len(arguments) > 2:
        raise click.UsageError(f"{len(arguments)} files given: several inputs need --out-dir")
    elif len(arguments) == 2:
        jobs = [Job(arguments[0], arguments[1])]
    else:
        jobs = [Job(arguments[0], _beside(arguments[0]))]
    for job in jobs:
        _check(job, force=force, may_be_new_folder=out_dir is not None)
    return jobs


def _beside(source: str) -> str:
    if source == PIPE:
        return PIPE
    path = Path(source)
    if path.name in ("", ".."):
        raise click.UsageError(f"{source} has no name that OUT could take: name OUT, too")
    return str(_with_suffix(path))


def _with_suffix(path: Path) -> Path:
    return path.with_suffix(SUFFIX) if _is_media(path) else path.with_name(path.name + SUFFIX)


def _is_media(path: Path) -> bool:
    return path.suffix.lower() in MEDIA_SUFFIXES


def _into(out_dir: Path, arguments: Sequence[str]) -> Iterator[Job]:
    if out_dir.exists() and not out_dir.is_dir():
        raise InputError(f"{out_dir}: is not a folder, --out-dir expects one")
    owners: dict[Path, Path] = {}
    for argument in arguments:
        if argument == PIPE:
            raise click.UsageError("- (stdin) cannot be used with --out-dir")
        folder = Path(argument)
        files = _media_in(folder) if folder.is_dir() else [folder]
        for file in files:
            inside = file.relative_to(folder) if folder.is_dir() else Path(file.name)
            target = _with_suffix(out_dir / inside)
            if target in owners:
                raise InputError(f"{owners[target]} and {file} would both become {target}: rename one")
            owners[target] = file
            yield Job(str(file), str(target))


def _media_in(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if _is_media(path)]
    if not found:
        raise InputError(f"{folder}: holds no picture and no video")
    return found


def _check(job: Job, *, force: bool, may_be_new_folder: bool) -> None:
    if job.source != PIPE and not Path(job.source).exists():
        raise InputError(f"{job.source}: no such file")
    if Path(job.source).suffix == SUFFIX and Path(job.source).is_file():
        raise InputError(f"{job.source}: is a {SUFFIX} stream, a picture or a video was expected")
    if job.target == PIPE:
        check_pipe()
        return
    target = Path(job.target)
    if _is_media(target):
        raise click.UsageError(f"{target} is named like a picture or a video: encode writes {SUFFIX} files")
    refuse_same_file(job.source, job.target)
    if not may_be_new_folder or target.parent.exists():
        check_target(target, force=force)


def refuse_same_file(source: str, target: str) -> None:
    """Raise InputError where reading and writing would meet in one file."""
    if PIPE in (source, target) or not (Path(source).exists() and Path(target).exists()):
        return
    if Path(target).samefile(source):
        raise InputError(f"{target}: is the input itself")
