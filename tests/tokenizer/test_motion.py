"""Motion of tubes: the code of the vectors, what they move, and the search for them."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from bsqcodec import samples
from bsqcodec.blocks import TubeForm
from bsqcodec.tokenizer import motion, motion_search
from bsqcodec.tokenizer.motion_search import search


def plain_code(vectors: Tensor) -> Tensor:
    """`to_bits` of one clip as the module's description says it, cell by cell."""
    rows, columns, anchors, _ = vectors.shape
    bits = torch.zeros(rows, columns, 16 * anchors)
    for component in range(2):
        for anchor in range(anchors):

            def at(y: int, x: int, number: int, component: int = component) -> int:
                return 0 if number < 0 else int(vectors[y, x, number, component])

            def off(y: int, x: int, anchor: int = anchor) -> int:
                return at(y, x, anchor) - (2 * at(y, x, anchor - 1) - at(y, x, anchor - 2))

            for y in range(rows):
                for x in range(columns):
                    if y == 0:
                        guess = off(0, x - 1) if x else 0
                    elif x in (0, columns - 1):
                        guess = off(y - 1, x)
                    else:
                        guess = sorted([off(y, x - 1), off(y - 1, x), off(y - 1, x + 1)])[1]
                    residual = (off(y, x) - guess + 128) % 256 - 128
                    low = (residual + 8) % 16 - 8
                    code = ""
                    for digit in ((residual - low) // 16, low):
                        digit = -8 if digit == 8 else digit
                        code += f"{int(digit < 0)}{abs(digit) % 8:03b}"
                    start = 16 * anchor + 8 * component
                    bits[y, x, start : start + 8] = torch.tensor([float(bit) for bit in code])
    return bits


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.sampled_from([1, 2, 4])
)
def test_the_code_of_vectors(seed: int, rows: int, columns: int, anchors: int, frames: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    spread = 10 ** (1 + seed % 3)
    shape = (2, rows, columns, anchors, 2)
    vectors = torch.randint(-spread, spread, shape, generator=generator).clamp(-128, 127)
    bits = motion.to_bits(vectors, frames)
    for clip in range(2):
        if frames > 1:
            assert torch.equal(bits[clip], plain_code(vectors[clip]))
            continue
        finer = [vectors[clip, row // anchors, :, row % anchors] for row in range(rows * anchors)]
        plain = plain_code(torch.stack(finer)[:, :, None])
        for row in range(rows):
            code = torch.cat([plain[row * anchors + part] for part in range(anchors)], -1)
            assert torch.equal(bits[clip, row], code)
    assert torch.equal(motion.from_bits(bits, frames), vectors)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2]))
def test_any_bits_are_vectors_and_no_two_are_the_same(seed: int, frames: int) -> None:
    bits = torch.randint(0, 2, (1, 4, 5, 32), generator=torch.Generator().manual_seed(seed)).float()
    vectors = motion.from_bits(bits, frames)
    assert int(vectors.abs().max()) <= 128
    assert torch.equal(motion.to_bits(vectors, frames), bits)


def test_small_steps_between_neighbours_are_few_ones() -> None:
    vectors = torch.full((1, 6, 8, 2, 2), 40)
    vectors[..., 1, :] = 80  # as far again in the second half of the tube
    bits = motion.to_bits(vectors, 2)
    assert int(bits[:, 1:].sum()) == 0
    assert int(bits[:, 0, 1:].sum()) == 0


def test_frames_between_anchors() -> None:
    vectors = torch.tensor([[4, -8], [4, -16]])[None, None, None]
    rows = motion.in_frames(vectors, TubeForm(4))[0, :, 0, 0]
    assert rows.tolist() == [[1, -2], [2, -4], [2, -6], [2, -8]]


def test_the_frame_moves_by_its_vectors() -> None:
    frame = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    vectors = torch.tensor([4, -12]).expand(1, 4, 6, 1, 2)  # a pixel from below, three from the left
    moved = motion.compensate(frame, vectors, TubeForm(1))[:, 0]
    assert torch.allclose(moved[..., :-1, 3:], frame[..., 1:, :-3], atol=1e-4)
    border = F.avg_pool1d(F.pad(frame[..., 0], (8, 8), mode="replicate"), 17, 1)  # goes on, averaged
    assert torch.allclose(moved[..., :-1, 0], border[..., 1:], atol=1e-4)


