"""The entry of the command line: finds a verb, runs it, makes one line and an exit code of what it raises.

Verbs are imported when asked for, and import the library inside their functions: `bsqc info` needs no torch.
Exit codes: 0 done, 1 error, 2 wrong usage, 3 damage in the stream survived, 130 interrupted, 141 pipe closed.
"""

import os
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

import click

from bsqc.console import complain
from bsqcodec.errors import BsqError

ERROR, INTERRUPTED, PIPE_CLOSED, TERMINATED = 1, 130, 141, 143

SPINS = 3000
"""Turns for which a thread of GNU OpenMP, which torch uses on Linux, waits for work before it sleeps: by
default as many as take milliseconds of a core that stages beside it could use."""

# verb: module and name of its click command
COMMANDS = {
    "encode": "bsqc.encode:encode",
    "decode": "bsqc.decode:decode",
    "info": "bsqc.info:info",
    "cut": "bsqc.cut:cut",
    "compare": "bsqc.compare:compare",
    "model": "bsqc.model:model",
    "generate": "bsqc.generate:generate",
    "rd-curve": "bsqc.rd_curve:rd_curve",
    "eval": "bsqc.eval:eval_",
    "data": "bsqc.data:data",
    "train": "bsqc.train:train",
    "demo": "bsqc.demo:demo",
    "completion": "bsqc.completion:completion",
}


class Verbs(click.Group):
    """Imports a verb when it is asked for, and is the only place where errors become exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SystemExit, click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BaseException as error:  # pyo3's panics, from constriction, are not Exceptions
            if os.environ.get("BSQC_DEBUG"):
                raise
            _leave(ctx, error)


def _leave(ctx: click.Context, error: BaseException) -> NoReturn:
    if isinstance(error.__context__, BrokenPipeError):
        error = error.__context__
    match error:
        case KeyboardInterrupt():
            complain("interrupted")
            ctx.exit(INTERRUPTED)
        case BrokenPipeError():
            _silence_stdout()
            ctx.exit(PIPE_CLOSED)
        case BsqError():
            complain(str(error))
        case OSError() if error.strerror:
            complain(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
        case MemoryError():
            complain("not enough memory for this picture size")
        case _:
            kind = type(error).__name__
            complain(f"unexpected {kind}: {error} (set BSQC_DEBUG=1 for the traceback)")
    ctx.exit(ERROR)


def _silence_stdout() -> None:
    """Send what is still buffered to nowhere, or Python complains about the closed pipe on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="bsqcodec", prog_name="bsqc", message="%(prog)s %(version)s")
def cli() -> None:
    """A neural codec for pictures and video.

    \b
      bsqc encode in.mp4 out.bsq
      bsqc decode out.bsq out.mp4
      bsqc encode photo.jpg photo.bsq && bsqc decode photo.bsq photo.png
      bsqc info out.bsq
    """


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)


def main() -> None:
    """The console script. A polite kill ends as an error does: half-written files are removed on the way."""
    signal.signal(signal.SIGTERM, _terminate)
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))  # before torch is imported
    cli(prog_name="bsqc")
