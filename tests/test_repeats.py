"""What stands still is not coded again, and what moves never stands still."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tiny_model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsqcodec import bitstream, codec, samples
from bsqcodec.bitstream import Damage, Gop
from bsqcodec.codec import Decoder, EncodeOptions, Encoder, Pixels, read_tokens
from bsqcodec.gop_choice import TubeChoice
from bsqcodec.media.types import Frame
from bsqcodec.repeats import RepeatChoice, cell_errors, stands_still
from bsqcodec.synthesis import Judgement, LadderTokenizer

STILL, MOVES = "still", "moves"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.make(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def film(*tubes: str, last: int = 4) -> Pixels:
    """A picture, then tubes that repeat the frame before or go on to other parts of the photograph."""
    numbers = [0]
    for tube in tubes:
        numbers += [numbers[-1] + (tube == MOVES) * n for n in range(1, 5)]
    del numbers[len(numbers) - 4 + last :]
    picture = samples.picture()
    return np.stack([picture[16 * n : 16 * n + 40, 8 * n : 8 * n + 50] for n in numbers])


def encode(frames: Pixels, weights: Path, gop: int | None = 33) -> bytes:
    sink = io.BytesIO()
    options = EncodeOptions(model=weights, gop=gop, scene_cuts=False, key_filter=False, tube_frames=4)
    encoder = Encoder(sink, frames.shape[2], frames.shape[1], time_base=Fraction(1, 30), options=options)
    for number, frame in enumerate(frames):
        encoder.add(Frame(frame, 2 * number, 2))
    encoder.close()
    return sink.getvalue()


def decode(data: bytes, weights: Path, **options: object) -> list[Frame]:
    decoder = Decoder(io.BytesIO(data), model_file=weights, **options)  # type: ignore[arg-type]
    return [event for event in decoder.events() if isinstance(event, Frame)]


def gops(data: bytes) -> list[Gop]:
    return [event for event in bitstream.StreamReader(io.BytesIO(data)) if isinstance(event, Gop)]


def same(some: list[Frame], others: list[Frame]) -> bool:
    return all(np.array_equal(a.pixels, b.pixels) for a, b in zip(some, others, strict=True))


@settings(max_examples=12, deadline=None)
@given(tubes=st.lists(st.sampled_from([STILL, MOVES]), min_size=1, max_size=5), last=st.integers(1, 4))
def test_exactly_what_stands_still_is_repeated(weights: Path, tubes: list[str], last: int) -> None:
    data = encode(film(*tubes, last=last), weights)
    (gop,) = gops(data)
    still = {number for number, tube in enumerate(tubes, 1) if tube is STILL}
    assert gop.repeats == still
    frames = decode(data, weights)
    count = 4 * len(tubes) - 3 + last
    assert [(frame.pts, frame.duration) for frame in frames] == [(2 * n, 2) for n in range(count)]
    for number in range(1, len(tubes) + 1):
        before, *tube = frames[4 * number - 4 : 4 * number + 1]
        repeated = [np.array_equal(frame.pixels, before.pixels) for frame in tube]
        assert all(repeated) if number in still else not any(repeated)


def test_what_comes_after_a_repeat_is_coded_as_if_it_were_not_there(weights: Path) -> None:
    """Tokens, bytes and pixels, whatever the memory went through while the repeat was considered."""
    plain = encode(film(MOVES, MOVES), weights)
    data = encode(film(STILL, MOVES, STILL, STILL, MOVES), weights)
    (gop,), (expected,) = gops(data), gops(plain)
    assert (gop.parts, gop.token_crcs) == (expected.parts, expected.token_crcs)
    ((_, blocks),) = read_tokens(io.BytesIO(data), model_file=weights)
    assert len(blocks) == 3
    frames = decode(data, weights)
    assert same([*frames[:1], *frames[5:9], *frames[17:]], decode(plain, weights))


def test_repeats_cost_nothing_but_their_mark(weights: Path) -> None:
    assert len(encode(film(*[STILL] * 7), weights)) - len(encode(film()[:1], weights)) == 3


def test_one_tube_of_a_still_scene_is_analysed(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = LadderTokenizer.analyse

    def analyse(self: LadderTokenizer, kind, *arguments, **options):  # type: ignore[no-untyped-def]
        calls.append(kind)
        return original(self, kind, *arguments, **options)

    monkeypatch.setattr(LadderTokenizer, "analyse", analyse)
    encode(film(*[STILL] * 8), weights)
    assert len(calls) == 2


def test_a_frame_can_be_drawn_on_without_the_next_ones_showing_it(weights: Path) -> None:
    data = encode(film(STILL, STILL), weights)
    expected = decode(data, weights)[0].pixels
    for event in Decoder(io.BytesIO(data), model_file=weights).events():
        assert isinstance(event, Frame)
        assert np.array_equal(event.pixels, expected)
        event.pixels[:] = 0


def test_ranges_of_time_and_levels(weights: Path) -> None:
    data = encode(film(STILL, MOVES, STILL, STILL, STILL), weights, gop=13)
    assert [gop.repeats for gop in gops(data)] == [{1, 3}, {1, 2}]
    for levels in (None, 2):
        everything = decode(data, weights, levels=levels)
        for first, count in ((2, 9), (11, 4), (14, 6)):
            start, duration = Fraction(2 * first, 30), Fraction(2 * count, 30)
            some = decode(data, weights, levels=levels, start=start, duration=duration)
            assert same(some, everything[first : first + count])
        sink = io.BytesIO()
        bitstream.cut(io.BytesIO(data), sink, levels=levels)
        assert same(decode(sink.getvalue(), weights), everything)
    sink = io.BytesIO()
    bitstream.cut(io.BytesIO(data), sink, start=Fraction(27, 30))
    assert same(decode(sink.getvalue(), weights), decode(data, weights)[13:])


def test_damaged_tokens_are_noticed_behind_repeats(weights: Path) -> None:
    data = encode(film(MOVES, STILL, MOVES, STILL, STILL), weights, gop=13)
    reader = bitstream.StreamReader(io.BytesIO(data))
    sink = io.BytesIO()
    writer = bitstream.StreamWriter(sink)
    writer.write_header(reader.header)
    for number, gop in enumerate(gops(data)):
        wrong = tuple(crc ^ (number == 0) for crc in gop.token_crcs)
        writer.write_gop(Gop(**(vars(gop) | {"token_crcs": wrong})))
    writer.close()
    decoder = Decoder(io.BytesIO(sink.getvalue()), model_file=weights, keep_going=True)
    events = list(decoder.events())
    (fault,) = [event for event in events if isinstance(event, Damage)]
    assert "not those that were encoded" in fault.message
    assert same([event for event in events if isinstance(event, Frame)], decode(data, weights))


def test_a_repeat_pays_by_its_own_cost(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where tubes are held against frames alone, it is the repeat's J that counts: no bits."""
    seen: list[Judgement] = []

    def pays(self: TubeChoice, judgement: Judgement) -> bool:
        seen.append(judgement)
        return len(seen) != 3

    monkeypatch.setattr(TubeChoice, "pays", pays)
    frames = film(STILL, MOVES, STILL, STILL)
    data = encode(frames, weights, gop=None)
    assert [judgement.bpp == 0 for judgement in seen] == [True, False, True, True, True]
    assert [gop.repeats for gop in gops(data)] == [{1}, {1, 2}]  # the third tube does not pay: a new GOP
    assert len(decode(data, weights)) == len(frames)


