"""Pictures through Pillow: upright, over white, 8 bits a sample; EXIF and ICC kept beside the pixels."""

import io
import warnings as python_warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, ImageSequence, UnidentifiedImageError

from bsqcodec.errors import InputError
from bsqcodec.media.colour import STILL_COLOUR, UNSPECIFIED, over_white
from bsqcodec.media.interfaces import Reader
from bsqcodec.media.orientation import EXIF_ORIENTATION, EXIF_ROTATION, with_upright_tag
from bsqcodec.media.source import AVIF_BRANDS, HEAD_LENGTH, HEIF_BRANDS, StreamSource
from bsqcodec.media.timing import Selection, nothing_selected, select_frames
from bsqcodec.media.types import AudioPacket, Frame, Metadata, VideoInfo

# Pillow's names of the formats that it reads better than ffmpeg. Not among them: what it takes for a picture
# and is a video (MPEG, FLI), and what needs an outside program (EPS).
PICTURE_FORMATS = (
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PCX"),
    *("PNG", "PPM", "PSD", "QOI", "SGI", "TGA", "TIFF", "WEBP", "XBM"),
)
# Of those, the ones whose further pictures are a film rather than other pages, sizes or layers.
FILM_FORMATS = {"AVIF", "PNG", "WEBP"}
MILLISECOND = Fraction(1, 1000)
# Browsers show a picture without a time for this long.
DEFAULT_FRAME_MILLISECONDS = 100
EXIF_PREFIX = b"Exif\0\0"


@dataclass(frozen=True)
class Picture:
    """One decoded picture. rotation: degrees clockwise that its EXIF asked for and that were applied."""

    pixels: npt.NDArray[np.uint8]
    bit_depth: int
    rotation: int
    metadata: Metadata

    def info(
        self, *, time_base: Fraction, frame_rate: Fraction | None, count: int | None, is_still: bool
    ) -> VideoInfo:
        """The description of a video of pictures like this one. A profile says what the code points would."""
        height, width, _ = self.pixels.shape
        colour = replace(STILL_COLOUR, bit_depth=self.bit_depth)
        if self.metadata.icc is not None:
            colour = replace(colour, primaries=UNSPECIFIED, transfer=UNSPECIFIED)
        return VideoInfo(width, height, time_base, frame_rate, count, colour, self.rotation, is_still)


def open_still(source: Path | StreamSource, selection: Selection) -> Reader | None:
    """A reader for pictures and animated pictures (WebP, AVIF, PNG). None where ffmpeg should try instead."""
    name = str(source) if isinstance(source, Path) else source.name
    image = _open_image(source, name)
    if image is None:
        return None
    frame_count = getattr(image, "n_frames", 1)
    if image.format == "GIF" and frame_count > 1:
        image.close()
        return None
    if image.format in FILM_FORMATS and frame_count > 1:
        return FilmReader(image, name, selection)
    return StillReader(image, name, selection)


def load_picture(path: Path, warnings: list[str]) -> Picture:
    """Read one picture file. Raises InputError where it is none or damaged."""
    image = _open_image(path, str(path))
    if image is None:
        raise InputError(f"{path}: is not a picture of a known format")
    with image:
        return decode(image, str(path), warnings)


class StillReader(Reader):
    """A single picture: one frame at time 0."""

    def __init__(self, image: Image.Image, name: str, selection: Selection) -> None:
        self.warnings = []
        self.audio_tracks = []
        if selection.start > 0:
            image.close()
            raise InputError(f"{name}: is a single picture; it has no frame at {float(selection.start):g} s")
        pages = getattr(image, "n_frames", 1)
        if pages > 1 and image.format not in ("ICO", "ICNS"):
            self.warnings.append(
                f"the first of {pages} pictures in the file is coded, the others are left out"
            )
        with image:
            picture = decode(image, name, self.warnings)
        self._pixels = picture.pixels
        self.metadata = picture.metadata
        self.info = picture.info(time_base=Fraction(1, 25), frame_rate=None, count=1, is_still=True)

    def events(self) -> Iterator[Frame | AudioPacket]:
        yield Frame(self._pixels, 0, 0)

    def close(self) -> None:
        """Nothing is open any more."""


class FilmReader(Reader):
    """An animated picture: the frames as they are shown, with times in milliseconds."""

    def __init__(self, image: Image.Image, name: str, selection: Selection) -> None:
        self.warnings = []
        self.audio_tracks = []
        self._image = image
        self._name = name
        self._selection = selection
        first = decode(image, name, self.warnings)
        self.metadata = first.metadata
        count = getattr(image, "n_frames", None) if selection.is_everything else None
        self.info = first.info(time_base=MILLISECOND, frame_rate=None, count=count, is_still=False)

    def events(self) -> Iterator[Frame | AudioPacket]:
        found = False
        for frame in select_frames(self._all_frames(), MILLISECOND, self._selection):
            found = True
            yield frame
        if not found:
            raise nothing_selected(self._name, self._selection, self._last * MILLISECOND)

    def close(self) -> None:
        self._image.close()

    def _all_frames(self) -> Iterator[Frame]:
        time = 0
        self._last = 0
        for image in ImageSequence.Iterator(self._image):
            pixels = decode(image, self._name, []).pixels
            duration = round(image.info.get("duration") or DEFAULT_FRAME_MILLISECONDS)
            self._last = time
            yield Frame(pixels, time, duration)
            time += duration


