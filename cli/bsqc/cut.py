"""`bsqc cut`: a smaller stream out of a stream, without decoding."""

from fractions import Fraction

import click

from bsqc.console import Console
from bsqc.jobs import refuse_same_file
from bsqc.options import levels_option, output_options, range_options
from bsqc.streams import PIPE, open_input, open_output


@click.command(short_help="Drop levels or keep a time range, without decoding.")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@levels_option
@range_options
@output_options
def cut(
    source: str,
    target: str,
    levels: int | None,
    start: Fraction | None,
    duration: Fraction | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Drop fine levels of IN, or keep a time range by whole GOPs, and write OUT.

    Nothing is decoded: a cut takes as long as a copy. Both may be - for stdin and stdout.

    \b
      bsqc cut in.bsq smaller.bsq --levels 2
      bsqc cut in.bsq scene.bsq --start 0:30 --duration 10
    """
    from bsqcodec.bitstream.cut import cut as cut_stream

    if levels is None and start is None and duration is None:
        raise click.UsageError("nothing to cut: give --levels, --start or --duration")
    console = Console(quiet=quiet, as_json=as_json, stdout_taken=target == PIPE)
    refuse_same_file(source, target)
    with open_input(source) as stream, open_output(target, force=force) as sink:
        result = cut_stream(stream, sink, levels=levels, start=start, duration=duration)
    console.say(f"{target}: {result.frames} frames in {result.gops} GOPs, {result.bytes_written:,} bytes")
    console.result(
        {
            "input": source,
            "output": target,
            "bytes": result.bytes_written,
            "frames": result.frames,
            "gops": result.gops,
            "start": float(result.start),
        }
    )
