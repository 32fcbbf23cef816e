"""Folders of numbered pictures: read as a video, written as PNGs."""

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path

from bsqcodec.errors import InputError
from bsqcodec.media.interfaces import Reader, Writer
from bsqcodec.media.still_writer import save_picture
from bsqcodec.media.stills import load_picture
from bsqcodec.media.target import Target
from bsqcodec.media.timing import Selection, nothing_selected
from bsqcodec.media.types import AudioPacket, Frame, Metadata, VideoInfo

# Pictures in a folder do not say how fast they are; this is what ffmpeg takes too.
FOLDER_FRAME_RATE = Fraction(25)
PICTURE_ENDINGS = {
    *(".avif", ".bmp", ".jp2", ".jpeg", ".jpg", ".pcx", ".png", ".ppm"),
    *(".qoi", ".sgi", ".tga", ".tif", ".tiff", ".webp"),
}


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts "frame9" before "frame10": runs of digits compare as numbers, the rest as text without case."""
    parts = re.split(r"(\d+)", name.casefold())
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


class FolderReader(Reader):
    """The pictures of a folder in natural order, 25 a second. All must have one size."""

    def __init__(self, path: Path, selection: Selection) -> None:
        self.warnings = []
        self.audio_tracks = []
        try:
            files = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
        except OSError as error:
            raise InputError(f"{path}: the folder cannot be read ({error.strerror})") from None
        pictures = [file for file in files if file.suffix.lower() in PICTURE_ENDINGS]
        self._files = sorted(pictures, key=lambda file: natural_key(file.name))
        if not self._files:
            raise InputError(
                f"{path}: no pictures in this folder of {len(files)} files; expected numbered .png, .jpg ..."
            )
        if len(pictures) < len(files):
            self.warnings.append(f"{len(files) - len(pictures)} files that are no pictures are left out")
        # Frame number n is shown at n / 25 s.
        end = None if selection.end is None else ceil(selection.end * FOLDER_FRAME_RATE)
        chosen = self._files[ceil(selection.start * FOLDER_FRAME_RATE) : end][: selection.max_frames]
        if not chosen:
            raise nothing_selected(str(path), selection, (len(self._files) - 1) / FOLDER_FRAME_RATE)
        self._files = chosen
        first = load_picture(chosen[0], self.warnings)
        height, width, _ = first.pixels.shape
        self.metadata = replace(first.metadata, exif=None)
        self.info = first.info(
            time_base=1 / FOLDER_FRAME_RATE, frame_rate=FOLDER_FRAME_RATE, count=len(chosen), is_still=False
        )
        self._size = (width, height)

    def events(self) -> Iterator[Frame | AudioPacket]:
        for number, file in enumerate(self._files):
            pixels = load_picture(file, []).pixels
            height, width, _ = pixels.shape
            if (width, height) != self._size:
                raise InputError(
                    f"{file}: is {width}x{height}, the first picture of the folder is"
                    f" {self._size[0]}x{self._size[1]}; expected one size"
                )
            yield Frame(pixels, number, 1)

    def close(self) -> None:
        """Nothing is open between two pictures."""


class FolderWriter(Writer):
    """Numbered PNGs (frame_000000.png ...) in a folder that appears whole; without times and sound."""

    def __init__(self, target: Target, info: VideoInfo, metadata: Metadata, tracks: int) -> None:
        self.warnings = [f"{tracks} sound tracks left out: a folder of pictures holds none"] if tracks else []
        if not info.is_still and info.time_base != 1 / FOLDER_FRAME_RATE:
            self.warnings.append("a folder of pictures does not keep the times of its frames")
        self._target = target
        self._metadata = metadata
        self._frames = 0

    def write(self, frame: Frame) -> None:
        assert self._target.path is not None
        with (self._target.path / f"frame_{self._frames:06}.png").open("wb") as file:
            save_picture(file, frame.pixels, "png", self._metadata)
        self._frames += 1

    def write_audio(self, packet: AudioPacket) -> None:
        """Dropped."""

    def close(self) -> None:
        self._target.commit()

    def abort(self) -> None:
        self._target.discard()
