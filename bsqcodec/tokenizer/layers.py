"""Building blocks of the ladder; tensors are channels-last.

# B batch · H, W token grid · D channels · h heads · d channels of a head · n windows · s window side
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def space_to_depth(x_BHWD: Tensor, factor: int) -> Tensor:
    """(B, H, W, D) -> (B, H/f, W/f, f*f*D)."""
    B, H, W, D = x_BHWD.shape
    x = x_BHWD.reshape(B, H // factor, factor, W // factor, factor, D)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(B, H // factor, W // factor, factor * factor * D)


def depth_to_space(x_BHWD: Tensor, factor: int) -> Tensor:
    """(B, H, W, f*f*D) -> (B, f*H, f*W, D); the inverse of `space_to_depth`."""
    B, H, W, D = x_BHWD.shape
    x = x_BHWD.reshape(B, H, W, factor, factor, D // (factor * factor))
    return x.permute(0, 1, 3, 2, 4, 5).reshape(B, H * factor, W * factor, -1)


@lru_cache(maxsize=64)
def _shift_mask(
    H: int, W: int, side: int, shift: int, height: int, width: int, device: torch.device
) -> Tensor | None:
    """Which keys a query may see, (n, 1, s*s, s*s) as 0 / -inf, for a grid of height x width valid
    positions inside H x W padded ones, rolled by `shift`. Positions that touch only by the roll, and
    padding, are hidden."""
    if not shift and (height, width) == (H, W):
        return None
    rows, columns = torch.arange(H, device=device), torch.arange(W, device=device)
    if shift:
        rows, columns = torch.roll(rows, -shift), torch.roll(columns, -shift)

    def region(index: Tensor, size: int, valid: int) -> Tensor:
        rolled = torch.arange(size, device=device) >= size - shift  # what came round from the other border
        return torch.where(index >= valid, 2, rolled.long() if shift else torch.zeros_like(index))

    ids_HW = region(rows, H, height)[:, None] * 3 + region(columns, W, width)[None, :]
    ids_ns = ids_HW.reshape(H // side, side, W // side, side).permute(0, 2, 1, 3).reshape(-1, side * side)
    same = ids_ns[:, :, None] == ids_ns[:, None, :]
    return torch.zeros_like(same, dtype=torch.float32).masked_fill(~same, float("-inf"))[:, None]


@lru_cache(maxsize=16)
def _offsets(side: int, around: int, device: torch.device) -> Tensor:
    """Where in a table of relative positions the bias of every query and key stands, (s*s, k): of the keys of
    a window that is larger by `around` on each side."""
    with torch.inference_mode(False):  # kept, and training may be next to ask
        near, far = torch.arange(side, device=device), torch.arange(-around, side + around, device=device)
        span = near[:, None] - far[None, :] + side + around - 1
        offsets = span[:, None, :, None] * (2 * (side + around) - 1) + span[None, :, None, :]
        return offsets.reshape(side**2, -1)


def _windows(x_BHWD: Tensor, side: int) -> Tensor:
    """(B, H, W, D) -> (B*n, s*s, D)."""
    B, H, W, D = x_BHWD.shape
    x = x_BHWD.reshape(B, H // side, side, W // side, side * D).transpose(2, 3)
    return x.reshape(-1, side * side, D)


def _from_windows(x_nsD: Tensor, B: int, H: int, W: int, side: int) -> Tensor:
    """(B*n, s*s, D) -> (B, H, W, D)."""
    x = x_nsD.reshape(B, H // side, W // side, side, -1).transpose(2, 3)
    return x.reshape(B, H, W, -1)


def _surroundings(x_BHWD: Tensor, side: int) -> Tensor:
    """Padded (B, 2*s, W+s, D) -> (B*n, 4*s*s, D): what is round each window of a row of them, twice its
    side."""
    D = x_BHWD.shape[-1]
    x = x_BHWD.flatten(2).unfold(2, 2 * side * D, side * D)  # B, rows, windows, columns*D
    return x.transpose(1, 2).reshape(-1, 4 * side * side, D)


def _heads(x_nsD: Tensor, heads: int, parts: int) -> tuple[Tensor, ...]:
    """(n, s, p*h*d) -> p times (n, h, s, d): four dimensions, as the fused attention kernels want them."""
    n, s, D = x_nsD.shape
    return x_nsD.view(n, s, parts, heads, D // (parts * heads)).permute(2, 0, 3, 1, 4).unbind(0)


def _each_sample(bias_nhsk: Tensor, B: int) -> Tensor:
    """(n, h, s*s, k) -> (B*n, h, s*s, k)."""
    return bias_nhsk if B == 1 else bias_nhsk.repeat(B, 1, 1, 1)


class RMSNorm(nn.RMSNorm):
    """As torch's, also for a bf16 state beside a float32 weight (autocast), where torch warns; without a
    gradient in one pass on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        plain = torch.is_grad_enabled() or torch.compiler.is_compiling()
        if plain or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16):
            return F.rms_norm(x, self.normalized_shape, eps=self.eps) * self.weight.to(x.dtype)
        from bsqcodec.tokenizer import kernels  # where one trains numba may be missing

        y = torch.empty(x.shape, dtype=x.dtype)
        rows = [part.reshape(-1, x.shape[-1]) for part in (x, y)]
        weight, epsilon = self.weight.detach().numpy(), torch.finfo(torch.float32).eps
        if x.dtype == torch.float32:
            kernels.rms_norm(rows[0].numpy(), weight, epsilon, rows[1].numpy())
        else:
            x_ND, y_ND = (part.view(torch.uint16).numpy() for part in rows)
            kernels.rms_norm_bf16(x_ND, weight, epsilon, y_ND)
        return y


