"""Reading of everything that ffmpeg opens: one pass over the packets, frames decoded, sound copied."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import cast

import av
from av.packet import Packet

from bsqcodec.errors import InputError
from bsqcodec.media.audio import AnyPacket, SoundGate, track_of
from bsqcodec.media.colour import RgbConverter, stated_colour
from bsqcodec.media.input_file import (
    FFMPEG_FAULTS,
    InputFacts,
    InputFile,
    open_input,
    reason,
    source_name,
    unused_streams,
)
from bsqcodec.media.interfaces import Reader
from bsqcodec.media.orientation import Orientation
from bsqcodec.media.source import StreamSource
from bsqcodec.media.timing import FrameClock, Selection, Timed, nothing_selected
from bsqcodec.media.types import AudioPacket, AudioTrack, Frame, Metadata, VideoInfo

# Seeking goes this far ahead of the start: sound of the start may lie there, and decoders may need a run-up.
SEEK_MARGIN = Fraction(1)
# After the last frame, how much further the file is read for its sound where a track falls silent.
SOUND_LAG = Fraction(10)
# A file with fewer frames than this share of what its header promises is cut off; edit lists may hide a few.
EXPECTED_SHARE = Fraction(95, 100)

TimedFrame = Timed[av.VideoFrame]
Walk = Generator[TimedFrame | AudioPacket, None, None]


class VideoReader(Reader):
    """A video file or stream. The first frame is decoded when it is opened, the rest on demand."""

    def __init__(
        self, source: Path | StreamSource, selection: Selection, *, audio: bool, threads: int | None
    ) -> None:
        self._source = source
        self._name = source_name(source)
        self._selection = selection
        self._threads = threads
        self._sound: dict[int, tuple[AudioTrack, Fraction]] = {}
        # On the file's clock, in seconds: its first frame, the first selected one, the end of the last one.
        self._first: Fraction | None = None
        self._zero: Fraction | None = None
        self._end: Fraction | None = None
        self._decoded = self._damaged = 0
        self._said: set[str] = set()
        self.warnings = []
        if isinstance(source, StreamSource) and source.is_stored:
            self.warnings.append("the index lies at the end of the stream: stored in a temporary file first")
        opened = open_input(source, threads)
        try:
            if audio:
                self._find_sound(opened)
            self.warnings += unused_streams(
                opened,
                set(self._sound) if audio else {stream.index for stream in opened.container.streams.audio},
            )
        except BaseException:
            opened.container.close()
            raise
        self.audio_tracks = [track for track, _ in self._sound.values()]
        self._held: list[TimedFrame | AudioPacket] = []
        self._begun: Walk | None = self._walk(opened)
        try:
            first = self._first_frame(self._begun)
            self._describe(opened.facts, first)
        except BaseException:
            self._begun.close()
            raise

    def events(self) -> Iterator[Frame | AudioPacket]:
        for event in self._events():
            yield event if isinstance(event, AudioPacket) else self._frame(event)

    def frames(self) -> Iterator[Frame]:
        for event in self._events():
            if not isinstance(event, AudioPacket):
                yield self._frame(event)

    def audio_packets(self) -> Iterator[AudioPacket]:
        # How long the sound lasts is known without decoding unless frames are counted.
        if self._selection.max_frames is None or self._end is not None:
            yield from self._walk_sound()
            return
        for event in self._events():
            if isinstance(event, AudioPacket):
                yield event

    def close(self) -> None:
        if self._begun is not None:
            self._begun.close()
            self._begun = None
        self._held.clear()
        if isinstance(self._source, StreamSource):
            self._source.release()

    def _events(self) -> Iterator[TimedFrame | AudioPacket]:
        """The walk that was begun at opening, or another one."""
        walk, held = self._begun, self._held
        self._begun, self._held = None, []
        if walk is None:
            walk = self._walk(self._reopen())
        with closing(walk):
            yield from held
            yield from walk

    def _frame(self, timed: TimedFrame) -> Frame:
        return Frame(self._converter.convert(timed.item), timed.pts, timed.duration)

    def _reopen(self) -> InputFile:
        if isinstance(self._source, StreamSource):
            if not self._source.seekable():
                raise InputError(
                    f"{self._name}: can be read only once; take frames and sound together (events)"
                )
            self._source.rewind()
        return open_input(self._source, self._threads)

    # What the file is

    def _find_sound(self, opened: InputFile) -> None:
        for stream in opened.container.streams.audio:
            track = track_of(stream)
            if track is not None:
                self._sound[stream.index] = (track, stream.time_base or track.time_base)

    def _first_frame(self, walk: Walk) -> av.VideoFrame:
        for event in walk:
            self._held.append(event)
            if not isinstance(event, AudioPacket):
                return event.item
        raise AssertionError("a walk that ends without a frame raises")

    def _describe(self, facts: InputFacts, frame: av.VideoFrame) -> None:
        colour = stated_colour(frame, self._name, self.warnings)
        orientation = Orientation()
        matrix = cast(Mapping[str, memoryview], frame.side_data).get("DISPLAYMATRIX")
        if matrix is not None:
            stated = Orientation.from_display_matrix(bytes(matrix))
            if stated is None:
                self._say("the display matrix turns by other than 90 degrees: left as it is coded")
            orientation = stated or orientation
        if frame.interlaced_frame:
            self._say("interlaced: coded as it is, both fields in one picture")
        self._converter = RgbConverter(colour, frame.width, frame.height, orientation, self.warnings)
        width, height = orientation.size(frame.width, frame.height)
        is_turned = orientation.rotation in (90, 270)
        self.metadata = Metadata(None, None, facts.carried_tags(is_turned=is_turned))
        self.info = VideoInfo(
            width=width,
            height=height,
            time_base=facts.tick,
            frame_rate=facts.frame_rate,
            frame_count=self._expected_frames(facts),
            colour=colour,
            rotation=orientation.rotation,
            is_still=facts.is_picture,
        )

    def _expected_frames(self, facts: InputFacts) -> int | None:
        """How many frames the selection should have: the stated number, else from the length and the rate."""
        count = facts.frame_count
        if self._selection.start or self._selection.end is not None or count is None:
            count = None
            if facts.length and facts.frame_rate:
                end = facts.length if self._selection.end is None else min(facts.length, self._selection.end)
                count = max(1, round((end - self._selection.start) * facts.frame_rate))
        if self._selection.max_frames is not None:
            count = self._selection.max_frames if count is None else min(count, self._selection.max_frames)
        return count

    def _say(self, warning: str) -> None:
        if warning not in self._said:
            self._said.add(warning)
            self.warnings.append(warning)

    # Walking through the packets

    def _walk(self, opened: InputFile) -> Walk:
        """Selected frames, timed from the first of them, and their sound, in the order of the file."""
        selection = self._selection
        gate = SoundGate(self._sound, cut_start=selection.start > 0)
        try:
            opened = self._go_to_start(opened)
            packets = self._packets(opened, [opened.video.index, *self._sound])
            zero: int | None = None
            since_first, taken = Fraction(0), 0
            for found in self._decode(opened, packets):
                if isinstance(found, Packet):
                    gate.push(found, None if self._first is None else self._first + selection.start)
                else:
                    time = found.pts * opened.tick
                    if self._first is None:
                        self._first = time
                    since_first = time - self._first
                    if selection.end is not None and since_first >= selection.end:
                        break
                    if since_first >= selection.start:
                        if zero is None:
                            zero, self._zero = found.pts, time
                            gate.open(time)
                        yield replace(found, pts=found.pts - zero)
                        taken += 1
                        if taken == selection.max_frames:
                            self._end = time + found.duration * opened.tick
                            break
                    if selection.max_frames is not None:
                        # While frames are counted nobody knows yet how long their sound lasts.
                        yield from gate.release(time)
                if selection.max_frames is None:
                    yield from gate.release(self._sound_limit())
            else:
                self._check_length(opened.facts, since_first)
            if zero is None and self._decoded == 0:
                raise InputError(
                    f"{self._name}: no picture of the video could be decoded; expected at least one"
                )
            if zero is None:
                raise nothing_selected(self._name, selection, since_first)
            self._note_faults()
            yield from self._rest_of_sound(opened, packets, gate)
        finally:
            opened.container.close()

    def _walk_sound(self) -> Iterator[AudioPacket]:
        """The sound of the selection without decoding a frame; its zero is known since the opening."""
        opened = self._go_to_start(self._reopen())
        try:
            gate = SoundGate(self._sound, cut_start=self._selection.start > 0)
            if self._zero is not None:
                gate.open(self._zero)
            yield from self._rest_of_sound(opened, self._packets(opened, list(self._sound)), gate)
        finally:
            opened.container.close()

    def _rest_of_sound(
        self, opened: InputFile, packets: Iterator[AnyPacket], gate: SoundGate
    ) -> Iterator[AudioPacket]:
        limit = self._sound_limit()
        yield from gate.release(limit)
        for packet in packets if self._sound else ():
            if packet.stream_index in self._sound:
                gate.push(packet, None)
                yield from gate.release(limit)
            elif (
                limit is not None and packet.dts is not None and packet.dts * opened.tick > limit + SOUND_LAG
            ):
                return
            if limit is not None and gate.is_past(limit):
                return

    def _sound_limit(self) -> Fraction | None:
        """Where the sound of the selection ends on the file's clock; None for the end of the file."""
        if self._end is not None:
            return self._end
        if self._selection.end is None or self._first is None:
            return None
        return self._first + self._selection.end

    def _packets(self, opened: InputFile, streams: list[int]) -> Iterator[AnyPacket]:
        """The packets of some streams, without PyAV's empty last ones. A fault ends them, with a warning."""
        packets = opened.container.demux([opened.container.streams[index] for index in streams])
        try:
            for packet in packets:
                if packet.size > 0:
                    yield packet
        except FFMPEG_FAULTS as error:
            if isinstance(self._source, StreamSource) and self._source.interrupt is not None:
                raise self._source.interrupt from None
            self._say(f"reading stopped before the end of the file: {reason(error)}")

    def _decode(self, opened: InputFile, packets: Iterator[AnyPacket]) -> Iterator[TimedFrame | AnyPacket]:
        """Packets of video become timed frames (file clock, in ticks), the others pass through."""
        rate = opened.facts.frame_rate
        usual = 0 if rate is None else round(1 / (rate * opened.tick))
        clock = self._clock = FrameClock[av.VideoFrame](opened.tick, usual)
        self._decoded = self._damaged = 0
        for packet in chain(packets, [None]):
            if packet is not None and packet.stream_index != opened.video.index:
                yield packet
                continue
            try:
                frames = opened.video.decode(packet)
            except FFMPEG_FAULTS:
                self._damaged += 1
                continue
            self._decoded += len(frames)
            for frame in frames:
                yield from clock.push(frame, frame.pts, frame.duration)
        yield from clock.flush()

    def _note_faults(self) -> None:
        if self._clock.repairs:
            self._say(
                f"{self._clock.repairs} of {self._decoded} timestamps out of order or missing: put in order"
            )
        if self._damaged:
            self._say(f"{self._damaged} damaged packets of video left out")

    def _check_length(self, facts: InputFacts, last: Fraction) -> None:
        """Say so where a file that was read to its end holds far less than its header promises."""
        if self._selection.start > 0:
            return
        if facts.frame_count is not None:
            if self._decoded < facts.frame_count * EXPECTED_SHARE:
                self._say(
                    f"{facts.frame_count} frames are promised, {self._decoded} were found: cut off or damaged"
                )
        elif facts.length is not None and last < facts.length * EXPECTED_SHARE - 1:
            self._say(
                f"{float(facts.length):.2f} s are promised, the last frame is at {float(last):.2f} s:"
                " cut off or damaged"
            )

    # Seeking

    def _go_to_start(self, opened: InputFile) -> InputFile:
        """Jump ahead of the selection's start where the file allows it, and make sure to land before it."""
        can_seek = isinstance(self._source, Path) or self._source.seekable()
        if self._selection.start <= SEEK_MARGIN or not can_seek:
            return opened
        with suppress(*FFMPEG_FAULTS):
            if self._first is None:
                self._first = self._next_time(opened)
            if self._first is not None:
                start = self._first + self._selection.start
                target = int((start - SEEK_MARGIN) / opened.tick)
                opened.container.seek(target, stream=opened.video)
                landed = self._next_time(opened)
                if landed is not None and landed <= start:
                    opened.container.seek(target, stream=opened.video)
                    return opened
        opened.container.close()
        return self._reopen()

    def _next_time(self, opened: InputFile) -> Fraction | None:
        """The time of the next frame to be decoded, on the file's clock; None where the file states none."""
        for found in self._decode(opened, self._packets(opened, [opened.video.index])):
            if not isinstance(found, Packet):
                return found.pts * opened.tick if found.item.pts is not None else None
        return None
