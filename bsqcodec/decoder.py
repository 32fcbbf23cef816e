"""A stream into frames: container, prior, synthesis.

# H, W pixels or token grid · L bits per token
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch

from bsqcodec import bitstream, model
from bsqcodec.ahead import ahead
from bsqcodec.bitstream import Damage, Gop, Header
from bsqcodec.blocks import BlockKind
from bsqcodec.errors import FormatError, InputError, ModelError
from bsqcodec.gop_coder import GopCoder, GopTokens, Tokens
from bsqcodec.machine import Clock, pick_device, set_threads
from bsqcodec.media.types import AudioPacket, AudioTrack, Frame, Metadata
from bsqcodec.pixels import Pixels
from bsqcodec.smoothing import Smoother
from bsqcodec.synthesis import LadderTokenizer, open_tokenizer, token_grids
from bsqcodec.tokenizer.config import tube_fault
from bsqcodec.tokenizer.ladder import Descent


@dataclass(frozen=True)
class DecodeStats:
    """What a decode came to. seconds: per stage (prior, range coder, synthesis, smoothing). damages: faults
    survived."""

    frames: int
    pixels: int
    gops: int
    seconds: dict[str, float]
    damages: int


class _Block(NamedTuple):
    """The tokens of a coded block."""

    kind: BlockKind
    tokens: Tokens


class _End(NamedTuple):
    """The end of a GOP's coded blocks: where the reader is then, and what was wrong with them."""

    offset: int
    error: FormatError | None


class _Begun(NamedTuple):
    """A coded block whose synthesis is half done."""

    descent: Descent


_Step = bitstream.Event | _Block | _Begun | _End


class _Coded:
    """The coded blocks of a GOP, taken from the steps of the work up to their end, which may be an error."""

    def __init__(self, steps: Iterator[_Step]) -> None:
        self._steps = steps
        self.offset = 0

    def __iter__(self) -> _Coded:
        return self

    def __next__(self) -> _Block | _Begun:
        step = next(self._steps)
        if isinstance(step, (_Block, _Begun)):
            return step
        assert isinstance(step, _End)
        self.offset = step.offset
        raise step.error or StopIteration


