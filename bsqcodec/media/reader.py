"""Opening whatever can be encoded: videos, pictures, folders of numbered pictures, standard input."""

from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from bsqcodec.media.folders import FolderReader
from bsqcodec.media.interfaces import Reader
from bsqcodec.media.source import StreamSource, check_path
from bsqcodec.media.stills import open_still
from bsqcodec.media.timing import Selection
from bsqcodec.media.video_reader import VideoReader


def open_reader(
    path: Path | BinaryIO,
    *,
    start: Fraction | None = None,
    duration: Fraction | None = None,
    max_frames: int | None = None,
    audio: bool = True,
    threads: int | None = None,
) -> Reader:
    """Open a video, a picture, a folder of numbered pictures, or a file object (standard input).

    start, duration: seconds after the first frame; frames with start <= time < start + duration are read, at
    most max_frames of them. audio: whether sound is carried. threads: for decoding, None for up to 4.
    Raises InputError, one line, for everything that is missing, empty, damaged or of no known kind.
    """
    selection = Selection.of(start, duration, max_frames)
    source: Path | StreamSource
    if isinstance(path, Path):
        if path.is_dir():
            return FolderReader(path, selection)
        check_path(path)
        source = path
    else:
        source = StreamSource(path)
    try:
        return open_still(source, selection) or VideoReader(source, selection, audio=audio, threads=threads)
    except BaseException:
        if isinstance(source, StreamSource):
            source.release()
        raise
