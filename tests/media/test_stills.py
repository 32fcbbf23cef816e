"""Pictures come out upright, over white, 8 bits a sample, with what is carried beside them."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from bsqcodec.errors import InputError
from bsqcodec.media import (
    AudioPacket,
    AudioTrack,
    Frame,
    Metadata,
    Reader,
    VideoInfo,
    open_reader,
    open_writer,
)
from media.clips import Pixels, frames, info, picture, write

RGB = np.random.default_rng(5).integers(0, 256, (17, 23, 3), dtype=np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def load(path: Path) -> tuple[Reader, Pixels]:
    with open_reader(path) as reader:
        (frame,) = reader.frames()
    return reader, frame.pixels


def still_info(width: int = 64, height: int = 48) -> VideoInfo:
    with io.BytesIO() as file:
        Image.new("RGB", (width, height)).save(file, "PNG")
        file.seek(0)
        with open_reader(file) as reader:
            return reader.info


@pytest.mark.parametrize("ending", ["png", "webp", "bmp", "tif", "ppm", "tga", "qoi", "pcx", "sgi", "jp2"])
def test_lossless_formats_are_exact(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    options = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(RGB).save(path, **options)
    reader, pixels = load(path)
    assert np.array_equal(pixels, RGB)
    assert reader.info.is_still
    assert (reader.info.width, reader.info.height, reader.info.frame_count) == (23, 17, 1)
    assert reader.warnings == []
    assert list(reader.audio_packets()) == []


@pytest.mark.parametrize("ending", ["jpg", "avif"])
def test_lossy_formats_are_close(tmp_path: Path, ending: str) -> None:
    Image.fromarray(picture(3)).save(tmp_path / f"a.{ending}", quality=95)
    _, pixels = load(tmp_path / f"a.{ending}")
    assert np.median(np.abs(pixels.astype(int) - picture(3))) <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "avif"])
def test_exif_orientation_is_applied_and_the_tag_reset(tmp_path: Path, ending: str, orientation: int) -> None:
    image = Image.fromarray(picture(2))
    exif = image.getexif()
    exif[0x0112] = orientation
    exif[0x010F] = "A maker"
    image.save(tmp_path / f"a.{ending}", exif=exif, quality=95)
    reader, pixels = load(tmp_path / f"a.{ending}")
    # A camera stores the picture so that this operation makes it upright (EXIF 2.3, table 6).
    upright = {
        1: picture(2),
        2: picture(2)[:, ::-1],
        3: picture(2)[::-1, ::-1],
        4: picture(2)[::-1],
        5: picture(2).transpose(1, 0, 2),
        6: np.rot90(picture(2), -1),
        7: picture(2)[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture(2), 1),
    }[orientation]
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 6
    assert (reader.info.width, reader.info.height) == (upright.shape[1], upright.shape[0])
    assert reader.info.rotation == {1: 0, 2: 0, 3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}[orientation]
    assert reader.metadata.exif is not None
    carried = Image.Exif()
    carried.load(b"Exif\0\0" + reader.metadata.exif)
    # Pillow's AVIF says it in the container's own way, and leaves the tag out.
    assert carried.get(0x0112, 1) == 1
    assert carried[0x010F] == "A maker"


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "avif", "tif"])
def test_exif_and_icc_survive_a_pass(tmp_path: Path, ending: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "A maker"
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif, icc_profile=SRGB)
    reader, pixels = load(tmp_path / "a.jpg")
    assert reader.metadata.icc == SRGB
    assert (reader.info.colour.primaries, reader.info.colour.transfer) == (2, 2)
    with open_writer(tmp_path / f"b.{ending}", reader.info, metadata=reader.metadata) as writer:
        writer.write(Frame(pixels, 0, 0))
    with Image.open(tmp_path / f"b.{ending}") as image:
        assert image.info["icc_profile"] == SRGB
        assert image.getexif()[0x010F] == "A maker"


def test_grey_bilevel_and_palette(tmp_path: Path) -> None:
    grey = Image.fromarray(RGB).convert("L")
    for name, image in (("l", grey), ("1", grey.convert("1")), ("p", Image.fromarray(RGB).quantize(16))):
        image.save(tmp_path / f"{name}.png")
        _, pixels = load(tmp_path / f"{name}.png")
        assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white_and_said(tmp_path: Path, mode: str) -> None:
    rgba = np.dstack([RGB, np.linspace(0, 255, RGB.shape[0] * RGB.shape[1]).reshape(RGB.shape[:2])]).astype(
        np.uint8
    )
    image = Image.fromarray(rgba)
    if mode == "LA":
        image = image.convert("LA")
    elif mode == "P":
        image = image.quantize(32)
    image.save(tmp_path / "a.png")
    reader, pixels = load(tmp_path / "a.png")
    straight = np.asarray(image.convert("RGBA")).astype(float)
    alpha = straight[..., 3:] / 255
    assert np.abs(pixels - (straight[..., :3] * alpha + 255 * (1 - alpha))).max() <= 0.5001
    assert reader.warnings == ["transparent parts are laid over white"]


def test_an_opaque_alpha_channel_says_nothing(tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("RGBA").save(tmp_path / "a.png")
    reader, pixels = load(tmp_path / "a.png")
    assert np.array_equal(pixels, RGB)
    assert reader.warnings == []


def test_sixteen_bits_are_scaled_and_said(tmp_path: Path) -> None:
    grey = (np.arange(23 * 17, dtype=np.uint32) * 167).astype(np.uint16).reshape(17, 23)
    for ending in ("png", "tif"):
        Image.fromarray(grey).save(tmp_path / f"a.{ending}")
        reader, pixels = load(tmp_path / f"a.{ending}")
        assert np.abs(pixels[..., 0] - grey / 257).max() <= 0.5001
        assert reader.info.colour.bit_depth == 16
        assert reader.warnings == ["16 bits per sample: coded with 8"]


def test_sixteen_bit_colour_is_said(tmp_path: Path) -> None:
    frame = av.VideoFrame.from_ndarray((RGB.astype(np.uint16) << 8) + 7, "rgb48le").reformat(format="rgb48be")
    with av.open(str(tmp_path / "a.png"), "w", format="image2", options={"update": "1"}) as output:
        stream = output.add_stream("png", 1)
        stream.width, stream.height, stream.pix_fmt = 23, 17, "rgb48be"
        frame.pts = 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    reader, pixels = load(tmp_path / "a.png")
    assert np.array_equal(pixels, RGB)
    assert reader.info.colour.bit_depth == 16
    assert reader.warnings == ["16 bits per sample: coded with 8"]


def test_float_grey_is_scaled(tmp_path: Path) -> None:
    grey = np.linspace(0, 1, 23 * 17, dtype=np.float32).reshape(17, 23)
    Image.fromarray(grey).save(tmp_path / "a.tif")
    _, pixels = load(tmp_path / "a.tif")
    assert np.abs(pixels[..., 0] - grey * 255).max() <= 0.5001


def test_cmyk_is_converted_and_said(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    reader, pixels = load(tmp_path / "a.jpg")
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= 2
    assert reader.warnings == ["CMYK without a colour profile: converted to R'G'B' by the plain formula"]


def test_a_profile_of_another_colour_space_is_not_carried(tmp_path: Path) -> None:
    grey_profile = SRGB[:16] + b"GRAY" + SRGB[20:]
    Image.fromarray(RGB).convert("L").save(tmp_path / "a.png", icc_profile=grey_profile)
    reader, _ = load(tmp_path / "a.png")
    assert reader.metadata.icc is None
    assert reader.warnings == ["the GRAY colour profile is not carried"]


def test_further_pages_are_left_out_and_said(tmp_path: Path) -> None:
    pages = [Image.fromarray(picture(number)) for number in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    reader, pixels = load(tmp_path / "a.tif")
    assert np.array_equal(pixels, picture(0))
    assert reader.warnings == ["the first of 3 pictures in the file is coded, the others are left out"]


@pytest.mark.parametrize("ending", ["webp", "png"])
def test_animated_pictures_are_films(tmp_path: Path, ending: str) -> None:
    images = [Image.fromarray(picture(number)) for number in range(4)]
    durations = [40, 70, 1000, 20]
    path = tmp_path / f"a.{ending}"
    images[0].save(
        path,
        save_all=True,
        append_images=images[1:],
        duration=durations,
        **({"lossless": True} if ending == "webp" else {}),
    )
    with open_reader(path) as reader:
        found = list(reader.frames())
        assert not reader.info.is_still
        assert reader.info.frame_count == 4
        assert reader.info.time_base == Fraction(1, 1000)
    assert [frame.pts for frame in found] == [0, 40, 110, 1110]
    assert [frame.duration for frame in found] == durations
    assert all(np.array_equal(frame.pixels, picture(number)) for number, frame in enumerate(found))
    with open_reader(path, start=Fraction(1, 20), max_frames=2) as reader:
        assert [frame.pts for frame in reader.frames()] == [0, 1000]
    with (
        open_reader(path, start=Fraction(5)) as reader,
        pytest.raises(InputError, match=r"no frame at or after 5 s"),
    ):
        list(reader.frames())


def test_a_gif_of_one_picture_is_a_still(tmp_path: Path) -> None:
    Image.fromarray(RGB).quantize(64).save(tmp_path / "a.gif")
    reader, _ = load(tmp_path / "a.gif")
    assert reader.info.is_still


def test_formats_that_pillow_lacks_come_through_ffmpeg(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.dpx"), "w", format="image2", options={"update": "1"}) as output:
        stream = output.add_stream("dpx", 1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        frame = av.VideoFrame.from_ndarray(picture(1), "rgb24")
        frame.pts = 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    reader, pixels = load(tmp_path / "a.dpx")
    assert np.array_equal(pixels, picture(1))
    assert reader.info.is_still


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "avif", "bmp", "tif"])
def test_a_picture_from_a_file_object(tmp_path: Path, ending: str) -> None:
    file = io.BytesIO()
    Image.fromarray(picture(1)).save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()))

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with open_reader(Pipe(file.getvalue())) as reader:
        (frame,) = reader.events()
        assert isinstance(frame, Frame)
        assert np.median(np.abs(frame.pixels.astype(int) - picture(1))) <= 3
        assert reader.info.is_still


@pytest.mark.parametrize("cut", [20, 100, 300])
@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_cut_off_pictures_end_in_one_line(tmp_path: Path, ending: str, cut: int) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(picture(1, 320, 240)).save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError) as caught, open_reader(path) as reader:
        list(reader.frames())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_heic_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(InputError, match="convert it to JPEG, PNG or AVIF"):
        open_reader(tmp_path / "a.heic")


def test_a_picture_has_no_later_frame(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"no frame at 1 s"):
        open_reader(tmp_path / "a.png", start=Fraction(1))


@pytest.mark.parametrize("ending", ["png", "webp", "bmp", "tiff", "ppm"])
def test_lossless_outputs_are_exact(tmp_path: Path, ending: str) -> None:
    with open_writer(tmp_path / f"a.{ending}", still_info()) as writer:
        writer.write(Frame(picture(2), 0, 0))
    with Image.open(tmp_path / f"a.{ending}") as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), picture(2))
    assert [entry.name for entry in tmp_path.iterdir()] == [f"a.{ending}"]


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "avif"])
def test_lossy_outputs_are_close(tmp_path: Path, ending: str) -> None:
    with open_writer(tmp_path / f"a.{ending}", still_info()) as writer:
        writer.write(Frame(picture(2), 0, 0))
    with Image.open(tmp_path / f"a.{ending}") as image:
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - picture(2)).mean() < 1.5


def test_a_picture_to_a_file_object() -> None:
    stream = io.BytesIO()
    with open_writer(stream, still_info(), format="png") as writer:
        writer.write(Frame(picture(2), 0, 0))
    stream.seek(0)
    with Image.open(stream) as image:
        assert np.array_equal(np.asarray(image), picture(2))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif", "a.y4m", "a/"])
def test_a_still_goes_into_any_video_format(tmp_path: Path, name: str) -> None:
    with open_writer(f"{tmp_path}/{name}", still_info()) as writer:
        writer.write(Frame(picture(2), 0, 0))
    assert writer.warnings == []
    with open_reader(tmp_path / name) as reader:
        assert len(list(reader.frames())) == 1


def test_a_video_does_not_go_into_a_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.png: the video has 5 frames, this format holds one picture"):
        open_writer(tmp_path / "a.png", info(count=5))
    with pytest.raises(InputError, match="more than one frame, this format holds one picture"):
        write(tmp_path / "a.png", frames(range(2)), info())
    with pytest.raises(InputError, match="no picture came"):
        write(tmp_path / "a.png", [], info())
    assert list(tmp_path.iterdir()) == []


def test_sound_has_no_place_in_pictures(tmp_path: Path) -> None:
    track = AudioTrack("aac", 44100, 2, "stereo", 1024, 0, Fraction(1, 44100), b"\x12\x10")
    for name in ("a.png", "a/", "a.y4m"):
        with open_writer(f"{tmp_path}/{name}", info(count=1), audio_tracks=[track]) as writer:
            writer.write(Frame(picture(0), 0, 1))
            writer.write_audio(AudioPacket(0, 0, 0, 1024, True, b"\0"))
        assert len(writer.warnings) == 1
        assert writer.warnings[0].startswith("1 sound tracks left out")


def test_metadata_without_room_is_no_fault(tmp_path: Path) -> None:
    for ending in ("bmp", "ppm"):
        with open_writer(
            tmp_path / f"a.{ending}", still_info(), metadata=Metadata(b"II*\0", SRGB, {})
        ) as writer:
            writer.write(Frame(picture(0), 0, 0))
