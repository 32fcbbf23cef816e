"""The anchors: what they write, what is counted, what they refuse."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from bsqcodec.errors import DependencyError, InputError
from bsqcodec.evaluation.codecs import Codec
from bsqcodec.evaluation.containers import payload_bytes
from bsqcodec.evaluation.registry import CodecOptions, build_codecs
from bsqcodec.evaluation.sources import Kind, Source, find_items
from bsqcodec.evaluation.stills import FORMATS, PillowCodec
from bsqcodec.evaluation.trial import run_trial
from bsqcodec.evaluation.video import ENCODERS, PyavCodec, Settings, VideoSettings

from .conftest import scene, trial, write_clip


@pytest.mark.parametrize("name", FORMATS)
def test_still_anchors_count_whole_files_and_get_better_with_size(name: str, pictures: Path) -> None:
    (item, *_) = find_items([pictures])
    codec = PillowCodec(name)
    values = (codec.knob.values[2], codec.knob.values[-1])
    low, high = (run_trial(trial(item, codec, value)) for value in values)
    assert low.file_bytes < high.file_bytes
    assert low.frames[0].mse > high.frames[0].mse
    assert 0 < low.payload_bytes < low.file_bytes
    assert low.bpp == 8 * low.file_bytes / (192 * 176)


@pytest.mark.parametrize("name", FORMATS)
def test_still_anchors_write_the_format_they_say(name: str, pictures: Path, tmp_path: Path) -> None:
    (item, *_) = find_items([pictures])
    path = tmp_path / f"coded{FORMATS[name].suffix}"
    PillowCodec(name).encode(Source(item), FORMATS[name].knob.values[3], path)
    with Image.open(path) as picture:
        assert picture.format == FORMATS[name].pillow_name
    assert payload_bytes(path) < path.stat().st_size < payload_bytes(path) + 700


@pytest.mark.parametrize("settings", Settings)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_video_anchors_keep_every_frame(encoder: str, settings: Settings, clip: Path) -> None:
    (item,) = find_items([clip])
    result = run_trial(trial(item, PyavCodec(VideoSettings(encoder, settings)), 35))
    assert len(result.frames) == 6
    assert result.payload_bytes < result.file_bytes
    assert all(frame.mse < 400 for frame in result.frames)


def test_frame_rate_and_tags_are_written(clip: Path, tmp_path: Path) -> None:
    (item,) = find_items([clip])
    path = tmp_path / "coded.mp4"
    PyavCodec(VideoSettings("x264")).encode(Source(item), 30, path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(25)
        assert int(next(container.decode(stream)).colorspace) == 1


def test_paper_settings_have_no_b_frames(clip: Path, tmp_path: Path) -> None:
    (item,) = find_items([clip])
    assert "-preset medium" in VideoSettings("x264", Settings.PAPER).describe()
    kinds = {}
    for settings in (Settings.DEFAULT, Settings.PAPER):
        path = tmp_path / f"{settings.value}.mp4"
        PyavCodec(VideoSettings("x264", settings)).encode(Source(item), 30, path)
        with av.open(str(path)) as container:
            kinds[settings] = {"?IPB"[int(frame.pict_type)] for frame in container.decode(video=0)}
    assert "B" in kinds[Settings.DEFAULT]
    assert kinds[Settings.PAPER] == {"I", "P"}


def test_odd_sizes_come_back_as_they_were(tmp_path: Path) -> None:
    frames = tmp_path / "odd"
    frames.mkdir()
    for number in range(2):
        Image.fromarray(scene(65, 77, number)).save(frames / f"{number}.png")
    (item,) = find_items([frames], folders_are_clips=True)
    result = run_trial(trial(item, PyavCodec(VideoSettings("x264")), 25))
    assert (result.width, result.height, len(result.frames)) == (77, 65, 2)
    assert result.frames[0].mse < 100


def test_a_picture_of_8x8_has_no_ms_ssim_and_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "tiny.png"
    Image.fromarray(scene(8, 8)).save(path)
    (item,) = find_items([path])
    result = run_trial(trial(item, PillowCodec("webp"), 50))
    assert result.frames[0].ms_ssim is None
    assert result.frames[0].ssim is None
    assert np.isfinite(result.frames[0].psnr_yuv)


def test_a_file_changed_meanwhile_is_refused(pictures: Path) -> None:
    (item, *_) = find_items([pictures])
    with pytest.raises(InputError, match="not the file that the evaluation was started with"):
        run_trial(replace(trial(item, PillowCodec("jpeg"), 50), digest="0" * 64))


def test_another_version_of_the_codec_is_refused(pictures: Path) -> None:
    """As a worker of a cluster may have it."""
    (item, *_) = find_items([pictures])
    with pytest.raises(InputError, match="the evaluation was started with Pillow 1"):
        run_trial(replace(trial(item, PillowCodec("jpeg"), 50), version="Pillow 1"))


def test_a_codec_that_loses_frames_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, 32, 32, 3)
    (item,) = find_items([path])
    whole = PyavCodec.decode
    monkeypatch.setattr(
        PyavCodec, "decode", lambda self, path, info: list(whole(self, path, info))[:2].__iter__()
    )
    with pytest.raises(InputError, match="x264 gave 2 frames, fewer than the source has"):
        run_trial(trial(item, PyavCodec(VideoSettings("x264")), 35))


def test_presets_and_threads_are_part_of_name_and_settings() -> None:
    options = CodecOptions(presets=(("x264", "slow"),), threads=2)
    (codec,) = build_codecs(("x264",), Kind.CLIP, options)
    assert codec.name == "x264-slow"
    assert "-preset slow" in codec.describe()
    assert "-threads 2" in codec.describe()


def test_levels_and_efforts_are_curves_of_their_own() -> None:
    codecs = build_codecs(("bsqc",), Kind.STILL, CodecOptions(levels=(None, 2), efforts=(0, 3)))
    assert [codec.name for codec in codecs] == [
        "bsqc",
        "bsqc-effort3",
        "bsqc-levels2",
        "bsqc-levels2-effort3",
    ]


@pytest.mark.parametrize(
    ("names", "kind", "presets", "complaint"),
    [
        (("bpg",), Kind.STILL, (), "bpg: no such codec; there are bsqc, anchors, jpeg"),
        (("x264",), Kind.STILL, (), "x264: codes no stills"),
        (("jpeg",), Kind.CLIP, (), "jpeg: codes no clips"),
        ((), Kind.CLIP, (("vp9", "good"),), "--preset vp9: no such video codec"),
    ],
)
def test_unknown_codecs_get_a_clear_line(
    names: tuple[str, ...], kind: Kind, presets: tuple[tuple[str, str], ...], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        build_codecs(names, kind, CodecOptions(presets=presets))


def test_an_unknown_preset_gets_a_clear_line(clip: Path) -> None:
    (item,) = find_items([clip])
    codec = PyavCodec(VideoSettings("x264", preset="sluggish"))
    with pytest.raises(InputError, match=r"moving\.mp4: x264-sluggish cannot code it"):
        run_trial(trial(item, codec, 35))


@pytest.mark.parametrize("broken", ["x264", "jpeg"])
def test_a_library_without_the_encoder_gets_a_clear_line(
    broken: str, clip: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "codecs_available", {"ffv1"})
    monkeypatch.setattr("bsqcodec.evaluation.stills.features.check", lambda name: False)
    item = find_items([clip if broken == "x264" else pictures])[0]
    codec: Codec = PyavCodec(VideoSettings("x264")) if broken == "x264" else PillowCodec("jpeg")
    with pytest.raises(DependencyError, match=r"was built without (libx264|JPEG)"):
        run_trial(trial(item, codec, 35))
