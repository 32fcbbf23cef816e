"""The training loop: exact resume, budget, equal gradients on one process and on two, recipes."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bsqtrain import video
from bsqtrain.clips import ClipSampler
from bsqtrain.engine import Budget, Schedule, Trainer, _Log, load_checkpoint
from bsqtrain.image import ImageRecipe, ImageTask, draw_conditions
from bsqtrain.pictures import CropSampler, is_validation
from bsqtrain.prior import PriorRecipe
from bsqtrain.recipe import read
from bsqtrain.video import VideoRecipe, VideoTask

from bsqcodec.blocks import TubeForm
from bsqcodec.errors import InputError
from bsqcodec.tokenizer.config import PRESETS
from bsqcodec.tokenizer.ladder import Ladder, Memory

CPU = torch.device("cpu")
SCHEDULE = Schedule(1e-3, muon_learning_rate=1e-3)


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (200, 240, 3), dtype=np.uint8) for _ in range(3)]


def image_task(batch: int = 2) -> ImageTask:
    torch.manual_seed(0)
    return ImageTask(Ladder(PRESETS["tiny"]), CropSampler(pictures(), 192), ImageRecipe(batch, 192), CPU)


def video_task(freeze_key: bool, **numbers: Any) -> VideoTask:
    torch.manual_seed(0)
    clip = np.random.default_rng(0).integers(0, 256, (13, 200, 200, 3), dtype=np.uint8)
    ladder = Ladder(PRESETS["tiny"])
    ladder.inherit_tubes()
    recipe = VideoRecipe(batch=1, crop=192, tubes=2, freeze_key=freeze_key, **numbers)
    stills = CropSampler(pictures(), 192) if recipe.stills else None
    return VideoTask(ladder, ClipSampler([clip], 192, 9), recipe, CPU, stills=stills)


def trained(task: ImageTask | VideoTask, out: Path, *budgets: int) -> Trainer:
    """Train to each number of steps in turn, resuming from the checkpoint in between."""
    trainer = Trainer(task, SCHEDULE, Budget(steps=budgets[-1]), out, compile=False)
    for steps in budgets:
        trainer = Trainer(task, SCHEDULE, Budget(steps=steps), out, compile=False)
        if (out / "checkpoint.pt").exists():
            trainer.resume(out / "checkpoint.pt")
        trainer.run(log_every=1, say=lambda line: None)
    return trainer


class Halves(Trainer):
    """Stops half-way, on the schedule of the whole."""

    def _progress(self) -> float:
        return 1.0 if self.step == 2 else super()._progress()


def test_resume_is_exact(tmp_path: Path) -> None:
    whole = trained(image_task(), tmp_path / "whole", 4)
    first = Halves(image_task(), SCHEDULE, Budget(steps=4), tmp_path / "parts", compile=False)
    first.run(say=lambda line: None)
    assert first.step == 2
    second = trained(image_task(), tmp_path / "parts", 4)
    assert second.step == 4
    for name, value in whole.task.model.state_dict().items():
        assert torch.equal(value, second.task.model.state_dict()[name]), name
    for name, value in whole.ema.items():
        assert torch.equal(value, second.ema[name]), name


def test_minutes_end_the_run_and_the_log_says_so(tmp_path: Path) -> None:
    trainer = Trainer(image_task(), SCHEDULE, Budget(minutes=3 / 60), tmp_path, compile=False)
    start = time.monotonic()
    trainer.run(log_every=1, say=lambda line: None)
    assert time.monotonic() - start < 10
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(rows) == trainer.step > 0
    assert {"loss", "bpp", "mse", "ms_ssim_loss", "steps_per_second"} <= set(rows[0])


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    trained(image_task(), tmp_path, 12)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.parametrize("freeze_key", [True, False])
def test_video_stage(freeze_key: bool, tmp_path: Path) -> None:
    task = video_task(freeze_key)
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    trained(task, tmp_path, 2)
    changed = {
        name.split(".")[0] if not name.startswith("ends") else ".".join(name.split(".")[:2])
        for name, value in task.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert {"ends.tube", "recall"} <= changed
    assert ("ends.key" in changed or "encode16" in changed) == (not freeze_key)


def test_two_processes_get_the_gradient_of_one(tmp_path: Path) -> None:
    """torchrun with gloo: the step of two processes equals that of one with both batches."""
    script = tmp_path / "two.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from torch import distributed as dist\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_engine import SCHEDULE, image_task\n"
        "from bsqtrain.engine import Budget, Trainer\n"
        "torch.set_num_threads(1)\n"
        "dist.init_process_group('gloo')\n"
        "task, out = image_task(1), Path(sys.argv[1])\n"
        "trainer = Trainer(task, SCHEDULE, Budget(steps=1), out, compile=False)\n"
        "trainer.run(say=lambda line: None)\n"
        "dist.destroy_process_group()\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    subprocess.run(
        [*command, str(script), str(tmp_path / "two")], check=True, env=environment, capture_output=True
    )
    two = load_checkpoint(tmp_path / "two" / "checkpoint.pt")

    task = image_task(1)
    batches = [task.batch(0, rank, 0.0) for rank in (0, 1)]
    losses = [task.objective(*batch)[0] for batch in batches]
    (sum(losses) / 2).backward()  # type: ignore[union-attr]
    trainer = Trainer(task, SCHEDULE, Budget(steps=1), tmp_path / "one", compile=False)
    trainer.set_learning_rate(0.0)
    torch.nn.utils.clip_grad_norm_(trainer.parameters, 1.0)
    for optimiser in trainer.optimisers:
        optimiser.step()
    for name, value in task.model.state_dict().items():
        assert torch.allclose(value, two["model"][name], atol=1e-6), name


def test_muon_takes_the_large_matrices(tmp_path: Path) -> None:
    adamw, muon = Trainer(image_task(), SCHEDULE, Budget(steps=1), tmp_path, compile=False).optimisers
    shapes = [p.shape for group in muon.param_groups for p in group["params"]]
    assert shapes
    assert all(len(shape) == 2 and min(shape) >= 64 for shape in shapes)
    left = [p.shape for group in adamw.param_groups for p in group["params"]]
    assert not any(len(shape) == 2 and min(shape) >= 64 for shape in left)


def test_range_of_rates_widens() -> None:
    recipe = ImageRecipe(batch=400, rate_range=(390, 800), widen=(0.5, 0.8))
    config = PRESETS["tiny"]

    def extremes(progress: float) -> tuple[float, float]:
        log_lambda_B1, _, _ = draw_conditions(config, recipe, random.Random(0), progress)
        return float(log_lambda_B1.min().exp()), float(log_lambda_B1.max().exp())

    narrow, wide = extremes(0.5), extremes(0.8)
    assert config.lambda_of(800) <= narrow[0]
    assert narrow[1] <= config.lambda_of(390)
    assert wide[0] < config.lambda_of(950)
    assert wide[1] > config.lambda_of(50)


def test_budget_must_be_one_thing() -> None:
    with pytest.raises(InputError, match="--minutes or --steps"):
        Budget()
    with pytest.raises(InputError, match="--minutes or --steps"):
        Budget(minutes=1, steps=1)


def test_stills_and_steps_are_added_to_the_loss() -> None:
    def loss_of(**numbers: Any) -> tuple[float, dict[str, float]]:
        task = video_task(False, memory_noise=0.0, **numbers)
        batch = task.batch(3, 0, 0.5)
        assert batch[0].shape[1] in (5, 9)
        loss, figures = task.objective(*batch)
        return float(loss.detach()), {name: float(value.detach()) for name, value in figures.items()}

    plain, figures = loss_of()
    tubes = video_task(False).batch(3, 0, 0.5)[0].shape[1] // 4
    calm, _ = loss_of(steps=2.0)
    assert figures["steps_mse"] > 0
    assert calm - plain == pytest.approx(2 * figures["steps_mse"] * tubes / (1 + tubes), rel=1e-3)
    beside, more = loss_of(stills=3, still_crop=192)
    assert more["still_bpp"] > 0
    assert beside - plain == pytest.approx(more["still_loss"], rel=1e-4)


def test_grain_counts_by_the_root_of_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for every frame here, so that only its weight is left."""
    monkeypatch.setattr(video, "relative_error", lambda y, x: torch.ones(len(y)))
    plain, grainy = (video_task(False, memory_noise=0.0, grain=grain) for grain in (0.0, 0.3))
    batch = plain.batch(3, 0, 0.5)
    added = grainy.objective(*batch)[0] - plain.objective(*batch)[0]
    log_lambda, tubes = batch[1], batch[0].shape[1] // 4
    key = plain.model.config.key_log_lambda(log_lambda)
    expected = 0.3 * ((key / 2).exp() + tubes * (log_lambda / 2).exp()) / (1 + tubes)
    assert float(added.detach()) == pytest.approx(float(expected), rel=1e-3)


