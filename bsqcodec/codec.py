"""The one place where the parts meet: frames -> tokenizer -> prior -> container, and back.

# B = 1 · T frames of a block · H, W pixels or token grid · L bits per token
"""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from bsqcodec import bitstream, model
from bsqcodec.bitstream import Damage, Gop, Header
from bsqcodec.blocks import BlockKind
from bsqcodec.errors import FormatError, InputError, ModelError
from bsqcodec.gop_choice import TubeChoice
from bsqcodec.gop_coder import GopCoder, GopTokens, Tokens
from bsqcodec.media.types import AudioPacket, AudioTrack, Colour, Frame, Metadata
from bsqcodec.scene import CutDetector
from bsqcodec.synthesis import LadderTokenizer, open_tokenizer, token_grids
from bsqcodec.tokenizer.config import RATE_STEPS
from bsqcodec.version import VERSION

Pixels: TypeAlias = npt.NDArray[np.uint8]

USUAL_GOP = 33
"""Most frames in a GOP where nothing else is asked for, and the model holds as many."""

KEY_RATE_BONUS = 200
"""Rate index that a key frame has above the tubes that draw on it (lambda about a third of theirs): GOPs of
25 frames gain 3 to 5 % in D + lambda R (training/LOG.md)."""

SRGB = Colour(primaries=1, transfer=13, matrix=0, full_range=True, bit_depth=8)


@dataclass(frozen=True)
class EncodeOptions:
    """How to encode.

    q: quality 1..10, any real number. levels: keep the coarsest so many (None = all). gop: most frames in a
    GOP (None = USUAL_GOP or what the model holds, and frames alone where tubes do not pay: see gop_choice).
    scene_cuts: begin a GOP where a new scene begins.
    effort: 0 takes the tokenizer's bits as they are; 1..9 search better ones, ever longer. model: a name or
    a file. overlap: pixels that neighbouring tiles share, for models that code tiles.
    device: auto, cpu, cuda, mps. threads: of the CPU (None = as torch decides).
    """

    q: float = 5.0
    levels: int | None = None
    gop: int | None = None
    scene_cuts: bool = True
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
    seconds: per stage (analysis, prior, range coder). level_bytes: of the coded tokens, coarse first.
    modes: GOPs per coding mode.
    """

    bytes: int
    bytes_by_chunk: dict[str, int]
    frames: int
    pixels: int
    gops: int
    seconds: dict[str, float]
    level_bytes: tuple[int, ...]
    modes: dict[str, int]


@dataclass(frozen=True)
class DecodeStats:
    """What a decode came to. seconds: per stage (prior, range coder, synthesis); damages: faults survived."""

    frames: int
    pixels: int
    gops: int
    seconds: dict[str, float]
    damages: int


class _Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start  # type: ignore[assignment]


def pick_device(name: str) -> torch.device:
    """The torch device of a name; auto takes the first of cuda, mps, cpu. InputError where it is not
    there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name not in available:
        raise InputError(f"device {name}: not known, expected auto, cpu, cuda or mps")
    if not available[name]:
        raise InputError(f"device {name}: this machine, or this build of torch, has none; try --device cpu")
    return torch.device(name)


