"""`bsqc demo`: the bundled picture and clip there and back, with figures and a picture to look at."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bsqc.options import quality
from bsqcodec.whole_file import whole_file

if TYPE_CHECKING:
    import numpy as np

    from bsqcodec.codec import EncodeOptions
    from bsqcodec.evaluation.codecs import Codec
    from bsqcodec.evaluation.sources import Item
    from bsqcodec.metrics.comparison import Comparison

GAP, LABEL_HEIGHT, FONT_SIZE = 8, 28, 15


@dataclass(frozen=True)
class Row:
    """One codec's file of the picture or the clip: its size, and its frames beside the original's."""

    codec: str
    bytes: int
    frames: list[np.ndarray]
    figures: Comparison

    @property
    def bpp(self) -> float:
        height, width = self.frames[0].shape[:2]
        pixels: int = len(self.frames) * height * width
        return 8 * self.bytes / pixels

    @property
    def ms_ssim(self) -> str:
        decibels = self.figures.ms_ssim_db
        return "-" if decibels is None else f"{decibels:.2f}"


@click.command(short_help="The bundled picture and clip there and back, with figures.")
@click.argument("out_dir", metavar="DIR")
@click.option("-q", "q", type=quality, default=5.0, show_default=True, metavar="Q", help="quality, 1 to 10")
@click.option("--model", default="base", show_default=True, metavar="NAME|FILE", help="weights to code with")
def demo(out_dir: str, q: float, model: str) -> None:
    """Encode and decode the bundled picture and clip into DIR, and show how that compares.

    Beside bsqc stand files of as many bytes: JPEG for the picture, x264 (medium) for the clip. Whole files
    are counted. DIR/side-by-side.png shows the picture: original, bsqc, JPEG.
    """
    from bsqcodec import samples
    from bsqcodec.codec import EncodeOptions
    from bsqcodec.evaluation.sources import Item, Kind
    from bsqcodec.evaluation.stills import PillowCodec
    from bsqcodec.evaluation.video import PyavCodec, VideoSettings

    folder = Path(out_dir)
    options = EncodeOptions(q=q, model=model)
    picture, clip = samples.picture(), samples.clip()
    (folder / "clip").mkdir(parents=True, exist_ok=True)
    _save(picture, folder / "picture.png")
    for number, frame in enumerate(clip):
        _save(frame, folder / "clip" / f"frame_{number:06}.png")

    still = Item("picture", folder / "picture.png", Kind.STILL)
    rows = [
        _through_bsqc(still.path, folder / "picture.decoded.png", [picture], options),
        _through_rival(PillowCodec("jpeg"), still, folder / "picture.bsq", [picture]),
    ]
    _print(f"picture, {picture.shape[1]}x{picture.shape[0]}", rows)
    labels = [f"{row.codec}, {row.bytes:,} bytes, MS-SSIM {row.ms_ssim} dB" for row in rows]
    shown = [picture, *(row.frames[0] for row in rows)]
    _save(side_by_side(shown, [f"original, {picture.nbytes:,} bytes", *labels]), folder / "side-by-side.png")

    moving = Item("clip", folder / "clip", Kind.CLIP)
    rows = [
        _through_bsqc(moving.path, folder / "clip.decoded.mp4", list(clip), options),
        _through_rival(PyavCodec(VideoSettings("x264")), moving, folder / "clip.bsq", list(clip)),
    ]
    _print(f"clip, {clip.shape[2]}x{clip.shape[1]}, {len(clip)} frames", rows)
    click.echo(f"\nTo look at: {folder / 'side-by-side.png'}, {folder / 'clip.decoded.mp4'}")


def _through_bsqc(source: Path, decoded: Path, originals: list[np.ndarray], options: EncodeOptions) -> Row:
    """Encode a file to .bsq beside it and decode that; figures of the decoder's frames, not of `decoded`."""
    from bsqcodec.files import Source, encode_file, open_pixels
    from bsqcodec.media import Frame, open_reader, open_writer

    coded = source.with_suffix(".bsq")
    with whole_file(coded, force=True) as file:
        encode_file(Source(source), file, options)
    weights = Path(options.model) if Path(options.model).suffix else None
    with open_pixels(coded, model=weights) as pixels:
        frames = list(pixels)
    with open_reader(source) as reader, open_writer(decoded, reader.info, force=True) as writer:
        for number, frame in enumerate(frames):
            writer.write(Frame(frame, number, 1))
    return _row(f"bsqc -q {options.q:g}", coded, originals, frames)


def _through_rival(codec: Codec, item: Item, coded: Path, originals: list[np.ndarray]) -> Row:
    """Code with the setting that gives as many bytes as `coded` has; the file is left beside it."""
    from bsqcodec.evaluation.sources import Source
    from bsqcodec.evaluation.views import match_bytes

    source = Source(item)
    with tempfile.TemporaryDirectory() as scratch:
        value, found = match_bytes(codec, source, coded.stat().st_size, (), Path(scratch))
        kept = coded.with_name(f"{item.name}-{codec.name}{codec.suffix}")
        shutil.copy(found, kept)
    frames = list(codec.decode(kept, source.info))
    return _row(f"{codec.name} {codec.knob.name} {value:g}", kept, originals, frames)


def _row(codec: str, coded: Path, originals: list[np.ndarray], frames: list[np.ndarray]) -> Row:
    from bsqcodec.metrics.comparison import Comparison, score_frames

    figures = Comparison(tuple(score_frames(originals, frames)))
    return Row(codec, coded.stat().st_size, frames, figures)


def _print(title: str, rows: list[Row]) -> None:
    click.echo(f"\n{title:<24} {'bytes':>9} {'bpp':>8} {'PSNR dB':>8} {'MS-SSIM dB':>11}")
    for row in rows:
        psnr = f"{row.figures.psnr:.2f}"
        click.echo(f"  {row.codec:<22} {row.bytes:>9,} {row.bpp:>8.4f} {psnr:>8} {row.ms_ssim:>11}")


def side_by_side(pictures: list[np.ndarray], labels: list[str]) -> np.ndarray:
    """Pictures of one size in a row, each under its label, on white."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    height, width, _ = pictures[0].shape
    size = (len(pictures) * (width + GAP) + GAP, LABEL_HEIGHT + height + GAP)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left = GAP + index * (width + GAP)
        draw.text((left, LABEL_HEIGHT // 2), label, fill="black", font=font, anchor="lm")
        sheet.paste(Image.fromarray(picture), (left, LABEL_HEIGHT))
    return np.asarray(sheet)


def _save(picture: np.ndarray, path: Path) -> None:
    from PIL import Image

    with whole_file(path, force=True) as file:
        Image.fromarray(picture).save(file, "PNG")
