"""The ladder: sizes, prefixes of levels, causality in time, one path for encoder and decoder."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsqcodec.blocks import BlockKind, TubeForm
from bsqcodec.errors import ModelError
from bsqcodec.tokenizer import motion
from bsqcodec.tokenizer.config import PRESETS, LevelConfig, TokenizerConfig
from bsqcodec.tokenizer.ladder import Ladder, Memory
from bsqcodec.tokenizer.layers import RMSNorm, WindowAttention

CONFIG = PRESETS["tiny"]
LOG_LAMBDA = torch.zeros(1, 1)


def random_ladder(config: TokenizerConfig = CONFIG, seed: int = 0) -> Ladder:
    """Every parameter random, the zero-initialised ones too, so that nothing is switched off."""
    generator = torch.Generator().manual_seed(seed)
    ladder = Ladder(config)
    for parameter in ladder.parameters():
        torch.nn.init.normal_(parameter, std=0.08, generator=generator)
    return ladder.eval().requires_grad_(False)


LADDER = random_ladder()


def frames(height: int, width: int, count: int = 1, seed: int = 0) -> torch.Tensor:
    x = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))
    more = (0, CONFIG.padded(width) - width, 0, CONFIG.padded(height) - height)
    return torch.nn.functional.pad(x, more, mode="replicate")[None]


def code_clip(x: torch.Tensor) -> tuple[list[list[torch.Tensor]], list[torch.Tensor]]:
    """Tokens and pixels of a key frame and the tubes after it."""
    memory: Memory | None = None
    tokens, pixels = [], []
    for number, block in enumerate([x[:, :1], *x[:, 1:].split(CONFIG.tube_frames, 1)]):
        kind = BlockKind.TUBE if number else BlockKind.KEY
        out = LADDER(kind, LOG_LAMBDA, frames_BTCHW=block, memory=memory)
        memory = out.memory
        tokens.append(out.bits)
        pixels.append(out.frames_BTCHW)
    return tokens, pixels


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70))
def test_any_size(height: int, width: int) -> None:
    out = LADDER(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=frames(height, width))
    assert [tuple(b.shape[1:]) for b in out.bits] == CONFIG.grids(height, width)
    assert out.frames_BTCHW.shape[-2] >= height
    assert out.frames_BTCHW.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "form"),
    [(BlockKind.KEY, None), (BlockKind.TUBE, TubeForm(4)), (BlockKind.TUBE, TubeForm(4, quarters=True))],
)
def test_decoder_gets_what_the_encoder_saw(kind: BlockKind, form: TubeForm | None) -> None:
    memory = LADDER(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=frames(70, 96)).memory if kind else None
    x = frames(70, 96, 4 if kind else 1, 1)
    out = LADDER(kind, LOG_LAMBDA, frames_BTCHW=x, memory=memory, form=form)
    back = LADDER(kind, LOG_LAMBDA, bits=out.bits, memory=memory, form=form)
    assert torch.allclose(back.frames_BTCHW, out.frames_BTCHW, atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(back.memory, out.memory, strict=True))
    if form is not None:
        other = form._replace(quarters=not form.quarters)
        other = LADDER(kind, LOG_LAMBDA, bits=out.bits, memory=memory, form=other)
        assert not torch.allclose(other.frames_BTCHW, out.frames_BTCHW, atol=1e-3)


def test_every_prefix_of_levels_decodes_and_levels_matter() -> None:
    out = LADDER(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=frames(64, 96))
    pictures = [
        LADDER(BlockKind.KEY, LOG_LAMBDA, bits=out.bits[:kept]).frames_BTCHW
        for kept in range(1, len(CONFIG.levels) + 1)
    ]
    assert all(p.shape == pictures[0].shape and p.isfinite().all() for p in pictures)
    assert all((a - b).abs().max() > 1e-4 for a, b in pairwise(pictures))


def test_fewer_levels_are_the_prefix_of_more() -> None:
    x = frames(64, 64)
    whole = LADDER(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=x)
    for kept in range(1, len(CONFIG.levels)):
        part = LADDER(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=x, levels=kept, synthesise=False)
        assert len(part.bits) == kept
        assert all(torch.equal(a, b) for a, b in zip(part.bits, whole.bits, strict=False))


def test_dropped_level_adds_nothing() -> None:
    x = frames(64, 64)
    out = LADDER(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=x, keep=torch.tensor([1.0, 1.0, 1.0, 0.0]))
    cut = LADDER(BlockKind.KEY, LOG_LAMBDA, bits=out.bits[:3])
    assert torch.allclose(out.frames_BTCHW, cut.frames_BTCHW, atol=1e-5)


def test_a_later_frame_changes_nothing_before_it() -> None:
    x = frames(64, 64, 9)
    changed = x.clone()
    changed[:, 5:] = 1 - changed[:, 5:]
    tokens, pixels = code_clip(x)
    other_tokens, other_pixels = code_clip(changed)
    for before, after in zip(tokens[:2], other_tokens[:2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(pixels[0], other_pixels[0])
    assert torch.equal(pixels[1], other_pixels[1])
    assert any(not torch.equal(a, b) for a, b in zip(tokens[2], other_tokens[2], strict=True))


def test_tubes_remember() -> None:
    x = frames(64, 64, 5)
    first = LADDER(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=x[:, :1]).memory
    other = LADDER(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=1 - x[:, :1]).memory
    a = LADDER(BlockKind.TUBE, LOG_LAMBDA, frames_BTCHW=x[:, 1:], memory=first)
    b = LADDER(BlockKind.TUBE, LOG_LAMBDA, frames_BTCHW=x[:, 1:], memory=other)
    assert (a.frames_BTCHW - b.frames_BTCHW).abs().max() > 1e-3


def test_weights_kept_in_bf16_are_what_autocast_makes_of_them() -> None:
    kept, x = random_ladder(), frames(40, 72, 1 + CONFIG.tube_frames, seed=7)
    kept.keep_in(torch.bfloat16)
    assert {p.dtype for p in kept.decode16.parameters()} == {torch.bfloat16, torch.float32}
    memories: list[Memory | None] = [None, None]
    for kind, part in ((BlockKind.KEY, x[:, :1]), (BlockKind.TUBE, x[:, 1:])):
        with torch.autocast("cpu", torch.bfloat16):
            one, other = (
                ladder(kind, LOG_LAMBDA, frames_BTCHW=part, memory=memory)
                for ladder, memory in zip((LADDER, kept), memories, strict=True)
            )
        memories = [one.memory, other.memory]
        assert all(a.equal(b) for a, b in zip(one.bits, other.bits, strict=True))
        assert one.frames_BTCHW.equal(other.frames_BTCHW)


def test_quality_conditions_the_tokens() -> None:
    x = frames(64, 64)
    low = LADDER(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=x).bits
    high = LADDER(BlockKind.KEY, LOG_LAMBDA - 4, frames_BTCHW=x).bits
    assert any(not torch.equal(a, b) for a, b in zip(low, high, strict=True))


def test_tubes_start_as_the_frame_before_moved() -> None:
    ladder = random_ladder(seed=3)
    ladder.inherit_tubes()
    x = frames(64, 64, 5)
    memory = ladder(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=x[:, :1]).memory
    tube = ladder(BlockKind.TUBE, LOG_LAMBDA, frames_BTCHW=x[:, 1:], memory=memory)
    vectors = motion.from_bits(tube.bits[1], 4)
    assert vectors.any()
    assert torch.allclose(tube.frames_BTCHW, motion.compensate(memory.frame, vectors, TubeForm(4)), atol=1e-5)


def test_tubes_without_a_motion_level_stay_where_they_are() -> None:
    ladder = random_ladder(replace(CONFIG, motion_level=None), seed=3)
    ladder.inherit_tubes()
    x = frames(64, 64, 5)
    memory = ladder(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=x[:, :1]).memory
    tube = ladder(BlockKind.TUBE, LOG_LAMBDA, frames_BTCHW=x[:, 1:], memory=memory)
    assert torch.allclose(tube.frames_BTCHW, memory.frame[:, None].expand_as(tube.frames_BTCHW), atol=1e-5)


def test_vectors_are_not_needed_before_their_level() -> None:
    x = frames(64, 64, 5)
    memory = LADDER(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=x[:, :1]).memory
    first = LADDER(BlockKind.TUBE, LOG_LAMBDA, frames_BTCHW=x[:, 1:], memory=memory, levels=1)
    assert len(first.bits) == 1
    again = LADDER(BlockKind.TUBE, LOG_LAMBDA, bits=first.bits, memory=memory)
    assert torch.allclose(again.frames_BTCHW, first.frames_BTCHW, atol=1e-5)


def slow_window_attention(layer: WindowAttention, x_BHWD: torch.Tensor) -> torch.Tensor:
    """Position by position: which window it lies in says whom it may see."""
    _, height, width, D = x_BHWD.shape
    side, heads = layer.side, layer.heads
    padded = [-(-n // side) * side for n in (height, width)]
    shift = layer.shift if max(padded) > side else 0

    def window(y: int, x: int) -> tuple[int, int]:
        place = []
        for at, size in zip((y, x), padded, strict=True):
            rolled = (at - shift) % size
            place.append((rolled // side) + (1000 if shift and at < shift else 0))
        return place[0], place[1]

    qkv = layer.qkv(x_BHWD[0]).view(height, width, 3, heads, D // heads)
    out = torch.zeros(height, width, D)
    for y in range(height):
        for x in range(width):
            seen = [(v, u) for v in range(height) for u in range(width) if window(v, u) == window(y, x)]
            for head in range(heads):
                bias = layer.bias[head].view(2 * side - 1, 2 * side - 1)
                scores = torch.stack(
                    [
                        qkv[y, x, 0, head] @ qkv[v, u, 1, head] / (D // heads) ** 0.5
                        + bias[y - v + side - 1, x - u + side - 1]
                        for v, u in seen
                    ]
                )
                values = torch.stack([qkv[v, u, 2, head] for v, u in seen])
                part = slice(head * D // heads, (head + 1) * D // heads)
                out[y, x, part] = torch.softmax(scores, 0) @ values
    return layer.out(out)[None]  # type: ignore[no-any-return]


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("size", [(4, 4), (6, 9), (3, 8), (1, 1)])
def test_window_attention_against_a_slow_one(shift: bool, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(4)
    layer = WindowAttention(8, 4, 4, shift).requires_grad_(False)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    x = torch.randn(1, *size, 8, generator=generator)
    assert torch.allclose(layer(x), slow_window_attention(layer, x), atol=1e-4)


@pytest.mark.parametrize(
    "broken",
    [
        lambda: TokenizerConfig((), (32, 32, 32), (1, 1, 1), (1, 1, 1)),
        lambda: TokenizerConfig((LevelConfig(8, 4), LevelConfig(16, 4)), (32, 32, 32), (1, 1, 1), (1, 1, 1)),
        lambda: TokenizerConfig((LevelConfig(8, 4),), (33, 32, 32), (1, 1, 1), (1, 1, 1)),
        lambda: TokenizerConfig.from_dict({"levels": [{"stride": 8}]}),
        lambda: replace(CONFIG, motion_level=4),
        lambda: replace(CONFIG, motion_level=0),
        lambda: replace(CONFIG, tube_frames=3, levels=(LevelConfig(32, 16), LevelConfig(16, 32))),
    ],
)
def test_bad_configurations(broken: Callable[[], TokenizerConfig]) -> None:
    with pytest.raises(ModelError):
        broken()


def test_configuration_survives_json() -> None:
    assert TokenizerConfig.from_dict(PRESETS["base"].to_dict()) == PRESETS["base"]


@pytest.mark.parametrize("count", [1, 2])
def test_tubes_of_fewer_frames(count: int) -> None:
    """Each frame fills several places and comes back as what is on average in them."""
    memory = LADDER(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=frames(64, 96)).memory
    x = frames(64, 96, count, 1)
    out = LADDER(BlockKind.TUBE, LOG_LAMBDA, frames_BTCHW=x, memory=memory)
    assert [tuple(b.shape[1:]) for b in out.bits] == CONFIG.grids(64, 96)
    assert out.frames_BTCHW.shape == x.shape
    back = LADDER(BlockKind.TUBE, LOG_LAMBDA, bits=out.bits, memory=memory, form=TubeForm(count))
    assert torch.allclose(back.frames_BTCHW, out.frames_BTCHW, atol=1e-5)
    assert torch.equal(back.memory.frame, back.frames_BTCHW[:, -1].clamp(0, 1))
    ends = LADDER.ends["tube"]
    state = torch.rand(1, 8, 12, CONFIG.width[0], generator=torch.Generator().manual_seed(2))
    still = memory.frame[:, None]
    places = ends.pixels(state, still.expand(-1, 4, -1, -1, -1))  # type: ignore[operator]
    shown = ends.pixels(state, still.expand(-1, count, -1, -1, -1))  # type: ignore[operator]
    assert torch.allclose(shown, places.unflatten(1, (count, -1)).mean(2), atol=1e-5)


def test_shorter_tubes_are_told_so() -> None:
    ladder = random_ladder(seed=5)
    memory = ladder(BlockKind.KEY, LOG_LAMBDA, frames_BTCHW=frames(64, 64)).memory
    x = frames(64, 64, 2, 1)
    before = ladder(BlockKind.TUBE, LOG_LAMBDA, frames_BTCHW=x, memory=memory, rated=True)
    with torch.no_grad():
        ladder.ends["tube"].start_shorter[0] += 1
    after = ladder(BlockKind.TUBE, LOG_LAMBDA, frames_BTCHW=x, memory=memory, rated=True)
    assert not torch.equal(before.rate_bits_B[0], after.rate_bits_B[0])


def test_tubes_get_shorter_as_quality_rises() -> None:
    lengths = [CONFIG.tube_length(rate) for rate in range(0, 1001)]
    assert lengths == sorted(lengths, reverse=True)
    assert set(lengths) == {4, 2, 1}
    assert {replace(CONFIG, tube_frames=2).tube_length(rate) for rate in (0, 500, 1000)} == {2, 1}


def test_lengths_to_choose_from() -> None:
    """The usual one is first, the others are near it, and the shortest are alone at the best rates."""
    for rate in range(0, 1001, 10):
        usual, *others = CONFIG.tube_choices(rate)
        assert usual == CONFIG.tube_length(rate)
        assert usual not in others
        assert all(max(usual, other) <= 4 * min(usual, other) for other in others)
    assert CONFIG.tube_choices(128) == (2, 4)
    assert CONFIG.tube_choices(450) == (2, 4, 1)
    assert CONFIG.tube_choices(600) == (1, 2)
    assert CONFIG.tube_choices(1000) == (1,)
    assert replace(CONFIG, tube_frames=1).tube_choices(450) == (1,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-4, 1.0, 300.0])
def test_norms_are_the_same_with_and_without_gradient(dtype: torch.dtype, size: float) -> None:
    """Up to the last bit: compiled, they are rounded once."""
    rounding = {torch.float32: 2**-20, torch.bfloat16: 2**-6}[dtype]
    norm = RMSNorm(48)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-2, 3, 48))
    x = (size * torch.randn(2, 3, 5, 48, generator=torch.Generator().manual_seed(0))).to(dtype)
    x = torch.cat([x, torch.zeros_like(x)]).transpose(1, 2)
    expected = norm(x)
    with torch.no_grad():
        found = norm(x)
    assert found.dtype == expected.dtype == dtype
    assert torch.allclose(found.float(), expected.detach().float(), rtol=rounding, atol=0)
    assert float(found[:2].float().abs().max()) > 1
