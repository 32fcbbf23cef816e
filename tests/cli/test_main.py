"""What every verb has in common: help, exit codes, errors in one line, and a quick start."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from bsqc import main
from bsqc.main import COMMANDS, cli
from calling import Run
from click.testing import CliRunner

INFO_SECONDS = 0.25


@pytest.mark.parametrize("verb", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_verb_has_help(run: Run, verb: str, flag: str) -> None:
    assert run(verb, flag).stdout.startswith(f"Usage: cli {verb}")


def test_help_and_version(run: Run) -> None:
    text = run("--help").stdout
    assert all(f"  {verb} " in text for verb in COMMANDS)
    assert run("--version").stdout.startswith("bsqc 0.")


@pytest.mark.parametrize(
    "arguments",
    [("no-such-verb",), ("encode",), ("info",), ("encode", "a", "--nothing"), ("encode", "a", "-q", "11")],
)
def test_wrong_usage_is_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert "Usage: cli" in run(*arguments, code=2).stderr


def failing(error: BaseException) -> click.Command:
    @click.command()
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("a\nb"), 1, "unexpected ValueError: a b (set BSQC_DEBUG=1 for the traceback)"),
        (OSError(28, "No space left on device", "a.bsq"), 1, "a.bsq: No space left on device"),
        (MemoryError(), 1, "not enough memory for this picture size"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_are_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    monkeypatch.delenv("BSQC_DEBUG", raising=False)
    monkeypatch.setattr(main.Verbs, "get_command", lambda *_: failing(error))
    assert run("fail", code=code).stderr == f"bsqc: error: {line}\n"


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BSQC_DEBUG", "1")
    monkeypatch.setattr(main.Verbs, "get_command", lambda *_: failing(ValueError("here")))
    with pytest.raises(ValueError, match="here"):
        CliRunner().invoke(cli, ["fail"], catch_exceptions=False)


def test_control_characters_do_not_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    assert "\x1b" not in run("info", tmp_path / "\x1b[2J.bsq", code=1).stderr


def test_info_starts_quickly_and_loads_nothing_heavy(clip_stream: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "bsqc", "info", str(clip_stream)]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    modules = {line.rpartition("|")[2].strip() for line in loaded.splitlines()}
    assert "bsqcodec.bitstream.summary" in modules
    assert not modules & {"torch", "av", "numpy", "PIL", "rich", "rich.progress", "skimage"}


def test_info_answers_in_a_quarter_of_a_second(clip_stream: Path) -> None:
    """Processor time, the best of five: what the wall clock shows on a machine with nothing else to do."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "bsqc", "info", clip_stream], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(5)) < INFO_SECONDS


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run: Run, shell: str) -> None:
    assert "_BSQC_COMPLETE" in run("completion", shell).stdout


def test_completion_completes_verbs() -> None:
    asked = {"_BSQC_COMPLETE": "bash_complete", "COMP_WORDS": "bsqc en", "COMP_CWORD": "1"}
    environment = {**os.environ, **asked}
    script = [str(Path(sys.executable).with_name("bsqc"))]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["plain,encode"]


def test_threads_sleep_soon_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "cli", lambda **_: None)
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    main.main()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    main.main()
    assert os.environ["GOMP_SPINCOUNT"] == str(main.SPINS)
