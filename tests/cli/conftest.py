"""A small model with random weights: what the command line does must not depend on how good a model is."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_model
from bsqc.main import cli
from calling import Run, Start
from click.testing import CliRunner, Result
from PIL import Image

from bsqcodec.samples import clip, picture


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the tiny preset, untrained."""
    return tiny_model.make(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photo.png (100 x 70) and clip/, six numbered pictures (96 x 64)."""
    folder = tmp_path_factory.mktemp("media")
    Image.fromarray(picture()[100:170, 180:280]).save(folder / "photo.png")
    (folder / "clip").mkdir()
    for number, frame in enumerate(clip(6)):
        Image.fromarray(frame[:64, :96]).save(folder / "clip" / f"{number:03}.png")
    return folder


@pytest.fixture(scope="session")
def run() -> Run:
    """Call bsqc in this process and check its exit code; no traceback may be seen."""

    def call(*arguments: object, code: int = 0, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(cli, [str(value) for value in arguments], input=stdin)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return call


def _hear_interrupts() -> None:
    """A shell starts its background jobs deaf to SIGINT, and tests may run in one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start bsqc as a process of its own, stdout and stderr piped; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def call(*arguments: object) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "bsqc", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, preexec_fn=_hear_interrupts, **pipes))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        with process:  # closes the pipes and waits
            pass


@pytest.fixture(scope="session")
def photo_stream(tmp_path_factory: pytest.TempPathFactory, run: Run, media: Path, model: Path) -> Path:
    """media/photo.png as a stream. Not to be changed."""
    path = tmp_path_factory.mktemp("photo") / "photo.bsq"
    run("encode", media / "photo.png", path, "--model", model)
    return path


@pytest.fixture(scope="session")
def clip_stream(tmp_path_factory: pytest.TempPathFactory, run: Run, media: Path, model: Path) -> Path:
    """media/clip as a stream of three GOPs of two frames. Not to be changed."""
    path = tmp_path_factory.mktemp("clip") / "clip.bsq"
    run("encode", media / "clip", path, "--model", model, "--gop", 2)
    return path
