"""The codecs of an evaluation by their names on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bsqcodec.errors import InputError
from bsqcodec.evaluation.bsq import DEFAULT_MODEL, QUALITIES, BsqCodec
from bsqcodec.evaluation.codecs import Codec
from bsqcodec.evaluation.ffmpeg import Ffmpeg, FfmpegCodec
from bsqcodec.evaluation.sources import Kind
from bsqcodec.evaluation.stills import FORMATS, PillowCodec
from bsqcodec.evaluation.video import ENCODERS, PyavCodec, Settings, VideoSettings

OWN, ANCHORS = "bsqc", "anchors"


@dataclass(frozen=True)
class CodecOptions:
    """How the codecs are set.

    ffmpeg: a program for the video codecs, else PyAV's libraries; presets: (video codec, its preset);
    threads: of each encoder and decoder; qualities, levels, efforts, gops, tubes, model, device: of bsqc, one
    curve for each number of levels (None: all), effort, GOP and tube length (None: as usual).
    """

    settings: Settings = Settings.DEFAULT
    ffmpeg: Path | None = None
    presets: tuple[tuple[str, str], ...] = ()
    threads: int = 1
    qualities: tuple[float, ...] = QUALITIES
    levels: tuple[int | None, ...] = (None,)
    efforts: tuple[int, ...] = (0,)
    gops: tuple[int | None, ...] = (None,)
    tubes: tuple[int | None, ...] = (None,)
    model: str = DEFAULT_MODEL
    device: str = "auto"


def build_codecs(names: tuple[str, ...], kind: Kind, options: CodecOptions) -> list[Codec]:
    """The codecs of these names for this kind of item; all there are where no name is given.

    `anchors` stands for all but bsqc. InputError for an unknown name, or one that codes the other kind only;
    ModelError or DependencyError where the software of one cannot be loaded.
    """
    anchors = _anchors(kind, options)
    known: dict[str, Sequence[Codec]] = {OWN: _own(options), ANCHORS: list(anchors.values())}
    known |= {name: [codec] for name, codec in anchors.items()}
    codecs: list[Codec] = []
    for name in names or (OWN, ANCHORS):
        if name not in known:
            everything = [*FORMATS, *ENCODERS]
            fault = f"codes no {kind.value}s" if name in everything else "no such codec"
            raise InputError(f"{name}: {fault}; there are {', '.join(known)}")
        codecs += [codec for codec in known[name] if codec not in codecs]
    for codec in codecs:
        codec.version()
    return codecs


def _own(options: CodecOptions) -> list[Codec]:
    return [
        BsqCodec(options.qualities, levels, effort, options.model, options.device, options.threads, gop, tube)
        for levels in options.levels
        for effort in options.efforts
        for gop in options.gops
        for tube in options.tubes
    ]


def _anchors(kind: Kind, options: CodecOptions) -> dict[str, Codec]:
    if kind is Kind.STILL:
        return {name: PillowCodec(name) for name in FORMATS}
    presets = dict(options.presets)
    if unknown := [name for name in presets if name not in ENCODERS]:
        raise InputError(f"--preset {unknown[0]}: no such video codec; there are {', '.join(ENCODERS)}")
    settings = {
        name: VideoSettings(name, options.settings, presets.get(name), options.threads) for name in ENCODERS
    }
    if options.ffmpeg is not None:
        program = Ffmpeg(options.ffmpeg)
        program.version()
        return {name: FfmpegCodec(chosen, program) for name, chosen in settings.items()}
    return {name: PyavCodec(chosen) for name, chosen in settings.items()}
