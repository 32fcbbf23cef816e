"""A whole training in one call: `python -m bsqtrain.job DATA MINUTES OUT`, or training/job.sh.

The stages run one after the other, each in its share of what is left of the time; then the model is
written, held-out pictures are coded into real bytes, and curves and a report are left. What another machine
needs to go on is in OUT/state, in files of at most 15 MiB (see bsqtrain/shards.py).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bsqcodec.blocks import BlockKind
from bsqcodec.errors import BsqError, InputError
from bsqcodec.machine import pick_device
from bsqtrain import curves, job_report, stages
from bsqtrain.engine import Budget, load_checkpoint
from bsqtrain.image import ImageRecipe
from bsqtrain.measure import held_out
from bsqtrain.recipe import read as read_recipe
from bsqtrain.shards import drop_weights, has_shards, load_shards, save_shards
from bsqtrain.video import VideoRecipe

SHARES = {
    "image": {"image": 0.70, "tokens": 0.05, "prior": 0.17, "export": 0.08},
    "video": {
        "image": 0.30,
        "video": 0.38,
        "tokens": 0.06,
        "prior": 0.09,
        "tube_prior": 0.09,
        "export": 0.08,
    },
}
"""Shares of the time, in the order in which the parts run. `export` measures, too."""

TOKENISED_CROPS, TOKENISED_CLIPS = (32, 4000), (4, 400)
HELD_OUT_CROPS, HELD_OUT_CLIPS = 24, 4
CLIP_TUBES, CROPS_PER_CLIP = 4, 12
"""Tubes of a clip in the token cache, and how many crops of pictures take as long to make."""

MINUTES_PER_PICTURE = 1.0
"""Of the whole time, for each picture that the quality table is measured on."""

MOST_SECONDS_UNSAVED = 120.0


@dataclass(frozen=True)
class JobOptions:
    """What to do. stage: `image` or `video`, which trains tubes too. recipe: of the stage image (None: its
    usual one). init: weights to start from, tokenizer and prior.

    resume: folder of an earlier job; goes on where that one stopped or, if it was done, trains as long again.
    """

    data: Path
    minutes: float
    out: Path
    stage: str = "image"
    preset: str = "base"
    recipe: str | None = None
    init: Path | None = None
    resume: Path | None = None
    device: str = "auto"
    compile: bool = True
    name: str = "model"


@dataclass
class Progress:
    """What is done; kept in OUT/state/job.json.

    seconds: that each finished part took. crops_per_second: that the stage image trained on.
    """

    stage: str
    preset: str
    seconds: dict[str, float] = field(default_factory=dict)
    crops_per_second: float = 1.0


class Job:
    """One call of the job."""

    def __init__(self, options: JobOptions) -> None:
        if options.stage not in SHARES:
            raise InputError(f"stage {options.stage}: not known, expected {' or '.join(SHARES)}")
        self.options, self.started = options, time.monotonic()
        self.device = str(pick_device(options.device))
        large = "-large" if self.device == "cuda" else ""
        start = large if options.init is None else "-on"  # from trained weights
        self.image_recipe, self.prior_recipe = options.recipe or f"image{start}", f"prior{start}"
        self.video_recipe = f"video{large}"
        self.recipe = read_recipe(self.image_recipe, ImageRecipe)[1]
        self.clip_crop = read_recipe(self.video_recipe, VideoRecipe)[1].crop
        self.state, self.work = options.out / "state", options.out / "work"
        self.lines: list[str] = []
        self.held = held_out([options.data])
        self.progress = Progress(options.stage, options.preset)
        if options.resume is not None:
            self._take_over(options.resume)
        elif self.state.exists():
            raise InputError(
                f"{options.out}: holds an earlier job: add --resume {options.out}, or choose another"
            )
        for folder in (self.state, self.work):
            folder.mkdir(parents=True, exist_ok=True)
        trained = (self._trained(part) for part in SHARES[options.stage])
        self.used_before = sum(self.progress.seconds.values()) + sum(trained)

    def run(self) -> Path:
        """Run what is left; returns the report."""
        parts = SHARES[self.options.stage]
        for part, share in parts.items():
            if part in self.progress.seconds:
                continue
            began, before = time.monotonic(), self._trained(part)
            left = self.options.minutes * 60 - self.used_before - (began - self.started)
            waiting = sum(parts[name] for name in parts if name not in self.progress.seconds)
            seconds = max(1.0, (left + before) * share / waiting - before)
            self.say(f"{part}: {seconds:.0f} s" + (f" after {before:.0f} s" if before else ""))
            getattr(self, f"_{part}")(before, seconds)
            self.progress.seconds[part] = before + time.monotonic() - began
            (self.state / "job.json").write_text(json.dumps(asdict(self.progress)))
        return self.options.out / "report.md"

    def say(self, text: str) -> None:
        """Tell it on stderr and keep it for the report."""
        print(text, file=sys.stderr, flush=True)
        self.lines.append(text)

    def _take_over(self, source: Path) -> None:
        """The state of an earlier job, here or elsewhere."""
        try:
            found = Progress(**json.loads((source / "state" / "job.json").read_text()))
        except FileNotFoundError:
            found = self.progress  # stopped in its first part
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{source}: not the folder of a job: {error}") from error
        if not (source / "state").is_dir():
            raise InputError(f"{source}: not the folder of a job: it has no folder `state`")
        if (found.stage, found.preset) != (self.options.stage, self.options.preset):
            raise InputError(
                f"{source}: a job of stage {found.stage} and preset {found.preset}, "
                f"not {self.options.stage} and {self.options.preset}"
            )
        if source.resolve() != self.options.out.resolve():
            shutil.copytree(source / "state", self.state, dirs_exist_ok=True)
        if "export" in found.seconds:
            found.seconds = {}
            _relabel(self._tokenizer(), self.state / "image")
            _relabel(self.state / "prior", self.state / "prior")
        if not self._cache("keys").is_file():  # token caches stay where they were made
            found.seconds.pop("tokens", None)
        self.progress = found

    def _trained(self, part: str) -> float:
        """Seconds that a part which has not ended was trained for by earlier calls."""
        folder = self.state / part
        if part in self.progress.seconds or not has_shards(folder):
            return 0.0
        return float(load_checkpoint(folder)["elapsed"])

    def _tokenizer(self) -> Path:
        """The shards of the last tokenizer that was trained."""
        return next(self.state / part for part in ("video", "image") if has_shards(self.state / part))

    def _cache(self, name: str) -> Path:
        return self.work / f"{name}.npz"

    def _image(self, before: float, seconds: float) -> None:
        self._train_tokenizer("image", self.image_recipe, before, seconds)
        rows = curves.rows(self.work / "image")
        if rows:
            self.progress.crops_per_second = rows[-1]["steps_per_second"] * self.recipe.batch

    def _video(self, before: float, seconds: float) -> None:
        if has_shards(self.state / "image"):
            _relabel(self.state / "image", self.state / "video")
        self._train_tokenizer("video", self.video_recipe, before, seconds)

    def _train_tokenizer(self, part: str, recipe: str, before: float, seconds: float) -> None:
        folder = self.state / part
        options = stages.StageOptions(
            (self.options.data,),
            self.work / part,
            Budget(minutes=(before + seconds) / 60),
            recipe,
            preset=self.options.preset,
            init=folder if has_shards(folder) else self.options.init,
            resume=before > 0,
            device=self.device,
            compile=self.options.compile,
            shards=folder,
            save_every=self._save_every(),
        )
        (stages.image if part == "image" else stages.video)(options, self._log)
        drop_weights(folder)

    def _tokens(self, before: float, seconds: float) -> None:
        crops = seconds * self.progress.crops_per_second
        if self.options.stage == "video":
            crops /= 2
            self._fill("tubes", _within(crops / CROPS_PER_CLIP, TOKENISED_CLIPS), CLIP_TUBES)
            self._fill("held", HELD_OUT_CLIPS, CLIP_TUBES, validation=True)
        else:
            self._fill("held", HELD_OUT_CROPS, validation=True)
        self._fill("keys", _within(crops, TOKENISED_CROPS))

    def _fill(self, name: str, count: int, tubes: int = 0, *, validation: bool = False) -> None:
        """A token cache of crops of pictures or, with tubes, of clips."""
        stages.tokens(
            stages.load_ladder(self._tokenizer(), ""),
            [self.options.data],
            self._cache(name),
            count,
            crop=self.recipe.crop if not tubes else self.clip_crop,
            tubes=tubes,
            device=self.device,
            validation=validation,
            say=self._log,
        )

    def _prior(self, before: float, seconds: float) -> None:
        folder = self.state / "prior"
        self._train_prior("prior", BlockKind.KEY, folder if has_shards(folder) else None, before, seconds)

    def _tube_prior(self, before: float, seconds: float) -> None:
        start = self.state / "prior" if self.options.init is None else None
        self._train_prior("tube_prior", BlockKind.TUBE, start, before, seconds)

    def _train_prior(
        self, part: str, kind: BlockKind, start: Path | None, before: float, seconds: float
    ) -> None:
        stages.prior(
            self._caches() if kind is BlockKind.KEY else [self._cache("tubes")],
            kind,
            self.work / part,
            Budget(minutes=(before + seconds) / 60),
            recipe=self.prior_recipe,
            preset="tiny" if self.options.preset == "tiny" else "base",
            key=start if before == 0 else None,
            init=self.options.init if start is None and before == 0 else None,
            resume=before > 0,
            device=self.device,
            shards=self.state / part,
            save_every=self._save_every(),
            say=self._log,
        )
        drop_weights(self.state / part)

    def _caches(self) -> list[Path]:
        return [path for path in (self._cache("keys"), self._cache("tubes")) if path.is_file()]

    def _export(self, before: float, seconds: float) -> None:
        until = time.monotonic() + seconds
        model = self.options.out / f"{self.options.name}.safetensors"
        tube = self.state / "tube_prior"
        stages.export(
            stages.load_ladder(self._tokenizer(), ""),
            self.options.name,
            model,
            calibrate=[self.options.data],
            calibration_pictures=max(1, min(24, int(self.options.minutes / MINUTES_PER_PICTURE))),
            device=self.device,
            caches=self._caches(),
            key=self.state / "prior",
            tube=tube if has_shards(tube) else None,
            held_out=[self._cache("held")],
            say=self.say,
        )
        points, pictures = job_report.evaluate(model, self.held, until, self.device)
        job_report.write(self.options.out, self.work, points, pictures, self.lines)

    def _log(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _save_every(self) -> float:
        return min(MOST_SECONDS_UNSAVED, self.options.minutes * 60 / 20)


def _within(count: float, limits: tuple[int, int]) -> int:
    low, high = limits
    return round(min(high, max(low, count)))


def _relabel(source: Path, target: Path) -> None:
    """Shards of what was trained become those that another part, or another round, starts from."""
    state = load_shards(source) | {"model": None, "step": 0, "elapsed": 0.0}
    if source != target:
        shutil.rmtree(source)
    save_shards(target, state)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="job.sh", description="Train, measure and export a model in one go."
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="folder of pictures, for `video` of clips too"
    )
    parser.add_argument("minutes", type=float, metavar="MINUTES", help="of all calls of the job together")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of model, report, curves and state")
    parser.add_argument("--init", type=Path, metavar="FILE", help="weights to start from, with their prior")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="an earlier OUT, or a copy of its `state`")
    parser.add_argument("--stage", choices=list(SHARES), default="image")
    parser.add_argument("--preset", default="base")
    parser.add_argument("--recipe", metavar="NAME|FILE", help="of the stage image")
    parser.add_argument("--name", default="model", help="of the model, and of its file")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    try:
        report = Job(JobOptions(**vars(parser.parse_args(arguments)))).run()
    except BsqError as error:
        print(f"job.sh: error: {error}", file=sys.stderr)
        return 1
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
