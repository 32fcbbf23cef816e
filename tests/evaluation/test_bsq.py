"""bsqc as one codec among others: real files, by the path that `bsqc encode` and `decode` take."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from bsqc.main import cli
from click.testing import CliRunner
from PIL import Image

from bsqcodec import bitstream
from bsqcodec.evaluation.bsq import BsqCodec
from bsqcodec.evaluation.codecs import Codec
from bsqcodec.evaluation.sources import Source, find_items
from bsqcodec.evaluation.trial import Result, run_trial

from .conftest import trial


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> BsqCodec:
    path = tiny_model.make(tmp_path_factory.mktemp("model") / "tiny.safetensors")
    return BsqCodec(values=(2.0, 8.0), model=str(path))


def run(path: Path, codec: Codec, value: float) -> Result:
    (item,) = find_items([path])
    return run_trial(trial(item, codec, value))


def test_a_still_is_the_file_that_bsqc_encode_writes(
    codec: BsqCodec, thumbnails: Path, tmp_path: Path
) -> None:
    picture = thumbnails / "p0.png"
    ours = tmp_path / "ours.bsq"
    codec.encode(Source(find_items([picture])[0]), 5, ours)
    theirs = tmp_path / "theirs.bsq"
    done = CliRunner().invoke(cli, ["encode", str(picture), str(theirs), "--model", codec.model])
    assert done.exit_code == 0, done.output
    assert ours.read_bytes() == theirs.read_bytes()

    decoded = tmp_path / "decoded.png"
    CliRunner().invoke(cli, ["decode", str(theirs), str(decoded), "--model", codec.model])
    (frame,) = codec.decode(ours, Source(find_items([picture])[0]).info)
    assert np.array_equal(frame, np.asarray(Image.open(decoded)))


def test_clips_count_every_byte_and_every_frame(codec: BsqCodec, clip: Path) -> None:
    result = run(clip, codec, 5)
    assert len(result.frames) == 6
    assert 0 < result.payload_bytes < result.file_bytes
    assert result.file_bytes - result.payload_bytes < 400


def test_levels_make_smaller_files_under_another_name(codec: BsqCodec, thumbnails: Path) -> None:
    fewer = replace(codec, levels=1)
    assert (codec.name, fewer.name) == ("bsqc-tiny", "bsqc-levels1-tiny")
    assert "1 levels" in fewer.describe()
    picture = thumbnails / "p1.png"
    assert run(picture, fewer, 5).file_bytes < run(picture, codec, 5).file_bytes


def test_the_version_follows_the_weights(codec: BsqCodec, tmp_path: Path) -> None:
    other = tiny_model.make(tmp_path / "tiny.safetensors", seed=3)
    assert codec.version() != replace(codec, model=str(other)).version()
    assert "bsqcodec " in codec.version()


def test_gops_are_as_long_as_asked_for(codec: BsqCodec, clip: Path, tmp_path: Path) -> None:
    longer = replace(codec, gop=5)
    assert longer.name == "bsqc-gop5-tiny"
    assert "--gop 5" in longer.describe()
    for one, lengths in ((replace(codec, gop=1), [1] * 6), (longer, [5, 1])):
        one.encode(Source(find_items([clip])[0]), 5, tmp_path / "clip.bsq")
        with (tmp_path / "clip.bsq").open("rb") as file:
            gops = [event for event in bitstream.StreamReader(file) if isinstance(event, bitstream.Gop)]
        assert [len(gop.pts) for gop in gops] == lengths


def test_tubes_hold_as_many_frames_as_asked_for(codec: BsqCodec, clip: Path, tmp_path: Path) -> None:
    for frames in (4, 1):
        one = replace(codec, tube_frames=frames)
        assert one.name == f"bsqc-tube{frames}-tiny"
        assert f"--tube-frames {frames}" in one.describe()
        one.encode(Source(find_items([clip])[0]), 5, tmp_path / "clip.bsq")
        with (tmp_path / "clip.bsq").open("rb") as file:
            assert bitstream.StreamReader(file).header.tube_frames == frames
