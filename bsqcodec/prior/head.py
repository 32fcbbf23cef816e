"""From a cell's features to the counts of its bits: a NADE head over chunks of four bits.

    # N positions · H hidden units · L bits per token · C chunks · V values of a chunk (16) · K nodes of a
    # tree (15, and one that nothing uses)

A position starts with a hidden state; each chunk, once known, adds the embedding of its value. A chunk's
state, rectified, gives one logit for each inner node of a binary tree over its bits: the node of a bit
follows from the bits of the chunk before it (node 2**i - 1 + the value of the i bits so far, first bit
highest). States are integers times HIDDEN_SCALE.
"""

import torch
from torch import Tensor

from bsqcodec.prior.config import CHUNK
from bsqcodec.prior.integer import ACTIVATION_LIMIT, Carrier, Matrix, Operators

HIDDEN_SCALE = 2.0**-4
LOGIT_LIMIT = 767  # in steps of 1/64


class Head:
    """The head of one net, from integers as they are stored, with 15 nodes."""

    def __init__(
        self,
        *,
        bits: int,
        embedding_CVH: Tensor,
        weight_CKH: Tensor,
        multiplier_CK: Tensor,
        bias_CK: Tensor,
        counts_T: Tensor,
        carrier: Carrier,
        operators: Operators,
    ) -> None:
        pad = torch.nn.functional.pad
        self.bits = bits
        self.embedding_CVH = embedding_CVH.to(torch.float32) * HIDDEN_SCALE
        # One unused node makes 16 rows: what int8 products like.
        self.nodes = [Matrix(weight_KH, carrier) for weight_KH in pad(weight_CKH, (0, 0, 0, 1))]
        self.multiplier_CK = pad(multiplier_CK, (0, 1))
        self.bias_CK = pad(bias_CK.to(torch.float32), (0, 1)) + LOGIT_LIMIT  # counted from -LOGIT_LIMIT
        self.counts_T = counts_T.to(torch.int32)
        self._operators = operators

    def chunk_bits(self, chunk: int) -> int:
        """Bits of a chunk; the last may be shorter than four."""
        return min(CHUNK, self.bits - CHUNK * chunk)

    def values(self, bits_NL: Tensor) -> Tensor:
        """N x C int64: every chunk's bits as a number, first bit highest, short chunks filled with 0."""
        count = self.bits
        padded = torch.nn.functional.pad(bits_NL, (0, -count % CHUNK)).view(bits_NL.shape[0], -1, CHUNK)
        weights = torch.tensor([8, 4, 2, 1], device=bits_NL.device)
        return (padded.to(torch.int64) * weights).sum(-1)

    def node_counts(self, state_NH: Tensor, chunk: int, before_N: Tensor | None = None) -> Tensor:
        """N x K int32: counts of a one at every node of the chunk's tree, out of 65536.

        before_N: values of the chunk before, which state_NH takes in; None for the first chunk.
        """
        if before_N is None:
            hidden = state_NH.clamp(0, ACTIVATION_LIMIT).to(torch.int8)
        else:
            hidden = self._operators.absorb(state_NH, self.embedding_CVH[chunk - 1], before_N)
        sums_NK = self.nodes[chunk].product(hidden)
        return self._operators.counts(sums_NK, self.multiplier_CK[chunk], self.bias_CK[chunk], self.counts_T)

    def counts(self, state_NH: Tensor, bits_NL: Tensor) -> Tensor:
        """L x N int32 counts of a one for bits that are all known: what the encoder needs.

        Changes state_NH.
        """
        values_CN = self.values(bits_NL).t().contiguous()
        rows = []
        for chunk, value_N in enumerate(values_CN):
            counts_NK = self.node_counts(state_NH, chunk, values_CN[chunk - 1] if chunk else None)
            rows.append(self._operators.along(counts_NK, value_N, self.chunk_bits(chunk), CHUNK))
        return torch.cat(rows)
