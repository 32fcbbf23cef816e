"""The training loop: budget, schedule, EMA, checkpoints, log. What is trained is a `Task`."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from bsqcodec.errors import InputError, ModelError
from bsqcodec.tokenizer.ladder import Ladder
from bsqtrain.muon import Muon
from bsqtrain.shards import load_shards, save_shards


class Task(Protocol):
    """Something to train. config: what a checkpoint must know to build the model again, in JSON types.

    model: what is saved and averaged. helper: what is trained beside it at a rate of its own and resumed with
    it, but not averaged: a discriminator, a prior. objective: a module that maps a batch to (loss, figures to
    log); it holds model and helper. Batches depend on nothing but (step, rank), so that a resumed run goes on
    exactly.
    """

    config: dict[str, Any]

    @property
    def model(self) -> nn.Module: ...
    @property
    def helper(self) -> nn.Module | None: ...
    @property
    def objective(self) -> nn.Module: ...

    def batch(self, step: int, rank: int, progress: float) -> tuple[Any, ...]:
        """The arguments of `objective`. progress: 0..1 of the budget."""


@dataclass(frozen=True)
class Schedule:
    """Optimiser and schedule of a stage; the same names stand in the recipes.

    muon_learning_rate: above 0, matrices with both sides >= 64 are trained by Muon at this rate (scaled to
    AdamW's size of step), the rest by AdamW. helper_: of what is trained beside the model, always by AdamW.
    """

    learning_rate: float = 1e-3
    muon_learning_rate: float = 0.0
    warmup_steps: int = 100
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    helper_learning_rate: float = 1e-3
    helper_betas: tuple[float, float] = (0.9, 0.98)
    gradient_clip: float = 1.0
    ema_decay: float = 0.998
    final_fraction: float = 0.01


@dataclass(frozen=True)
class Budget:
    """How long to train: minutes of wall clock (compile time counted) or a number of steps, whichever is
    given."""

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise InputError("a budget is needed: either --minutes or --steps")

    def progress(self, elapsed: float, step: int) -> float:
        """0..1 of the budget."""
        used = elapsed / (60 * self.minutes) if self.minutes is not None else step / max(1, self.steps or 0)
        return min(1.0, used)


def _optimisers(
    parameters: Sequence[nn.Parameter], helpers: Sequence[nn.Parameter], schedule: Schedule
) -> list[torch.optim.Optimizer]:
    """AdamW, Muon where the schedule asks for it, AdamW for helpers; every group knows its full rate."""
    by_muon = [p for p in parameters if schedule.muon_learning_rate and p.ndim == 2 and min(p.shape) >= 64]
    chosen = {id(p) for p in by_muon}
    rest = [p for p in parameters if id(p) not in chosen]
    decay = schedule.weight_decay
    found = [_adamw(rest, schedule.learning_rate, schedule.betas, decay)]
    if by_muon:
        found.append(Muon(by_muon, lr=schedule.muon_learning_rate, weight_decay=decay))
    if helpers:
        found.append(_adamw(helpers, schedule.helper_learning_rate, schedule.helper_betas, decay))
    for optimiser in found:
        for group in optimiser.param_groups:
            group["full_lr"] = group["lr"]
    return found


def _adamw(
    parameters: Sequence[nn.Parameter], rate: float, betas: tuple[float, float], decay: float
) -> torch.optim.Optimizer:
    """Weight decay for matrices and filters alone."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)


class _Log:
    """Means of the figures of some steps, each over the steps that have it, one row at a time."""

    def __init__(self, file: TextIO, say: Callable[[str], None], start: float) -> None:
        self._file, self._say, self._since = file, say, start
        self._sums: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()
        self.count = 0

    def add(self, figures: dict[str, Tensor]) -> None:
        self.count += 1
        for name, value in figures.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] += 1

    def write(self, step: int, elapsed: float, progress: float) -> None:
        means = {name: round(float(total) / self._counts[name], 5) for name, total in self._sums.items()}
        now = time.monotonic()
        row = {
            "step": step,
            "seconds": round(elapsed, 1),
            "progress": round(progress, 4),
            "steps_per_second": round(self.count / (now - self._since), 3),
            **means,
        }
        print(json.dumps(row), file=self._file, flush=True)
        self._say(" ".join(f"{k}={v}" for k, v in row.items()))
        self._sums, self._counts, self.count, self._since = {}, Counter(), 0, now


