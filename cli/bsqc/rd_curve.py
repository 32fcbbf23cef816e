"""`bsqc rd-curve`: rate-distortion curves of bsqc beside the codecs people use."""

from __future__ import annotations

from pathlib import Path

import click

from bsqc.console import Console
from bsqc.options import quality
from bsqc.trials import TrialsProgress

FOLDER = click.Path(path_type=Path, file_okay=False)


def frame_size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT."""
    width, times, height = text.lower().partition("x")
    if not (times and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise click.BadParameter(f"{text!r} is not a size, such as 640x360")
    return int(width), int(height)


def preset(text: str) -> tuple[str, str]:
    """CODEC=NAME."""
    codec, equals, name = text.partition("=")
    if not (codec and equals and name):
        raise click.BadParameter(f"{text!r} is not CODEC=NAME, such as x264=slow")
    return codec, name


@click.command("rd-curve", short_help="Rate-distortion curves beside other codecs.")
@click.argument("sources", nargs=-1, required=True, metavar="kodak|uvg|mcl-jcv|DIR|FILE...")
@click.option("--out", type=FOLDER, metavar="DIR", help="write tables, plots and report.html here")
@click.option("--path", type=FOLDER, metavar="DIR", help="where the data set lies")
@click.option("--only", multiple=True, metavar="NAME", help="this picture or clip alone (repeat)")
@click.option("--frames", type=click.IntRange(1), metavar="N", help="the first N frames of every clip")
@click.option("--size", type=frame_size, metavar="WxH", help="scale to this size first, such as 640x360")
@click.option("--kind", type=click.Choice(["still", "clip"]), help="which of them, where a folder holds both")
@click.option("--sequence", is_flag=True, help="each DIR holds the numbered frames of one clip")
@click.option(
    "--codec",
    "names",
    multiple=True,
    metavar="NAME",
    help="bsqc, an anchor, or `anchors` for all of them (repeat; all by default)",
)
@click.option(
    "-q", "qualities", type=quality, multiple=True, metavar="Q", help="of bsqc (repeat; 2 4 6 8 10)"
)
@click.option("--levels", type=click.IntRange(1, 255), multiple=True, metavar="N", help="of bsqc (repeat)")
@click.option(
    "--effort", "efforts", type=click.IntRange(0, 9), multiple=True, metavar="0..9", help="of bsqc (repeat)"
)
@click.option(
    "--gop", "gops", type=click.IntRange(1, 1024), multiple=True, metavar="N", help="of bsqc (repeat)"
)
@click.option(
    "--tube-frames", "tubes", type=click.IntRange(1, 255), multiple=True, metavar="N", help="of bsqc (repeat)"
)
@click.option("--model", default="base", show_default=True, metavar="NAME|FILE", help="weights of bsqc")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", help="of bsqc")
@click.option(
    "--settings",
    type=click.Choice(["default", "paper", "low-delay"]),
    default="default",
    show_default=True,
    help="of the video codecs",
)
@click.option(
    "--preset",
    "presets",
    type=preset,
    multiple=True,
    metavar="CODEC=NAME",
    help="another preset of a video codec, such as x264=slow (repeat)",
)
@click.option(
    "--ffmpeg",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="this ffmpeg for the video codecs, and for VMAF if it has it",
)
@click.option(
    "--lpips",
    type=(click.Path(path_type=Path), click.Path(path_type=Path)),
    metavar="BACKBONE HEADS",
    help="LPIPS: torchvision's AlexNet (or VGG-16) and its v0.1 heads, both .pth",
)
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="of each codec")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="trials at once")
@click.option("--cluster", metavar="ADDRESS", help="a Dask scheduler whose workers run the trials")
@click.option("--cache", type=FOLDER, metavar="DIR", help="of results; the user's cache folder by default")
@click.option("--no-cache", is_flag=True, help="neither use nor keep results")
@click.option("--no-plots", is_flag=True, help="no SVG and PNG plots")
@click.option(
    "--pictures",
    "picture_count",
    type=click.IntRange(0),
    default=6,
    show_default=True,
    metavar="N",
    help="so many pictures or clips side by side in the report",
)
@click.option("--quiet", is_flag=True, help="no progress, no warnings")
def rd_curve(
    sources: tuple[str, ...],
    out: Path | None,
    path: Path | None,
    only: tuple[str, ...],
    frames: int | None,
    size: tuple[int, int] | None,
    kind: str | None,
    sequence: bool,
    names: tuple[str, ...],
    qualities: tuple[float, ...],
    levels: tuple[int, ...],
    efforts: tuple[int, ...],
    gops: tuple[int, ...],
    tubes: tuple[int, ...],
    model: str,
    device: str,
    settings: str,
    presets: tuple[tuple[str, str], ...],
    ffmpeg: Path | None,
    lpips: tuple[Path, Path] | None,
    threads: int,
    jobs: int,
    cluster: str | None,
    cache: Path | None,
    no_cache: bool,
    no_plots: bool,
    picture_count: int,
    quiet: bool,
) -> None:
    """Code pictures or clips with bsqc and the codecs people use, and compare them.

    \b
      bsqc rd-curve kodak --path DIR --out results
      bsqc rd-curve my-clips/ --codec bsqc --codec x264 --out results
    """
    from bsqcodec.evaluation.bsq import QUALITIES
    from bsqcodec.evaluation.cache import Cache
    from bsqcodec.evaluation.evaluate import Selection, choose, evaluate, pictures, write_outputs
    from bsqcodec.evaluation.ffmpeg import Ffmpeg
    from bsqcodec.evaluation.registry import CodecOptions, build_codecs
    from bsqcodec.evaluation.runner import cluster as on_cluster
    from bsqcodec.evaluation.runner import local_jobs, single_thread
    from bsqcodec.evaluation.sources import Kind
    from bsqcodec.evaluation.tables import summary
    from bsqcodec.evaluation.trial import Judges
    from bsqcodec.evaluation.video import Settings

    console = Console(quiet=quiet)
    wanted = None if kind is None else Kind(kind)
    chosen = choose(sources, path, Selection(only, frames, size, wanted, sequence))
    options = CodecOptions(
        settings=Settings(settings),
        ffmpeg=ffmpeg,
        presets=presets,
        threads=threads,
        qualities=qualities or QUALITIES,
        levels=levels or (None,),
        efforts=efforts or (0,),
        gops=gops or (None,),
        tubes=tubes or (None,),
        model=model,
        device=device,
    )
    codecs = build_codecs(names, chosen.kind, options)
    program = None if ffmpeg is None else Ffmpeg(ffmpeg)
    judges = Judges(lpips, program if program is not None and program.has_vmaf() else None)
    store = None if no_cache else Cache(cache)
    if threads == 1:
        single_thread()
    with on_cluster(cluster) if cluster else local_jobs(jobs) as executor:
        evaluation, outcome = evaluate(
            chosen,
            codecs,
            cache=store,
            executor=executor,
            judges=judges,
            jobs=jobs,
            on_progress=TrialsProgress(quiet=quiet),
        )
    for failure in evaluation.failures:
        console.warn(f"{failure.item}: {failure.trial}: {failure.reason}")
    click.echo(summary(evaluation))
    if out is not None:
        views = []
        for view in pictures(chosen, codecs, evaluation, store, picture_count):
            views.append(view)
            console.say(f"pictures of {view.name} ({len(views)})")
        written = write_outputs(evaluation, out, plots=not no_plots, views=views)
        remembered = f"{outcome.cached} of {len(outcome.results)} results from the cache"
        console.say(f"{out}: {len(written)} files; {remembered}")
