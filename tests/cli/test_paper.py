"""The paper's models through the command line: tokenizer, tokens, prior, clips, generator."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from bsqc.main import cli
from calling import Run
from click.testing import CliRunner
from PIL import Image

from bsqcodec import model
from bsqcodec.codec import read_tokens
from bsqcodec.samples import clip, picture

BRIEF = ("--no-compile", "--device", "cpu")
RECIPE = "[schedule]\nlearning_rate = 2e-3\nwarmup_steps = 5\n[stage]\nbatch = 4\n"
SMALL = RECIPE.replace("batch = 4", "batch = 8") + "width = 32\ndepth = 1\nheads = 2\ncrops = 64\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of pictures, a clip, recipes."""
    folder = tmp_path_factory.mktemp("paper")
    for name, place in (("left", np.s_[:96, :96]), ("right", np.s_[300:396, 300:396])):
        (folder / "classes" / name).mkdir(parents=True)
        Image.fromarray(picture()[place]).save(folder / "classes" / name / "1.png")
    (folder / "frames").mkdir()
    for number, frame in enumerate(clip(4)):
        Image.fromarray(frame[:40, :70]).save(folder / "frames" / f"{number}.png")
    (folder / "paper.toml").write_text(RECIPE)
    (folder / "generator.toml").write_text(SMALL)
    return folder


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    """A tiny paper tokenizer after some steps."""
    arguments = ["train", "paper", folder / "classes" / "left", "--preset", "bsqvit-tiny", "--steps", 50]
    arguments += ["--out", folder / "tokenizer", "--recipe", folder / "paper.toml", *BRIEF]
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return folder / "tokenizer" / "checkpoint.pt"


def test_the_tokenizer_learns(run: Run, folder: Path, checkpoint: Path) -> None:
    (row,) = map(json.loads, (checkpoint.parent / "log.jsonl").read_text().splitlines())
    assert row["psnr"] > 5
    assert 0 < row["sample_entropy"] < row["codebook_entropy"] <= 6 * np.log(2) + 1e-4
    more = ("train", "paper", folder / "classes" / "left", "--out", folder / "more", *BRIEF)
    again = (*more, "--init", checkpoint, "--preset", "bsqvit-tiny", "--recipe", folder / "paper.toml")
    run(*again, "--steps", 50)
    later = json.loads((folder / "more" / "log.jsonl").read_text())
    assert later["l1"] < row["l1"]


def test_tokens_prior_and_stream(
    run: Run, folder: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From pictures to a model with a prior, with --tokenizer; a photo coded by it has the same tokens."""
    monkeypatch.setattr("bsqtrain.paper_stages.TOKENS_FOR_PRIOR", 8)
    out = folder / "prior"
    data = folder / "classes" / "left"
    brief = ("--preset", "tiny", "--steps", 120, "--device", "cpu")
    run("train", "prior", data, "--tokenizer", checkpoint, "--out", out, *brief)
    weights = folder / "with-prior.safetensors"
    caches = (
        "--tokens",
        out / "tokens.npz",
        "--key",
        out / "checkpoint.pt",
        "--held-out",
        out / "tokens.npz",
    )
    told = run("train", "export", checkpoint, "--name", "tiny-paper", "--out", weights, *caches).stderr
    assert "key: 8 blocks" in told
    assert "with a prior" in run("model", "list", folder).stdout
    run("encode", data / "1.png", folder / "p.bsq", "--model", weights)
    run("decode", folder / "p.bsq", folder / "back.png", "--model", weights)
    ((gop, _),) = read_tokens(io.BytesIO((folder / "p.bsq").read_bytes()), model_file=weights)
    assert gop.mode.name == "PRIOR"
    assert "1 of 1" in run("info", folder / "p.bsq").stdout


def test_clips_from_image_weights(run: Run, folder: Path, checkpoint: Path) -> None:
    """Image weights first, then clips: the first frame of a clip is coded as before training."""
    import av

    preset = folder / "clip.toml"
    preset.write_text("bits = 6\nimage_size = 32\nwidth = 32\nheads = 2\ndepth = 2\nframes = 4\n")
    (folder / "clips").mkdir()
    with av.open(str(folder / "clips" / "1.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in clip(8):
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:48, :64]), format="rgb24")
                )
            )
        container.mux(stream.encode(None))
    arguments = (
        "train",
        "paper",
        folder / "clips",
        "--preset",
        preset,
        "--init",
        checkpoint,
        "--steps",
        1,
        *BRIEF,
    )
    run(*arguments, "--out", folder / "video", "--recipe", folder / "paper.toml")
    weights = folder / "clip-model" / "clip.safetensors"
    weights.parent.mkdir()
    run("train", "export", folder / "video" / "checkpoint.pt", "--name", "clip", "--out", weights)
    assert model.load(weights).card.tokenizer.frames == 4  # type: ignore[union-attr]
    run("encode", folder / "frames", folder / "c.bsq", "--model", weights, "--gop", 4)
    run("decode", folder / "c.bsq", f"{folder / 'frames-back'}/", "--model", weights)
    assert len(list((folder / "frames-back").iterdir())) == 4


def test_generator(run: Run, folder: Path, checkpoint: Path) -> None:
    arguments = ("train", "generator", folder / "classes", "--tokenizer", checkpoint, "--device", "cpu")
    run(*arguments, "--out", folder / "g", "--recipe", folder / "generator.toml", "--steps", 300)
    rows = [json.loads(line) for line in (folder / "g" / "log.jsonl").read_text().splitlines()]
    assert rows[1]["loss"] < rows[0]["loss"] < 1.1  # bits for a bit
    made = ("generate", "--model", folder / "g" / "generator.safetensors", "-n", 5, "--steps", 3)
    run(*made, "--class", "left", folder / "left.png")
    run(*made, "--class", "right", folder / "right.png")
    run(*made, "--class", "0", "--seed", 0, folder / "again.png")
    left, right, again = (
        np.asarray(Image.open(folder / f"{name}.png")) for name in ("left", "right", "again")
    )
    assert left.shape == (64, 96, 3)
    assert (left[32:, 64:] == 0).all()  # five pictures on a sheet for six
    assert (left == again).all()
    assert (left != right).any()
    run(*made, folder / "many")
    assert sorted(path.name for path in (folder / "many").iterdir()) == [f"0000{n}.png" for n in range(5)]
    assert (
        "class birds: not one of this generator"
        in run(*made, "--class", "birds", folder / "x.png", code=1).stderr
    )
    assert "is not empty" in run(*made, folder / "many", code=1).stderr
    assert "is written as .png" in run(*made, folder / "x.jpg", code=1).stderr


def test_what_cannot_be_trained(run: Run, folder: Path, model: Path) -> None:
    data = folder / "classes" / "left"
    paper = ("train", "paper", data, "--out", folder / "x", "--steps", 1, *BRIEF)
    assert "preset base: neither known nor a file, expected one of bsqvit-18" in run(*paper, code=1).stderr
    ladder = (*paper, "--preset", "bsqvit-tiny", "--init", model)
    assert "is a ladder, a BSQ-ViT was expected" in run(*ladder, code=1).stderr
    (folder / "wrong.toml").write_text("depht = 3")
    assert (
        "unexpected keyword argument 'depht'" in run(*paper, "--preset", folder / "wrong.toml", code=1).stderr
    )
    generator = ("train", "generator", data, "--out", folder / "x", "--steps", 1)
    assert "is a ladder" in run(*generator, "--tokenizer", model, code=1).stderr