class Trainer:
    """Trains a task within a budget; everything that a run needs to go on is in its checkpoint.

    shards: a folder to write small checkpoints to as well, for another machine to go on from.
    """

    def __init__(
        self,
        task: Task,
        schedule: Schedule,
        budget: Budget,
        out: Path,
        *,
        compile: bool = True,
        shards: Path | None = None,
    ) -> None:
        self.shards = shards
        self.task, self.schedule, self.budget, self.out = task, schedule, budget, out
        self.parameters = [p for p in task.model.parameters() if p.requires_grad]
        helper = task.helper.parameters() if task.helper is not None else ()
        self.helper_parameters = [p for p in helper if p.requires_grad]
        self.optimisers = _optimisers(self.parameters, self.helper_parameters, schedule)
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if compile:
            for part in task.objective.modules():
                if isinstance(part, Ladder):
                    part.search = torch.compiler.disable(part.search)  # type: ignore[no-untyped-call]
            task.objective.compile(dynamic=False)
        self.objective = DistributedDataParallel(task.objective) if self.world > 1 else task.objective
        self.ema = {name: value.detach().clone() for name, value in task.model.state_dict().items()}
        state = task.model.state_dict()
        floats = [name for name, value in state.items() if value.is_floating_point()]
        self._averaged = [self.ema[name] for name in floats], [state[name] for name in floats]
        self.step = 0
        self.elapsed = 0.0
        self._warm_from = 0

    def set_learning_rate(self, progress: float) -> None:
        """Of every group: linear warm-up in steps, then cosine over the whole budget."""
        low = self.schedule.final_fraction
        cosine = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))
        share = min(1.0, (self.step - self._warm_from + 1) / self.schedule.warmup_steps) * cosine
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["full_lr"] * share

    @torch.no_grad()
    def _update_ema(self) -> None:
        decay = min(self.schedule.ema_decay, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(*self._averaged, 1 - decay)

    def _one_step(self, progress: float) -> dict[str, Tensor]:
        self.set_learning_rate(progress)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss, figures = self.objective(*self.task.batch(self.step, self.rank, progress))
        loss.backward()
        norm = self._clip(self.parameters)
        self._clip(self.helper_parameters)
        for optimiser in self.optimisers:
            optimiser.step()
        self._update_ema()
        self.step += 1
        return {"loss": loss.detach(), "gradient": norm, **figures}

    def _clip(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Shorten the gradient; where it is not finite, make it 0. Does not wait for the device."""
        norm = nn.utils.clip_grad_norm_(parameters, self.schedule.gradient_clip)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
        return norm

    def run(
        self, *, log_every: int = 50, save_every: float = 300.0, say: Callable[[str], None] = print
    ) -> None:
        """Train until the budget is spent. Saves every `save_every` seconds and at the end.

        Figures are summed on the device, which is waited for only where they are logged.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        before, start, saved = self.elapsed, time.monotonic(), time.monotonic()
        with (self.out / "log.jsonl").open("a") as file:
            log = _Log(file, say, start)
            while (progress := self._progress()) < 1:
                log.add(self._one_step(progress))
                now = time.monotonic()
                self.elapsed = before + now - start
                if self.rank == 0 and self.step % log_every == 0:
                    log.write(self.step, self.elapsed, progress)
                if self.rank == 0 and now - saved > save_every:
                    self.save()
                    saved = now
            if self.rank == 0 and log.count:
                log.write(self.step, self.elapsed, progress)
        if self.rank == 0:
            self.save()

    def _progress(self) -> float:
        """Progress by rank 0's clock, so that all processes stop together."""
        progress = torch.tensor(self.budget.progress(self.elapsed, self.step), dtype=torch.float64)
        if self.world > 1:
            dist.broadcast(progress, 0)
        return float(progress)

    def save(self) -> None:
        """Write `checkpoint.pt`, whole or not at all, and the shards."""
        state = {
            "config": self.task.config,
            "model": self.task.model.state_dict(),
            "ema": self.ema,
            "helper": self.task.helper.state_dict() if self.task.helper is not None else None,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "elapsed": self.elapsed,
        }
        part = self.out / "checkpoint.pt.part"
        torch.save(state, part)
        part.replace(self.out / "checkpoint.pt")
        if self.shards is not None:
            save_shards(self.shards, state)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint that `save` wrote, exactly; from a folder of shards after a warm-up, as
        the optimisers start anew."""
        state = load_checkpoint(path)
        self.task.model.load_state_dict(state["model"])
        for name, value in state["ema"].items():
            self.ema[name].copy_(value)
        if self.task.helper is not None:
            self.task.helper.load_state_dict(state["helper"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        if state["optimisers"] is None:
            self._warm_from = self.step
            return
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training checkpoint or a folder of shards; only tensors and plain values are unpickled."""
    if path.is_dir():
        return load_shards(path)
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such checkpoint") from error
    except Exception as error:
        raise ModelError(f"{path}: not a training checkpoint: {error}") from error
    return state