def set_threads(threads: int | None) -> None:
    """Let torch use so many CPU threads (None = leave it)."""
    if threads is not None:
        if threads < 1:
            raise InputError(f"{threads} threads are none, expected 1 or more")
        torch.set_num_threads(threads)


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
        self._tokenizer = open_tokenizer(weights, device, self.options.overlap)
        most = self._tokenizer.most_frames
        self._gop_frames = 1 if still else self.options.gop or min(USUAL_GOP, most)
        if self._gop_frames > most:
            raise InputError(f"a GOP of {self._gop_frames} frames, {weights.card.name} holds {most}")
        self._cuts = CutDetector() if self.options.scene_cuts and self._gop_frames > 1 else None
        self._rate = weights.card.rate_index(self.options.q)
        self._choice: TubeChoice | None = None
        if self.options.gop is None and self._gop_frames > 1 and isinstance(self._tokenizer, LadderTokenizer):
            self._choice = TubeChoice(self._tokenizer.config.lambda_of(self._rate))
            self._tokenizer.judging = True
        self._clock = _Clock()
        self._tube_frames = weights.card.tokenizer.tube_frames
        self._coder = GopCoder(weights, device, self._clock)
        self._width, self._height, self._still = width, height, still
        self._writer = bitstream.StreamWriter(fileobj)
        self._writer.write_header(
            Header(
                width=width, height=height, model_name=weights.card.name, model_digest=weights.digest,
                levels=self._levels, quality_hundredths=weights.card.stated_quality(self.options.q),
                still=still, max_gop_frames=self._gop_frames, tube_frames=self._tube_frames,
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
        if len(self._waiting) == (self._tube_frames if self._gop.blocks else 1):
            self._end_block()
        if len(self._times) == self._most_frames():
            self._end_gop()

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
        frames = self._waiting
        if kind is BlockKind.TUBE:
            frames = frames + [frames[-1]] * (self._tube_frames - len(frames))
        last = len(self._times) == self._most_frames()
        with self._clock("analysis"):
            tokens = self._tokenizer.analyse(
                kind,
                frames,
                self._gop.rate(kind),
                levels=self._levels,
                effort=self.options.effort,
                keep_memory=not last or (kind is BlockKind.TUBE and self._choice is not None),
            )
        if self._choice is not None and not self._single and isinstance(self._tokenizer, LadderTokenizer):
            if kind is BlockKind.KEY:
                self._choice.key(self._tokenizer.judgement)
            elif not self._choice.pays(self._tokenizer.judgement):
                self._without_tube()
                return
        self._coder.add(self._gop, kind, tokens)
        self._waiting = []

    def _without_tube(self) -> None:
        """End the GOP before the frames that wait, and take them again."""
        count = len(self._waiting)
        again = list(zip(self._waiting, self._times[-count:], strict=True))
        self._waiting, self._times = [], self._times[:-count]
        self._end_gop()
        for pixels, shown in again:
            self._take(pixels, shown)

    def _end_gop(self) -> None:
        self._end_block()
        if not self._times:
            return
        coded = self._coder.finish(self._gop)
        self._writer.write_gop(
            Gop(
                pts=tuple(pts for pts, _ in self._times),
                durations=tuple(length for _, length in self._times),
                mode=coded.mode, joined=coded.joined,
                key_rate=self._gop.key_rate, tube_rate=self._gop.tube_rate,
                levels_kept=self._levels, token_crcs=coded.token_crcs, parts=coded.parts,
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
        bonus = 0 if self._single else KEY_RATE_BONUS
        return GopTokens(min(RATE_STEPS, self._rate + bonus), self._rate)


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
        self._clock = _Clock()
        self._levels, self._keep_going = levels, keep_going
        weights = _weights_for(self.header, model_file)
        on = pick_device(device)
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
        for event in self._all_events():
            if isinstance(event, Damage):
                self._damages += 1
                self._gops += event.gop_index is not None
                yield event
            elif isinstance(event, bitstream.AudioPackets):
                yield from self._sound(event)
            elif isinstance(event, Gop):
                if self._end is not None and event.pts[0] * self.header.time_base >= self._end:
                    continue
                ends = (event.pts[-1] + event.durations[-1]) * self.header.time_base
                if self._start and ends <= self._start:
                    continue
                yield from self._gop_events(event)

    def _all_events(self) -> Iterator[bitstream.Event]:
        yield from self._first
        self._first = []
        yield from self._reader

    def _gop_events(self, gop: Gop) -> Iterator[Frame | Damage]:
        try:
            yield from self._decode_gop(gop)
        except FormatError as error:
            if not self._keep_going:
                raise
            self._damages += 1
            yield Damage(self._reader.offset, str(error), self._gops)
        finally:
            self._gops += 1
            self._tokenizer.forget()

    def _decode_gop(self, gop: Gop) -> Iterator[Frame]:
        header = self.header
        levels = min(self._levels or gop.levels_kept, gop.levels_kept)
        shown = 0
        for kind, tokens in self._coder.decode(gop, levels, self._grids):
            count = 1 if kind is BlockKind.KEY else min(header.tube_frames, len(gop.pts) - shown)
            rate = gop.key_rate if kind is BlockKind.KEY else gop.tube_rate
            with self._clock("synthesis"):
                frames = self._tokenizer.synthesise(kind, tokens, rate, header.height, header.width)
            for number in range(shown, shown + count):
                pts, length = gop.pts[number] - self._shift, gop.durations[number]
                if pts < 0 < pts + length:  # on screen when the selection begins
                    pts, length = 0, pts + length
                beyond = self._end is not None and gop.pts[number] * header.time_base >= self._end
                if pts >= 0 and not beyond:
                    self._frames += 1
                    yield Frame(frames[number - shown], pts, length)
            shown += count

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
    """The weights that the stream was made with."""
    wanted = f"{header.model_name} (digest {header.model_digest.hex()})"
    try:
        weights = model.load(model_file or header.model_name)
    except ModelError as error:
        raise ModelError(f"the stream needs the model {wanted}: {error}") from error
    if weights.digest != header.model_digest:
        found = f"{weights.card.name} (digest {weights.digest.hex()})"
        raise ModelError(f"the stream needs the model {wanted}, found {found}; give its file with --model")
    return weights


def read_tokens(
    fileobj: BinaryIO, *, model_file: Path | None = None
) -> Iterator[tuple[Gop, list[tuple[BlockKind, Tokens]]]]:
    """The tokens of a stream, GOP by GOP, without synthesis: per block its kind and one (H, W, L) uint8 array
    of {0, 1} for each level. Raises as Decoder."""
    reader = bitstream.StreamReader(fileobj)
    weights = _weights_for(reader.header, model_file)
    coder = GopCoder(weights, torch.device("cpu"), _Clock())
    header = reader.header
    grids = token_grids(weights.card.tokenizer, header.height, header.width, header.tile_overlap)
    for event in reader:
        if isinstance(event, Gop):
            yield event, list(coder.decode(event, event.levels_kept, grids))


def compress(
    frames: npt.ArrayLike, *, fps: Fraction | float = 25, q: float = 5.0, options: EncodeOptions | None = None
) -> bytes:
    """A still (H, W, 3) or a clip (T, H, W, 3) of uint8 R'G'B' as the bytes of a .bsq stream.

    options override q. Raises InputError for anything else than such an array.

    Example:
        >>> data = compress(picture, q=6)
        >>> decompress(data).shape == picture.shape
        True
    """
    clip = np.asarray(frames)
    if clip.dtype != np.uint8 or clip.ndim not in (3, 4) or clip.shape[-1] != 3 or 0 in clip.shape:
        raise InputError(f"frames are {clip.dtype} {clip.shape}, expected uint8 (H, W, 3) or (T, H, W, 3)")
    still = clip.ndim == 3
    clip = clip[None] if still else clip
    rate = Fraction(fps).limit_denominator(1_001_000)
    sink = io.BytesIO()
    encoder = Encoder(
        sink,
        clip.shape[2],
        clip.shape[1],
        time_base=1 / rate,
        still=still,
        options=options or EncodeOptions(q=q),
    )
    for number, pixels in enumerate(clip):
        encoder.add(Frame(pixels, number, 1))
    encoder.close()
    return sink.getvalue()


def decompress(data: bytes, *, levels: int | None = None, model_file: Path | None = None) -> Pixels:
    """The frames of a .bsq stream: (H, W, 3) for a still, else (T, H, W, 3). Raises FormatError,
    ModelError.

    model_file: see `Decoder`.
    """
    decoder = Decoder(io.BytesIO(data), levels=levels, model_file=model_file)
    frames = [event.pixels for event in decoder.events() if isinstance(event, Frame)]
    if not frames:
        raise FormatError("the stream has no frames")
    return frames[0] if decoder.header.still else np.stack(frames)
