"""Where tubes do not pay, frames are coded alone."""

import io
from pathlib import Path

import numpy as np
import pytest
import tiny_model

from bsqcodec import bitstream, codec, samples
from bsqcodec.bitstream import Gop
from bsqcodec.gop_choice import LONGEST_WAIT, SHORTEST_WAIT, TubeChoice
from bsqcodec.synthesis import Judgement, LadderTokenizer

KEY, GOOD, BAD = Judgement(0.1, 0.4), Judgement(0.1, 0.3), Judgement(0.3, 0.2)


def waits(choice: TubeChoice) -> int:
    count = 0
    while choice.takes_alone():
        count += 1
    return count


def test_a_tube_stays_where_its_cost_is_no_higher() -> None:
    assert KEY.cost(0.5) == pytest.approx(0.3)
    choice = TubeChoice(0.5)
    choice.begin(KEY)
    assert choice.pays(GOOD)
    assert waits(choice) == 0
    assert not choice.pays(BAD)


def test_frames_alone_grow_while_tubes_fail() -> None:
    choice = TubeChoice(0.5)
    found = []
    for _ in range(5):
        choice.begin(KEY)
        assert not choice.pays(BAD)
        found.append(waits(choice))
    assert found == [SHORTEST_WAIT, 8, 16, LONGEST_WAIT, LONGEST_WAIT]
    assert choice.pays(GOOD)
    assert not choice.pays(BAD)
    assert waits(choice) == SHORTEST_WAIT


def test_a_new_scene_starts_anew() -> None:
    choice = TubeChoice(0.5)
    choice.begin(KEY)
    assert not choice.pays(BAD)
    choice.new_scene()
    assert waits(choice) == 0


@pytest.mark.parametrize("bad", [{1}, {2}, {1, 2, 3}, set()])
def test_every_frame_is_coded_once_and_in_order(
    bad: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever tubes are refused, 21 frames come back as they were, the refused ones coded alone."""
    weights = tiny_model.make(tmp_path / "tiny.safetensors", prior=False)
    tubes = iter(range(1, 100))
    monkeypatch.setattr(TubeChoice, "pays", _pays(bad, tubes))
    frames = np.stack([samples.picture()[n : n + 40, n : n + 48] for n in range(21)])
    data = codec.compress(frames, options=codec.EncodeOptions(model=weights))
    gops = [event for event in bitstream.StreamReader(io.BytesIO(data)) if isinstance(event, Gop)]
    assert [pts for gop in gops for pts in gop.pts] == [gops[0].pts[0] + n for n in range(21)]
    alone = [gop for gop in gops if len(gop.pts) == 1 and gop.key_rate == gop.tube_rate]
    assert len(alone) == {0: 0, 1: SHORTEST_WAIT, 3: 4 + 8 + 6}[len(bad)]
    assert codec.decompress(data, model_file=weights).shape == frames.shape


def _pays(bad: set[int], tubes):  # type: ignore[no-untyped-def]
    original = TubeChoice.pays

    def pays(self: TubeChoice, judgement: Judgement) -> bool:
        number = next(tubes)
        self.begin(Judgement(1.0, 0.0))
        return original(self, Judgement(2.0 if number in bad else 0.5, 0.0))

    return pays


def test_the_coarse_half_of_synthesis_runs_ahead(tmp_path: Path) -> None:
    """All blocks of two GOPs begun before the first is finished, and one after the other."""
    import torch

    from bsqcodec import model
    from bsqcodec.blocks import BlockKind, TubeForm

    weights = model.load(tiny_model.make(tmp_path / "tiny.safetensors", prior=False))
    coder, ahead, in_turn = (LadderTokenizer(weights, torch.device("cpu")) for _ in range(3))
    blocks = []
    for start in (0, 40):
        coder.forget()
        for number in range(4):
            kind = BlockKind.TUBE if number else BlockKind.KEY
            top = start + 3 * number
            frames = [samples.picture()[top + n : top + n + 50, :60] for n in range(2 if number else 1)]
            blocks.append((kind, coder.analyse(kind, frames, 500, levels=4)))
    begun = [ahead.begin(kind, tokens, 500, TubeForm(2)) for kind, tokens in blocks]
    shown = []
    for descent, (kind, tokens) in zip(begun, blocks, strict=True):
        if kind is BlockKind.KEY:
            ahead.forget()
            in_turn.forget()
        found = ahead.finish(descent, 50, 60)
        expected = in_turn.synthesise(kind, tokens, 500, 50, 60, TubeForm(2))
        assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
        shown += found
    assert len({frame.tobytes() for frame in shown}) == 2 * (1 + 3 * 2)


def test_the_judgement_is_of_the_real_thing(tmp_path: Path) -> None:
    import torch

    from bsqcodec import model
    from bsqcodec.blocks import BlockKind
    from bsqcodec.distortion import distortion, weights_for

    weights = model.load(tiny_model.make(tmp_path / "tiny.safetensors", prior=False))
    tokenizer = LadderTokenizer(weights, torch.device("cpu"))
    tokenizer.judging = True
    frame = samples.picture()[:50, :60]
    tokens = tokenizer.analyse(BlockKind.KEY, [frame], 500, levels=4)
    judged = tokenizer.judgement
    tokenizer.forget()
    (again,) = tokenizer.synthesise(BlockKind.KEY, tokens, 500, 50, 60)
    x, y = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() / 255 for p in (frame, again))
    lost, _ = distortion(y, x, weights_for(50, 60))
    assert judged.distortion == pytest.approx(float(lost), rel=0.2)  # before clamping and rounding
    assert judged.bpp > 0
