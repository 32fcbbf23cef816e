"""Golden streams: exact tokens from exact bytes, and exact bytes from exact tokens, on every machine."""

import io
import os
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from bsqcodec import bitstream, model
from bsqcodec.bitstream import CodingMode, Gop
from bsqcodec.blocks import TubeForm
from bsqcodec.codec import Decoder, read_tokens
from bsqcodec.gop_coder import GopCoder, GopTokens
from bsqcodec.media.types import Frame
from bsqcodec.prior.integer import Carrier
from bsqcodec.smoothing import Smoother

GOLDEN = Path(__file__).resolve().parents[1] / "bitstreams" / "golden"
MODEL = GOLDEN / "tiny.safetensors"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.bsq"))


def expected(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def no_clock(stage: str):  # type: ignore[no-untyped-def]
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.parametrize("quarters", [False, True])
def test_they_can_be_made_anew(quarters: bool) -> None:
    """With GOPs of either length, in quarters where those are to win."""
    made = runpy.run_path(str(GOLDEN / "regenerate.py"))
    data = made["in_mode"](CodingMode.PRIOR, made["two_gops"](), None, quarters=quarters)
    gops = [event for event in bitstream.StreamReader(io.BytesIO(data)) if isinstance(event, Gop)]
    assert [gop.form for gop in gops] == [TubeForm(4, quarters), TubeForm(2, quarters)]


def test_all_kinds_are_there() -> None:
    modes, joined, repeats, lengths, own, smoothing, quarters = (set() for _ in range(7))
    for name in NAMES:
        reader = bitstream.StreamReader(io.BytesIO((GOLDEN / f"{name}.bsq").read_bytes()))
        lengths.add(reader.header.tube_frames)
        for event in reader:
            if isinstance(event, Gop):
                usual = event.tube_frames == reader.header.tube_frames
                own.add(None if usual else event.tube_frames)
                modes.add(event.mode)
                joined.add(event.joined)
                repeats.add(bool(event.repeats))
                smoothing.add(event.smoothing)
                quarters.add(event.quarters)
    assert len(modes) == 3
    assert joined == repeats == quarters == {True, False}
    assert lengths == {4, 2, 1}
    assert own == {None, 4}
    assert smoothing == {0, 32}


@pytest.mark.parametrize("carrier", list(Carrier))
@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_exact(name: str, carrier: Carrier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Carrier, "pick", staticmethod(lambda device: carrier))
    wanted = expected(name)
    found = {
        f"{number}_{block}_{level}": grid
        for number, (_, blocks) in enumerate(
            read_tokens(io.BytesIO((GOLDEN / f"{name}.bsq").read_bytes()), model_file=MODEL)
        )
        for block, (_, tokens) in enumerate(blocks)
        for level, grid in enumerate(tokens)
    }
    assert wanted.keys() == found.keys()
    assert all(np.array_equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("-levels")])
def test_bytes_are_exact(name: str) -> None:
    """The tokens, coded again, give the stream's own parts (a cut stream may be joined otherwise)."""
    data = (GOLDEN / f"{name}.bsq").read_bytes()
    coder = GopCoder(model.load(MODEL), torch.device("cpu"), no_clock)
    for gop, blocks in read_tokens(io.BytesIO(data), model_file=MODEL):
        again = GopTokens(gop.key_rate, gop.tube_rate)
        for kind, tokens in blocks:
            coder.add(again, kind, tokens)
        crcs = coder.crcs(again)
        assert crcs == gop.token_crcs
        coded = coder.coded(gop.mode, again, crcs)
        assert coded.parts == gop.parts
        assert coded.joined == gop.joined


def test_pixels_of_a_golden_clip_are_near_what_they_were() -> None:
    """Tokens are exact; pixels may differ in the last place, and frames and times may not differ at all."""
    decoder = Decoder(io.BytesIO((GOLDEN / "clip.bsq").read_bytes()), model_file=MODEL)
    frames = [event for event in decoder.events() if isinstance(event, Frame)]
    assert [frame.pts for frame in frames] == [n + (n > 4) for n in range(12)]
    assert {frame.pixels.shape for frame in frames} == {(70, 90, 3)}
    assert decoder.metadata.tags == {"title": "golden"}


def test_a_smoothed_golden_clip_is_the_other_one_smoothed() -> None:
    """`clip` has the same tokens; GOP by GOP. (How frames are smoothed, test_smoothing.py tells.)"""
    plain, shown = (
        [
            event.pixels
            for event in Decoder(io.BytesIO((GOLDEN / f"{name}.bsq").read_bytes()), model_file=MODEL).events()
            if isinstance(event, Frame)
        ]
        for name in ("clip", "clip-smoothed")
    )
    wanted = []
    for first in (0, 9):
        smoother = Smoother(32)
        wanted += [ready for frame in plain[first : first + 9] if (ready := smoother.push(frame)) is not None]
        wanted += smoother.end()
    assert np.array_equal(np.stack(shown), np.stack(wanted))


def test_repeats_of_a_golden_clip_show_the_frame_before() -> None:
    decoder = Decoder(io.BytesIO((GOLDEN / "clip-repeats.bsq").read_bytes()), model_file=MODEL)
    frames = [event.pixels for event in decoder.events() if isinstance(event, Frame)]
    same = [np.array_equal(one, next_) for one, next_ in pairwise(frames)]
    assert [number for number, is_same in enumerate(same, 1) if is_same] == [1, 2, 3, 4, 14, 15]


@pytest.mark.parametrize("instructions", ["AVX2", "AVX512_CORE"])
def test_tokens_are_exact_on_cpus_whose_int8_products_saturate(instructions: str) -> None:
    streams = [GOLDEN / f"{name}.bsq" for name in ("clip", "still-prior")]
    code = (
        "import sys; from pathlib import Path\n"
        "from bsqcodec.codec import read_tokens; from bsqcodec.prior import integer\n"
        "integer._pick = lambda device_type: integer.Carrier.INT8\n"
        "for path in sys.argv[2:]: list(read_tokens(open(path, 'rb'), model_file=Path(sys.argv[1])))"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}  # says nothing to CPUs of other kinds
    command = [sys.executable, "-c", code, MODEL, *streams]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
