"""The training loop: budget, schedule, EMA, checkpoints, log. What is trained is a `Task`."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from bsqcodec.errors import InputError, ModelError


class Task(Protocol):
    """Something to train. config: what a checkpoint must know to build the model again, in JSON types.

    model: what is saved and averaged. objective: a module that maps a batch to (loss, figures to log); it
    holds the model. Batches depend on nothing but (step, rank), so that a resumed run goes on exactly.
    """

    config: dict[str, Any]

    @property
    def model(self) -> nn.Module: ...
    @property
    def objective(self) -> nn.Module: ...

    def batch(self, step: int, rank: int, progress: float) -> tuple[Any, ...]:
        """The arguments of `objective`. progress: 0..1 of the budget."""


@dataclass(frozen=True)
class Schedule:
    """Optimiser and schedule of a stage; the same names stand in the recipes.

    muon_learning_rate: above 0, matrices with both sides >= 64 are trained by Muon at this rate (scaled to
    AdamW's size of step), the rest by AdamW.
    """

    learning_rate: float = 1e-3
    muon_learning_rate: float = 0.0
    warmup_steps: int = 100
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
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


def _optimisers(parameters: Sequence[nn.Parameter], schedule: Schedule) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon where the schedule asks for it; every group knows its full learning rate."""
    by_muon = [p for p in parameters if schedule.muon_learning_rate and p.ndim == 2 and min(p.shape) >= 64]
    chosen = {id(p) for p in by_muon}
    rest = [p for p in parameters if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": schedule.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=schedule.betas, fused=True)
    ]
    if by_muon:
        rate, decay = schedule.muon_learning_rate, schedule.weight_decay
        found.append(torch.optim.Muon(by_muon, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    for optimiser in found:
        for group in optimiser.param_groups:
            group["full_lr"] = group["lr"]
    return found


class Trainer:
    """Trains a task within a budget; everything that a run needs to go on is in its checkpoint."""

    def __init__(
        self, task: Task, schedule: Schedule, budget: Budget, out: Path, *, compile: bool = True
    ) -> None:
        self.task, self.schedule, self.budget, self.out = task, schedule, budget, out
        parameters = [p for p in task.model.parameters() if p.requires_grad]
        self.parameters = parameters
        self.optimisers = _optimisers(parameters, schedule)
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if compile:
            task.objective.compile(dynamic=False)
        self.objective = DistributedDataParallel(task.objective) if self.world > 1 else task.objective
        self.ema = {name: value.detach().clone() for name, value in task.model.state_dict().items()}
        self.step = 0
        self.elapsed = 0.0

    def set_learning_rate(self, progress: float) -> None:
        """Of every group: linear warm-up in steps, then cosine over the whole budget."""
        low = self.schedule.final_fraction
        cosine = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))
        share = min(1.0, (self.step + 1) / self.schedule.warmup_steps) * cosine
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["full_lr"] * share

    @torch.no_grad()
    def _update_ema(self) -> None:
        decay = min(self.schedule.ema_decay, (self.step + 1) / (self.step + 10))
        state = self.task.model.state_dict()
        floats = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.ema[n] for n in floats], [state[n] for n in floats], 1 - decay)

    def _one_step(self, progress: float) -> dict[str, Tensor]:
        self.set_learning_rate(progress)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss, figures = self.objective(*self.task.batch(self.step, self.rank, progress))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.schedule.gradient_clip)
        if torch.isfinite(norm):
            for optimiser in self.optimisers:
                optimiser.step()
        self._update_ema()
        self.step += 1
        return {"loss": loss.detach(), "gradient": norm, **figures}

    def run(
        self, *, log_every: int = 50, save_every: float = 300.0, say: Callable[[str], None] = print
    ) -> None:
        """Train until the budget is spent. Saves every `save_every` seconds and at the end."""
        self.out.mkdir(parents=True, exist_ok=True)
        before, start, saved = self.elapsed, time.monotonic(), time.monotonic()
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        logged, logged_at = self.step, start
        with (self.out / "log.jsonl").open("a") as log:
            while (progress := self._progress()) < 1:
                for name, value in self._one_step(progress).items():
                    sums[name] = sums[name] + value.detach().float().cpu()
                now = time.monotonic()
                self.elapsed = before + now - start
                if self.rank == 0 and self.step % log_every == 0:
                    count = self.step - logged
                    means = {name: round(float(total) / count, 5) for name, total in sums.items()}
                    row = {
                        "step": self.step,
                        "seconds": round(self.elapsed, 1),
                        "progress": round(progress, 4),
                        "steps_per_second": round(count / (now - logged_at), 3),
                        **means,
                    }
                    print(json.dumps(row), file=log, flush=True)
                    say(" ".join(f"{k}={v}" for k, v in row.items()))
                    sums.clear()
                    logged, logged_at = self.step, now
                if self.rank == 0 and now - saved > save_every:
                    self.save()
                    saved = now
        if self.rank == 0:
            self.save()

    def _progress(self) -> float:
        """Progress by rank 0's clock, so that all processes stop together."""
        progress = torch.tensor(self.budget.progress(self.elapsed, self.step), dtype=torch.float64)
        if self.world > 1:
            dist.broadcast(progress, 0)
        return float(progress)

    def save(self) -> None:
        """Write `checkpoint.pt`, whole or not at all."""
        part = self.out / "checkpoint.pt.part"
        torch.save(
            {
                "config": self.task.config,
                "model": self.task.model.state_dict(),
                "ema": self.ema,
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
                "step": self.step,
                "elapsed": self.elapsed,
            },
            part,
        )
        part.replace(self.out / "checkpoint.pt")

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint that `save` wrote, exactly."""
        state = load_checkpoint(path)
        self.task.model.load_state_dict(state["model"])
        self.ema = state["ema"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.elapsed = state["step"], state["elapsed"]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training checkpoint; nothing but tensors and plain values is unpickled."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such checkpoint") from error
    except Exception as error:
        raise ModelError(f"{path}: not a training checkpoint: {error}") from error
    return state