class WindowAttention(nn.Module):
    """Attention inside windows of side x side positions, every window on its own; any grid size.

    With `shift` the windows are moved by half a window; borders are masked, nothing wraps round.
    """

    def __init__(self, width: int, head_width: int, side: int, shift: bool) -> None:
        super().__init__()
        self.heads, self.side, self.shift = width // head_width, side, side // 2 if shift else 0
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)
        self.bias = nn.Parameter(torch.zeros(self.heads, (2 * side - 1) ** 2))

    def forward(self, x_BHWD: Tensor) -> Tensor:
        B, height, width, _ = x_BHWD.shape
        pad_h, pad_w = -height % self.side, -width % self.side
        x = F.pad(x_BHWD, (0, 0, 0, pad_w, 0, pad_h)) if pad_h or pad_w else x_BHWD
        H, W = height + pad_h, width + pad_w
        # One window along an axis needs no shift there; a grid of one window needs none at all.
        shift = self.shift if max(H, W) > self.side else 0
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        q, k, v = _heads(self.qkv(_windows(x, self.side)), self.heads, 3)
        bias = self.bias[:, _offsets(self.side, 0, x.device)][None]
        mask = _shift_mask(H, W, self.side, shift, height, width, x_BHWD.device)
        if mask is not None:
            bias = _each_sample(bias + mask, B)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        x = _from_windows(self.out(seen.transpose(1, 2).flatten(2)), B, H, W, self.side)
        if shift:
            x = torch.roll(x, (shift, shift), (1, 2))
        return x[:, :height, :width]


class MemoryAttention(nn.Module):
    """Queries in a window of side x side look at the 2*side x 2*side window of the memory around it."""

    def __init__(self, width: int, head_width: int, side: int) -> None:
        super().__init__()
        self.heads, self.side = width // head_width, side
        self.norm_state, self.norm_memory = RMSNorm(width), RMSNorm(width)
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)
        self.carry = nn.Linear(width, width, bias=False)  # what stays where it is
        nn.init.zeros_(self.carry.weight)
        reach = 3 * side - 1
        self.bias = nn.Parameter(torch.zeros(self.heads, reach**2))

    def forward(self, x_BHWD: Tensor, memory_BHWD: Tensor) -> Tensor:
        """What the memory adds to the state, (B, H, W, D)."""
        B, height, width, _ = x_BHWD.shape
        side, half = self.side, self.side // 2
        pad_h, pad_w = -height % side, -width % side
        H, W = height + pad_h, width + pad_w
        memory = self.norm_memory(memory_BHWD)
        q_BHWD = F.pad(self.q(self.norm_state(x_BHWD)), (0, 0, 0, pad_w, 0, pad_h))
        around = (0, 0, half, half + pad_w, half, half + pad_h)
        kv = F.pad(self.kv(memory), around)
        hidden = F.pad(kv.new_zeros(1, height, width, 1), around, value=float("-inf"))
        bias = self.bias[:, _offsets(side, half, kv.device)][None].to(kv.dtype)
        strips: list[Tensor] = []
        masks: dict[int, Tensor] = {}
        for top in range(0, H, side):  # a row of windows at a time: keys and masks stay in a CPU's caches
            rows = slice(top, top + 2 * side)
            (q,) = _heads(_windows(q_BHWD[:, top : top + side], side), self.heads, 1)
            k, v = _heads(_surroundings(kv[:, rows], side), self.heads, 2)
            inner = half <= top <= height - side - half  # of all of these rows the mask is the same
            number = -1 if inner else top
            if number not in masks:
                mask_n11k = _surroundings(hidden[:, rows], side)[:, None].movedim(-1, -2)
                masks[number] = _each_sample(bias + mask_n11k, B)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=masks[number])
            strips.append(_from_windows(out.transpose(1, 2).flatten(2), B, side, W, side))
        seen = torch.cat(strips, 1)[:, :height, :width]
        return self.carry(memory) + self.out(seen)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Depthwise 3x3 (position comes from here), windowed attention if asked for, MLP; pre-norm, residual."""

    def __init__(
        self,
        width: int,
        head_width: int,
        side: int,
        *,
        shift: bool = False,
        attention: bool = True,
        ratio: int = 4,
    ) -> None:
        super().__init__()
        self.local = nn.Conv2d(width, width, 3, padding=1, groups=width)
        nn.init.zeros_(self.local.weight)
        nn.init.zeros_(self.local.bias)  # type: ignore[arg-type]
        self.attention = WindowAttention(width, head_width, side, shift) if attention else None
        self.norm_attention = RMSNorm(width) if attention else None
        self.norm_mlp = RMSNorm(width)
        self.wide = nn.Linear(width, ratio * width)
        self.narrow = nn.Linear(ratio * width, width)
        nn.init.zeros_(self.narrow.weight)

    def forward(self, x_BHWD: Tensor) -> Tensor:
        x = x_BHWD + self.local(x_BHWD.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        if self.attention is not None and self.norm_attention is not None:
            x = x + self.attention(self.norm_attention(x))
        return x + self.narrow(F.gelu(self.wide(self.norm_mlp(x))))  # type: ignore[no-any-return]


def stack(width: int, depth: int, head_width: int, side: int, *, ratio: int = 4) -> nn.Sequential:
    """`depth` blocks, every second one with shifted windows."""
    return nn.Sequential(
        *(Block(width, head_width, side, shift=bool(i % 2), ratio=ratio) for i in range(depth))
    )
