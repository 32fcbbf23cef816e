"""What is coded: pictures and clips, found in folders and among files, read in the one colour path."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bsqcodec.errors import InputError
from bsqcodec.evaluation.colour import ColourPath, path_of
from bsqcodec.media.colour import SWSCALE_FLAGS

STILLS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif"})
CLIPS = frozenset(
    {".mp4", ".mkv", ".mov", ".avi", ".webm", ".y4m", ".mpg", ".ts", ".3gp", ".mts", ".gif", ".m4v"}
)
RAW = ".yuv"
RAW_NAME = re.compile(r"_(\d+)x(\d+)_(\d+(?:\.\d+)?)(?:fps)?(?=[_.]|$)", re.IGNORECASE)
RAW_UNREADABLE = re.compile(r"10-?bit|12-?bit|16-?bit|_422|_444", re.IGNORECASE)
UNSTATED_RATE = Fraction(25)


class Kind(Enum):
    STILL = "still"
    CLIP = "clip"


@dataclass(frozen=True)
class RawFormat:
    """What a file of bare 8-bit 4:2:0 planes does not say about itself."""

    width: int
    height: int
    frame_rate: Fraction

    @property
    def frame_bytes(self) -> int:
        return self.width * self.height + 2 * ((self.width + 1) // 2) * ((self.height + 1) // 2)


@dataclass(frozen=True)
class Item:
    """One picture or clip of an evaluation, and which part of it is used.

    max_frames: at most so many frames of a clip; size: (width, height) to which it is scaled first;
    colour: overrides what the file states (the data sets' raw files state nothing).
    """

    name: str
    path: Path
    kind: Kind
    raw: RawFormat | None = None
    max_frames: int | None = None
    size: tuple[int, int] | None = None
    colour: ColourPath | None = None

    @property
    def selection(self) -> str:
        """How the frames are made of the file's bytes: with the digest, this says what was coded."""
        parts = [self.kind.value, str(self.raw), str(self.max_frames), str(self.size), str(self.colour)]
        return " ".join(parts)


@dataclass(frozen=True)
class SourceInfo:
    """Size of the frames that are coded, their rate and colour path."""

    width: int
    height: int
    frame_rate: Fraction
    colour: ColourPath


def raw_format(path: Path) -> RawFormat:
    """Size and rate of a raw .yuv file from a name like Beauty_1920x1080_120fps_420_8bit_YUV.yuv."""
    found = RAW_NAME.search(path.name)
    if found is None:
        example = "name_1920x1080_120fps.yuv"
        raise InputError(f"{path}: a raw file's name must state its size and rate, such as {example}")
    if RAW_UNREADABLE.search(path.name):
        raise InputError(f"{path}: by its name not 8-bit 4:2:0, the one raw format that is read")
    return RawFormat(int(found[1]), int(found[2]), Fraction(found[3]))


def find_items(paths: list[Path], *, folders_are_clips: bool = False) -> list[Item]:
    """Pictures and clips among files and in folders, by name; a sub-folder of pictures is one clip.

    folders_are_clips: each folder named holds the numbered frames of one clip (25 frames/s).
    InputError where something is missing, of an unknown kind, or where nothing is found.
    """
    items: list[Item] = []
    for path in paths:
        if path.is_dir():
            found = [_folder_clip(path)] if folders_are_clips else _items_in(path)
            if not found:
                raise InputError(f"{path}: no picture or clip in this folder")
            items += found
        elif path.is_file():
            item = _item_of(path)
            if item is None:
                raise InputError(
                    f"{path}: neither picture nor clip by its ending {path.suffix or '(none)'!r}"
                )
            items.append(item)
        else:
            raise InputError(f"{path}: no such file or folder, and not the name of a data set")
    return _distinct(items)


def _items_in(folder: Path) -> list[Item]:
    found: list[Item] = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and _pictures_in(entry):
            found.append(_folder_clip(entry))
        elif entry.is_file() and (item := _item_of(entry)) is not None:
            found.append(item)
    return found


def _item_of(path: Path) -> Item | None:
    ending = path.suffix.lower()
    if ending in STILLS:
        return Item(path.stem, path, Kind.STILL)
    if ending in CLIPS:
        return Item(path.stem, path, Kind.CLIP)
    if ending == RAW:
        return Item(path.stem, path, Kind.CLIP, raw=raw_format(path))
    return None


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in STILLS)


def _folder_clip(folder: Path) -> Item:
    if not _pictures_in(folder):
        raise InputError(f"{folder}: no pictures in this folder, so no clip of numbered frames")
    return Item(folder.name, folder, Kind.CLIP)


