"""Pixels may differ between machines; the recurrence must not let that grow."""

import io
from fractions import Fraction

import numpy as np
import pytest

from bsqcodec import Decoder, EncodeOptions, Encoder, Frame, machine, samples
from bsqcodec.metrics.psnr import psnr

FRAMES = 60

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not machine.FAST_CPU, reason="bf16 is not computed natively here"),
]


@pytest.mark.parametrize("encoded_fast", [True, False], ids=["from bf16", "from float32"])
def test_the_other_precision_decodes_a_long_gop_as_well(
    encoded_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = list(samples.clip(FRAMES))
    sink = io.BytesIO()
    monkeypatch.setattr(machine, "FAST_CPU", encoded_fast)
    height, width, _ = frames[0].shape
    options = EncodeOptions(q=5, gop=FRAMES, scene_cuts=False)
    encoder = Encoder(sink, width, height, time_base=Fraction(1, 25), options=options)
    for number, pixels in enumerate(frames):
        encoder.add(Frame(pixels, number, 1))
    assert encoder.close().gops == 1

    def shown(fast: bool) -> list[np.ndarray]:
        monkeypatch.setattr(machine, "FAST_CPU", fast)
        events = Decoder(io.BytesIO(sink.getvalue())).events()
        return [event.pixels for event in events if isinstance(event, Frame)]

    same, other = shown(encoded_fast), shown(not encoded_fast)
    last = slice(-10, None)
    for part in (slice(None), last):
        quality = [
            np.mean([psnr(x, y) for x, y in zip(found[part], frames[part], strict=True)])
            for found in (same, other)
        ]
        assert quality[0] - quality[1] < 0.03
    assert any(not np.array_equal(x, y) for x, y in zip(same, other, strict=True))