class Decoder:
    """Reads a stream front to back. `header`, `metadata` and `audio_tracks` are known at once.

    levels: decode only the coarsest so many. start, duration: seconds; frames outside are left out and
    times count from the start. keep_going: damage is yielded as Damage instead of raised. model: a
    weights file to use in place of the one that ships under the header's name. Raises FormatError,
    ModelError (other weights needed).

    Example:
        >>> with open("out.bsq", "rb") as file:
        ...     frames = [event for event in Decoder(file).events() if isinstance(event, Frame)]
    """

    def __init__(
        self,
        fileobj: BinaryIO,
        *,
        levels: int | None = None,
        device: str = "auto",
        threads: int | None = None,
        start: Fraction | None = None,
        duration: Fraction | None = None,
        keep_going: bool = False,
        model_file: Path | None = None,
    ) -> None:
        if levels is not None and levels < 1:
            raise InputError(f"{levels} levels are none, expected 1 or more")
        set_threads(threads)
        self._reader = bitstream.StreamReader(fileobj, keep_going=keep_going)
        self.header = self._reader.header
        self.metadata = Metadata(None, None, {})
        self.audio_tracks: list[AudioTrack] = []
        self._clock = Clock()
        self._levels, self._keep_going = levels, keep_going
        weights = _weights_for(self.header, model_file)
        self._device = on = pick_device(device)
        self._tokenizer = open_tokenizer(weights, on, self.header.tile_overlap)
        self._grids = token_grids(
            weights.card.tokenizer, self.header.height, self.header.width, self.header.tile_overlap
        )
        self._coder = GopCoder(weights, on, self._clock)
        self._start = start or Fraction(0)
        self._end = None if duration is None else self._start + duration
        self._shift = round(self._start / self.header.time_base)
        self._frames = self._gops = self._damages = 0
        if self._start:
            self._reader.seek_time(self._start)
        self._first: list[bitstream.Event] = []
        for event in self._reader:
            if isinstance(event, bitstream.Metadata):
                self.metadata = Metadata(event.exif, event.icc, dict(event.tags))
            elif isinstance(event, bitstream.AudioTracks):
                self.audio_tracks = [AudioTrack(**vars(track)) for track in event.tracks]
            else:
                self._first.append(event)
                break

    @property
    def stats(self) -> DecodeStats:
        """So far."""
        size = self.header.width * self.header.height
        return DecodeStats(
            self._frames, self._frames * size, self._gops, dict(self._clock.seconds), self._damages
        )

    def events(self) -> Iterator[Frame | AudioPacket | Damage]:
        """Frames in order, sound between them, damage where `keep_going` survived it."""
        beside = self._device.type == "cpu" and not self.header.still
        work = self._work()
        with ahead(work, self._begin) if beside else nullcontext(self._begin(work)) as steps:
            for step in steps:
                if isinstance(step, Damage):
                    self._damages += 1
                    self._gops += step.gop_index is not None
                    yield step
                elif isinstance(step, bitstream.AudioPackets):
                    yield from self._sound(step)
                elif isinstance(step, Gop):
                    yield from self._gop_events(step, steps)

    def _work(self) -> Generator[_Step, None, None]:
        """What is in the stream; after a GOP that is asked for its coded blocks, and their end."""
        first, self._first = self._first, []
        for event in chain(first, self._reader):
            if not isinstance(event, Gop):
                yield event
            elif self._is_asked_for(event):
                yield event
                levels = min(self._levels or event.levels_kept, event.levels_kept)
                try:
                    for kind, tokens in self._coder.decode(event, levels, self._grids):
                        yield _Block(kind, tokens)
                    yield _End(self._reader.offset, None)
                except FormatError as error:
                    yield _End(self._reader.offset, error)

    def _begin(self, steps: Iterator[_Step]) -> Generator[_Step, None, None]:
        """The same, with the synthesis of blocks begun where the tokenizer can do so ahead."""
        gop: Gop | None = None
        for step in steps:
            if isinstance(step, Gop):
                gop = step
            if isinstance(step, _Block) and isinstance(self._tokenizer, LadderTokenizer):
                assert gop is not None
                with self._clock("synthesis"):
                    step = _Begun(self._tokenizer.begin(*step, gop.rate(step.kind), gop.form))
            yield step

    def _is_asked_for(self, gop: Gop) -> bool:
        if self._end is not None and gop.pts[0] * self.header.time_base >= self._end:
            return False
        return not self._start or (gop.pts[-1] + gop.durations[-1]) * self.header.time_base > self._start

    def _gop_events(self, gop: Gop, steps: Iterator[_Step]) -> Iterator[Frame | Damage]:
        coded = _Coded(steps)
        try:
            yield from self._show(gop, coded)
        except FormatError as error:
            if not self._keep_going:
                raise
            self._damages += 1
            yield Damage(coded.offset, str(error), self._gops)
        finally:
            self._gops += 1
            self._tokenizer.forget()

    def _show(self, gop: Gop, coded: Iterator[_Block | _Begun]) -> Iterator[Frame]:
        """The frames of a GOP from the tokens of its coded blocks."""
        decoded = islice(self._decoded(gop, coded), len(gop.pts))
        for number, pixels in enumerate(self._smoothed(decoded, gop.smoothing) if gop.smoothing else decoded):
            pts, length = gop.pts[number] - self._shift, gop.durations[number]
            if pts < 0 < pts + length:  # on screen when the selection begins
                pts, length = 0, pts + length
            beyond = self._end is not None and gop.pts[number] * self.header.time_base >= self._end
            if pts >= 0 and not beyond:
                self._frames += 1
                yield Frame(pixels, pts, length)
        next(coded, None)  # its end: the tokens are checked

    def _decoded(self, gop: Gop, coded: Iterator[_Block | _Begun]) -> Iterator[Pixels]:
        """The frames as they come from the tokenizer; those that fill up the last tube, too."""
        last = np.empty(0, np.uint8)
        for block in range(gop.blocks):
            if block in gop.repeats:
                yield from (last.copy() for _ in range(gop.tube_frames))
            else:
                frames = self._synthesise(gop, next(coded))
                last = frames[-1].copy()  # whoever gets the frames may draw on them
                yield from frames

    def _smoothed(self, decoded: Iterator[Pixels], strength: int) -> Iterator[Pixels]:
        """The same frames, smoothed, each once the next one is there, or will not come."""
        smoother = Smoother(strength)
        try:
            for pixels in decoded:
                with self._clock("smoothing"):
                    ready = smoother.push(pixels)
                if ready is not None:
                    yield ready
        except FormatError:
            yield from smoother.end()
            raise
        yield from smoother.end()

    def _synthesise(self, gop: Gop, block: _Block | _Begun) -> list[Pixels]:
        height, width = self.header.height, self.header.width
        with self._clock("synthesis"):
            if isinstance(block, _Begun):
                assert isinstance(self._tokenizer, LadderTokenizer)
                return self._tokenizer.finish(block.descent, height, width)
            return self._tokenizer.synthesise(*block, gop.rate(block.kind), height, width, gop.form)

    def _sound(self, packets: bitstream.AudioPackets) -> Iterator[AudioPacket]:
        for packet in packets.packets:
            base = self.audio_tracks[packet.track].time_base
            at = packet.pts * base
            if at < self._start or (self._end is not None and at >= self._end):
                continue
            shift = round(self._start / base)
            pts, dts = packet.pts - shift, packet.dts - shift
            yield AudioPacket(packet.track, pts, dts, packet.duration, packet.is_keyframe, packet.data)


