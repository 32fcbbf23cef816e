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
    from fuzz.damage import STREAMS, check, check_tools


def read(data: bytes) -> None:
    check(data)
    check_tools(data)


def main() -> None:
    for data in STREAMS:
        read(data)
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
