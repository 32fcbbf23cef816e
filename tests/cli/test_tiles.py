"""The paper's models as a codec: any size, tiles that overlap, clips frame by frame, exact tokens."""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tiny_paper_model
import torch
from calling import Run
from PIL import Image

from bsqcodec import bitstream, model
from bsqcodec.blocks import BlockKind
from bsqcodec.codec import Decoder, EncodeOptions, Encoder, compress, read_tokens
from bsqcodec.errors import FormatError, InputError
from bsqcodec.media.types import Frame
from bsqcodec.samples import clip, picture
from bsqcodec.synthesis import open_tokenizer
from bsqcodec.tiles import TileTokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_paper_model.make(tmp_path_factory.mktemp("model") / "image.safetensors")


@pytest.fixture(scope="module")
def video_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_paper_model.make(tmp_path_factory.mktemp("model") / "video.safetensors", frames=4)


def tokenizer(path: Path, overlap: int = 0) -> TileTokenizer:
    return TileTokenizer(model.load(path), CPU, overlap)


def decoded(data: bytes, path: Path) -> Iterator[np.ndarray]:
    for event in Decoder(io.BytesIO(data), model_file=path, device="cpu").events():
        assert isinstance(event, Frame)
        yield event.pixels


@pytest.mark.parametrize("overlap", [0, 8, 16])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 32), (1, 1), (70, 33)])
def test_a_picture_keeps_its_tokens_and_its_size(
    image_model: Path, height: int, width: int, overlap: int
) -> None:
    pixels = np.ascontiguousarray(picture()[100 : 100 + height, 200 : 200 + width])
    data = compress(pixels, options=EncodeOptions(model=image_model, overlap=overlap, device="cpu"))
    ((_, [(kind, tokens)]),) = read_tokens(io.BytesIO(data), model_file=image_model)
    assert kind is BlockKind.KEY
    chosen = tokenizer(image_model, overlap).analyse(BlockKind.KEY, [pixels], 0, levels=1)
    assert np.array_equal(tokens[0], chosen[0])
    (result,) = decoded(data, image_model)
    assert result.shape == pixels.shape
    (expected,) = tokenizer(image_model, overlap).synthesise(BlockKind.KEY, chosen, 0, height, width)
    assert np.array_equal(result, expected)