def test_shipped_recipes_are_read() -> None:
    schedule, image = read("image", ImageRecipe)
    assert schedule.learning_rate == 1e-3
    assert image.distortion.chroma_8 == 30.0
    assert read("image-on", ImageRecipe)[1].rate_range == (0, 1000)
    assert read("video", VideoRecipe)[1].tubes == 4
    assert read("tubes-on", VideoRecipe)[1].freeze_key
    assert read("tubes-long", VideoRecipe)[1].chains > 1
    assert read("image-large", ImageRecipe)[1].batch > read("image", ImageRecipe)[1].batch
    assert read("video-large", VideoRecipe)[1].stills
    assert read("prior-large", PriorRecipe)[1].batch > PriorRecipe().batch
    assert read("prior", PriorRecipe)[1] == PriorRecipe()
    assert read("prior-on", PriorRecipe)[0].learning_rate < read("prior", PriorRecipe)[0].learning_rate


def test_recipe_with_a_wrong_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[stage]\nbatchsize = 3\n")
    with pytest.raises(InputError, match="batchsize"):
        read(path, ImageRecipe)
    with pytest.raises(InputError, match="no such recipe"):
        read(tmp_path / "none.toml", ImageRecipe)


def test_validation_part() -> None:
    assert is_validation(Path("0010.avif"))
    assert not is_validation(Path("0011.avif"))
    assert not is_validation(Path("street.mp4"))