def test_cells_overlap() -> None:
    """Half way between two cells that move apart, a pixel is the mean of both."""
    frame = torch.arange(64.0).expand(1, 3, 32, 64) / 64
    vectors = torch.zeros(1, 2, 4, 1, 2, dtype=torch.int64)
    vectors[:, :, 2:, :, 1] = 16  # 4 pixels from the right
    moved = motion.compensate(frame, vectors, TubeForm(1))[0, 0, 0, 16]
    assert moved[:24].tolist() == pytest.approx((torch.arange(24) / 64).tolist(), abs=1e-5)
    between = (moved[31] + moved[32]) / 2
    assert float(between) == pytest.approx((31.5 + 2) / 64, abs=1e-5)
    assert moved[40:56].tolist() == pytest.approx(((torch.arange(40, 56) + 4) / 64).tolist(), abs=1e-5)


def test_half_way_between_pixels_six_count() -> None:
    """One bright pixel: the filter itself, along rows, along columns, and both."""
    taps = torch.tensor([1, -5, 20, 20, -5, 1]) / 32
    frame = torch.zeros(1, 1, 16, 16)
    frame[..., 8, 8] = 1
    planes = motion.half_pixels(frame)[0, 0]
    assert planes.shape == (4, 24, 24)
    lit = slice(7 + 2, 7 + 8)  # halves to the right of pixels 5 to 10 have pixel 8 among their six
    expected = torch.zeros_like(planes)
    expected[0, 12, 12] = 1
    expected[1, 12, lit] = expected[2, lit, 12] = taps
    expected[3, lit, lit] = taps[:, None] * taps
    assert torch.allclose(planes, expected, atol=1e-7)


