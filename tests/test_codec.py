"""Frames to bytes and back, with a small random model: what a user relies on, whatever the weights."""

import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsqcodec import bitstream, machine, model, synthesis
from bsqcodec.bitstream import CodingMode, Damage
from bsqcodec.blocks import BlockKind, TubeForm
from bsqcodec.codec import (
    Decoder,
    EncodeOptions,
    Encoder,
    EncodeStats,
    Pixels,
    compress,
    decompress,
    read_tokens,
)
from bsqcodec.errors import BsqError, FormatError, InputError, ModelError
from bsqcodec.machine import pick_device
from bsqcodec.media.types import AudioPacket, AudioTrack, Frame
from bsqcodec.synthesis import LadderTokenizer
from bsqcodec.tokenizer.ladder import Ladder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.make(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def clip(frames: int, height: int = 37, width: int = 53, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def encode(
    pixels: Pixels, weights: Path, gop: int = 9, effort: int = 0, levels: int | None = None
) -> tuple[bytes, EncodeStats]:
    sink = io.BytesIO()
    options = EncodeOptions(model=weights, gop=gop, effort=effort, levels=levels)
    encoder = Encoder(sink, pixels.shape[2], pixels.shape[1], time_base=Fraction(1, 30), options=options)
    for number, frame in enumerate(pixels):
        encoder.add(Frame(frame, 2 * number, 2))
    stats = encoder.close()
    return sink.getvalue(), stats


def decode(data: bytes, weights: Path, **options: object) -> list[Frame]:
    decoder = Decoder(io.BytesIO(data), model_file=weights, **options)  # type: ignore[arg-type]
    return [event for event in decoder.events() if isinstance(event, Frame)]


def tokens_of(data: bytes, weights: Path) -> list[list[np.ndarray]]:
    found = read_tokens(io.BytesIO(data), model_file=weights)
    return [tokens for _, blocks in found for _, tokens in blocks]


@pytest.mark.parametrize("frames", [1, 2, 5, 6, 9, 10, 14])
def test_frames_and_times_come_back(frames: int, weights: Path) -> None:
    pixels = clip(frames)
    data, stats = encode(pixels, weights)
    back = decode(data, weights)
    assert [f.pts for f in back] == [2 * n for n in range(frames)]
    assert all(f.duration == 2 and f.pixels.shape == (37, 53, 3) for f in back)
    assert stats.frames == frames
    assert stats.gops == -(-frames // 9)
    assert stats.bytes == len(data) == sum(stats.bytes_by_chunk.values())
    assert sum(stats.level_bytes) < stats.bytes


@pytest.mark.parametrize("tube_frames", [1, 2, 4])
def test_tubes_of_any_length_that_the_model_has(tube_frames: int, weights: Path) -> None:
    pixels = clip(7)
    options = EncodeOptions(model=weights, gop=33, tube_frames=tube_frames, scene_cuts=False)
    data = compress(pixels, options=options)
    ((gop, blocks),) = read_tokens(io.BytesIO(data), model_file=weights)
    assert len(gop.pts) == 7
    assert len(blocks) == 1 + -(-6 // tube_frames)
    assert len(decode(data, weights)) == 7


@pytest.mark.parametrize("frames", [2, 4, 5, 8, 9])
def test_every_gop_has_tubes_of_the_length_and_the_vectors_that_cost_least(
    frames: int, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By four frames, and by eight where those that are close to the best can be told apart so. And decodes
    to what it would with that length alone; the usual one where frames are too few to tell."""
    pixels = np.concatenate([clip(frames, seed=0), clip(frames, seed=1)])
    options = EncodeOptions(q=3, model=weights, gop=frames, scene_cuts=False)
    two, finer_two, four, finer_four = (TubeForm(n, finer) for n in (2, 4) for finer in (False, True))
    costs = {  # of either GOP by four and by eight frames
        (0, 4): {two: 1, finer_two: 0.995, four: 1.5},
        (0, 8): {two: 1, finer_two: 0.995},
        (1, 4): {two: 1.03, four: 1, finer_four: 1.02},
        (1, 8): {two: 0.9, four: 1, finer_four: 0.8},
    }
    tried: list[tuple[int, int, TubeForm]] = []

    def cost(self: LadderTokenizer, shown: list[Pixels], form: TubeForm, rate: int, levels: int) -> float:
        gop = int(not np.array_equal(shown[0], pixels[1]))
        tried.append((gop, len(shown), form))
        return costs[gop, len(shown)][form]

    monkeypatch.setattr(LadderTokenizer, "cost_of_tubes", cost)
    data = compress(pixels, options=options)
    gops = [(gop, len(blocks)) for gop, blocks in read_tokens(io.BytesIO(data), model_file=weights)]
    usual = 2
    lengths = [2, 4] if frames > 4 else [usual] * 2
    seen = [count for count in (4, 8) if count < frames]
    assert sorted(tried) == [(*at, form) for at in costs if at[1] in seen for form in sorted(costs[at])]
    header = bitstream.StreamReader(io.BytesIO(data)).header
    assert header.tube_frames == usual
    assert [gop.tube_frames for gop, _ in gops] == lengths
    assert [gop.quarters for gop, _ in gops] == [False, frames > 8]
    assert [blocks for _, blocks in gops] == [1 + -(-(frames - 1) // length) for length in lengths]
    shown = [frame.pixels for frame in decode(data, weights)]
    for number, length in enumerate(lengths):
        part = slice(number * frames, (number + 1) * frames)
        alone = compress(pixels[part], options=replace(options, tube_frames=length))
        same = [
            np.array_equal(one, other.pixels)
            for one, other in zip(shown[part], decode(alone, weights), strict=True)
        ]
        assert all(same) is not gops[number][0].quarters  # which that length alone does not try


@pytest.mark.parametrize(("frames_kept", "tried_on"), [(4, {4, 8}), (3, {4})])
def test_large_frames_are_tried_once(
    frames_kept: int, tried_on: set[int], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found on four of them is not kept, and would have to be found again."""
    pixels = clip(10)
    monkeypatch.setattr(synthesis, "MOST_TRIED_PIXELS", frames_kept * pixels[0, ..., 0].size)
    seen = set()

    def cost(self: LadderTokenizer, shown: list[Pixels], *_: object) -> float:
        seen.add(len(shown))
        return 1.0

    monkeypatch.setattr(LadderTokenizer, "cost_of_tubes", cost)
    compress(pixels, options=EncodeOptions(q=3, model=weights, gop=10, scene_cuts=False))
    assert seen == tried_on


def test_what_tubes_of_a_length_cost(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the tubes themselves come to, one after the other; the memory stays as it was. Those that were tried
    before are not analysed again."""
    loaded = model.load(weights)
    tokenizer, other = (LadderTokenizer(loaded, pick_device("cpu")) for _ in range(2))
    frames, levels = list(clip(5)), len(loaded.card.tokenizer.levels)
    for one in (tokenizer, other):
        one.analyse(BlockKind.KEY, frames[:1], 700, levels=levels)
    other.judging = True
    costs = []
    for frame in frames[1:]:
        other.analyse(BlockKind.TUBE, [frame], 300, levels=levels)
        costs.append(other.judgement.cost(other.config.lambda_of(300)))
    analysed = []
    forward = Ladder.forward
    monkeypatch.setattr(Ladder, "forward", lambda *a, **b: (analysed.append(b["form"]), forward(*a, **b))[1])
    half = tokenizer.cost_of_tubes(frames[1:3], TubeForm(1), 300, levels)
    found = tokenizer.cost_of_tubes(frames[1:], TubeForm(1), 300, levels)
    assert half == pytest.approx(float(np.mean(costs[:2])), rel=1e-3)
    assert found == pytest.approx(float(np.mean(costs)), rel=1e-3)
    assert found != tokenizer.cost_of_tubes(frames[1:], TubeForm(4), 300, levels)
    assert analysed == 4 * [TubeForm(1)] + [TubeForm(4)]


def test_both_precisions_compute_with_the_same_weights(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounded to bf16 in float32, too: a decoder whose weights are a little others drifts from block to
    block."""
    loaded = model.load(weights)
    found = []
    for fast in (True, False):
        monkeypatch.setattr(machine, "FAST_CPU", fast)
        ladder = LadderTokenizer(loaded, torch.device("cpu"))._ladder
        assert (ladder.down16.weight.dtype == torch.float32) is not fast
        found.append({name: value.float() for name, value in ladder.state_dict().items()})
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    assert not torch.equal(found[0]["down16.weight"], loaded.ladder().down16.weight)


def test_tubes_that_were_tried_are_not_analysed_again(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But come out as if they were; others are."""
    loaded = model.load(weights)
    tried, plain = (LadderTokenizer(loaded, pick_device("cpu")) for _ in range(2))
    frames, levels = list(clip(7)), len(loaded.card.tokenizer.levels)
    for one in (tried, plain):
        one.judging = True
        one.analyse(BlockKind.KEY, frames[:1], 700, levels=levels)
    for length in (4, 2):
        tried.cost_of_tubes(frames[1:5], TubeForm(length), 300, levels)
    ladder = type(tried._ladder)
    calls: list[object] = []
    forward = ladder.forward

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(self)
        return forward(self, *arguments, **options)

    monkeypatch.setattr(ladder, "forward", counted)
    for number, known in ((0, True), (1, True), (2, False)):
        found = []
        for one in (tried, plain):
            calls.clear()
            tokens = one.analyse(BlockKind.TUBE, frames[2 * number + 1 :][:2], 300, levels=levels)
            assert len(calls) == (not known or one is plain)
            found.append((tokens, one.judgement, one.shown()))
        for one, other in zip(found[0][0], found[1][0], strict=True):
            assert np.array_equal(one, other)
        assert found[0][1] == found[1][1]
        assert all(np.array_equal(one, other) for one, other in zip(found[0][2], found[1][2], strict=True))
    assert not tried._tried


def test_tubes_that_the_model_does_not_have(weights: Path) -> None:
    with pytest.raises(InputError, match="tubes of 3 frames: tiny has tubes of 4, 2, 1"):
        compress(clip(5), options=EncodeOptions(model=weights, tube_frames=3))
    sink = io.BytesIO()
    data, _ = encode(clip(1), weights)
    writer = bitstream.StreamWriter(sink)
    writer.write_header(replace(bitstream.StreamReader(io.BytesIO(data)).header, tube_frames=3))
    with pytest.raises(FormatError, match="tubes of 3 frames: tiny has tubes of 4, 2, 1"):
        Decoder(io.BytesIO(sink.getvalue()), model_file=weights)


@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_any_size(weights: Path, height: int, width: int) -> None:
    data, _ = encode(clip(2, height, width), weights)
    assert [f.pixels.shape for f in decode(data, weights)] == [(height, width, 3)] * 2


def test_decoder_shows_what_the_encoder_saw(weights: Path) -> None:
    """The frames of a decode equal those of a second decode, and change when a token's bit does."""
    data, _ = encode(clip(5), weights)
    first, second = decode(data, weights), decode(data, weights)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
def test_tokens_do_not_depend_on_threads(threads: int, weights: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        data, _ = encode(clip(6), weights)
        expected = tokens_of(data, weights)
        torch.set_num_threads(threads)
        found = tokens_of(data, weights)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(expected, found, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_clip_in_one_call_and_frame_by_frame(weights: Path) -> None:
    pixels = clip(11)
    options = EncodeOptions(model=weights, gop=9)
    whole = compress(pixels, fps=30, options=options)
    sink = io.BytesIO()
    encoder = Encoder(sink, 53, 37, time_base=Fraction(1, 30), options=options)
    for number, frame in enumerate(pixels):
        encoder.add(Frame(frame, number, 1))
    encoder.close()
    assert sink.getvalue() == whole


def test_a_later_frame_changes_no_earlier_gop(weights: Path) -> None:
    pixels = clip(12)
    changed = pixels.copy()
    changed[9:] = 255 - changed[9:]
    gops = []
    for x in (pixels, changed):
        data, _ = encode(x, weights)
        reader = bitstream.StreamReader(io.BytesIO(data))
        gops.append([event for event in reader if isinstance(event, bitstream.Gop)])
    assert gops[0][0] == gops[1][0]
    assert gops[0][1] != gops[1][1]


def test_smallest_mode_is_kept_and_every_mode_decodes(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = clip(6)
    sizes = {}
    for mode in CodingMode:
        with monkeypatch.context() as only:
            from bsqcodec import gop_coder

            original = gop_coder.GopCoder.coded

            def coded(self, wanted, gop, crcs, *, mode=mode, original=original):  # type: ignore[no-untyped-def]
                return original(self, mode, gop, crcs)

            only.setattr(gop_coder.GopCoder, "coded", coded)
            data, stats = encode(pixels, weights)
        assert stats.modes == {mode.name.lower(): 1}
        sizes[mode] = sum(stats.level_bytes)
        if mode is CodingMode.RAW:
            expected = tokens_of(data, weights)
        for a, b in zip(expected, tokens_of(data, weights), strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    _, stats = encode(pixels, weights)
    assert sum(stats.level_bytes) == min(sizes.values())


def test_model_without_prior_codes_raw(tmp_path: Path) -> None:
    bare = tiny_model.make(tmp_path / "bare.safetensors", prior=False)
    data, stats = encode(clip(6), bare)
    assert stats.modes == {"raw": 1}
    assert len(decode(data, bare)) == 6


def test_levels_can_be_dropped_on_either_side(weights: Path) -> None:
    pixels = clip(6)
    data, _ = encode(pixels, weights)
    whole = tokens_of(data, weights)
    for kept in (1, 2, 3):
        assert len(decode(data, weights, levels=kept)) == 6
        short, stats = encode(pixels, weights, levels=kept)
        assert len(stats.level_bytes) == kept
        assert len(short) < len(data)
        for a, b in zip(tokens_of(short, weights)[:1], whole[:1], strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(a, b[:kept], strict=True))


def test_selection_by_time(weights: Path) -> None:
    data, _ = encode(clip(20), weights)
    everything = decode(data, weights)
    some = decode(data, weights, start=Fraction(20, 30), duration=Fraction(10, 30))
    assert [f.pts for f in some] == [0, 2, 4, 6, 8]
    for a, b in zip(some, everything[10:15], strict=True):
        assert np.array_equal(a.pixels, b.pixels)


def test_sound_comes_back(weights: Path) -> None:
    track = AudioTrack("aac", 48000, 2, "stereo", 1024, 128000, Fraction(1, 48000), b"\x12\x10")
    packets = [AudioPacket(0, 1024 * n, 1024 * n, 1024, True, bytes([n, n])) for n in range(12)]
    sink = io.BytesIO()
    options = EncodeOptions(model=weights, gop=5)
    encoder = Encoder(sink, 53, 37, time_base=Fraction(1, 30), options=options, audio_tracks=[track])
    for number, frame in enumerate(clip(7)):
        encoder.add(Frame(frame, number, 1))
    for packet in packets:
        encoder.add_audio(packet)
    encoder.close()
    decoder = Decoder(io.BytesIO(sink.getvalue()), model_file=weights)
    assert decoder.audio_tracks == [track]
    events = list(decoder.events())
    assert [e for e in events if isinstance(e, AudioPacket)] == packets
    assert sum(isinstance(e, Frame) for e in events) == 7


def test_damage_ends_the_decode_or_is_survived(weights: Path) -> None:
    data, _ = encode(clip(27), weights)
    reader = bitstream.StreamReader(io.BytesIO(data))
    next(event for event in reader if isinstance(event, bitstream.Gop))
    broken = bytearray(data)
    broken[reader.offset + 40] ^= 0xFF  # inside the second GOP
    with pytest.raises(FormatError, match="at byte"):
        decode(bytes(broken), weights)
    decoder = Decoder(io.BytesIO(bytes(broken)), model_file=weights, keep_going=True)
    events = list(decoder.events())
    assert [e.pts for e in events if isinstance(e, Frame)] == [2 * n for n in [*range(9), *range(18, 27)]]
    assert [e.gop_index for e in events if isinstance(e, Damage)] == [1]
    assert decoder.stats.damages == 1


def test_tokens_that_differ_are_noticed(weights: Path) -> None:
    data, _ = encode(clip(1), weights)
    reader = bitstream.StreamReader(io.BytesIO(data))
    gop = next(event for event in reader if isinstance(event, bitstream.Gop))
    sink = io.BytesIO()
    writer = bitstream.StreamWriter(sink)
    writer.write_header(reader.header)
    wrong = tuple(crc ^ 1 for crc in gop.token_crcs)
    writer.write_gop(bitstream.Gop(**(vars(gop) | {"token_crcs": wrong})))
    writer.close()
    with pytest.raises(FormatError, match="not those that were encoded"):
        decode(sink.getvalue(), weights)


def test_other_weights_are_refused_by_name(weights: Path, tmp_path: Path) -> None:
    data, _ = encode(clip(1), weights)
    other = tiny_model.make(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(ModelError, match=r"needs the model tiny \(digest [0-9a-f]{32}\), found tiny"):
        decode(data, other)
    with pytest.raises(ModelError, match="needs the model tiny"):
        Decoder(io.BytesIO(data))


def test_effort_lowers_what_it_is_meant_to_lower(weights: Path) -> None:
    pixels = np.repeat(np.repeat(clip(1, 8, 8, 3), 8, 1), 8, 2)
    plain, _ = encode(pixels, weights)
    searched, _ = encode(pixels, weights, effort=3)

    def error(data: bytes) -> float:
        difference = decode(data, weights)[0].pixels.astype(float) - pixels[0]
        return float((difference**2).mean())

    assert error(searched) < error(plain)


def refused() -> Iterator[tuple[str, object]]:
    yield "quality", lambda: EncodeOptions(q=0.5)
    yield "levels", lambda: EncodeOptions(levels=0)
    yield "GOP", lambda: EncodeOptions(gop=0)
    yield "effort", lambda: EncodeOptions(effort=10)
    yield "frames are", lambda: compress(np.zeros((4, 4), np.uint8))
    yield "frames are", lambda: compress(np.zeros((4, 4, 3), np.float32))
    yield "frames are", lambda: compress(np.zeros((0, 4, 4, 3), np.uint8))
    yield "device", lambda: pick_device("abacus")
    yield "no such file", lambda: compress(np.zeros((4, 4, 3), np.uint8), options=EncodeOptions(model="nix"))
    yield "magic|signature|bsq", lambda: decompress(b"not a stream at all")


@pytest.mark.parametrize(("message", "call"), list(refused()))
def test_bad_input_is_refused_in_one_line(message: str, call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BsqError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_frames_must_fit_the_stream(weights: Path) -> None:
    encoder = Encoder(io.BytesIO(), 8, 8, time_base=Fraction(1, 25), options=EncodeOptions(model=weights))
    with pytest.raises(InputError, match="8x8x3"):
        encoder.add(Frame(np.zeros((8, 9, 3), np.uint8), 0, 1))
    encoder.add(Frame(np.zeros((8, 8, 3), np.uint8), 5, 1))
    with pytest.raises(InputError, match="not after"):
        encoder.add(Frame(np.zeros((8, 8, 3), np.uint8), 5, 1))
    with pytest.raises(InputError, match="no frame"):
        Encoder(io.BytesIO(), 8, 8, time_base=Fraction(1), options=EncodeOptions(model=weights)).close()


def test_compress_and_decompress_keep_the_shape(
    weights: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    from bsqcodec import model

    monkeypatch.setattr(model, "WEIGHTS", weights.parent)
    request.addfinalizer(model.load.cache_clear)  # other tests rely on there being no such name
    options = EncodeOptions(model="tiny")
    for pixels in (clip(1)[0], clip(6)):
        assert decompress(compress(pixels, options=options)).shape == pixels.shape


def test_the_compiler_is_not_imported(weights: Path) -> None:
    """It would take every command another second to start."""
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from bsqcodec.codec import EncodeOptions, compress, decompress\n"
        "frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)\n"
        "model = Path(sys.argv[1])\n"
        "decompress(compress(frames, options=EncodeOptions(gop=5, model=model)), model_file=model)\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, weights], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
