"""Opening an output by the ending of its name: videos, pictures, folders of pictures, standard output."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from bsqcodec.errors import InputError
from bsqcodec.media.folders import FolderWriter
from bsqcodec.media.interfaces import Writer
from bsqcodec.media.still_writer import STILL_OUTPUTS, StillWriter
from bsqcodec.media.target import Target
from bsqcodec.media.types import AudioTrack, Metadata, VideoInfo
from bsqcodec.media.video_writer import VIDEO_OUTPUTS, VideoWriter
from bsqcodec.media.y4m import Y4mWriter

FOLDER = "folder"
OUTPUT_FORMATS = (*VIDEO_OUTPUTS, "y4m", *STILL_OUTPUTS, FOLDER)


def open_writer(
    path: str | Path | BinaryIO,
    info: VideoInfo,
    *,
    audio_tracks: Sequence[AudioTrack] = (),
    metadata: Metadata | None = None,
    format: str | None = None,
    force: bool = False,
    threads: int | None = None,
) -> Writer:
    """Open an output for frames as `info` describes them.

    path: its ending chooses the format; a string that ends in "/" or the path of a folder means a folder of
    PNGs. A binary file object needs `format`. format: one of OUTPUT_FORMATS, in place of the ending. force:
    replace what exists. threads: for encoding, None for up to 4. Raises InputError for an ending of no known
    format, a target that exists, and a video that is to go into a picture.
    """
    chosen = output_format(path, format)
    place = Path(path) if isinstance(path, str) else path
    if chosen == FOLDER and not isinstance(place, Path):
        raise InputError("a folder of pictures cannot go to an output stream; choose y4m, mkv or mp4")
    target = Target(place, force=force, is_folder=chosen == FOLDER)
    metadata = metadata or Metadata(None, None, {})
    tracks = list(audio_tracks)
    if chosen == FOLDER:
        return FolderWriter(target, info, metadata, len(tracks))
    if chosen == "y4m":
        return Y4mWriter(target, info, len(tracks))
    if chosen in STILL_OUTPUTS:
        return StillWriter(target, chosen, info, metadata, len(tracks))
    return VideoWriter(target, chosen, info, tracks, metadata, threads)


def output_format(path: str | Path | BinaryIO, format: str | None = None) -> str:
    """Which of OUTPUT_FORMATS an output has. Raises InputError naming them where it is none."""
    if format is not None:
        chosen, found = format.lower().removeprefix("."), f"the format {format!r}"
    elif not isinstance(path, str | Path):
        raise InputError(
            f"an output stream has no name to go by; name its format: {', '.join(OUTPUT_FORMATS)}"
        )
    elif str(path).endswith("/") or Path(path).is_dir():
        return FOLDER
    else:
        chosen, found = (
            Path(path).suffix.lower().removeprefix("."),
            f"{path}: the ending {Path(path).suffix!r}",
        )
    if chosen not in OUTPUT_FORMATS:
        raise InputError(
            f"{found} is no known output; expected a folder (name ending in /) or one of"
            f" {', '.join('.' + name for name in OUTPUT_FORMATS if name != FOLDER)}"
        )
    return chosen