def _distinct(items: list[Item]) -> list[Item]:
    """Names tell items apart in every table: equal ones get their folder's name in front."""
    names = [item.name for item in items]
    return [
        replace(item, name=f"{item.path.parent.name}/{item.path.name}")
        if names.count(item.name) > 1
        else item
        for item in items
    ]


def digest(item: Item) -> str:
    """SHA-256 of the item's bytes (of a folder: of its pictures in order), remembered while it stays."""
    files = _pictures_in(item.path) if item.path.is_dir() else [item.path]
    try:
        stamps = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
        return _digest_of(stamps)
    except OSError as error:
        raise InputError(f"{item.path}: cannot be read: {error.strerror}") from error


@lru_cache(maxsize=4096)
def _digest_of(stamps: tuple[tuple[str, int, int], ...]) -> str:
    whole = hashlib.sha256()
    for file, _, _ in stamps:
        with Path(file).open("rb") as stream:
            while chunk := stream.read(1 << 20):
                whole.update(chunk)
    return whole.hexdigest()


class Source:
    """An item opened for reading: its frames as R'G'B' arrays or as 4:2:0 frames, any number of times."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self._native = False
        first = next(self._decoded(), None)
        if first is None:
            raise InputError(f"{item.path}: holds no picture")
        if isinstance(first, np.ndarray):
            colour = item.colour or ColourPath()
            height, width = first.shape[:2]
        else:
            colour = item.colour or path_of(first)
            width, height = first.width, first.height
            self._native = first.format.name in ("yuv420p", "yuvj420p") and width % 2 == height % 2 == 0
        self.info = SourceInfo(width, height, self._frame_rate(), colour)

    def rgb_frames(self) -> Iterator[np.ndarray]:
        """H x W x 3 uint8 R'G'B': the reference of all measures, and what bsqc is given."""
        for frame in self._decoded():
            yield frame if isinstance(frame, np.ndarray) else self.info.colour.to_rgb(frame)

    def yuv_frames(self) -> Iterator[av.VideoFrame]:
        """8-bit 4:2:0 of even size: the file's own planes where it has such, else made of R'G'B'."""
        for frame in self._decoded():
            if self._native and not isinstance(frame, np.ndarray):
                yield frame
            else:
                pixels = frame if isinstance(frame, np.ndarray) else self.info.colour.to_rgb(frame)
                yield self.info.colour.to_yuv420(pixels)

    def _frame_rate(self) -> Fraction:
        item = self.item
        if item.raw is not None:
            return item.raw.frame_rate
        if item.kind is Kind.STILL or item.path.is_dir():
            return UNSTATED_RATE
        with _opened(item.path) as container:
            return Fraction(container.streams.video[0].average_rate or UNSTATED_RATE)

    def _decoded(self) -> Iterator[np.ndarray | av.VideoFrame]:
        item = self.item
        if item.kind is Kind.STILL:
            yield _still(item.path, item.size)
            return
        frames: Iterator[np.ndarray | av.VideoFrame]
        if item.raw is not None:
            frames = _raw_frames(item.path, item.raw)
        elif item.path.is_dir():
            frames = (_still(picture, None) for picture in _pictures_in(item.path))
        else:
            frames = _clip_frames(item.path)
        for index, frame in enumerate(frames):
            if index == item.max_frames:
                return
            yield frame if item.size is None else _scaled(frame, item.size)


def _still(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a picture that can be read: {error}") from error
    if size is not None:
        upright = upright.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(upright)


def _raw_frames(path: Path, raw: RawFormat) -> Iterator[av.VideoFrame]:
    size = path.stat().st_size
    if size == 0 or size % raw.frame_bytes:
        expected = f"{raw.frame_bytes} bytes a frame of {raw.width}x{raw.height}"
        raise InputError(f"{path}: {size} bytes are no whole number of frames ({expected})")
    with path.open("rb") as stream:
        while chunk := stream.read(raw.frame_bytes):
            rows = np.frombuffer(chunk, np.uint8).reshape(-1, raw.width)
            yield av.VideoFrame.from_ndarray(rows, format="yuv420p")


def _clip_frames(path: Path) -> Iterator[av.VideoFrame]:
    with _opened(path) as container:
        try:
            yield from container.decode(container.streams.video[0])
        except av.FFmpegError as error:
            raise InputError(f"{path}: damaged: {error}") from error


def _opened(path: Path) -> av.container.InputContainer:
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: not a clip that can be read: {error}") from error
    if not container.streams.video:
        container.close()
        raise InputError(f"{path}: holds no video")
    return container


def _scaled(frame: np.ndarray | av.VideoFrame, size: tuple[int, int]) -> np.ndarray | av.VideoFrame:
    if isinstance(frame, np.ndarray):
        return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
    return frame.reformat(width=size[0], height=size[1], interpolation=SWSCALE_FLAGS, threads=1)