def decode(image: Image.Image, name: str, warnings: list[str]) -> Picture:
    """The current picture of an opened image, upright. Raises InputError where the data is damaged."""
    try:
        with quiet_pillow():
            return _decode(image, warnings)
    except (OSError, SyntaxError, ValueError, EOFError, ImageCms.PyCMSError) as error:
        raise InputError(f"{name}: the picture is damaged or cut off ({str(error).strip()})") from None


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow from telling the terminal what it thinks of a file (large pictures, faulty EXIF)."""
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        yield


def _decode(image: Image.Image, warnings: list[str]) -> Picture:
    bit_depth = _bit_depth(image)
    image.load()
    exif = image.info.get("exif")
    profile = image.info.get("icc_profile")
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    rotation = EXIF_ROTATION.get(orientation, 0)
    if orientation in EXIF_ROTATION and orientation != 1:
        image = ImageOps.exif_transpose(image)
    pixels, profile = _to_rgb(image, profile, bit_depth, warnings)
    if isinstance(exif, bytes):
        exif = with_upright_tag(exif.removeprefix(EXIF_PREFIX))
    return Picture(pixels, bit_depth, rotation, Metadata(exif or None, profile, {}))


def _open_image(source: Path | StreamSource, name: str) -> Image.Image | None:
    """Open with Pillow. None where it knows no such format; of a pipe only the first bytes are read then."""
    if isinstance(source, Path):
        with source.open("rb") as opened:
            head = opened.read(HEAD_LENGTH)
    else:
        head = source.head
    # "mif1" alone says no codec: AVIF writes its own brand behind it.
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS and not any(brand in head for brand in AVIF_BRANDS):
        raise InputError(f"{name}: HEIC pictures are not supported; convert it to JPEG, PNG or AVIF first")
    if isinstance(source, StreamSource) and not _looks_like_picture(head):
        return None
    try:
        with quiet_pillow():
            file = source if isinstance(source, Path) else io.BytesIO(source.read())
            return Image.open(file, formats=PICTURE_FORMATS)
    except UnidentifiedImageError:
        if isinstance(source, StreamSource):
            raise InputError(f"{name}: begins like a picture but is damaged or cut off") from None
        return None
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{name}: the picture cannot be opened ({str(error).strip()})") from None


def _looks_like_picture(head: bytes) -> bool:
    return (
        head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"qoif", b"P5", b"P6"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in AVIF_BRANDS | HEIF_BRANDS)
    )


def _bit_depth(image: Image.Image) -> int:
    """16 where the samples of the file have more than 8 bits."""
    if image.mode.startswith(("I", "F")):
        return 16
    # Until the pixels are loaded Pillow keeps the file's own layout of samples here ("RGB;16B").
    for tile in getattr(image, "tile", ()):
        layout = tile.args if isinstance(tile.args, str) else next(iter(tile.args or ()), "")
        if "16" in str(layout):
            return 16
    return 8


def _to_rgb(
    image: Image.Image, profile: bytes | None, bit_depth: int, warnings: list[str]
) -> tuple[npt.NDArray[np.uint8], bytes | None]:
    """Pixels as H x W x 3, and the profile that still describes them."""
    if bit_depth > 8:
        warnings.append("16 bits per sample: coded with 8")
    if image.mode == "CMYK" and profile is not None:
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode="RGB")
        warnings.append("CMYK: converted to sRGB by its colour profile")
        return np.asarray(converted), None
    if image.mode == "CMYK":
        warnings.append("CMYK without a colour profile: converted to R'G'B' by the plain formula")
    if profile is not None and profile[16:20] != b"RGB ":
        warnings.append(
            f"the {profile[16:20].decode('ascii', 'replace').strip()} colour profile is not carried"
        )
        profile = None
    if image.mode.startswith(("I", "F")):
        grey = _grey_8_bits(np.asarray(image))
        return np.repeat(grey[..., None], 3, axis=2), profile
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        if rgba[..., 3].min() < 255:
            warnings.append("transparent parts are laid over white")
        return over_white(rgba), profile
    return np.ascontiguousarray(image.convert("RGB")), profile


def _grey_8_bits(grey: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Integers are taken as 16 bits, floats as 0 to 1 (or to their largest value, where that is more)."""
    values = grey.astype(np.float64)
    peak = max(1.0, float(values.max(initial=0.0))) if grey.dtype.kind == "f" else 65535.0
    return np.clip(np.rint(values * (255 / peak)), 0, 255).astype(np.uint8)
