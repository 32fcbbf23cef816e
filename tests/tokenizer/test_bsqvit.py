"""BSQ-ViT and BSQ-bcViT against their published layout and against a slow reference."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import plain_bsqvit
import pytest
import torch

from bsqcodec.errors import ModelError
from bsqcodec.tokenizer import bsq
from bsqcodec.tokenizer.bsqvit import BsqVit, Cache, block_causal_mask, with_time
from bsqcodec.tokenizer.bsqvit_config import BSQVIT_PRESETS, BsqVitConfig

TINY = BSQVIT_PRESETS["bsqvit-tiny"]
CLIP = dataclasses.replace(TINY, frames=4)


def random_model(config: BsqVitConfig, seed: int = 0, std: float = 0.15) -> BsqVit:
    """Weights large enough for every part to matter."""
    generator = torch.Generator().manual_seed(seed)
    model = BsqVit(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    return model


def shapes(preset: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = BsqVit(BSQVIT_PRESETS[preset])
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def published_shapes(bits: int, frames: int = 1, tokens: int = 1024) -> dict[str, tuple[int, ...]]:
    """What the authors' checkpoints hold (patch 8), without prefixes and the quantiser's buffers."""
    found: dict[str, tuple[int, ...]] = {"encoder.conv1.weight": (768, 192)}
    for half in ("encoder", "decoder"):
        found[f"{half}.positional_embedding"] = (tokens, 768)
        if frames > 1:
            found[f"{half}.temporal_positional_embedding"] = (frames, 768)
        for norm, end in itertools.product(("ln_pre", "ln_post"), ("weight", "bias")):
            found[f"{half}.{norm}.{end}"] = (768,)
        for number in range(12):
            block = f"{half}.transformer.resblocks.{number}"
            for norm, end in itertools.product(("ln_1", "ln_2"), ("weight", "bias")):
                found[f"{block}.{norm}.{end}"] = (768,)
            found |= {
                f"{block}.attn.in_proj_weight": (2304, 768),
                f"{block}.attn.in_proj_bias": (2304,),
                f"{block}.attn.out_proj.weight": (768, 768),
                f"{block}.attn.out_proj.bias": (768,),
                f"{block}.mlp.c_fc.weight": (3072, 768),
                f"{block}.mlp.c_fc.bias": (3072,),
                f"{block}.mlp.c_proj.weight": (768, 3072),
                f"{block}.mlp.c_proj.bias": (768,),
            }
    return found | {
        "decoder.ffn.0.weight": (3072, 768),
        "decoder.ffn.0.bias": (3072,),
        "decoder.conv_out.weight": (192, 3072),
        "decoder.conv_out.bias": (192,),
        "quant_embed.weight": (bits, 768),
        "quant_embed.bias": (bits,),
        "post_quant_embed.weight": (768, bits),
        "post_quant_embed.bias": (768,),
    }


@pytest.mark.parametrize(("preset", "bits"), [("bsqvit-18", 18), ("bsqvit-36", 36)])
def test_names_and_shapes_are_the_published_ones(preset: str, bits: int) -> None:
    assert shapes(preset) == published_shapes(bits)


def test_the_video_model_adds_temporal_embeddings_alone() -> None:
    assert shapes("bsqbcvit-18") == published_shapes(18, frames=16, tokens=256)


@pytest.mark.parametrize(
    ("preset", "count"), [("bsqvit-18", 174_816_210), ("bsqvit-36", 174_816_210 + 27_666)]
)
def test_number_of_parameters(preset: str, count: int) -> None:
    with torch.device("meta"):
        model = BsqVit(BSQVIT_PRESETS[preset])
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("config", [TINY, dataclasses.replace(TINY, frames=3)])
def test_equals_the_slow_reference(config: BsqVitConfig) -> None:
    model = random_model(config)
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    clip = np.random.default_rng(1).random((config.frames, 3, config.image_size, config.image_size))
    u = model.sphere(torch.from_numpy(clip).float()[None])
    expected = np.array(plain_bsqvit.sphere(clip, weights, config))
    np.testing.assert_allclose(u.reshape(-1, config.bits).numpy(), expected, atol=1e-5)
    bits = (expected > 0).astype(np.float64)
    y = model.pixels(bsq.corners(torch.from_numpy(bits).reshape(u.shape)))
    np.testing.assert_allclose(
        y[0].numpy(), plain_bsqvit.pixels(list(bits), weights, config, config.frames), atol=1e-5
    )


def test_attention_of_full_width_equals_torchs_own() -> None:
    config = dataclasses.replace(BSQVIT_PRESETS["bsqvit-18"], image_size=32, depth=1)
    block: Any = random_model(config, std=0.03).encoder.transformer.resblocks[0]
    plain = torch.nn.MultiheadAttention(768, 12, batch_first=True)
    plain.load_state_dict(block.attn.state_dict())
    x = torch.randn(2, 16, 768, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = plain(x, x, x, need_weights=False)[0]
    torch.testing.assert_close(block.attn(x, None, None, 0), expected, atol=1e-5, rtol=1e-5)


def test_a_clip_of_one_frame_equals_the_image_model() -> None:
    image = random_model(TINY)
    video = with_time(image, 16)
    frame = torch.rand(2, 1, 3, TINY.image_size, TINY.image_size, generator=torch.Generator().manual_seed(3))
    for ours, theirs in zip(video(frame), image(frame), strict=True):
        assert torch.equal(ours, theirs)


def test_streaming_equals_the_parallel_pass() -> None:
    model = random_model(CLIP)
    clip = torch.rand(2, 4, 3, CLIP.image_size, CLIP.image_size, generator=torch.Generator().manual_seed(4))
    u = model.sphere(clip)
    y = model.pixels(bsq.corners(model.bits(u)))
    for lengths in ((1, 1, 1, 1), (2, 1, 1), (1, 3)):
        analysis, synthesis = Cache(), Cache()
        u_parts = [model.sphere(part, analysis) for part in clip.split(lengths, 1)]
        torch.testing.assert_close(torch.cat(u_parts, 1), u, atol=1e-5, rtol=1e-5)
        y_parts = [model.pixels(bsq.corners(model.bits(part)), synthesis) for part in u.split(lengths, 1)]
        torch.testing.assert_close(torch.cat(y_parts, 1), y, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="5 frames, the model holds 4"):
        model.sphere(clip[:, :1], analysis)


def test_a_later_frame_changes_nothing_earlier() -> None:
    model = random_model(CLIP)
    clip = torch.rand(1, 4, 3, CLIP.image_size, CLIP.image_size, generator=torch.Generator().manual_seed(5))
    changed = clip.clone()
    changed[:, 2] = 1 - changed[:, 2]
    u, other = model.sphere(clip), model.sphere(changed)
    torch.testing.assert_close(u[:, :2], other[:, :2], atol=1e-6, rtol=0)
    assert (u[:, 2] - other[:, 2]).abs().max() > 1e-2
    assert (u[:, 3] - other[:, 3]).abs().max() > 1e-3  # the past is seen


def test_block_causal_mask() -> None:
    mask = block_causal_mask(2, 1, 2, torch.device("cpu"))
    assert mask is not None
    assert mask.int().tolist() == [[1, 1, 1, 1, 0, 0]] * 2 + [[1] * 6] * 2


@pytest.mark.parametrize("zero_bit", [0, 1])
def test_the_bit_of_zero_is_a_matter_of_the_configuration(zero_bit: int) -> None:
    model = BsqVit(dataclasses.replace(TINY, zero_bit=zero_bit))
    assert model.bits(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0, zero_bit, 1]


def test_configuration_round_trip_and_faults() -> None:
    for config in BSQVIT_PRESETS.values():
        assert BsqVitConfig.from_dict(config.to_dict()) == config
    for broken in ({"bits": 0}, {"image_size": 100}, {"width": 100}, {"zero_bit": 2}, {"bits": "18"}):
        with pytest.raises(ModelError):
            BsqVitConfig.from_dict(broken)
    with pytest.raises(ModelError, match="unexpected keyword"):
        BsqVitConfig.from_dict({"depht": 3})


@pytest.mark.parametrize(
    ("size", "overlap", "tiles"),
    [(1, 0, 1), (256, 0, 1), (257, 0, 2), (768, 0, 3), (768, 32, 4), (480, 32, 2), (481, 32, 3)],
)
def test_tiles_cover_the_frame(size: int, overlap: int, tiles: int) -> None:
    config = BSQVIT_PRESETS["bsqvit-18"]
    assert config.tiles(size, overlap) == tiles
    assert tiles * (256 - overlap) + overlap >= size
