"""Ablations: small changes of one small base, each trained for equal time and measured on the same crops.

    python -m bsqtrain.ablate ARM... --steps N --data DIR... --out DIR
    python -m bsqtrain.ablate ARM... --steps N --data DIR... --start CHECKPOINT --out DIR
    python -m bsqtrain.ablate ARM... --steps N --tokens FILE --held FILE --out DIR

Every arm leaves one line in OUT/results.jsonl; arms that are there are not run again. A table comes at the
end. N is the base's steps; an arm on pictures or clips has as many as take the same time, by steps of both
timed in turn, so that other work on the machine favours none. Arms of the prior have N steps each. Arms of
tubes begin with the key frames of a checkpoint that the arm `base` left.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bsqcodec.errors import BsqError, InputError
from bsqcodec.tokenizer.ladder import Ladder
from bsqtrain import ablate_past, ablate_prior, ablate_video, clips, measure_clips, pictures
from bsqtrain.ablate_image import ARMS, RECIPE, SCHEDULE, TOKENIZER
from bsqtrain.ablate_past import PAST_ARMS
from bsqtrain.ablate_prior import PRIOR_ARMS
from bsqtrain.ablate_video import VIDEO_ARMS
from bsqtrain.engine import Budget, Trainer
from bsqtrain.image import ImageTask
from bsqtrain.measure import RatePoint, held_out, measure
from bsqtrain.measure_clips import GopPoint
from bsqtrain.tokens import load_clips

CPU = torch.device("cpu")
JUDGED = (300, 500, 700)
"""Rate indices whose J is compared; the two beside them are measured as well, for arms that differ there."""
MEASURED = (100, *JUDGED, 900)
SIDE = 256
"""Of the held-out crops, and the smallest of the training pictures: the same ones for all sizes of crops."""
GOPS_JUDGED = (200, 500)
"""Rate indices at which GOPs are compared."""
GOP_PLACES = 6
"""Tubes of 4 frames that a held-out GOP has place for: 24 frames after the key frame."""
TIMED_STEPS = 7
BASES, PRIOR_BASES, PAST_BASES, VIDEO_BASES = (
    ("base", "base-1", "base-2"),
    ("prior", "prior-1"),
    ("past", "past-1"),
    ("tubes", "tubes-seed-1"),
)


@dataclass(frozen=True)
class Row:
    """What came out of an arm. points: of a tokenizer; gops: of tubes; level_bpp and level_share: of a prior,
    bits per pixel and per raw bit of held-out tokens."""

    arm: str
    change: str
    steps: int
    seconds: float
    parameters: int
    points: tuple[RatePoint, ...] = ()
    gops: tuple[GopPoint, ...] = ()
    level_bpp: tuple[float, ...] = ()
    level_share: tuple[float, ...] = ()

    @staticmethod
    def from_json(line: str) -> Row:
        """Read what `Ablation.run` wrote."""
        values: dict[str, Any] = json.loads(line)
        values |= {name: tuple(values[name]) for name in ("level_bpp", "level_share")}
        points = [RatePoint(**point | {"level_bpp": tuple(point["level_bpp"])}) for point in values["points"]]
        lists = ("tube_bpp", "block_ms_ssim_db")
        gops = [GopPoint(**gop | {name: tuple(gop[name]) for name in lists}) for gop in values["gops"]]
        return Row(**values | {"points": tuple(points), "gops": tuple(gops)})

    @property
    def costs(self) -> list[float]:
        """J at the rates that are compared."""
        return [point.cost for point in self.points if point.rate in JUDGED] + [gop.cost for gop in self.gops]

    def excess(self, base: Sequence[Row]) -> float:
        """Percent above the mean of the base's rows: of J, the mean over the rates; of a prior's bits."""
        if not self.costs:
            return 100 * (sum(self.level_bpp) / statistics.fmean(sum(row.level_bpp) for row in base) - 1)
        usual = [statistics.fmean(costs) for costs in zip(*(row.costs for row in base), strict=True)]
        return 100 * (statistics.fmean(c / u for c, u in zip(self.costs, usual, strict=True)) - 1)


@dataclass(frozen=True)
class Ablation:
    """The arms' common data and budget."""

    data: tuple[Path, ...]
    steps: int
    out: Path
    count: int = 32
    tokens: Path | None = None
    held: Path | None = None
    start: Path | None = None

    @cached_property
    def shown(self) -> list[np.ndarray]:
        return pictures.load(pictures.find(self.data, validation=False), SIDE)

    @cached_property
    def judged(self) -> list[np.ndarray]:
        """The middles of held-out pictures."""
        starts = [
            (picture, *(max(0, side - SIDE) // 2 for side in picture.shape[:2]))
            for picture in held_out(self.data, self.count)
        ]
        return [picture[top : top + SIDE, left : left + SIDE] for picture, top, left in starts]

    @cached_property
    def clips(self) -> list[np.ndarray]:
        found = pictures.find(self.data, validation=False, suffixes=clips.SUFFIXES)
        return clips.load(found, measure_clips.SIDE, 1 + GOP_PLACES * ablate_video.TOKENIZER.tube_frames)

    @cached_property
    def judged_clips(self) -> list[torch.Tensor]:
        return measure_clips.held_out(self.data, GOP_PLACES, ablate_video.TOKENIZER, self.count)

    def _trainer(self, name: str, steps: int) -> Trainer:
        if name in VIDEO_ARMS:
            if self.start is None:
                raise InputError(f"{name}: an arm of tubes needs the checkpoint of an arm base: --start")
            video = ablate_video.video_task(VIDEO_ARMS[name], self.start, self.clips, self.shown)
            return Trainer(video, ablate_video.SCHEDULE, Budget(steps=steps), self.out / name, compile=False)
        arm = ARMS[name]
        torch.manual_seed(arm.seed)
        ladder = Ladder(replace(TOKENIZER, **arm.tokenizer))
        if arm.alter is not None:
            arm.alter(ladder, self.shown)
        recipe, schedule = replace(RECIPE, **arm.recipe), replace(SCHEDULE, **arm.schedule)
        task = ImageTask(ladder, pictures.CropSampler(self.shown, recipe.crop), recipe, CPU, arm.seed)
        return Trainer(task, schedule, Budget(steps=steps), self.out / name, compile=False)

    def _equal_time(self, name: str) -> int:
        """The steps of an arm that take as much CPU time as the base's."""
        bases = VIDEO_BASES if name in VIDEO_ARMS else BASES
        if name in bases:
            return self.steps
        runs = [(self._trainer(each, TIMED_STEPS), list[float]()) for each in (bases[0], name)]
        for _ in range(TIMED_STEPS):
            for trainer, seconds in runs:
                start = time.process_time()
                trainer._one_step(0.5)
                seconds.append(time.process_time() - start)
        base, own = (statistics.median(seconds[1:]) for _, seconds in runs)
        return max(1, round(self.steps * base / own))

    def _trained(self, name: str) -> tuple[Trainer, Ladder]:
        """The trainer of an arm after its run, and its average."""
        trainer = self._trainer(name, self._equal_time(name))
        trainer.run()
        ladder = trainer.task.model
        assert isinstance(ladder, Ladder)
        ladder.load_state_dict(trainer.ema)
        return trainer, ladder

    def run_image(self, name: str) -> Row:
        """Train and measure one arm on pictures."""
        trainer, ladder = self._trained(name)
        found = measure(ladder, self.judged, CPU, rates=MEASURED, say=lambda line: None)
        return _row(name, ARMS[name].change, trainer, points=found.points)

    def run_video(self, name: str) -> Row:
        """Train and measure one arm of tubes."""
        trainer, ladder = self._trained(name)
        arm = VIDEO_ARMS[name]
        gops = measure_clips.measure(
            ladder, self.judged_clips, CPU, GOPS_JUDGED, arm.tube_frames, say=lambda line: None
        )
        return _row(name, arm.change, trainer, gops=tuple(gops))

    def run_prior(self, name: str) -> Row:
        """Train and measure one arm on tokens."""
        if self.tokens is None or self.held is None:
            raise InputError(f"{name}: an arm of the prior needs token caches: --tokens and --held")
        (levels, clips), (_, unseen) = load_clips(self.tokens), load_clips(self.held)
        budget, out = Budget(steps=self.steps), self.out / name
        if name in PAST_ARMS:
            change = PAST_ARMS[name].change
            found = ablate_past.train_and_measure(PAST_ARMS[name], levels, clips, unseen, budget, out)
        else:
            change = PRIOR_ARMS[name].change
            found = ablate_prior.train_and_measure(PRIOR_ARMS[name], levels, clips, unseen, budget, out)
        trainer, bpp, share = found
        return _row(name, change, trainer, level_bpp=bpp, level_share=share)

    def run(self, names: Sequence[str]) -> list[Row]:
        """All rows in OUT, once the named arms that are not there have been run."""
        runs = (
            dict.fromkeys(ARMS, self.run_image)
            | dict.fromkeys(VIDEO_ARMS, self.run_video)
            | dict.fromkeys((*PRIOR_ARMS, *PAST_ARMS), self.run_prior)
        )
        unknown = [name for name in names if name not in runs]
        if unknown:
            known = ", ".join(runs)
            raise InputError(f"{unknown[0]}: no such arm, expected one of {known}")
        self.out.mkdir(parents=True, exist_ok=True)
        results = self.out / "results.jsonl"
        rows = [Row.from_json(line) for line in results.read_text().splitlines()] if results.exists() else []
        for name in names:
            if any(row.arm == name for row in rows):
                continue
            print(f"arm {name}", flush=True)
            rows.append(runs[name](name))
            with results.open("a") as file:
                file.write(json.dumps(asdict(rows[-1])) + "\n")
        return rows


def _row(name: str, change: str, trainer: Trainer, **figures: Any) -> Row:
    size = sum(parameter.numel() for parameter in trainer.parameters)
    return Row(name, change, trainer.step, round(trainer.elapsed, 1), size, **figures)


def table(rows: Sequence[Row]) -> str:
    """Markdown: tokenizers, tubes, priors; the last column is against the mean of the rows of the base."""
    lines: list[str] = []
    pictured = [row for row in rows if row.points]
    if pictured:
        base = [row for row in pictured if row.arm in BASES] or pictured[:1]
        costs = " | ".join(f"J {rate}" for rate in JUDGED)
        lines = [
            f"| arm | change | parameters | steps | bpp 500 | MS-SSIM dB 500 | PSNR 500 | {costs} | J |",
            "|---" * 11 + "|",
        ]
        for row in pictured:
            (middle,) = (point for point in row.points if point.rate == JUDGED[1])
            costs = " | ".join(f"{cost:.4f}" for cost in row.costs)
            lines.append(
                f"| {row.arm} | {row.change} | {row.parameters / 1e6:.2f} M | {row.steps} "
                f"| {middle.bpp:.3f} | {middle.ms_ssim_db:.2f} | {middle.psnr:.2f} | {costs} "
                f"| {row.excess(base):+.1f} % |"
            )
        lines.append("")
    filmed = [row for row in rows if row.gops]
    if filmed:
        base = [row for row in filmed if row.arm in VIDEO_BASES] or filmed[:1]
        costs = " | ".join(f"J {rate}" for rate in GOPS_JUDGED)
        first = GOPS_JUDGED[0]
        lines += [
            f"| arm | change | steps | tubes bpp {first} | dB {first}, first and last tube | {costs} | J |",
            "|---" * 8 + "|",
        ]
        for row in filmed:
            low, ends = row.gops[0], row.gops[0].block_ms_ssim_db
            costs = " | ".join(f"{cost:.4f}" for cost in row.costs)
            lines.append(
                f"| {row.arm} | {row.change} | {row.steps} | {sum(low.tube_bpp):.4f} "
                f"| {ends[0]:.2f} {ends[-1]:.2f} | {costs} | {row.excess(base):+.1f} % |"
            )
        lines.append("")
    for arms, bases in ((PRIOR_ARMS, PRIOR_BASES), (PAST_ARMS, PAST_BASES)):
        coded = [row for row in rows if row.arm in arms]
        if not coded:
            continue
        base = [row for row in coded if row.arm in bases] or coded[:1]
        lines += ["| arm | change | steps | seconds | bpp | share of raw bits | bits |", "|---" * 7 + "|"]
        for row in coded:
            shares = " ".join(f"{share:.3f}" for share in row.level_share)
            lines.append(
                f"| {row.arm} | {row.change} | {row.steps} | {row.seconds:.0f} | {sum(row.level_bpp):.4f} | "
                f"{shares} | {row.excess(base):+.1f} % |"
            )
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bsqtrain.ablate", description="Train and compare small variants.")
    known = ", ".join([*ARMS, *VIDEO_ARMS, *PRIOR_ARMS, *PAST_ARMS])
    parser.add_argument("arms", nargs="*", metavar="ARM", help=known)
    parser.add_argument(
        "--data", nargs="+", type=Path, default=[], metavar="DIR", help="folders of pictures and clips"
    )
    parser.add_argument("--steps", type=int, required=True, help="of the base")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--pictures", type=int, default=32, help="held-out pictures or clips to measure on")
    parser.add_argument("--start", type=Path, metavar="CHECKPOINT", help="of an arm base, for arms of tubes")
    parser.add_argument("--tokens", type=Path, metavar="FILE", help="token cache, for arms of the prior")
    parser.add_argument("--held", type=Path, metavar="FILE", help="held-out tokens for them")
    given = parser.parse_args(arguments)
    try:
        ablation = Ablation(
            tuple(given.data), given.steps, given.out, given.pictures, given.tokens, given.held, given.start
        )
        print(table(ablation.run(given.arms)))
    except BsqError as error:
        print(f"bsqtrain.ablate: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
