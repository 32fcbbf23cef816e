"""What every reader and writer of media offers, whatever the format behind it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from bsqcodec.media.types import AudioPacket, AudioTrack, Frame, Metadata, VideoInfo


class Reader(ABC):
    """An opened video, picture or folder of pictures. A context manager.

    info, audio_tracks, metadata: known once it is open. warnings: what does not survive, one line each; it
    may grow while frames are read.
    """

    info: VideoInfo
    audio_tracks: list[AudioTrack]
    metadata: Metadata
    warnings: list[str]

    @abstractmethod
    def events(self) -> Iterator[Frame | AudioPacket]:
        """Frames and copied sound in the order of the file, in one pass and bounded memory.

        A file can be gone through several times; what cannot seek (a pipe) only once, InputError after that.
        """

    def frames(self) -> Iterator[Frame]:
        """The frames alone. The first has pts 0."""
        return (event for event in self.events() if isinstance(event, Frame))

    def audio_packets(self) -> Iterator[AudioPacket]:
        """The copied sound alone; its times count from the first frame and may be negative."""
        return (event for event in self.events() if isinstance(event, AudioPacket))

    @abstractmethod
    def close(self) -> None:
        """Close the file. A file object that the caller opened stays open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Writer(ABC):
    """An output that appears whole at close(), or not at all. A context manager: leaving by an exception
    removes it.

    warnings: what the format cannot hold, one line each; it may grow while frames are written.
    """

    warnings: list[str]

    @abstractmethod
    def write(self, frame: Frame) -> None:
        """Add a frame of the size that was announced, later than the one before."""

    @abstractmethod
    def write_audio(self, packet: AudioPacket) -> None:
        """Add a copied packet. Packets of tracks that the format cannot hold are dropped (see warnings)."""

    @abstractmethod
    def close(self) -> None:
        """Finish the output and put it in its place."""

    @abstractmethod
    def abort(self) -> None:
        """Remove what has been written so far. Does nothing after close()."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
            return
        try:
            self.close()
        except BaseException:
            self.abort()
            raise