@pytest.mark.parametrize("frames", [1, 2])
def test_half_a_pixel_and_less(frames: int) -> None:
    """A plane that rises evenly is hit exactly wherever a vector points."""
    frame = (torch.arange(64.0)[:, None] + 2 * torch.arange(96.0)).expand(1, 3, 64, 96) / 256
    vectors = torch.tensor([3, -5]).expand(1, 4, 6, 1, 2)
    moved = motion.compensate(frame, vectors, TubeForm(frames))[0, :, :, 16:-16, 16:-16]
    still = frame[0, :, 16:-16, 16:-16]
    for number in range(frames):
        risen = (number + 1) / frames * (3 - 2 * 5) / TubeForm(frames).steps_per_pixel / 256
        assert torch.allclose(moved[number], still + risen, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_both_ways_to_move_a_frame(frames: int) -> None:
    """Cell by cell without a gradient, pixel by pixel with one: vectors of any length, beyond all borders."""
    generator = torch.Generator().manual_seed(frames)
    frame = torch.rand(2, 3, 64, 96, generator=generator)
    vectors = torch.randint(-128, 128, (2, 4, 6, 2, 2), generator=generator)
    with_gradient = motion.compensate(frame.requires_grad_(), vectors, TubeForm(frames))
    assert with_gradient.requires_grad
    with torch.no_grad():
        without = motion.compensate(frame, vectors, TubeForm(frames))
    assert without.shape == (2, frames, 3, 64, 96)
    assert torch.allclose(with_gradient, without, atol=1e-4)


def test_features_move_with_their_cells() -> None:
    features = torch.rand(1, 8, 12, 5, generator=torch.Generator().manual_seed(0))
    moves = torch.tensor([8.0, -16.0]).expand(1, 4, 6, 2)
    moved = motion.moved_features(features, moves, 8)
    assert torch.allclose(moved[:, :-1, 2:], features[:, 1:, :-2], atol=1e-4)


def moving_view(shift: tuple[int, int], frames: int = 4) -> tuple[Tensor, Tensor]:
    """A view of the bundled photograph, and the frames of a tube in which it moves by so much each."""
    picture = torch.from_numpy(samples.picture()).permute(2, 0, 1).float() / 255

    def view(number: int) -> Tensor:
        top, left = 100 + shift[0] * number, 150 + shift[1] * number
        return picture[:, top : top + 96, left : left + 128]

    return view(0)[None], torch.stack([view(number + 1) for number in range(frames)])[None]


def test_quarters_lie_between() -> None:
    """Where a vector of a tube of one frame points, the planes have what compensation finds there."""
    frame = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    planes = motion.quarter_pixels(frame)
    for down, right in product(range(4), range(4)):
        vectors = torch.tensor([down, right]).expand(1, 2, 2, 1, 2)
        inside = planes[
            0, :, 4 * down + right, motion.BEYOND : -motion.BEYOND, motion.BEYOND : -motion.BEYOND
        ]
        assert torch.allclose(motion.compensate(frame, vectors, TubeForm(1))[0, 0], inside, atol=1e-5)


def test_the_search_finds_quarters() -> None:
    picture = torch.from_numpy(samples.picture()).permute(2, 0, 1).float()[None] / 255
    before, frames = (
        F.avg_pool2d(picture[..., 64 + 3 * n : 448 + 3 * n, 96 - n : 480 - n], 4) for n in range(2)
    )  # three quarters of a pixel from below, one from the left
    vectors = search(frames[None], before, torch.tensor([0.01]), 2)
    right = (vectors[0, 1:-1, 1:-1] == torch.tensor([3, -1])).all(-1).float().mean()
    assert float(right) >= 0.75
    twice = torch.stack([frames, frames], 1)  # a tube of two has halves where nobody asks for quarters
    finer, coarser = (
        search(twice, before, torch.tensor([0.01]), 2, quarters)[0, 1:-1, 1:-1, 0]
        for quarters in (True, False)
    )
    assert float((finer == torch.tensor([3, -1])).all(-1).float().mean()) >= 0.75
    assert int(coarser.abs().max()) <= 2
    moves = motion.in_frames(torch.tensor([[3, -1], [6, -2]])[None, None, None], TubeForm(2, quarters=True))
    assert moves[0, :, 0, 0].tolist() == [[0.75, -0.25], [1.5, -0.5]]


def test_the_search_tells_the_halves_of_a_cell_apart() -> None:
    """What is above the middle of the cells goes one way, what is below it another way."""
    before, frames = moving_view((0, 3), 1)
    _, others = moving_view((0, -5), 1)
    frames[..., 40:, :] = others[..., 40:, :]
    vectors = search(frames, before, torch.tensor([0.01]), 2)
    assert vectors.shape == (1, 6, 8, 2, 2)
    parts = vectors[0, 2, 2:-2, 0], vectors[0, 2, 2:-2, 1]
    for found, expected in zip(parts, (12, -20), strict=True):
        assert int((found - torch.tensor([0, expected])).abs().max()) <= 4  # a pixel: halves overlap
    moved = motion.compensate(before, vectors, TubeForm(1))[0]
    single = motion.compensate(before, search(frames, before, torch.tensor([0.01]), 1), TubeForm(1))[0]
    assert float((moved - frames[0]).square().mean()) < 0.8 * float((single - frames[0]).square().mean())


@pytest.mark.parametrize(("steps", "rows"), [(2, 1), (4, 2)])
def test_the_compiled_search_finds_what_torch_does(steps: int, rows: int) -> None:
    """Two samples, the second with another picture in a corner; costs that matter; a line that leads astray.
    Sums are taken in another order: where two vectors are as good, one may win here and one there."""
    before, frames = moving_view((3, -5), 2)
    before, frames = torch.cat([before, before.flip(-1)]), torch.cat([frames, frames.flip(-1)])
    frames[1, :, :, :40, :40] = frames[0, :, :, 40:80, 60:100]
    past = motion_search._Past(motion_search._luma(before), steps)
    frame, cost = motion_search._luma(frames[:, 1]), torch.tensor([1e-4, 4e-3])
    line = torch.randint(-9, 10, (2, 6 * rows, 8, 2), generator=torch.Generator().manual_seed(0))
    found = motion_search._compiled_search(past, frame, cost, line, rows)
    past = motion_search._Past(motion_search._luma(before), steps)
    expected = motion_search._Anchor(past, frame, cost[:, None, None], rows).search(line)
    assert len(found.flatten(0, 2).unique(dim=0)) > 6
    assert float((found == expected).all(-1).float().mean()) > 0.97


@pytest.mark.parametrize("frames", [1, 2])
def test_vectors_are_settled_by_the_frame_that_they_make_together(frames: int) -> None:
    """Two motions in one picture: error and bits of the code together fall."""
    before, moved = moving_view((3, -5), frames)
    moved[:, :, :, 24:60, 30:90] = moving_view((-2, 4), frames)[1][:, :, :, 24:60, 30:90]
    past = motion_search._Past(motion_search._luma(before), TubeForm(frames).steps_per_pixel)
    frame, cost = motion_search._luma(moved[:, -1]), torch.tensor([2e-3])
    rows = 2 if frames == 1 else 1
    line = torch.zeros(1, 6 * rows, 8, 2, dtype=torch.int64)
    first = motion_search._compiled_search(past, frame, cost, line, rows)
    second = motion_search._overlapped(past, frame, cost, line, first)

    def told(vectors: Tensor) -> tuple[float, float]:
        whole = motion.compensate(before, motion.from_rows(vectors, rows), TubeForm(frames))[:, -1]
        bits = motion_search._bits(motion.wrapped(vectors - motion.medians(vectors[..., None, :])[..., 0, :]))
        return float((motion_search._luma(whole) - frame).square().sum()), float(bits.sum())

    (error, bits), (error_then, bits_then) = told(first), told(second)
    assert not torch.equal(first, second)
    price = motion_search.OVERLAPPED_SHARE * float(cost)
    assert error_then + price * bits_then < 0.95 * (error + price * bits)


@pytest.mark.parametrize("steps", [2, 4])
def test_compiled_planes_are_those_of_torch(steps: int) -> None:
    frame = torch.rand(2, 32, 64, generator=torch.Generator().manual_seed(0))
    planes = motion_search._Past(frame, steps).planes(1, 12)
    inner = {2: motion.half_pixels, 4: motion.quarter_pixels}[steps](frame[:, None])[:, 0]
    more = 12 - motion.BEYOND
    assert torch.allclose(planes, F.pad(inner, (more, more + 1) * 2, mode="replicate"), atol=1e-6)


@pytest.mark.parametrize("shift", [(0, 0), (1, -2), (-4, 7), (6, 12)])
def test_the_search_finds_how_a_view_moves(shift: tuple[int, int]) -> None:
    before, frames = moving_view(shift)
    vectors = search(frames, before, torch.tensor([0.1]), 2)
    rows, columns = shift
    top, left = torch.meshgrid(torch.arange(0, 96, 16), torch.arange(0, 128, 16), indexing="ij")
    for anchor, count in enumerate((2, 4)):
        y, x = top + count * rows, left + count * columns
        seen = (y >= 0) & (y + 16 <= 96) & (x >= 0) & (x + 16 <= 128)  # in the frame before, too
        right = (vectors[0, :, :, anchor] == 2 * count * torch.tensor(shift)).all(-1).float()
        assert float(right[seen].mean()) >= 0.85
        whole = (y >= 8) & (y + 24 <= 96) & (x >= 8) & (x + 24 <= 128)  # with what a vector has a share in
        assert float(right[whole].mean()) >= 0.9


def test_bits_that_cost_more_are_fewer() -> None:
    generator = torch.Generator().manual_seed(0)
    before, frames = moving_view((1, 1))
    frames = frames + 0.05 * torch.randn(frames.shape, generator=generator)
    cheap, dear = (search(frames, before, torch.tensor([price]), 2) for price in (1e-4, 2.0))
    assert int(motion.to_bits(dear, 4).sum()) < int(motion.to_bits(cheap, 4).sum())


@pytest.mark.parametrize("size", [(2, 2), (5, 4), (6, 9)])
def test_what_a_choice_costs_is_what_the_code_makes_of_it(size: tuple[int, int]) -> None:
    """For cells of a set, changed one by one and together: the difference over the whole grid."""
    generator = torch.Generator().manual_seed(size[0])
    vectors, choice = torch.randint(-128, 128, (2, 1, *size, 2), generator=generator)
    line = torch.randint(-9, 9, (1, *size, 2), generator=generator)

    def grid_bits(vectors_Bhw2: Tensor) -> Tensor:
        off = (vectors_Bhw2 - line)[..., None, :]
        return motion_search._bits(motion.wrapped(off - motion.medians(off))).sum()

    sets = motion_search._apart(*size, torch.device("cpu"))
    assert torch.stack(sets).sum(0).eq(1).all()
    for own in sets:
        bits = motion_search._coded(vectors, line, own[None])
        differs = bits(choice[None]) - bits(vectors[None])
        alone = []
        for row, column in own.nonzero().tolist():
            changed = vectors.clone()
            changed[:, row, column] = choice[:, row, column]
            alone.append(grid_bits(changed) - grid_bits(vectors))
            found = motion_search.CODED_SHARE * float(alone[-1])
            assert float(differs[0, 0, row, column]) == pytest.approx(found, abs=1e-3)
        together = grid_bits(torch.where(own[None, ..., None], choice, vectors)) - grid_bits(vectors)
        assert float(together) == pytest.approx(float(sum(alone)), abs=1e-2)


def test_weighing_by_the_code_saves_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    before, frames = moving_view((1, 1))
    _, others = moving_view((-2, 3))
    frames = torch.cat([frames[..., :48], others[..., 48:]], -1)
    frames = frames + 0.1 * torch.randn(frames.shape, generator=generator)

    def tried() -> tuple[float, float]:
        vectors = search(frames, before, torch.tensor([0.5]), 2)
        off = motion.compensate(before, vectors, TubeForm(4)) - frames
        return float(motion.to_bits(vectors, 4).sum()), float(off.square().mean())

    monkeypatch.setattr(motion_search, "OVERLAPPED_ROUNDS", 0)
    bits, error = tried()
    monkeypatch.setattr(motion_search, "CODED_ROUNDS", 0)
    usual_bits, usual_error = tried()
    assert bits < 0.98 * usual_bits
    assert error < 1.001 * usual_error


def test_samples_are_searched_on_their_own() -> None:
    views = [moving_view(shift) for shift in ((0, 3), (2, -1))]
    prices = torch.tensor([0.01, 1.0])
    together = search(
        torch.cat([frames for _, frames in views]), torch.cat([before for before, _ in views]), prices, 2
    )
    for number, (before, frames) in enumerate(views):
        alone = search(frames, before, prices[number : number + 1], 2)
        assert torch.equal(together[number : number + 1], alone)


def test_the_smallest_frame() -> None:
    vectors = search(torch.rand(1, 4, 3, 32, 32), torch.rand(1, 3, 32, 32), torch.tensor([1.0]), 2)
    assert vectors.shape == (1, 2, 2, 2, 2)


def test_frames_that_are_fewer_than_anchors() -> None:
    """Two of four anchors have frames; the rest lies on the line and costs nothing."""
    vectors = torch.tensor([[4, -8], [8, -16]])[None, None, None]
    assert motion.in_frames(vectors, TubeForm(2))[0, :, 0, 0].tolist() == [[2, -4], [4, -8]]
    before, frames = moving_view((-4, 7), 2)
    vectors = search(frames, before, torch.tensor([0.1]), 4)
    assert vectors[..., 0, :].any()
    bits = motion.to_bits(vectors, 2)
    assert torch.equal(motion.from_bits(bits, 2), vectors)
    assert not bits[..., 32:].any()


def test_a_frame_alone_has_vectors_in_rows() -> None:
    vectors = torch.tensor([[4, -8], [3, -16]])[None, None, None]
    assert motion.in_frames(vectors, TubeForm(1))[0, 0, :, 0].tolist() == [[1, -2], [0.75, -4]]
    assert torch.equal(motion.from_rows(motion.in_rows(vectors), 2), vectors)
    features = torch.rand(1, 4, 6, 3, generator=torch.Generator().manual_seed(0))
    moves = torch.tensor([[0.0, 0.0], [0.0, 32.0]]).repeat(4, 1)[None, :, None].expand(1, 8, 6, 2)
    moved = motion.moved_features(features, moves, 16)  # as the mean of the rows says
    assert torch.allclose(moved[:, :, :-1], features[:, :, 1:], atol=1e-4)