def _weights_for(header: Header, model_file: Path | None) -> model.Weights:
    """The weights that the stream was made with; FormatError where its tubes cannot be this model's."""
    wanted = f"{header.model_name} (digest {header.model_digest.hex()})"
    try:
        weights = model.load(model_file or header.model_name)
    except ModelError as error:
        raise ModelError(f"the stream needs the model {wanted}: {error}") from error
    if weights.digest != header.model_digest:
        found = f"{weights.card.name} (digest {weights.digest.hex()})"
        raise ModelError(f"the stream needs the model {wanted}, found {found}; give its file with --model")
    if fault := tube_fault(weights.card.tokenizer.tube_lengths, header.tube_frames, header.model_name):
        raise FormatError(fault)
    return weights


def read_tokens(
    fileobj: BinaryIO, *, model_file: Path | None = None
) -> Iterator[tuple[Gop, list[tuple[BlockKind, Tokens]]]]:
    """The tokens of a stream, GOP by GOP, without synthesis: per coded block its kind and one (H, W, L) uint8
    array of {0, 1} for each level. Raises as Decoder."""
    for _, gop, blocks in _coded_gops(fileobj, model_file):
        yield gop, blocks


def read_costs(
    fileobj: BinaryIO, *, model_file: Path | None = None
) -> Iterator[tuple[BlockKind, list[float]]]:
    """What the coded blocks of a stream cost: the kind of each, and for every level the bits that an ideal
    coder needs in the mode in which the GOP is coded. Raises as Decoder."""
    for coder, gop, blocks in _coded_gops(fileobj, model_file):
        yield from coder.costs(gop.mode, GopTokens(gop.key_rate, gop.tube_rate, blocks))


def _coded_gops(
    fileobj: BinaryIO, model_file: Path | None
) -> Iterator[tuple[GopCoder, Gop, list[tuple[BlockKind, Tokens]]]]:
    """What decodes each GOP, the GOP, and its coded blocks."""
    reader = bitstream.StreamReader(fileobj)
    header = reader.header
    weights = _weights_for(header, model_file)
    coder = GopCoder(weights, torch.device("cpu"), Clock())
    grids = token_grids(weights.card.tokenizer, header.height, header.width, header.tile_overlap)
    for event in reader:
        if isinstance(event, Gop):
            yield coder, event, list(coder.decode(event, event.levels_kept, grids))
