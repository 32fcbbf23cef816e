"""The masked language model: groups of bits, masking, sampling, the file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsqcodec.errors import InputError, ModelError
from bsqcodec.generator import files
from bsqcodec.generator.masked_lm import MASKED, GeneratorConfig, MaskedLm, bits_of, codes_of
from bsqcodec.generator.sampling import SamplingOptions, generate, masked_share
from bsqcodec.tokenizer.bsqvit import BsqVit
from bsqcodec.tokenizer.bsqvit_config import BSQVIT_PRESETS

TINY = BSQVIT_PRESETS["bsqvit-tiny"]
CONFIG = GeneratorConfig(TINY, ("cats", "dogs"), width=16, depth=2, heads=2, group_bits=4)


def model(seed: int = 0) -> MaskedLm:
    torch.manual_seed(seed)
    return MaskedLm(CONFIG).initialise().eval().requires_grad_(False)


def made(language: Any, label: list[int], options: SamplingOptions, seed: int = 0) -> torch.Tensor:
    return generate(language, torch.tensor(label), options, torch.Generator().manual_seed(seed))


class Known(torch.nn.Module):
    """Stands for a model that is certain of the picture of each class, and unsure without a class."""

    no_class = 2
    config = CONFIG

    def __init__(self, pictures_CNG: torch.Tensor) -> None:
        super().__init__()
        self.pictures = pictures_CNG
        self.masked: list[int] = []

    def forward(self, codes_BNG: torch.Tensor, label_B: torch.Tensor) -> Sequence[torch.Tensor]:
        self.masked.append(int((codes_BNG[0, :, 0] == MASKED).sum()))
        shown = codes_BNG != MASKED
        known = label_B != self.no_class
        if known.all():
            assert torch.equal(codes_BNG[shown], self.pictures[label_B][shown])
        return [
            30.0
            * known[:, None, None]
            * torch.nn.functional.one_hot(self.pictures[label_B.clamp(max=1)][..., g], 2**bits)
            for g, bits in enumerate(CONFIG.groups)
        ]


@pytest.mark.parametrize(
    ("bits", "groups"), [(6, (6,)), (9, (9,)), (18, (9, 9)), (36, (9,) * 4), (20, (7, 7, 6))]
)
def test_groups_have_at_most_nine_bits(bits: int, groups: tuple[int, ...]) -> None:
    tokenizer = BSQVIT_PRESETS["bsqvit-18"].from_dict({"bits": bits})
    assert GeneratorConfig(tokenizer, ("a",)).groups == groups


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 4), st.integers(0, 99))
def test_bits_and_codes_are_the_same_thing(groups: list[int], side: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 2, (2, side, side, sum(groups)), generator=random).to(torch.uint8)
    assert torch.equal(bits_of(codes_of(bits, tuple(groups)), tuple(groups)), bits)


def test_the_first_bit_of_a_group_is_the_highest() -> None:
    bits = torch.tensor([1, 0, 0, 0, 1]).reshape(1, 1, 1, 5)
    assert codes_of(bits, (3, 2)).tolist() == [[[4, 1]]]


def test_masked_positions_tell_nothing() -> None:
    """Logits depend on what is shown and on the class, and on nothing else."""
    language = model()
    codes = torch.randint(0, 8, (1, CONFIG.positions, 2), generator=torch.Generator().manual_seed(1))
    shown = codes.clone()
    shown[:, 5] = MASKED
    before = language(shown, torch.tensor([0]))
    assert [tuple(part.shape) for part in before] == [(1, 16, 8), (1, 16, 8)]
    for change in (shown.scatter(1, torch.full((1, 1, 2), 3), 7), None):
        other = language(shown if change is None else change, torch.tensor([1 if change is None else 0]))
        assert (other[0][0, 5] - before[0][0, 5]).abs().max() > 1e-6


def test_sampling_follows_the_cosine_and_the_class() -> None:
    pictures = torch.randint(0, 8, (2, CONFIG.positions, 2), generator=torch.Generator().manual_seed(2))
    known = Known(pictures)
    codes = made(known, [0, 1, 1], SamplingOptions(steps=4, guidance=0.0))
    assert torch.equal(codes, pictures[[0, 1, 1]])
    assert known.masked == [16, *(int(16 * math.cos(math.pi / 8 * step)) for step in (1, 2, 3))]


def test_guidance_sharpens() -> None:
    """uncond + (1 + alpha) (cond - uncond): with none, a class that is hardly known gives anything."""

    class Weak(Known):
        def forward(self, codes_BNG: torch.Tensor, label_B: torch.Tensor) -> list[torch.Tensor]:
            return [logits / 20 for logits in super().forward(codes_BNG, label_B)]

    def hits(guidance: float) -> int:
        weak = Weak(torch.zeros(2, CONFIG.positions, 2, dtype=torch.int64))
        return int((made(weak, [0] * 8, SamplingOptions(steps=1, guidance=guidance)) == 0).sum())

    assert hits(0.0) < 200 < hits(3.0)  # of 256


def test_the_seed_decides() -> None:
    first, again, other = (made(model(), [0, 1], SamplingOptions(steps=3), seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 7


def test_more_steps_than_positions_end_with_nothing_masked() -> None:
    assert int(made(model(), [0], SamplingOptions(steps=40)).min()) >= 0
    assert [round(masked_share(x), 3) for x in (0, 0.5, 1)] == [1.0, 0.707, 0.0]


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"temperature": -1.0}, {"guidance": math.nan}])
def test_options_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected at least one step"):
        SamplingOptions(**wrong)  # type: ignore[arg-type]


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    language, tokenizer = model(), BsqVit(TINY).initialise()
    files.save(path, "pets", language, tokenizer)
    loaded = files.load(path)
    assert loaded.language.config == CONFIG
    options = SamplingOptions(steps=2)
    pictures = list(loaded.pictures(loaded.label("dogs"), 20, 3, options))  # more than at once
    assert [picture.shape for picture in pictures] == [(32, 32, 3)] * 20
    again = files.Generator(language, tokenizer.requires_grad_(False)).pictures(1, 20, 3, options)
    assert all((one == other).all() for one, other in zip(pictures, again, strict=True))
    assert (pictures[0] != pictures[16]).any()
    assert [loaded.label(name) for name in ("cats", "1", None)] == [0, 1, 2]
    with pytest.raises(InputError, match="class birds: not one of this generator, which has cats, dogs"):
        loaded.label("birds")


def test_files_that_hold_no_generator(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        files.load(tmp_path / "missing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ModelError, match="not a bsqcodec weights file"):
        files.load(tmp_path / "text")
    from bsqcodec import model as models

    with pytest.raises(ModelError, match="holds no generator"):
        files.load(models.find("base"))
    for broken in ({"classes": ["a"]}, CONFIG.to_dict() | {"classes": []}, CONFIG.to_dict() | {"heads": 3}):
        with pytest.raises(ModelError):
            GeneratorConfig.from_dict(broken)