def test_tiles_lie_where_they_belong(image_model: Path) -> None:
    """A picture of three tiles by two is coded as its tiles are, each alone."""
    pixels = np.ascontiguousarray(picture()[:64, :96])
    whole = tokenizer(image_model)
    grid = whole.analyse(BlockKind.KEY, [pixels], 0, levels=1)
    (together,) = whole.synthesise(BlockKind.KEY, grid, 0, 64, 96)
    for row in range(2):
        for column in range(3):
            place = np.s_[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
            tile = np.ascontiguousarray(pixels[place])
            alone = whole.analyse(BlockKind.KEY, [tile], 0, levels=1)
            assert np.array_equal(grid[0][row * 4 : row * 4 + 4, column * 4 : column * 4 + 4], alone[0])
            assert np.array_equal(together[place], whole.synthesise(BlockKind.KEY, alone, 0, 32, 32)[0])


def test_overlapping_tiles_are_blended(image_model: Path) -> None:
    """Outside of the overlap a tile stands alone; inside, the share of each falls over its width."""
    wide = tokenizer(image_model, 8)
    grid = np.random.default_rng(0).integers(0, 2, (4, 8, 6), dtype=np.uint8)
    (both,) = wide.synthesise(BlockKind.KEY, [grid], 0, 32, 56)
    (left,) = wide.synthesise(BlockKind.KEY, [grid[:, :4]], 0, 32, 32)
    (right,) = wide.synthesise(BlockKind.KEY, [grid[:, 4:]], 0, 32, 32)
    assert np.array_equal(both[:, :24], left[:, :24])
    assert np.array_equal(both[:, 32:], right[:, 8:])
    share = np.arange(1, 9) / 9
    blend = left[:, 24:] * (1 - share)[:, None] + right[:, :8] * share[:, None]
    whole = np.isin([left[:, 24:], right[:, :8]], (0, 255), invert=True).all(0)  # neither was clamped
    assert whole.mean() > 0.9
    assert np.abs(both[:, 24:32] - blend)[whole].max() <= 1


@pytest.mark.parametrize("gop", [1, 3, 4])
def test_a_clip_is_coded_frame_by_frame(video_model: Path, gop: int) -> None:
    frames = [np.ascontiguousarray(frame[:40, :70]) for frame in clip(6)]
    options = EncodeOptions(model=video_model, gop=gop, device="cpu")
    data = compress(np.stack(frames), options=options)
    blocks = [
        tokens[0] for _, gop in read_tokens(io.BytesIO(data), model_file=video_model) for _, tokens in gop
    ]
    assert len(blocks) == 6
    coder = tokenizer(video_model)
    for number, (frame, found, seen) in enumerate(
        zip(frames, blocks, decoded(data, video_model), strict=True)
    ):
        kind = BlockKind.TUBE if number % gop else BlockKind.KEY
        assert np.array_equal(coder.analyse(kind, [frame], 0, levels=1)[0], found)
        assert np.array_equal(coder.synthesise(kind, [found], 0, 40, 70)[0], seen)


def test_the_past_is_used(video_model: Path) -> None:
    coder = tokenizer(video_model)
    grids = np.random.default_rng(0).integers(0, 2, (3, 4, 4, 6), dtype=np.uint8)
    seen = []
    for past in (0, 1):
        coder.synthesise(BlockKind.KEY, [grids[past]], 0, 32, 32)
        seen.append(coder.synthesise(BlockKind.TUBE, [grids[2]], 0, 32, 32)[0])
    assert np.abs(seen[0].astype(int) - seen[1]).mean() > 0.2  # 0 without a past


def test_a_stream_says_that_tiles_overlap_and_no_quality(image_model: Path) -> None:
    for overlap in (0, 8):
        data = compress(picture()[:40, :40], options=EncodeOptions(model=image_model, overlap=overlap, q=7))
        header = bitstream.StreamReader(io.BytesIO(data)).header
        assert (header.tile_overlap, header.quality_hundredths) == (overlap, 0)
        assert header.model_name == "tiny-paper"


def test_what_cannot_be(image_model: Path, video_model: Path, tmp_path: Path) -> None:
    frame = np.ascontiguousarray(picture()[:32, :32])

    def refused(**options: object) -> str:
        with pytest.raises(InputError) as caught:
            compress(np.stack([frame, frame]), options=EncodeOptions(device="cpu", **options))  # type: ignore[arg-type]
        return str(caught.value)

    assert "expected at most half a tile, 16" in refused(model=image_model, overlap=17)
    assert "this model codes frames whole" in refused(overlap=8)
    assert "a GOP of 2 frames, tiny-paper holds 1" in refused(model=image_model, gop=2)
    assert "a GOP of 5 frames, tiny-paper holds 4" in refused(model=video_model, gop=5)
    assert "no better bits" in refused(model=image_model, effort=1)
    with pytest.raises(InputError, match="an overlap of -1 pixels"):
        EncodeOptions(overlap=-1)


def test_a_stream_with_more_frames_than_the_model_holds_is_damaged(video_model: Path) -> None:
    coder = tokenizer(video_model)
    grid = np.zeros((4, 4, 6), np.uint8)
    for number in range(4):
        coder.synthesise(BlockKind.TUBE if number else BlockKind.KEY, [grid], 0, 32, 32)
    with pytest.raises(FormatError, match="more than 4 frames"):
        coder.synthesise(BlockKind.TUBE, [grid], 0, 32, 32)


def test_memory_is_not_kept_for_a_last_frame(video_model: Path) -> None:
    sink = io.BytesIO()
    encoder = Encoder(
        sink, 32, 32, time_base=Fraction(1, 25), still=True, options=EncodeOptions(model=video_model)
    )
    encoder.add(Frame(np.ascontiguousarray(picture()[:32, :32]), 0, 1))
    encoder.close()
    (result,) = decoded(sink.getvalue(), video_model)
    assert result.shape == (32, 32, 3)


def test_command_line(run: Run, image_model: Path, tmp_path: Path) -> None:
    Image.fromarray(picture()[:50, :70]).save(tmp_path / "photo.png")
    run("encode", tmp_path / "photo.png", tmp_path / "p.bsq", "--model", image_model, "--overlap", 8)
    run("decode", tmp_path / "p.bsq", tmp_path / "back.png", "--model", image_model)
    shown = run("info", tmp_path / "p.bsq").stdout
    assert "tiles     overlapping by 8 pixels" in shown
    assert "tiny-paper" in shown
    with Image.open(tmp_path / "back.png") as back:
        assert back.size == (70, 50)
    assert open_tokenizer(model.load(image_model), CPU).most_frames == 1
