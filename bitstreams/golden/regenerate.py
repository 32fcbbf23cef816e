"""Make the golden streams anew: only when the format changes on purpose. From the repository's root:

    .venv/bin/python bitstreams/golden/regenerate.py

Each NAME.bsq has the tokens it must decode to in NAME.npz: arrays `GOP_BLOCK_LEVEL`, (H, W, L) uint8.
"""

import io
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

import tiny_model  # noqa: E402
from bitstream.samples import read_back  # noqa: E402

from bsqcodec import bitstream, codec, gop_coder, samples, synthesis  # noqa: E402
from bsqcodec.bitstream import CodingMode  # noqa: E402
from bsqcodec.blocks import TubeForm  # noqa: E402
from bsqcodec.media.types import AudioPacket, AudioTrack, Frame, Metadata  # noqa: E402

MODEL = HERE / "tiny.safetensors"
CLIP_FRAMES, CLIP_GOP = 12, 9
STANDING = [0] * 5 + [1, 2, 3, 4] + [5, 6, 7, 8, 9] + [9] * 2
"""Frames of a clip that moves for a while: a repeat, then a tube; a tube, then a repeat of two frames."""


def pixels() -> codec.Pixels:
    """A moving crop of the bundled photograph."""
    picture = samples.picture()
    return np.stack([picture[3 * n : 3 * n + 70, 100 + 5 * n : 100 + 5 * n + 90] for n in range(CLIP_FRAMES)])


def two_gops() -> codec.Pixels:
    """The same, and back."""
    frames = pixels()
    return np.concatenate([frames, frames[::-1]])[: 2 * CLIP_GOP]


def stream(
    frames: codec.Pixels, tube_frames: int | None, *, still: bool = False, sound: bool = False
) -> bytes:
    """An encode with everything that a stream can hold. tube_frames: None: GOPs of either length."""
    track = AudioTrack("aac", 48000, 2, "stereo", 1024, 128000, Fraction(1, 48000), b"\x11\x90")
    sink = io.BytesIO()
    encoder = codec.Encoder(
        sink,
        frames.shape[2],
        frames.shape[1],
        time_base=Fraction(1001, 30000),
        still=still,
        options=codec.EncodeOptions(
            q=6 if tube_frames else 4, gop=CLIP_GOP, tube_frames=tube_frames, model=MODEL, smoothing=False
        ),
        metadata=Metadata(None, b"not a profile", {"title": "golden"}) if sound else None,
        audio_tracks=[track] if sound else [],
    )
    for number, frame in enumerate(frames):
        encoder.add(Frame(frame, number + (number > 4), 1))
        if sound:
            encoder.add_audio(AudioPacket(0, 1024 * number, 1024 * number, 1024, True, bytes([number] * 5)))
    encoder.close()
    return sink.getvalue()


def in_mode(
    mode: CodingMode, frames: codec.Pixels, tube_frames: int | None = 4, *, quarters: bool = False
) -> bytes:
    """A still, or a clip with sound, coded in this mode whatever its size. quarters: whether vectors in
    quarters of a pixel win where there is a choice."""
    original, cost = gop_coder.GopCoder.coded, synthesis.LadderTokenizer.cost_of_tubes
    costs = {4: iter([1.0, 2.0]), 2: iter([2.0, 1.0])}  # of each length, GOP by GOP

    def cost_of_tubes(tokenizer: object, shown: object, form: TubeForm, *_: int) -> float:
        return (0.0 if quarters else 9.0) if form.quarters else next(costs[form.frames])

    try:
        synthesis.LadderTokenizer.cost_of_tubes = cost_of_tubes  # type: ignore[assignment,method-assign]
        gop_coder.GopCoder.coded = lambda self, _, gop, crcs: original(self, mode, gop, crcs)  # type: ignore
        return stream(frames, tube_frames, still=len(frames) == 1, sound=len(frames) > 1)
    finally:
        gop_coder.GopCoder.coded = original  # type: ignore[method-assign]
        synthesis.LadderTokenizer.cost_of_tubes = cost  # type: ignore[method-assign]


def smoothed(data: bytes, strength: int) -> bytes:
    """The same stream, to be shown smoothed."""
    stream, _ = read_back(bitstream.StreamReader(io.BytesIO(data)))
    return replace(stream, gops=tuple(replace(gop, smoothing=strength) for gop in stream.gops)).to_bytes()


def save(name: str, data: bytes) -> None:
    """The stream and its tokens."""
    (HERE / f"{name}.bsq").write_bytes(data)
    arrays = {
        f"{number}_{block}_{level}": grid
        for number, (_, blocks) in enumerate(codec.read_tokens(io.BytesIO(data), model_file=MODEL))
        for block, (_, tokens) in enumerate(blocks)
        for level, grid in enumerate(tokens)
    }
    np.savez_compressed(HERE / f"{name}.npz", **arrays)  # type: ignore[arg-type]


def main() -> None:
    """Write everything."""
    tiny_model.make(MODEL)
    frames = pixels()
    for mode in CodingMode:
        save(f"still-{mode.name.lower()}", in_mode(mode, frames[:1]))
    clip = in_mode(CodingMode.PRIOR, frames)
    save("clip", clip)
    save("clip-smoothed", smoothed(clip, 32))
    save("clip-joined", in_mode(CodingMode.PRIOR, frames[:, :20, :20]))  # so small that runs are joined
    save("clip-repeats", in_mode(CodingMode.PRIOR, frames[STANDING]))
    for tube_frames in (2, 1):
        save(f"clip-tubes-of-{tube_frames}", in_mode(CodingMode.PRIOR, frames, tube_frames))
    save("clip-two-lengths", in_mode(CodingMode.PRIOR, two_gops(), None))
    save("clip-quarters", in_mode(CodingMode.PRIOR, two_gops(), None, quarters=True))
    cut = io.BytesIO()
    bitstream.cut(io.BytesIO(clip), cut, levels=2)
    save("clip-two-levels", cut.getvalue())


if __name__ == "__main__":
    main()
