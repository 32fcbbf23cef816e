"""BSQ-ViT, slow and obvious: the paper's formulae in numpy float64, token by token, head by head.

Patches are flattened channel, row, column; tokens run over time, then rows, then columns.
"""

import math

import numpy as np

from bsqcodec.tokenizer.bsqvit_config import BsqVitConfig

Weights = dict[str, np.ndarray]


def layer_norm(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    centred = x - x.mean()
    return (
        centred / math.sqrt(float((centred**2).mean()) + 1e-5) * weights[name + ".weight"]
        + weights[name + ".bias"]
    )


def linear(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    return weights[name + ".weight"] @ x + weights[name + ".bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return np.array([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])


def attention(
    tokens: list[np.ndarray], frames: list[int], weights: Weights, name: str, heads: int
) -> list[np.ndarray]:
    """tokens: normed; frames: the frame of each. A token sees those of its own and of earlier frames."""
    width = len(tokens[0])
    size = width // heads
    packed = [weights[name + ".in_proj_weight"] @ token + weights[name + ".in_proj_bias"] for token in tokens]
    result = []
    for i in range(len(tokens)):
        seen = [j for j in range(len(tokens)) if frames[j] <= frames[i]]
        joined = np.zeros(width)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            query = packed[i][part]
            keys = [packed[j][width : 2 * width][part] for j in seen]
            values = [packed[j][2 * width :][part] for j in seen]
            logits = np.array([query @ key / math.sqrt(size) for key in keys])
            share = np.exp(logits - logits.max())
            share /= share.sum()
            joined[part] = sum(s * value for s, value in zip(share, values, strict=True))
        result.append(linear(joined, weights, name + ".out_proj"))
    return result


def transformer(
    tokens: list[np.ndarray], frames: list[int], weights: Weights, half: str, config: BsqVitConfig
) -> list[np.ndarray]:
    per_frame = config.side**2
    x = []
    for number, token in enumerate(tokens):
        token = token + weights[f"{half}.positional_embedding"][number % per_frame]
        if config.frames > 1:
            token = token + weights[f"{half}.temporal_positional_embedding"][frames[number]]
        x.append(layer_norm(token, weights, f"{half}.ln_pre"))
    for number in range(config.depth):
        block = f"{half}.transformer.resblocks.{number}"
        normed = [layer_norm(token, weights, f"{block}.ln_1") for token in x]
        seen = attention(normed, frames, weights, f"{block}.attn", config.heads)
        x = [token + more for token, more in zip(x, seen, strict=True)]
        for i, token in enumerate(x):
            hidden = gelu(linear(layer_norm(token, weights, f"{block}.ln_2"), weights, f"{block}.mlp.c_fc"))
            x[i] = token + linear(hidden, weights, f"{block}.mlp.c_proj")
    return [layer_norm(token, weights, f"{half}.ln_post") for token in x]


def sphere(clip_TCHW: np.ndarray, weights: Weights, config: BsqVitConfig) -> list[np.ndarray]:
    """u of every token."""
    tokens, frames = [], []
    p = config.patch
    for t, frame in enumerate(2 * clip_TCHW - 1):
        for row in range(config.side):
            for column in range(config.side):
                patch = frame[:, row * p : (row + 1) * p, column * p : (column + 1) * p]
                tokens.append(weights["encoder.conv1.weight"] @ patch.reshape(-1))
                frames.append(t)
    features = transformer(tokens, frames, weights, "encoder", config)
    v = [linear(token, weights, "quant_embed") for token in features]
    return [one / math.sqrt(float((one**2).sum())) for one in v]


def pixels(bits: list[np.ndarray], weights: Weights, config: BsqVitConfig, length: int) -> np.ndarray:
    """Frames (T, 3, H, W) of the bits {0, 1} of all tokens."""
    per_frame, p = config.side**2, config.patch
    frames = [number // per_frame for number in range(len(bits))]
    corners = [(2.0 * one - 1) / math.sqrt(config.bits) for one in bits]
    tokens = [linear(corner, weights, "post_quant_embed") for corner in corners]
    clip = np.zeros((length, 3, config.image_size, config.image_size))
    for number, token in enumerate(transformer(tokens, frames, weights, "decoder", config)):
        hidden = np.tanh(linear(token, weights, "decoder.ffn.0"))
        row, column = divmod(number % per_frame, config.side)
        patch = linear(hidden, weights, "decoder.conv_out").reshape(3, p, p)
        clip[frames[number], :, row * p : (row + 1) * p, column * p : (column + 1) * p] = patch
    return (clip + 1) / 2
