"""Real files through the weights that ship: decoded tokens are the encoded ones, whatever computes them."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from bsqcodec.codec import EncodeOptions, Encoder, read_tokens
from bsqcodec.gop_coder import GopCoder
from bsqcodec.media import open_reader
from bsqcodec.prior import integer
from bsqcodec.prior.integer import Carrier

DATA = Path(__file__).parents[3] / "shared" / "data"
FILES = ["clips/phone.3gp", "clips/newtonscradle.gif"]  # small ones: int8 products are slow on old CPUs
FRAMES = 6

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no test data in {DATA}"),
]


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize("name", FILES)
def test_tokens_are_equal_on_every_carrier(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    encoded: list[np.ndarray] = []
    add = GopCoder.add
    monkeypatch.setattr(
        GopCoder,
        "add",
        lambda self, gop, kind, tokens: (encoded.extend(tokens), add(self, gop, kind, tokens)),
    )
    sink = io.BytesIO()
    with open_reader(DATA / name, audio=False) as reader:
        frames = [frame for _, frame in zip(range(FRAMES), reader.frames(), strict=False)]
        encoder = Encoder(
            sink,
            *frames[0].pixels.shape[1::-1],
            time_base=Fraction(1, 25),
            options=EncodeOptions(q=5, gop=5, threads=3 - threads),
        )
        for frame in frames:
            encoder.add(frame)
        encoder.close()
    try:
        torch.set_num_threads(threads)
        for carrier in Carrier:
            monkeypatch.setattr(integer, "_pick", lambda device_type, carrier=carrier: carrier)
            decoded = [
                level
                for _, blocks in read_tokens(io.BytesIO(sink.getvalue()))
                for _, tokens in blocks
                for level in tokens
            ]
            assert len(decoded) == len(encoded)
            assert all(np.array_equal(a, b) for a, b in zip(decoded, encoded, strict=True)), carrier
    finally:
        torch.set_num_threads(before)
