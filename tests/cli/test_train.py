"""bsqc train: every stage from pictures to a model that codes, a step or two of each."""

import json
from pathlib import Path

import pytest
from calling import Run
from PIL import Image
from tiny_model import make

from bsqcodec.model import load
from bsqcodec.samples import clip, picture

RECIPE = """
[stage]
batch = 1
crop = 192
{more}
"""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Training data: one picture; one clip."""
    import av

    (tmp_path / "pictures").mkdir()
    (tmp_path / "clips").mkdir()
    Image.fromarray(picture()).save(tmp_path / "pictures" / "1.png")
    with av.open(str(tmp_path / "clips" / "1.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for frame in clip(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return tmp_path / "pictures", tmp_path / "clips"


@pytest.mark.slow
def test_from_pictures_to_a_model(run: Run, folders: tuple[Path, Path], media: Path, tmp_path: Path) -> None:
    pictures, clips = folders
    (tmp_path / "image.toml").write_text(RECIPE.format(more=""))
    (tmp_path / "video.toml").write_text(RECIPE.format(more="tubes = 1"))

    def train(stage: str, *arguments: object) -> None:
        run("train", stage, *arguments)

    brief = ("--steps", 1, "--no-compile", "--preset", "tiny", "--device", "cpu")
    image, video = tmp_path / "image", tmp_path / "video"
    train("image", pictures, "--out", image, "--recipe", tmp_path / "image.toml", *brief)
    checkpoint = image / "checkpoint.pt"
    train("video", clips, "--out", video, "--recipe", tmp_path / "video.toml", "--init", checkpoint, *brief)
    tokenizer = video / "checkpoint.pt"
    keys, tubes = tmp_path / "keys.npz", tmp_path / "tubes.npz"
    train("tokens", pictures, "--from", tokenizer, "--out", keys, "--count", 2, "--crop", 192)
    train("tokens", clips, "--from", tokenizer, "--out", tubes, "--count", 2, "--crop", 192, "--tubes", 1)
    small = ("--preset", "tiny", "--steps", 1)
    train("prior", keys, tubes, "--out", tmp_path / "key", *small)
    key = tmp_path / "key" / "checkpoint.pt"
    train("prior", tubes, "--kind", "tube", "--key", key, "--out", tmp_path / "tube", *small)
    tube, model = tmp_path / "tube" / "checkpoint.pt", tmp_path / "mine.safetensors"
    priors = ("--tokens", keys, "--tokens", tubes, "--key", key, "--tube", tube)
    train("export", tokenizer, "--name", "mine", "--out", model, *priors)

    train("curves", image, video, "--out", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as drawn:
        assert drawn.size[1] >= 2 * 320  # charts of both stages
    failed = run("train", "curves", tmp_path, "--out", tmp_path / "curves.png", code=1)
    assert f"{tmp_path}: there is no log of a stage, expected log.jsonl" in failed.stderr

    clips.joinpath("1.mp4").rename(clips / "10.mp4")
    measured = ("train", "measure", model, clips, "--tubes", 2, "--device", "cpu")
    found = json.loads(run(*measured, "--json").stdout)
    assert found["clips"] == 1
    assert f"{found['points'][0]['cost']:.4f}" in run(*measured).stdout.splitlines()[1]
    alone = json.loads(run(*measured, "--tube-frames", 1, "--json").stdout)
    assert len(alone["points"][0]["block_ms_ssim_db"]) == 8
    failed = run(*measured, "--tube-frames", 3, code=1)
    assert "tubes of 3 frames: this model has tubes of 4, 2, 1" in failed.stderr

    stream = tmp_path / "clip.bsq"
    run("encode", media / "clip", stream, "--model", model)
    run("decode", stream, f"{tmp_path / 'decoded'}/", "--model", model)
    assert "  model     mine " in run("info", stream).stdout
    assert len(list((tmp_path / "decoded").iterdir())) == 6


def test_measured_and_calibrated_on_held_out_pictures(run: Run, model: Path, tmp_path: Path) -> None:
    Image.fromarray(picture()[:192, 100:300]).save(tmp_path / "10.png")
    measured = ("train", "measure", model, tmp_path, "--device", "cpu")
    found = json.loads(run(*measured, "--json").stdout)
    assert [point["rate"] for point in found["points"]][-1] == 1000
    lines = run(*measured).stdout.splitlines()
    assert f"{found['points'][0]['bpp']:.4f}" in lines[1]
    assert len(lines) == 13

    out = tmp_path / "mine.safetensors"
    export = ("train", "export", model, "--name", "mine", "--out", out, "--device", "cpu")
    run(*export, "--calibrate", tmp_path)
    assert list(load(out).card.quality_table) == found["quality_table"]


@pytest.mark.parametrize("budget", [(), ("--steps", 1, "--minutes", 1)])
def test_a_stage_needs_one_budget(run: Run, tmp_path: Path, budget: tuple[object, ...]) -> None:
    arguments = ("train", "image", tmp_path, "--out", "x", *budget)
    assert "either --minutes or --steps" in run(*arguments, code=2).stderr


def test_what_cannot_be_trained(run: Run, tmp_path: Path) -> None:
    image = ("train", "image", "--out", tmp_path / "out", "--steps", 1)
    assert "missing: no such folder" in run(*image, tmp_path / "missing", code=1).stderr
    assert "no training data" in run(*image, tmp_path, code=1).stderr
    assert "no such recipe" in run(*image, tmp_path, "--recipe", "nothing", code=1).stderr
    export = ("train", "export", tmp_path / "x.pt", "--name", "x", "--out", tmp_path / "no" / "x.safetensors")
    assert "does not exist" in run(*export, code=1).stderr
    assert "--key needs --tokens" in run(*export, "--key", "k.pt", code=2).stderr


def test_stages_that_start_from_weights(run: Run, folders: tuple[Path, Path], tmp_path: Path) -> None:
    """perceptual and joint through the command line, a step of each; the joint prior can be trained on."""
    pictures = folders[0]
    (tmp_path / "small.toml").write_text(RECIPE.format(more=""))
    (tmp_path / "frozen.toml").write_text(RECIPE.format(more="train_prior = false"))
    tiny = tmp_path / "tiny.safetensors"
    make(tiny)
    common = (pictures, "--steps", 1, "--no-compile", "--device", "cpu", "--init", tiny)
    joint = (*common, "--out", tmp_path / "joint")
    run("train", "perceptual", *common, "--out", tmp_path / "p", "--recipe", tmp_path / "small.toml")
    (tmp_path / "tubes.toml").write_text(RECIPE.format(more="frames = 5"))
    tubes = ("--out", tmp_path / "tubes", "--recipe", tmp_path / "tubes.toml")
    run("train", "perceptual", folders[1], *common[1:], *tubes)
    keys = tmp_path / "keys.npz"
    trained = tmp_path / "p" / "checkpoint.pt"
    run("train", "tokens", pictures, "--from", trained, "--out", keys, "--count", 2, "--crop", 192)
    run(
        "train", "prior", keys, "--preset", "tiny", "--steps", 1, "--out", tmp_path / "key", "--device", "cpu"
    )
    key = tmp_path / "key" / "checkpoint.pt"
    run("train", "joint", *joint, "--prior", key, "--recipe", tmp_path / "frozen.toml")
    prior = ("train", "prior", keys, "--preset", "tiny", "--steps", 1, "--device", "cpu")
    run(*prior, "--key", tmp_path / "joint" / "prior.pt", "--out", tmp_path / "again")

    error = run("train", "joint", *joint, "--recipe", tmp_path / "frozen.toml", code=1).stderr
    assert "--prior FILE" in error
    bare = ("train", "perceptual", pictures, "--steps", 1, "--out", tmp_path / "p2")
    assert "--init FILE" in run(*bare, "--device", "cpu", code=1).stderr
    lpips = (*bare, "--init", tiny, "--lpips-weights", tmp_path / "gone.pth")
    assert "needs both" in run(*lpips, code=2).stderr
    error = run(*lpips, "--lpips-heads", tmp_path / "gone.pth", code=1).stderr
    assert "download.pytorch.org/models/alexnet-owt-7be5be79.pth" in error
