"""Coverage-guided fuzzing of the reader, by hand, with atheris: `python tests/fuzz/fuzz_reader.py [CORPUS]`.

Takes libFuzzer's options (`-runs=100000`, `-max_total_time=60`).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed here; tests/fuzz/many.py damages streams without it")

with atheris.instrument_imports(include=["bsqcodec.bitstream"]):
    from fuzz.damage import STREAMS, check, check_tools, chunks, with_payload


def read(data: bytes) -> None:
    """The first byte says what the others are: a stream, or the payload of a chunk in an intact one."""
    choice, rest = data[0] if data else 0, data[1:]
    if choice:
        stream = STREAMS[choice % len(STREAMS)]
        places = chunks(stream)
        rest = with_payload(stream, places[choice // len(STREAMS) % len(places)], rest)
    check(rest)
    check_tools(rest)


def main() -> None:
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
