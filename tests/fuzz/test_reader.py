"""Ten thousand damaged streams: each ends in a clear error or a decoded prefix, in little time and memory."""

import io
import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from bitstream.test_damage import DATA, chunk, positions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bsqcodec.bitstream import Gop, StreamReader, describe
from fuzz.damage import DAMAGES, STREAMS, check, chunks

COUNT = 10_000


@pytest.mark.timeout(240)
def test_ten_thousand_damaged_streams() -> None:
    script = Path(__file__).with_name("many.py")
    done = subprocess.run([sys.executable, script, "6", str(COUNT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["peak_bytes"] < 200 << 20
    assert sum(report["endings"].values()) == COUNT
    assert all(report["endings"][ending] > COUNT // 100 for ending in ("refused", "prefix", "whole"))


def test_the_damages_reach_what_they_are_meant_for() -> None:
    """The list of chunks that the damages work on is right, and an undamaged stream passes as whole."""
    for data in STREAMS:
        kinds = [data[begin : begin + 4] for begin, _ in chunks(data)]
        assert kinds[0] == b"HEAD"
        assert kinds[-1] == b"ENDS"
        assert chunks(data)[-1][1] == len(data)
        assert check(data) == "whole"
    assert len(DAMAGES) == 10


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(junk=st.binary(max_size=400))
def test_junk_between_two_chunks_costs_nothing_else(junk: bytes) -> None:
    place = positions(b"GOPS")[2]
    reader = StreamReader(io.BytesIO(DATA[:place] + b"\0" + junk + DATA[place:]), keep_going=True)
    assert sum(isinstance(event, Gop) for event in reader) == 6


@pytest.mark.parametrize(
    "hostile",
    [
        b"GOPS" * (1 << 20),
        b"GOPS\x80\x80\x80\x1f" * (1 << 19),
        b"GOPS\x00\0\0\0\0" * (1 << 18),
        chunk(b"nEWS", b"") * (1 << 12),
        bytes(1 << 22),
        b"GOPS\xff\xff\x03" + bytes(1 << 22),
    ],
)
def test_large_hostile_streams_are_done_in_time_and_memory(hostile: bytes) -> None:
    data = DATA[: positions(b"GOPS")[1]] + hostile
    begin = time.process_time()
    summary = describe(io.BytesIO(data))
    assert time.process_time() - begin < 10
    assert summary.damage
    assert summary.frame_count == 5
    tracemalloc.start()
    describe(io.BytesIO(data[: 1 << 17]))
    small = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    describe(io.BytesIO(data))
    large = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert large < small + 3 * len(data)