def test_a_batch_without_a_finite_gradient_is_left_out(tmp_path: Path) -> None:
    class Broken(ImageTask):
        def batch(self, step: int, rank: int, progress: float) -> tuple[torch.Tensor, ...]:
            x, *others = super().batch(step, rank, progress)
            return (x * float("nan") if step == 1 else x, *others)

    task = image_task()
    broken = Broken(task.model, task.sampler, task.recipe, CPU)
    trainer = Trainer(broken, SCHEDULE, Budget(steps=3), tmp_path, compile=False)
    trainer.run(say=lambda line: None)
    assert all(bool(torch.isfinite(value).all()) for value in task.model.state_dict().values())


def test_a_short_run_is_logged_too(tmp_path: Path) -> None:
    trainer = Trainer(image_task(), SCHEDULE, Budget(steps=3), tmp_path, compile=False)
    trainer.run(log_every=2, say=lambda line: None)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 3]


def test_tubes_of_several_lengths_and_tubes_that_run_in(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = ((0, 100), (400, 500), (900, 1000))
    task = video_task(True, lengths=(1.0, 1.0, 1.0), length_rates=rates, run_in=1)
    seen = set()
    for step in range(40):
        x, log_lambda, _, _, form, run_in, _ = task.batch(step, 0, 0.5)
        low, high = rates[(4, 2, 1).index(form.frames)]
        lagrangian = float(log_lambda.exp())
        assert task.model.config.lambda_of(high) <= lagrangian * 1.001
        assert lagrangian <= task.model.config.lambda_of(low) * 1.001
        assert (x.shape[1] - 1) % form.frames == 0
        assert (x.shape[1] - 1) // form.frames > run_in
        seen.add((form, run_in))
    assert seen == {(TubeForm(frames), run_in) for frames in (4, 2, 1) for run_in in (0, 1)}

    trained = []
    block = task.objective._tube
    monkeypatch.setattr(
        task.objective, "_tube", lambda *a: (trained.append(torch.is_grad_enabled()), block(*a))[1]
    )
    loss, figures = task.objective(*task.batch(0, 0, 0.5)[:4], TubeForm(2), 1)
    assert trained[0] is False
    assert all(trained[1:])
    assert loss.requires_grad
    assert float(figures["tube_bpp"].detach()) > 0


def test_a_share_of_the_longer_tubes_has_quarters(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is coded so."""
    task = video_task(True, lengths=(1.0, 1.0, 1.0), quarters=0.5)
    forms = [task.batch(step, 0, 0.5)[4] for step in range(40)]
    assert set(forms) == {TubeForm(1), *(TubeForm(n, finer) for n in (2, 4) for finer in (True, False))}
    coded = []
    ladder = Ladder.forward
    monkeypatch.setattr(Ladder, "forward", lambda *a, **b: (coded.append(b.get("form")), ladder(*a, **b))[1])
    finer = TubeForm(2, quarters=True)
    task.objective(*task.batch(0, 0, 0.5)[:4], finer, 1)
    assert coded[0] is None
    assert coded[1:] == [finer] * (len(coded) - 1)
    assert len(coded) > 1


def test_the_last_tube_counts_for_those_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its distortion does, its rate does not."""
    task = video_task(True, future=1.5)
    x, log_lambda, keep, _, _, _, _ = task.batch(0, 0, 0.5)
    key, _, _ = task.objective._key(
        x[:, :1], task.model.config.key_log_lambda(log_lambda), keep, torch.ones(())
    )
    block = task.objective._tube

    def distortion_10_rate_4(*given: Any) -> Any:
        _, figures, memory = block(*given)
        return 10 + given[3] * 4, figures, memory

    monkeypatch.setattr(task.objective, "_tube", distortion_10_rate_4)
    loss, _ = task.objective(x[:, :9], log_lambda, keep, torch.ones(()), TubeForm(4), 0)
    assert float(loss) == pytest.approx((float(key) + 10 + 4 + 2.5 * 10 + 4) / 3, rel=1e-4)


def test_chains_go_on_where_their_last_step_ended() -> None:
    task = video_task(True, chains=2, chain_frames=24, lengths=(0.0, 1.0, 1.0))
    task.objective.eval()
    places: dict[int, int] = {}
    left: dict[int, Memory] = {}
    begun = longest = 0
    for step in range(60):
        x, log_lambda, keep, warm, form, run_in, memory = task.batch(step, 0, 0.5)
        number = next(n for n, chain in task._chains.items() if chain is task._current)
        chain = task._chains[number]
        assert run_in == 0
        assert form == chain.form
        assert (x.shape[1] - 1) // form.frames in (1, 2)
        assert torch.equal(log_lambda, chain.log_lambda_B1)
        if memory is None:
            places[number] = 0
            begun += 1
        else:
            assert memory is left[number]
            assert not memory.at8.requires_grad
        begin = places[number]
        places[number] = begin + x.shape[1] - 1
        longest = max(longest, places[number])
        assert torch.equal(x, chain.clips_BTCHW[:, begin : places[number] + 1].float() / 255)
        loss, figures = task.objective(x, log_lambda, keep, warm, form, run_in, memory)
        assert ("key_bpp" in figures) == (memory is None)
        assert loss.requires_grad
        assert task.objective.left is not None
        left[number] = task.objective.left
    assert begun > 2
    assert longest == 24


def test_a_figure_that_some_steps_lack_is_the_mean_of_the_others(tmp_path: Path) -> None:
    with (tmp_path / "log.jsonl").open("w") as file:
        log = _Log(file, lambda line: None, 0.0)
        log.add({"loss": torch.tensor(1.0), "key_bpp": torch.tensor(0.5)})
        log.add({"loss": torch.tensor(2.0)})
        log.write(2, 1.0, 0.5)
    row = json.loads((tmp_path / "log.jsonl").read_text())
    assert (row["loss"], row["key_bpp"]) == (1.5, 0.5)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch's compiler, by itself
def test_the_search_for_vectors_is_not_compiled(tmp_path: Path) -> None:
    task = video_task(freeze_key=True)
    search = task.model.search
    Trainer(task, SCHEDULE, Budget(steps=1), tmp_path)
    found = vars(task.model.search)
    assert found["_torchdynamo_disable"]
    assert found["__wrapped__"] is search
