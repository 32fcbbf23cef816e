"""The paper's measures, with a small network in place of Inception and I3D, against values by hand."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import tiny_paper_model
import torch
from bsqc.main import cli
from click.testing import CliRunner
from PIL import Image
from scipy.linalg import sqrtm

from bsqcodec.errors import InputError, ModelError
from bsqcodec.evaluation.distances import frechet_distance, inception_score, precision_recall
from bsqcodec.evaluation.networks import I3d, Inception
from bsqcodec.evaluation.quality import Judges, Reconstructor, centre_square, generation, reconstruction
from bsqcodec.metrics.psnr import psnr
from bsqcodec.metrics.ssim import ssim
from bsqcodec.samples import clip, picture


class SmallInception(torch.nn.Module):
    """The mean of each channel; as probabilities, their shares."""

    def forward(
        self, x: torch.Tensor, return_features: bool = False, no_output_bias: bool = False
    ) -> torch.Tensor:
        mean = x.float().mean([2, 3])
        return mean if return_features else mean / mean.sum(1, keepdim=True)


class SmallI3d(torch.nn.Module):
    """The mean of each channel in the first and in the last frame."""

    def forward(
        self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        mean = x.float().mean([3, 4])
        return torch.cat([mean[:, :, 0], mean[:, :, -1]], 1)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """TorchScript files of both."""
    folder = tmp_path_factory.mktemp("networks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch would have us use torch.export now
        for name, network in (("inception.pt", SmallInception()), ("i3d.pt", SmallI3d())):
            torch.jit.script(network).save(str(folder / name))
    return folder / "inception.pt", folder / "i3d.pt"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_paper_model.make(tmp_path_factory.mktemp("model") / "image.safetensors")


@pytest.fixture(scope="module")
def video_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_paper_model.make(tmp_path_factory.mktemp("model") / "video.safetensors", frames=4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of different sizes."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        part = picture()[number * 40 : number * 40 + 80, : 90 + 10 * number]
        Image.fromarray(part).save(folder / f"{number}.png")
    return folder


def test_frechet_distance_of_one_feature_by_hand() -> None:
    """(m1 - m2)^2 + (s1 - s2)^2: means 2 and 5, deviations 1 and 2 (of n - 1)."""
    real = torch.tensor([[1.0], [2.0], [3.0]])
    other = torch.tensor([[3.0], [5.0], [7.0]])
    assert frechet_distance(real, other) == pytest.approx(9 + 1, abs=1e-6)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_many_features_by_the_formula() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(50, 4)), random.normal(size=(40, 4)) @ random.normal(size=(4, 4)) + 1
    a, b = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(torch.tensor(x), torch.tensor(y)) == pytest.approx(expected, rel=1e-6)


def test_inception_score_by_hand() -> None:
    """Certain of K classes in equal shares: K. Never certain: 1. In between: exp of the mean divergence."""
    certain = torch.eye(4).repeat_interleave(1, 0)
    chances = torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    mean = chances.mean(0)
    divergence = (chances * (chances / mean).log()).sum(1).mean()
    split = inception_score(chances)
    assert split == pytest.approx((1.0, 0.0), abs=1e-6)  # two parts of one picture each
    assert inception_score(torch.full((20, 5), 0.2))[0] == pytest.approx(1.0)
    many = torch.cat([certain] * 500)
    assert inception_score(many)[0] == pytest.approx(4.0, rel=0.02)
    assert 1 < math.exp(float(divergence)) < 2
    both = inception_score(chances.repeat(5000, 1))[0]
    assert both == pytest.approx(math.exp(float(divergence)), rel=0.01)


def test_precision_and_recall_by_hand() -> None:
    """Real points 0..4 on a line: the third neighbour of 2 is 2 away, that of the ends 3."""
    real = torch.arange(5.0)[:, None]
    other = torch.tensor([[-3.0], [2.5], [7.5], [20.0]])
    # reaches of real: 3 2 2 2 3; of the others: 23, 17.5, 12.5, 23
    assert precision_recall(real, other) == (0.5, 1.0)
    assert precision_recall(real, real + 100) == (0.0, 0.0)
    assert precision_recall(real, real) == (1.0, 1.0)


def test_precision_and_recall_against_loops() -> None:
    random = np.random.default_rng(1)
    real, other = random.normal(size=(30, 3)), random.normal(size=(25, 3)) + 0.8

    def share(asked: np.ndarray, members: np.ndarray) -> float:
        reach = [sorted(np.linalg.norm(m - n) for n in members)[3] for m in members]
        hits = [any(np.linalg.norm(a - m) <= r for m, r in zip(members, reach, strict=True)) for a in asked]
        return float(np.mean(hits))

    found = precision_recall(torch.tensor(real), torch.tensor(other))
    assert found == pytest.approx((share(other, real), share(real, other)))
    assert 0 < min(found) < max(found) < 1


def test_sets_that_are_too_small() -> None:
    for measure, *sets in ((frechet_distance, 1, 5), (frechet_distance, 5, 1), (precision_recall, 3, 9)):
        with pytest.raises(InputError, match="are needed"):
            measure(*(torch.zeros(size, 2) for size in sets))  # type: ignore[operator]


def test_the_square_in_the_middle() -> None:
    pixels = picture()[:100, :250]
    assert np.array_equal(centre_square(pixels, 100), pixels[:, 75:175])
    assert centre_square(pixels, 256).shape == (256, 256, 3)
    wide = np.asarray(Image.fromarray(pixels).resize((125, 50), Image.Resampling.LANCZOS))
    assert np.array_equal(centre_square(pixels, 50), wide[:, 37:87])


def test_reconstruction_of_pictures(model: Path, photos: Path, networks: tuple[Path, Path]) -> None:
    found = reconstruction(photos, model, Judges(inception=Inception(networks[0])), size=64, device="cpu")
    squares = [centre_square(np.asarray(Image.open(path)), 64) for path in sorted(photos.iterdir())]
    coded = [Reconstructor(model, 5, "cpu")([square])[0] for square in squares]
    assert found["items"] == 6
    assert found["psnr"] == pytest.approx(np.mean([psnr(x, y) for x, y in zip(squares, coded, strict=True)]))
    assert found["ssim"] == pytest.approx(np.mean([ssim(x, y) for x, y in zip(squares, coded, strict=True)]))
    means = [torch.tensor(np.stack([x.mean((0, 1)) for x in side])) for side in (squares, coded)]
    assert found["rfid"] == pytest.approx(frechet_distance(*means), rel=1e-3)
    assert found["rfid"] > 1


def test_reconstruction_of_clips(video_model: Path, networks: tuple[Path, Path], tmp_path: Path) -> None:
    """Two folders of frames are two clips; of each the first frames, whole GOPs and a part of one."""
    whole = clip(6)
    for name, place in (("a", np.s_[:64, :64]), ("b", np.s_[64:128, 64:128])):
        (tmp_path / name).mkdir()
        for number, frame in enumerate(whole):
            Image.fromarray(frame[place]).save(tmp_path / name / f"{number}.png")
    judges = Judges(i3d=I3d(networks[1]))
    found = reconstruction(tmp_path, video_model, judges, size=32, frames=5, device="cpu")
    assert found["items"] == 2
    assert "rfid" not in found
    before, after = [], []
    scores = []
    for name in ("a", "b"):
        frames = [centre_square(np.asarray(Image.open(tmp_path / name / f"{n}.png")), 32) for n in range(5)]
        made = Reconstructor(video_model, 5, "cpu")(frames)
        assert len(made) == 5
        scores.append(np.mean([psnr(x, y) for x, y in zip(frames, made, strict=True)]))
        before.append([*frames[0].mean((0, 1)), *frames[-1].mean((0, 1))])
        after.append([*made[0].mean((0, 1)), *made[-1].mean((0, 1))])
    assert found["psnr"] == pytest.approx(np.mean(scores))
    expected = frechet_distance(torch.tensor(np.array(before)), torch.tensor(np.array(after)))
    assert found["rfvd"] == pytest.approx(expected, rel=1e-3)


def test_generation(photos: Path, networks: tuple[Path, Path], tmp_path: Path) -> None:
    for number in range(5):
        Image.fromarray(picture()[200 : 200 + 48, number * 50 : number * 50 + 48]).save(
            tmp_path / f"{number}.png"
        )
    found = generation(photos, tmp_path, Inception(networks[0]), size=48)
    real = torch.tensor(
        np.stack(
            [
                centre_square(np.asarray(Image.open(path)), 48).mean((0, 1))
                for path in sorted(photos.iterdir())
            ]
        )
    )
    made = torch.tensor(
        np.stack([np.asarray(Image.open(path)).mean((0, 1)) for path in sorted(tmp_path.iterdir())])
    )
    assert (found["real"], found["generated"]) == (6, 5)
    assert found["fid"] == pytest.approx(frechet_distance(real, made), rel=1e-3)
    assert (found["precision"], found["recall"]) == precision_recall(real, made)
    assert found["inception_score"] == pytest.approx(1.0, abs=1e-3)  # five parts of one picture each


def test_command_line(model: Path, photos: Path, networks: tuple[Path, Path], tmp_path: Path) -> None:
    def run(*arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(cli, ["eval", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result.output

    weights = ("--inception-weights", networks[0])
    told = run("reconstruction", photos, "--model", model, "--size", 64, *weights, "--quiet")
    assert [line.split()[0] for line in told.splitlines()] == ["items", "psnr", "ssim", "rfid"]
    assert '"fid": ' in run("generation", photos, photos, "--size", 64, *weights, "--json", "--quiet")
    assert "inception-2015-12-05.pt" in run("generation", photos, photos, code=1)
    assert "no picture or clip" in run("reconstruction", tmp_path, "--model", model, code=1)


def test_files_that_are_no_networks(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_text("hello")
    with pytest.raises(ModelError, match=r"not a TorchScript file; expected --inception-weights .* https://"):
        Inception(tmp_path / "x.pt")
    with pytest.raises(ModelError, match=r"no such file; expected --i3d-weights .* https://"):
        I3d(tmp_path / "missing.pt")
