"""Stage `video`: whole GOPs of one key frame and some tubes, the memory carried from block to block.

# B batch · T frames of a clip · C = 3 · H, W pixels
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from bsqcodec.blocks import BlockKind, TubeForm
from bsqcodec.distortion import DistortionWeights, distortion
from bsqcodec.machine import half_precision
from bsqcodec.tokenizer.config import RATE_STEPS
from bsqcodec.tokenizer.ladder import BlockOutput, Ladder, Memory, log_lambdas
from bsqtrain.clips import ClipSampler, MixedSampler
from bsqtrain.grain import relative_error
from bsqtrain.image import draw_conditions
from bsqtrain.pictures import CropSampler


@dataclass(frozen=True)
class VideoRecipe:
    """Numbers of the stage; the same names stand in the recipe file.

    tubes: most after the key frame; every batch has 1 to so many. lengths: shares of the batches by how many
    frames a tube holds, most first (see `TokenizerConfig.tube_lengths`); length_rates: rate_range of each,
    where they differ. quarters: share of the batches of tubes of more than one frame that have vectors in
    quarters of a pixel. run_in: at most so many tubes before those, coded but not trained, so that tubes also
    see what a memory is like that has been going on for long. future: how much more the distortion of the
    last tube counts, for those that would draw on it: without, tubes of short clips learn to save bits that
    the ones after them would live on. chains: above 0, so many batches of GOPs are under way at once, and a
    step trains the next tubes of one of them, from the memory that its last step left: tubes see all that a
    long GOP does to a memory, without being coded again for it (run_in is not used then). chain_frames: of
    such a GOP, after the key frame. moving_pictures: share of the clips that
    are pictures set in motion, where the data has pictures. freeze_key: train only what key frames do not
    use, so that their tokens, and a prior trained on them, stay as they are. stills: crops of pictures beside
    every batch of clips, still_crop pixels along a side, of all rates, for key frames that are to stay good.
    memory_noise: relative, so that rounding errors do not grow. steps: weight of the squared error of the
    steps from frame to frame, against flicker. grain: weight of `relative_error`, in units of the root of
    lambda: of so much the rest of D grows with it, about.
    """

    batch: int = 2
    crop: int = 192
    tubes: int = 4
    lengths: tuple[float, ...] = (1.0,)
    length_rates: tuple[tuple[int, int], ...] = ()
    quarters: float = 0.0
    run_in: int = 0
    future: float = 0.0
    chains: int = 0
    chain_frames: int = 64
    moving_pictures: float = 0.4
    freeze_key: bool = True
    stills: int = 0
    still_crop: int = 256
    memory_noise: float = 0.02
    steps: float = 0.0
    grain: float = 0.0
    rate_warmup: float = 0.15
    full_levels: float = 0.9
    softness: float = 0.002
    rate_range: tuple[int, int] = (0, RATE_STEPS)
    widen: tuple[float, float] = (1.0, 1.0)
    distortion: DistortionWeights = field(default_factory=DistortionWeights)


class VideoObjective(nn.Module):
    """Clips -> loss, the mean over the blocks of D + lambda * bpp; lambda of key frames is lower, as it will
    be in the encoder. Stills count as much as clips."""

    def __init__(self, ladder: Ladder, recipe: VideoRecipe, device: torch.device) -> None:
        super().__init__()
        self.ladder, self.recipe, self.device = ladder, recipe, device
        self.left: Memory | None = None  # by the last clips that were passed through
        self._key, self._tube = self._key_block, self._tube_block

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """One graph a kind of block, used again for every tube; none for key frames that are not trained."""
        if not self.recipe.freeze_key:
            self._key = torch.compile(self._key_block, *args, **kwargs)
        self._tube = torch.compile(self._tube_block, *args, **kwargs)

    def forward(
        self,
        x_BTCHW: Tensor,
        log_lambda_B1: Tensor,
        keep: Tensor,
        warm: Tensor,
        form: TubeForm,
        run_in: int,
        memory: Memory | None = None,
        stills_BTCHW: Tensor | None = None,
        stills_log_lambda_B1: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """form: of the tubes. run_in: those that are not trained. memory: of what came before the clips,
        whose first frame then only says what the tubes step away from. stills_BTCHW: T = 1."""
        loss, count = x_BTCHW.new_zeros(()), 0
        figures: dict[str, Tensor] = {}
        if memory is None:
            with torch.set_grad_enabled(not self.recipe.freeze_key and torch.is_grad_enabled()):
                key_log_lambda_B1 = self.ladder.config.key_log_lambda(log_lambda_B1)
                loss, figures, memory = self._key(x_BTCHW[:, :1], key_log_lambda_B1, keep, warm)
            count = 1
        # Each with the frame before.
        blocks = x_BTCHW.unfold(1, 1 + form.frames, form.frames).movedim(-1, 2).unbind(1)
        if self.recipe.freeze_key:
            loss = loss.detach()
        with torch.no_grad():
            for block in blocks[:run_in]:
                _, _, memory = self._tube(block, log_lambda_B1, keep, warm, memory, form)
        blocks = blocks[run_in:]
        for number, block in enumerate(blocks, 1):
            # D counts once more for the tubes to come, its rate does not.
            weight = 1 + self.recipe.future * (number == len(blocks))
            lost, parts, memory = self._tube(block, log_lambda_B1, keep, warm / weight, memory, form)
            loss = loss + weight * lost
            figures |= {name: figures.get(name, 0) + value / len(blocks) for name, value in parts.items()}
        loss = loss / (count + len(blocks))
        self.left = Memory(*(part.detach() for part in memory))
        if stills_BTCHW is not None and stills_log_lambda_B1 is not None:
            lost, parts, _ = self._key(stills_BTCHW, stills_log_lambda_B1, keep, torch.ones_like(warm))
            loss = loss + lost
            figures |= {"still_bpp": parts["key_bpp"], "still_loss": lost.detach()}
        return loss, figures

    def _key_block(
        self, x_BTCHW: Tensor, log_lambda_B1: Tensor, keep: Tensor, warm: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Memory]:
        loss, bpp, _, out = self._block(BlockKind.KEY, x_BTCHW, log_lambda_B1, keep, warm, None)
        return loss, {"key_bpp": bpp}, out.memory

    def _tube_block(
        self,
        x_BTCHW: Tensor,
        log_lambda_B1: Tensor,
        keep: Tensor,
        warm: Tensor,
        memory: Memory,
        form: TubeForm,
    ) -> tuple[Tensor, dict[str, Tensor], Memory]:
        """x_BTCHW: of the tube, after the frame before it."""
        noisy = memory._replace(
            at8=self._disturbed(memory.at8),
            at16=self._disturbed(memory.at16),
            at32=self._disturbed(memory.at32),
        )
        x_tube = x_BTCHW[:, 1:]
        loss, bpp, figures, out = self._block(BlockKind.TUBE, x_tube, log_lambda_B1, keep, warm, noisy, form)
        shown = torch.cat([memory.frame[:, None], out.frames_BTCHW], 1)
        steps = (shown - x_BTCHW).diff(dim=1).square().mean()
        figures |= {"tube_bpp": bpp, "steps_mse": steps.detach()}
        return loss + self.recipe.steps * steps, figures, out.memory

    def _disturbed(self, x: Tensor) -> Tensor:
        return x + self.recipe.memory_noise * x.detach().abs().mean() * torch.randn_like(x)

    def _block(
        self,
        kind: BlockKind,
        x_BTCHW: Tensor,
        log_lambda_B1: Tensor,
        keep: Tensor,
        warm: Tensor,
        memory: Memory | None,
        form: TubeForm | None = None,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor], BlockOutput]:
        B, T, _, H, W = x_BTCHW.shape
        with half_precision(self.device):
            out: BlockOutput = self.ladder(
                kind, log_lambda_B1, frames_BTCHW=x_BTCHW, memory=memory, form=form, keep=keep, rated=True
            )
        y_BCHW, x_BCHW = out.frames_BTCHW.flatten(0, 1), x_BTCHW.flatten(0, 1)
        lost, figures = distortion(y_BCHW, x_BCHW, self.recipe.distortion)
        if self.recipe.grain:
            weight = self.recipe.grain * (log_lambda_B1 / 2).exp()
            lost = lost + (weight * relative_error(y_BCHW, x_BCHW).view(B, T)).flatten()
        bits_lB = torch.stack(out.rate_bits_B) * keep[:, None]
        bpp_B = bits_lB.sum(0) / (T * H * W)
        loss_B = lost.view(B, T).mean(1) + warm * log_lambda_B1.exp()[:, 0] * bpp_B
        return loss_B.mean() + self.recipe.softness * out.softness, bpp_B.mean(), figures, out


@dataclass
class _Chain:
    """GOPs that are trained step by step. clips: (B, T, C, H, W), uint8. form: of their tubes. place: of the
    frame seen last; there is no memory before the first step."""

    clips_BTCHW: Tensor
    log_lambda_B1: Tensor
    form: TubeForm
    place: int = 0
    memory: Memory | None = None

    @property
    def tubes(self) -> int:
        """That are left."""
        return (self.clips_BTCHW.shape[1] - 1 - self.place) // self.form.frames


class VideoTask:
    """Key frames and tubes. With chains, a run that is resumed begins them anew."""

    def __init__(
        self,
        model: Ladder,
        sampler: ClipSampler | MixedSampler,
        recipe: VideoRecipe,
        device: torch.device,
        seed: int = 0,
        stills: CropSampler | None = None,
    ) -> None:
        self.model, self.sampler, self.recipe, self.device, self.seed = model, sampler, recipe, device, seed
        self.stills = stills
        if recipe.freeze_key:
            model.requires_grad_(False)
            for part in (model.ends[BlockKind.TUBE.label], model.recall):
                part.requires_grad_(True)
        self.config = model.config.to_dict()
        self.helper: nn.Module | None = None
        self.objective = VideoObjective(model, recipe, device)
        self._chains: dict[int, _Chain] = {}
        self._current: _Chain | None = None

    def batch(self, step: int, rank: int, progress: float) -> tuple[Any, ...]:
        """A batch of clips, log lambda, levels kept, share of the rate term, form of the tubes, how many are
        not trained, memory of what came before; stills and their log lambda."""
        source = random.Random(f"{self.seed} {step} {rank}")
        recipe, config = self.recipe, self.model.config
        if recipe.chains:
            parts = self._next_of_a_chain(source, progress)
        else:
            form, rated = self._form(source, recipe.lengths)
            run_in = source.randint(0, recipe.run_in)
            count = run_in + source.randint(1, recipe.tubes)
            x = self.sampler.draw(recipe.batch, source, 1 + count * form.frames)
            parts = [x, *draw_conditions(config, rated, source, progress), form, run_in, None]
        if self.stills is not None:
            count = recipe.stills
            rates = [source.uniform(0, RATE_STEPS) for _ in range(count)]
            parts.append(self.stills.draw(count, source)[:, None])
            parts.append(log_lambdas(config, rates))
        return tuple(
            part.to(self.device, non_blocking=True) if isinstance(part, Tensor) else part for part in parts
        )

    def _form(self, source: random.Random, shares: Sequence[float]) -> tuple[TubeForm, VideoRecipe]:
        """Of tubes, drawn by the shares of each length, and the recipe with its rates."""
        recipe = self.recipe
        which = source.choices(range(len(shares)), shares)[0]
        rated = replace(recipe, rate_range=recipe.length_rates[which]) if recipe.length_rates else recipe
        frames = self.model.config.tube_lengths[which]
        return TubeForm(frames, quarters=frames > 1 and source.random() < recipe.quarters), rated

    def _next_of_a_chain(self, source: random.Random, progress: float) -> list[Any]:
        """What `batch` has of clips: the next tubes of one of the chains."""
        recipe = self.recipe
        if self._current is not None:
            self._current.memory = self.objective.left
        number = source.randrange(recipe.chains)
        # Of longer tubes fewer make a GOP: for shares of the steps, they begin more of them.
        lengths = self.model.config.tube_lengths
        shares = [share * frames for share, frames in zip(recipe.lengths, lengths, strict=False)]
        form, rated = self._form(source, shares)
        log_lambda_B1, keep, warm = draw_conditions(self.model.config, rated, source, progress)
        chain = self._chains.get(number)
        if chain is None or not chain.tubes:
            # The first ones end early, so that those under way are of all ages.
            most = recipe.chain_frames // form.frames
            count = source.randint(1, most) if chain is None else most
            clips = self.sampler.draw(recipe.batch, source, 1 + count * form.frames)
            chain = _Chain((clips * 255).round().to(torch.uint8), log_lambda_B1, form)
            self._chains[number] = chain
        first = chain.place
        chain.place += min(chain.tubes, source.randint(1, recipe.tubes)) * chain.form.frames
        x = chain.clips_BTCHW[:, first : chain.place + 1].float() / 255
        self._current = chain
        return [x, chain.log_lambda_B1, keep, warm, chain.form, 0, chain.memory]
