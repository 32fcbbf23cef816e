"""The paper's tokenizer: BSQ-ViT for pictures, BSQ-bcViT for clips (arXiv 2406.07548, section 4).

# B batch · T frames · C = 3 · H, W pixels or token grid · N = H*W tokens a frame · D width · L bits a token
# S tokens of all frames at hand · h heads · d channels of a head · p = 3 * patch**2

Names and shapes of the parameters are those of the authors' code, so that their checkpoints fit as they are.
A token attends to all tokens of its own frame and of the frames before it, in the encoder and in the decoder
alike. So frames can be given one by one with a cache of keys and values, to the same result.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsqcodec.tokenizer import bsq
from bsqcodec.tokenizer.bsqvit_config import BsqVitConfig

INITIAL_STD = 0.02


@dataclass
class Cache:
    """Keys and values of the frames seen so far, (B, h, S, d) per block."""

    frames: int = 0
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def extend(self, block: int, k_BhSd: Tensor, v_BhSd: Tensor) -> tuple[Tensor, Tensor]:
        """Put the new frames behind the others; keys and values of all of them."""
        if block == len(self.keys):
            self.keys.append(k_BhSd)
            self.values.append(v_BhSd)
        else:
            self.keys[block] = torch.cat([self.keys[block], k_BhSd], 2)
            self.values[block] = torch.cat([self.values[block], v_BhSd], 2)
        return self.keys[block], self.values[block]


def block_causal_mask(new: int, before: int, tokens: int, device: torch.device) -> Tensor | None:
    """Which tokens see which, (new * tokens, (before + new) * tokens) bool: own and earlier frames.

    None for a single new frame, which sees everything there is.
    """
    if new == 1:
        return None
    own = torch.arange(before, before + new, device=device).repeat_interleave(tokens)
    seen = torch.arange(before + new, device=device).repeat_interleave(tokens)
    return seen <= own[:, None]


class Attention(nn.Module):
    """Multi-head attention, with the parameters of torch's MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x_BSD: Tensor, mask: Tensor | None, cache: Cache | None, block: int) -> Tensor:
        B, S, D = x_BSD.shape
        qkv = F.linear(x_BSD, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.reshape(B, S, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = cache.extend(block, k, v)
        out_BhSd = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(out_BhSd.transpose(1, 2).reshape(B, S, D))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Two layers, four times as wide in between, exact GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x)))  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """Attention and MLP, pre-norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x_BSD: Tensor, mask: Tensor | None, cache: Cache | None, block: int) -> Tensor:
        x_BSD = x_BSD + self.attn(self.ln_1(x_BSD), mask, cache, block)
        return x_BSD + self.mlp(self.ln_2(x_BSD))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """The residual blocks, under the name they have in the authors' files."""

    def __init__(self, config: BsqVitConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualBlock(config.width, config.heads) for _ in range(config.depth))

    def forward(self, x_BSD: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        for number, block in enumerate(self.resblocks):
            x_BSD = block(x_BSD, mask, cache, number)
        return x_BSD


class Half(nn.Module):
    """What encoder and decoder have in common: positions, norms, blocks."""

    def __init__(self, config: BsqVitConfig) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(config.side**2, config.width))
        if config.frames > 1:
            self.temporal_positional_embedding = nn.Parameter(torch.zeros(config.frames, config.width))
        self.frames = config.frames
        self.ln_pre = nn.LayerNorm(config.width)
        self.transformer = Transformer(config)
        self.ln_post = nn.LayerNorm(config.width)

    def run(self, x_BTND: Tensor, cache: Cache | None) -> Tensor:
        """The features of the frames given, (B, T, N, D); those in the cache come before them."""
        B, T, N, D = x_BTND.shape
        before = cache.frames if cache is not None else 0
        if before + T > self.frames:
            raise ValueError(f"{before + T} frames, the model holds {self.frames}")
        x_BTND = x_BTND + self.positional_embedding
        if self.frames > 1:
            x_BTND = x_BTND + self.temporal_positional_embedding[before : before + T, None]
        mask = block_causal_mask(T, before, N, x_BTND.device)
        x_BSD = self.transformer(self.ln_pre(x_BTND.reshape(B, T * N, D)), mask, cache)
        if cache is not None:
            cache.frames += T
        return self.ln_post(x_BSD).reshape(B, T, N, D)  # type: ignore[no-any-return]