def test_other_models_do_without(tmp_path: Path) -> None:
    import tiny_paper_model

    paper = tiny_paper_model.make(tmp_path / "paper.safetensors")
    frames = film(STILL)[:2]
    data = codec.compress(frames, options=EncodeOptions(model=paper))
    assert not any(gop.repeats for gop in gops(data))


RNG = np.random.default_rng(0)
PICTURE = torch.from_numpy(RNG.random((1, 3, 70, 90), np.float32) * 0.5 + 0.2)


def seen_still(difference: torch.Tensor, error: float = 0.0) -> bool:
    """Whether PICTURE, coded with some error, stands for frames that differ from it."""
    coded = PICTURE + error * torch.from_numpy(RNG.standard_normal(PICTURE.shape).astype(np.float32))
    frames = (PICTURE + difference).expand(4, -1, -1, -1)
    return stands_still(cell_errors(coded.expand_as(frames), frames), cell_errors(coded, PICTURE))


def patch(side: int, value: float) -> torch.Tensor:
    difference = torch.zeros_like(PICTURE)
    difference[..., 40 : 40 + side, 50 : 50 + side] = value
    return difference


@pytest.mark.parametrize("error", [0.0, 0.02, 0.1])
def test_something_small_that_moves_is_seen(error: float) -> None:
    assert seen_still(patch(0, 0), error)
    assert not seen_still(patch(8, 0.2), error)
    assert not seen_still(patch(70, 0.03), error)


def test_noise_is_not_taken_for_motion_nor_a_fade_for_noise() -> None:
    noise = torch.from_numpy(RNG.standard_normal(PICTURE.shape).astype(np.float32))
    assert seen_still(noise * 3 / 255)
    assert seen_still(torch.full_like(PICTURE, 1 / 255))
    assert not seen_still(torch.full_like(PICTURE, 3 / 255))


def test_a_repeat_wins_by_cost_and_then_without_asking() -> None:
    choice = RepeatChoice(0.5)
    repeat, coded = Judgement(0.1, 0.0), Judgement(0.05, 0.2)
    assert not choice.is_sure(repeat)
    assert not choice.wins(Judgement(0.12, 0.0), coded)  # less than its J, but the next tubes gain by it too
    assert choice.wins(repeat, coded)
    assert choice.is_sure(repeat)
    assert not choice.is_sure(Judgement(0.101, 0.0))
    choice.begin()
    assert not choice.is_sure(repeat)
