"""The encoder's search: it lowers D + lambda R of the real decoder, whole or in parts, or changes nothing."""

import pytest
import tiny_model
import torch
from torch import Tensor

from bsqcodec import model, rdo, samples
from bsqcodec.blocks import BlockKind, TubeForm
from bsqcodec.codec import EncodeOptions, compress, decompress
from bsqcodec.metrics.ms_ssim import ms_ssim, ms_ssim_db
from bsqcodec.tokenizer.ladder import BlockOutput, Ladder


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Ladder:
    return model.load(tiny_model.make(tmp_path_factory.mktemp("model") / "tiny.safetensors")).ladder()


LOG_LAMBDA = torch.tensor([[0.1]]).log()


def coded(ladder: Ladder, kind: BlockKind, x: Tensor, before: BlockOutput | None) -> BlockOutput:
    with torch.no_grad():
        memory = before.memory if before is not None else None
        return ladder(kind, LOG_LAMBDA, frames_BTCHW=x, memory=memory)  # type: ignore[no-any-return]


def blocks(ladder: Ladder) -> list[tuple[BlockKind, Tensor, BlockOutput | None]]:
    """A key frame and the tube after it, 96x160 of which 90x150 count."""
    noise = torch.rand(1, 1, 3, 12, 20, generator=torch.Generator().manual_seed(1))
    key = noise.repeat_interleave(8, 3).repeat_interleave(8, 4)
    tube = torch.cat([key.roll(2 * shift, 4) for shift in range(1, 5)], 1)
    return [
        (BlockKind.KEY, key, None),
        (BlockKind.TUBE, tube, coded(ladder, BlockKind.KEY, key, None)),
    ]


@pytest.mark.parametrize("number", [0, 1], ids=["key frame", "tube"])
@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
def test_the_search_lowers_the_cost(
    ladder: Ladder, number: int, parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if parts:
        for name, value in (("TILE", 64), ("MARGIN", 32), ("MOST_PIXELS", 0)):
            monkeypatch.setattr(rdo, name, value)
    kind, x, before = blocks(ladder)[number]
    out = coded(ladder, kind, x, before)
    memory = before.memory if before is not None else None
    search = rdo.Search(ladder, kind, x, memory, LOG_LAMBDA, (90, 150), TubeForm(x.shape[1]))
    found = search.run(out.bits, out.points, 3)

    assert len(list(search._windows(4))) == (6 if parts else 1)
    monkeypatch.setattr(rdo, "MOST_PIXELS", 1 << 30)
    (whole,) = search._windows(4)
    assert whole.frames_BTCHW.shape[-2:] == (90, 150)
    with torch.no_grad():
        assert float(search._cost(whole, found)) < float(search._cost(whole, out.bits))
    for level, bits in zip(found, out.bits, strict=True):
        assert level.shape == bits.shape
        assert set(level.unique().tolist()) <= {0.0, 1.0}


def test_the_coarse_levels_alone(ladder: Ladder) -> None:
    kind, x, _ = blocks(ladder)[0]
    with torch.no_grad():
        out = ladder(kind, LOG_LAMBDA, frames_BTCHW=x, levels=2)
    found = rdo.Search(ladder, kind, x, None, LOG_LAMBDA, (90, 150), TubeForm(1)).run(out.bits, out.points, 3)
    assert [level.shape for level in found] == [level.shape for level in out.bits]
    assert any(not torch.equal(a, b) for a, b in zip(found, out.bits, strict=True))


def test_parts_cover_every_token_once(ladder: Ladder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TILE", 64), ("MARGIN", 32), ("MOST_PIXELS", 0)):
        monkeypatch.setattr(rdo, name, value)
    search = rdo.Search(
        ladder, BlockKind.KEY, torch.zeros(1, 1, 3, 96, 160), None, LOG_LAMBDA, (90, 150), TubeForm(1)
    )
    seen = [torch.zeros(grid[:2]) for grid in ladder.config.grids(96, 160)]
    for window in search._windows(4):
        for level, outer, inner in zip(seen, window.grid, window.inner, strict=True):
            level[outer][inner] += 1
    assert all(bool((level == 1).all()) for level in seen)


def test_a_search_that_fails_changes_nothing(ladder: Ladder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rdo, "LEARNING_RATE", -3.0)  # uphill
    kind, x, before = blocks(ladder)[0]
    out = coded(ladder, kind, x, before)
    found = rdo.Search(ladder, kind, x, None, LOG_LAMBDA, (90, 150), TubeForm(1)).run(out.bits, out.points, 1)
    assert all(torch.equal(a, b) for a, b in zip(found, out.bits, strict=True))


def test_every_effort_takes_longer() -> None:
    steps = [rdo.steps_of(effort) for effort in range(1, 10)]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (6, 96)


@pytest.mark.slow
def test_a_photograph_is_better_at_about_the_same_size() -> None:
    """With the weights that ship; the gain in training/LOG.md is larger."""
    picture = samples.picture()[128:384, 128:384]
    figures = []
    for effort in (0, 5):
        data = compress(picture, options=EncodeOptions(q=5, effort=effort))
        similarity = ms_ssim(picture, decompress(data))
        assert similarity is not None
        figures.append((len(data), ms_ssim_db(similarity)))
    assert figures[1][0] < 1.03 * figures[0][0]
    assert figures[1][1] > figures[0][1] + 0.1