class Encoder(Half):
    """Patches to features."""

    def __init__(self, config: BsqVitConfig) -> None:
        super().__init__(config)
        self.conv1 = nn.Linear(3 * config.patch**2, config.width, bias=False)

    def forward(self, patches_BTNp: Tensor, cache: Cache | None = None) -> Tensor:
        return self.run(self.conv1(patches_BTNp), cache)


class Decoder(Half):
    """Embedded tokens to patches, through a head of Linear, Tanh, Linear."""

    def __init__(self, config: BsqVitConfig) -> None:
        super().__init__(config)
        self.ffn = nn.Sequential(nn.Linear(config.width, 4 * config.width), nn.Tanh())
        self.conv_out = nn.Linear(4 * config.width, 3 * config.patch**2)

    def forward(self, x_BTND: Tensor, cache: Cache | None = None) -> Tensor:
        return self.conv_out(self.ffn(self.run(x_BTND, cache)))  # type: ignore[no-any-return]


class BsqVit(nn.Module):
    """Encoder, quantiser, decoder. All frames are config.image_size pixels square, R'G'B' in 0..1."""

    def __init__(self, config: BsqVitConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quant_embed = nn.Linear(config.width, config.bits)
        self.post_quant_embed = nn.Linear(config.bits, config.width)
        self.decoder = Decoder(config)

    def initialise(self) -> BsqVit:
        """Draw new weights as the authors do: normal of deviation .02, biases and temporal embeddings 0."""
        for name, parameter in self.named_parameters():
            if ".temporal_" in name or name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif ".ln_" in name:
                nn.init.ones_(parameter)
            else:
                nn.init.trunc_normal_(parameter, std=INITIAL_STD)
        return self

    def sphere(self, frames_BTCHW: Tensor, cache: Cache | None = None) -> Tensor:
        """The points u on the unit sphere in R^L, (B, T, H, W, L) float32."""
        side, patch = self.config.side, self.config.patch
        x = frames_BTCHW * 2 - 1 if self.config.signed_pixels else frames_BTCHW
        B, T = x.shape[:2]
        x = x.reshape(B, T, 3, side, patch, side, patch).permute(0, 1, 3, 5, 2, 4, 6)
        features = self.encoder(x.reshape(B, T, side * side, 3 * patch * patch), cache)
        return bsq.project(self.quant_embed(features)).reshape(B, T, side, side, -1)

    def bits(self, u_BTHWL: Tensor) -> Tensor:
        """{0, 1} float32, 1 where u > 0; of an exact 0 as the configuration says."""
        return bsq.signs(u_BTHWL) if self.config.zero_bit else (u_BTHWL > 0).float()

    def pixels(self, corners_BTHWL: Tensor, cache: Cache | None = None) -> Tensor:
        """The frames that corners +-1/sqrt(L) mean, (B, T, 3, H, W) around 0..1, not clamped, float32."""
        side, patch = self.config.side, self.config.patch
        B, T = corners_BTHWL.shape[:2]
        tokens_BTND = self.post_quant_embed(corners_BTHWL.reshape(B, T, side * side, -1))
        x = self.decoder(tokens_BTND, cache).float().reshape(B, T, side, side, 3, patch, patch)
        x = x.permute(0, 1, 4, 2, 5, 3, 6).reshape(B, T, 3, side * patch, side * patch)
        return (x + 1) / 2 if self.config.signed_pixels else x  # type: ignore[no-any-return]

    def forward(self, frames_BTCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructed frames and points on the sphere; gradients pass the quantiser straight through."""
        u_BTHWL = self.sphere(frames_BTCHW)
        return self.pixels(bsq.straight_through(u_BTHWL, self.bits(u_BTHWL))), u_BTHWL


def with_time(image: BsqVit, frames: int) -> BsqVit:
    """A video model from an image model: temporal embeddings of zero, all else as it is, so that a clip of
    one frame comes out exactly as the picture."""
    video = BsqVit(replace(image.config, frames=frames)).initialise()
    video.load_state_dict(image.state_dict(), strict=False)
    return video
