"""The whole training in one call: a model, a report and curves, stopped and taken up again elsewhere."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_model
from bsqtrain import job
from bsqtrain.shards import has_shards
from bsqtrain.stages import StageOptions
from PIL import Image

from bsqcodec import model
from bsqcodec.samples import picture

SCRIPT = Path(__file__).resolve().parents[2] / "training" / "job.sh"
RECIPE = "[stage]\nbatch = 1\ncrop = 192\n[schedule]\nwarmup_steps = 2\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two pictures to train on and one that is held out."""
    (tmp_path / "data").mkdir()
    for number in (9, 10, 11):
        Image.fromarray(picture()[:192, 8 * number : 8 * number + 200]).save(
            tmp_path / "data" / f"{number}.png"
        )
    (tmp_path / "small.toml").write_text(RECIPE)
    return tmp_path / "data"


def arguments(data: Path, out: Path, *more: object) -> list[str]:
    fixed = ("--preset", "tiny", "--device", "cpu", "--no-compile", "--recipe", data.parent / "small.toml")
    return [str(value) for value in (data, 0.1, out, *fixed, *more)]


class Stopped(Exception):
    pass


def test_stopped_and_taken_up_elsewhere(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise Stopped

    first, second = tmp_path / "first", tmp_path / "second"
    with monkeypatch.context() as patched:
        patched.setattr(job.Job, "_prior", stop)
        with pytest.raises(Stopped):
            job.main(arguments(data, first))
    assert has_shards(first / "state" / "image")
    (first / "carried").mkdir()
    shutil.copytree(first / "state", first / "carried" / "state")

    with monkeypatch.context() as patched:  # the tokenizer is trained, the token cache stayed behind
        patched.setattr(job.Job, "_image", stop)
        assert job.main(arguments(data, second, "--resume", first / "carried")) == 0
    card = model.load(second / "model.safetensors").card
    assert card.name == "model"
    report = json.loads((second / "report.json").read_text())
    assert report["pictures"] == 1
    assert [point["q"] for point in report["points"]] == [1, 2, 4, 6, 8, 10]
    assert all(0 < point["bpp"] < 5 and point["psnr"] > 5 for point in report["points"])
    assert "| 10 |" in (second / "report.md").read_text()
    with Image.open(second / "curves.png") as curves:
        assert curves.format == "PNG"
    assert sum(path.stat().st_size for path in (second / "state").rglob("*")) < 60 << 20

    # A job that is done trains as long again, from its weights.
    before = json.loads((second / "state" / "job.json").read_text())
    assert set(before["seconds"]) == {"image", "tokens", "prior", "export"}
    again = job.Job(job.JobOptions(data, 0.1, second, preset="tiny", resume=second, device="cpu"))
    assert again.progress.seconds == {}
    assert again.used_before == 0
    assert has_shards(second / "state" / "image")


def test_starts_from_weights(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokenizer and prior go on from the model, at the rates that are made for it."""
    weights = tiny_model.make(tmp_path / "tiny.safetensors")
    asked: list[tuple[object, object]] = []
    recipe = str(data.parent / "small.toml")
    train_image, train_prior = job.stages.image, job.stages.prior

    def image(options: StageOptions, say: Callable[[str], None]) -> None:
        asked.append((options.init, options.recipe))
        train_image(options, say)

    def prior(*values: Any, **named: Any) -> None:
        asked.append((named["init"], named["recipe"]))
        train_prior(*values, **named)

    monkeypatch.setattr(job.stages, "image", image)
    monkeypatch.setattr(job.stages, "prior", prior)
    options = job.JobOptions(data, 0.1, tmp_path / "out", "image", "tiny", recipe, weights, compile=False)
    assert job.Job(options).run().is_file()
    assert asked == [(weights, recipe), (weights, "prior-on")]
    assert job.Job(replace(options, out=tmp_path / "usual", recipe=None)).image_recipe == "image-on"


def test_what_cannot_be_done(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main(arguments(data, tmp_path / "out", "--resume", tmp_path / "gone")) == 1
    assert "gone: not the folder of a job" in capsys.readouterr().err
    (tmp_path / "old" / "state").mkdir(parents=True)
    assert job.main(arguments(data, tmp_path / "old")) == 1
    assert "old: holds an earlier job: add --resume" in capsys.readouterr().err
    (data / "10.png").unlink()
    assert job.main(arguments(data, tmp_path / "out")) == 1
    assert "no held-out files, whose number is divisible by 10" in capsys.readouterr().err


@pytest.mark.slow
def test_the_script(data: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHON": sys.executable}
    command = [str(SCRIPT), *arguments(data, tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "out" / "report.md")
    assert (tmp_path / "out" / "model.prior.safetensors").is_file()


def test_numba_is_asked_for_on_cpus_alone() -> None:
    """It is not among the packages that training/README.md takes to an accelerator."""
    lines = (
        "import sys; sys.modules['numba'] = None",
        "import torch, bsqtrain.job, bsqtrain.stages, bsqtrain.tokens",
        "from bsqcodec.prior.integer import Operators",
        "assert type(Operators.pick(torch.device('cuda'))) is Operators",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
