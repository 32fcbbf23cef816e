"""bsqc as a process: pipes that close, interrupts, terminals. Nothing half-written stays."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_model
from calling import Run, Start


@pytest.fixture(scope="module")
def raw_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny weights without a prior: fast."""
    return tiny_model.make(tmp_path_factory.mktemp("raw") / "raw.safetensors", prior=False)


@pytest.fixture
def long_clip(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures enough for some seconds of work."""
    folder = tmp_path_factory.mktemp("long")
    data = (media / "clip" / "000.png").read_bytes()
    for number in range(2000):
        (folder / f"{number:04}.png").write_bytes(data)
    return folder


def wait_for(process: "subprocess.Popen[bytes]", happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 200
    while not happened():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing_behind(
    start: Start, long_clip: Path, raw_model: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start("encode", long_clip, tmp_path / "out.bsq", "--model", raw_model, "--gop", 1)
    wait_for(process, lambda: any(path.stat().st_size > 0 for path in tmp_path.iterdir()))
    process.send_signal(number)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == code
    assert b"Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_interrupted_decode_leaves_nothing_behind(
    start: Start, run: Run, long_clip: Path, raw_model: Path, tmp_path: Path
) -> None:
    stream = tmp_path / "in.bsq"
    run("encode", long_clip, stream, "--model", raw_model, "--frames", 500)
    process = start("decode", stream, tmp_path / "out.mkv", "--model", raw_model)
    wait_for(process, lambda: len(list(tmp_path.iterdir())) > 1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 130
    assert errors.endswith(b"bsqc: error: interrupted\n")
    assert list(tmp_path.iterdir()) == [stream]


def test_a_closed_pipe_ends_quietly(start: Start, clip_stream: Path, model: Path) -> None:
    process = start("decode", clip_stream, "-", "--model", model, "--quiet")
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=200) == 141


def test_streams_do_not_go_to_a_terminal(media: Path, model: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-m", "bsqc", "encode", media / "photo.png", "-", "--model", model]
        done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, timeout=200, check=False)
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.returncode == 2
    assert b"stdout is a terminal" in done.stderr


@pytest.mark.slow
def test_progress_on_a_terminal(media: Path, model: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    out = tmp_path / "clip.bsq"
    command = [sys.executable, "-m", "bsqc", "encode", media / "clip", out, "--model", model]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # Linux says so when the other side is closed
                break
            if not piece:
                break
            seen += piece
    os.close(ours)
    assert process.returncode == 0
    assert b"6/6" in seen
    assert b"frames/s" in seen
    assert f"{out}: 6 frames 96x64".encode() in seen
