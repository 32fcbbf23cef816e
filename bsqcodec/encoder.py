"""Frames into a stream: analysis, the choice of GOPs, prior, container.

# B = 1 · T frames of a block · H, W pixels or token grid · L bits per token
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bsqcodec import bitstream, key_filter, model
from bsqcodec.ahead import Behind
from bsqcodec.bitstream import Gop, Header
from bsqcodec.blocks import BlockKind, TubeForm
from bsqcodec.errors import InputError
from bsqcodec.gop_choice import TubeChoice
from bsqcodec.gop_coder import GopCoder, GopTokens
from bsqcodec.machine import Clock, pick_device, set_threads
from bsqcodec.media.types import AudioPacket, AudioTrack, Colour, Frame, Metadata
from bsqcodec.pixels import Pixels
from bsqcodec.repeats import RepeatChoice
from bsqcodec.scene import CutDetector
from bsqcodec.smoothing import SmoothingChoice
from bsqcodec.synthesis import Judgement, LadderTokenizer, Tokens, open_tokenizer
from bsqcodec.tokenizer.config import KEY_RATE_BONUS, RATE_STEPS, tube_fault
from bsqcodec.version import VERSION

USUAL_GOP = 65
"""Most frames in a GOP where nothing else is asked for, and the model holds as many."""

LENGTH_BIAS = 0.03
"""By this power of their length longer tubes are better, beside shorter ones, than they are right after a
key frame."""

CLOSE = 0.06
"""Tubes that cost at most so much more than the best, as a share of J, on the first half of the frames that
they are tried on are tried on the other half, too (training/LOG.md)."""

QUARTERS_BIAS = 0.01
"""What vectors in quarters of a pixel must save, as a share of J, on the frames that they are tried on: some
of what they save there is chance (training/LOG.md)."""

SRGB = Colour(primaries=1, transfer=13, matrix=0, full_range=True, bit_depth=8)


@dataclass(frozen=True)
class EncodeOptions:
    """How to encode.

    q: quality 1..10, any real number. levels: keep the coarsest so many (None = all). gop: most frames in a
    GOP (None = USUAL_GOP or what the model holds, and frames alone where tubes do not pay: see gop_choice).
    tube_frames: frames of a tube (None: those of the model's lengths that suit this quality are tried at
    the beginning of every GOP).
    scene_cuts: begin a GOP where a new scene begins. key_filter: take noise from the frames that GOPs begin
    with, by those that follow (see key_filter.py). smoothing: let decoders smooth GOPs in time that this
    brings nearer to the source.
    effort: 0 takes the tokenizer's bits as they are; 1..9 search better ones, ever longer. model: a name or
    a file. overlap: pixels that neighbouring tiles share, for models that code tiles.
    device: auto, cpu, cuda, mps. threads: of the CPU (None = as torch decides).
    """

    q: float = 5.0
    levels: int | None = None
    gop: int | None = None
    tube_frames: int | None = None
    scene_cuts: bool = True
    key_filter: bool = True
    smoothing: bool = True
    effort: int = 0
    model: str | Path = "base"
    overlap: int = 0
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.q <= 10:
            raise InputError(f"quality {self.q:g} is out of range, expected 1 to 10")
        if self.levels is not None and self.levels < 1:
            raise InputError(f"{self.levels} levels are none, expected 1 or more")
        if self.gop is not None and not 1 <= self.gop <= bitstream.Limits().frames_per_gop:
            raise InputError(f"a GOP of {self.gop} frames, expected 1 to {bitstream.Limits().frames_per_gop}")
        if not 0 <= self.effort <= 9:
            raise InputError(f"effort {self.effort} is out of range, expected 0 to 9")
        if self.overlap < 0:
            raise InputError(f"an overlap of {self.overlap} pixels, expected 0 or more")


@dataclass(frozen=True)
class EncodeStats:
    """What an encode came to.

    bytes: of the whole stream; bytes_by_chunk: by chunk type. pixels: frames times width times height.
    seconds: per stage (analysis, prior, range coder, smoothing). level_bytes: of the coded tokens, coarse
    first. modes: GOPs per coding mode.
    """

    bytes: int
    bytes_by_chunk: dict[str, int]
    frames: int
    pixels: int
    gops: int
    seconds: dict[str, float]
    level_bytes: tuple[int, ...]
    modes: dict[str, int]


class Encoder:
    """Writes a stream, frame by frame. Memory does not grow with the length of the clip.

    Example:
        >>> with open("out.bsq", "wb") as file:
        ...     encoder = Encoder(file, 640, 360, time_base=Fraction(1, 25), options=EncodeOptions(q=6))
        ...     for number, pixels in enumerate(frames):
        ...         encoder.add(Frame(pixels, pts=number, duration=1))
        ...     stats = encoder.close()

    Raises InputError for frames of another size or without order in time, ModelError for missing weights.
    """

    def __init__(
        self,
        fileobj: BinaryIO,
        width: int,
        height: int,
        *,
        time_base: Fraction,
        colour: Colour = SRGB,
        still: bool = False,
        rotation: int = 0,
        options: EncodeOptions | None = None,
        metadata: Metadata | None = None,
        audio_tracks: Sequence[AudioTrack] = (),
    ) -> None:
        self.options = options or EncodeOptions()
        set_threads(self.options.threads)
        weights = model.load(self.options.model)
        device = pick_device(self.options.device)
        self._levels = min(self.options.levels or 99, len(weights.card.tokenizer.levels))
        self._rate = weights.card.rate_index(self.options.q)
        choices = weights.card.tokenizer.tube_choices(self._rate)
        lengths = weights.card.tokenizer.tube_lengths
        self._tried_frames = 2 * max(lengths)
        if self.options.tube_frames is not None:
            if fault := tube_fault(lengths, self.options.tube_frames, weights.card.name):
                raise InputError(fault)
            choices = (self.options.tube_frames,)
        self._forms = [TubeForm(length) for length in choices]  # of tubes, the usual one first
        self._tokenizer = open_tokenizer(weights, device, self.options.overlap)
        most = self._tokenizer.most_frames
        self._gop_frames = 1 if still else self.options.gop or min(USUAL_GOP, most)
        if self._gop_frames > most:
            raise InputError(f"a GOP of {self._gop_frames} frames, {weights.card.name} holds {most}")
        self._cuts = CutDetector() if self.options.scene_cuts and self._gop_frames > 1 else None
        self._choice: TubeChoice | None = None
        self._alone: Future[Judgement] | None = None  # of the first frame of a GOP that has just begun
        self._ladder: LadderTokenizer | None = None  # where there are tubes to be judged
        if self._gop_frames > 1 and isinstance(self._tokenizer, LadderTokenizer):
            self._ladder = self._tokenizer
            lagrangian = self._ladder.config.lambda_of(self._rate)
            self._repeats = RepeatChoice(lagrangian)
            self._choice = TubeChoice(lagrangian) if self.options.gop is None else None
        self._clock = Clock()
        self._behind = Behind(self._gop_frames > 1 and device.type == "cpu")
        self._coder = GopCoder(weights, device, self._clock, self._behind)
        self._width, self._height, self._still = width, height, still
        self._writer = bitstream.StreamWriter(fileobj)
        self._writer.write_header(
            Header(
                width=width, height=height, model_name=weights.card.name, model_digest=weights.digest,
                levels=self._levels, quality_hundredths=weights.card.stated_quality(self.options.q),
                still=still, max_gop_frames=self._gop_frames, tube_frames=self._forms[0].frames,
                time_base=time_base, rotation=rotation, creator="" if still else f"bsqcodec {VERSION}",
                tile_overlap=self.options.overlap,
                colour=bitstream.Colour(
                    colour.primaries, colour.transfer, colour.matrix, colour.full_range, colour.bit_depth
                ),
            )
        )  # fmt: skip
        if metadata is not None:
            self._writer.write_metadata(metadata)
        self._writer.write_audio_tracks(audio_tracks)
        self._waiting: list[Pixels] = []  # frames of the block that is not full yet
        self._times: list[tuple[int, int]] = []  # pts and duration of the GOP's frames
        self._form: TubeForm | None  # of the GOP's tubes, once it is settled
        self._gop = self._new_gop()
        self._last_pts: int | None = None
        self._frames = self._gops = 0
        self._level_bytes = [0] * self._levels
        self._modes: Counter[str] = Counter()
        self._stats: EncodeStats | None = None

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        if frame.pixels.shape != (self._height, self._width, 3) or frame.pixels.dtype != np.uint8:
            found = f"{'x'.join(map(str, frame.pixels.shape))} {frame.pixels.dtype}"
            expected = f"{self._height}x{self._width}x3 uint8"
            raise InputError(f"frame {self._frames} is {found}, expected {expected}")
        if self._last_pts is not None and frame.pts <= self._last_pts:
            raise InputError(f"frame {self._frames} is shown at {frame.pts}, not after the one before it")
        if self._still and self._frames:
            raise InputError("a still has one frame, and it is there already")
        self._last_pts = frame.pts
        if self._cuts is not None and self._cuts.is_cut(frame.pixels):
            if self._choice is not None:
                self._choice.new_scene()
            self._end_gop()
        self._frames += 1
        self._take(frame.pixels, (frame.pts, frame.duration))

    def _take(self, pixels: Pixels, shown: tuple[int, int]) -> None:
        self._waiting.append(pixels)
        self._times.append(shown)
        if len(self._waiting) == self._block_frames():
            self._end_block()
        if len(self._times) == self._most_frames():
            self._end_gop()

    def _block_frames(self) -> int:
        """Of the block that is growing, or to choose the length of the GOP's tubes by, or to filter its key
        frame with."""
        if not self._gop.blocks:
            filtered = self.options.key_filter and self._ladder is not None and not self._single
            return 1 + filtered * key_filter.FRAMES
        return self._tried_frames if self._form is None else self._form.frames

    def _most_frames(self) -> int:
        """Of the GOP that is growing."""
        return 1 if self._single else self._gop_frames

    def add_audio(self, packet: AudioPacket) -> None:
        """Take a packet of sound, copied as it is."""
        self._writer.write_audio([packet])

    def close(self) -> EncodeStats:
        """Code what waits and end the stream; the file object stays open."""
        if self._stats is None:
            if not self._frames:
                raise InputError("there is no frame to encode")
            self._end_gop()
            self._writer.close()
            self._stats = EncodeStats(
                bytes=self._writer.bytes_written, bytes_by_chunk=dict(self._writer.bytes_by_chunk),
                frames=self._frames, pixels=self._frames * self._width * self._height, gops=self._gops,
                seconds=dict(self._clock.seconds), level_bytes=tuple(self._level_bytes),
                modes=dict(self._modes),
            )  # fmt: skip
        return self._stats

    def _end_block(self) -> None:
        if not self._waiting:
            return
        kind = BlockKind.TUBE if self._gop.blocks else BlockKind.KEY
        if kind is BlockKind.TUBE and self._form is None:
            self._choose_tubes()
            return
        later: list[tuple[Pixels, tuple[int, int]]] = []
        if kind is BlockKind.TUBE:
            frames = self._waiting + self._waiting[-1:] * (self._block_frames() - len(self._waiting))
        else:
            later = self._take_back(len(self._waiting) - 1)
            self._begin_choice(self._waiting)
            frames = [self._filtered(self._waiting[0], [pixels for pixels, _ in later])]
        tokens = self._tokens(kind, frames)
        if kind is BlockKind.TUBE and self._choice is not None:
            if self._alone is not None:
                self._choice.begin(self._alone.result())
                self._alone = None
            if not self._choice.pays(self._judgement):
                self._without_tube()
                return
        if tokens is None:
            self._gop.repeat()
        else:
            self._coder.add(self._gop, kind, tokens)
        if self._ladder is not None and self._smoothing is not None:
            shown = self._ladder.shown() if tokens is not None else None
            self._behind(partial(self._judge_smoothing, self._smoothing, shown, self._waiting))
        self._waiting = []
        for pixels, time in later:
            self._take(pixels, time)

    def _judge_smoothing(
        self, smoothing: SmoothingChoice, shown: Sequence[Pixels] | None, frames: Sequence[Pixels]
    ) -> None:
        with self._clock("smoothing"):
            smoothing.add(shown, frames)

    def _tokens(self, kind: BlockKind, frames: Sequence[Pixels]) -> Tokens | None:
        """Those of a block, None where it is to repeat the frame before it. Leaves the judgement of a tube,
        where the choice asks for it."""
        tube = kind is BlockKind.TUBE
        repeat = None
        with self._clock("analysis"):
            if self._ladder is not None and tube:
                repeat = self._ladder.judge_repeat(frames)
                if repeat is not None and self._repeats.is_sure(repeat):
                    self._judgement = repeat
                    return None
            judged = repeat is not None or (tube and self._choice is not None)
            if self._ladder is not None:
                self._ladder.judging = judged
            tokens = self._tokenizer.analyse(
                kind,
                frames,
                self._gop.rate(kind),
                levels=self._levels,
                effort=self.options.effort,
                keep_memory=judged or len(self._times) < self._most_frames(),
                form=self._form if tube else None,
            )
        if self._ladder is None:
            return tokens
        self._judgement = self._ladder.judgement
        if repeat is None or not self._repeats.wins(repeat, self._judgement):
            self._repeats.begin()
            return tokens
        self._judgement = repeat
        self._ladder.take_back()
        return None

    def _choose_tubes(self) -> None:
        """Settle how many frames the GOP's tubes hold and how fine their vectors are, and take again the
        frames that wait: as these cost least, if they are enough to tell, else as is usual."""
        self._form = self._forms[0]
        first = self._waiting[: self._tried_frames // 2]
        if len(first) == self._tried_frames // 2 and self._ladder is not None:
            costs = self._costs(self._ladder, self._forms, first)
            frames = min(costs, key=costs.__getitem__).frames
            if frames > 1:
                costs |= self._costs(self._ladder, [TubeForm(frames, quarters=True)], first)
            close = [form for form in costs if costs[form] <= (1 + CLOSE) * min(costs.values())]
            enough = len(self._waiting) == self._tried_frames and self._ladder.keeps_tried(first)
            if len(close) > 1 and enough:
                costs = self._costs(self._ladder, close, self._waiting)
            self._form = min(costs, key=costs.__getitem__)
        for pixels, shown in self._take_back(len(self._waiting)):
            self._take(pixels, shown)

    def _costs(
        self, ladder: LadderTokenizer, forms: Sequence[TubeForm], frames: Sequence[Pixels]
    ) -> dict[TubeForm, float]:
        """J of these frames in tubes of each form, weighed by how far that tells what later ones come to."""

        def cost(form: TubeForm) -> float:
            with self._clock("analysis"):
                found: float = ladder.cost_of_tubes(frames, form, self._rate, self._levels)
            return found / math.pow(form.frames, LENGTH_BIAS) * (1 + QUARTERS_BIAS * form.quarters)

        longest, *others = sorted(forms, reverse=True)
        if not others:
            return {longest: cost(longest)}
        behind = self._behind(partial(cost, longest))  # takes the least time: after what the prior has to do
        return {form: cost(form) for form in others} | {longest: behind.result()}

    def _filtered(self, frame: Pixels, later: Sequence[Pixels]) -> Pixels:
        """A frame to begin a GOP with, with the noise taken from it that the frames after it tell."""
        if not later or self._ladder is None:
            return frame
        half = len(later) // 2
        behind = self._behind(partial(self._drawn, self._ladder, frame, later[:half]))
        drawn = self._drawn(self._ladder, frame, later[half:])
        return self._ladder.filtered(frame, behind.result() | drawn)

    def _drawn(self, ladder: LadderTokenizer, frame: Pixels, others: Sequence[Pixels]) -> key_filter.Drawn:
        with self._clock("analysis"):
            return ladder.drawn(frame, others)

    def _begin_choice(self, frames: Sequence[Pixels]) -> None:
        """Find out what the frame that a GOP begins with would come to alone, until the first tube asks."""
        if self._choice is not None and not self._single and self._ladder is not None:
            self._alone = self._behind(partial(self._judge_alone, self._ladder, frames))

    def _judge_alone(self, ladder: LadderTokenizer, frames: Sequence[Pixels]) -> Judgement:
        with self._clock("analysis"):
            return ladder.judge_alone(frames, self._rate, levels=self._levels, effort=self.options.effort)

    def _without_tube(self) -> None:
        """End the GOP before the frames that wait, and take them again."""
        again = self._take_back(len(self._waiting))
        self._end_gop()
        for pixels, shown in again:
            self._take(pixels, shown)

    def _take_back(self, count: int) -> list[tuple[Pixels, tuple[int, int]]]:
        """The last so many of the frames that wait, which no longer do."""
        kept, times_kept = len(self._waiting) - count, len(self._times) - count
        again = list(zip(self._waiting[kept:], self._times[times_kept:], strict=True))
        self._waiting, self._times = self._waiting[:kept], self._times[:times_kept]
        return again

    def _end_gop(self) -> None:
        while self._waiting:
            self._end_block()
        if not self._times:
            return
        coded = self._coder.finish(self._gop)
        form = self._form or self._forms[0]
        self._writer.write_gop(
            Gop(
                pts=tuple(pts for pts, _ in self._times),
                durations=tuple(length for _, length in self._times),
                mode=coded.mode, joined=coded.joined,
                key_rate=self._gop.key_rate, tube_rate=self._gop.tube_rate,
                levels_kept=self._levels, token_crcs=coded.token_crcs, parts=coded.parts,
                repeats=frozenset(self._gop.repeats),
                tube_frames=form.frames,
                smoothing=self._smoothing.best() if self._smoothing is not None else 0,
                quarters=form.quarters,
            )
        )  # fmt: skip
        for row in coded.parts:
            for level, part in enumerate(row):
                self._level_bytes[level] += len(part)
        self._modes[coded.mode.name.lower()] += 1
        self._gops += 1
        self._times = []
        self._gop = self._new_gop()
        self._tokenizer.forget()

    def _new_gop(self) -> GopTokens:
        self._single = self._gop_frames == 1 or (self._choice is not None and self._choice.takes_alone())
        self._form = self._forms[0] if len(self._forms) == 1 else None
        self._smoothing = SmoothingChoice() if self.options.smoothing and not self._single else None
        bonus = 0 if self._single else KEY_RATE_BONUS
        return GopTokens(min(RATE_STEPS, self._rate + bonus), self._rate)
