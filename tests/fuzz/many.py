"""Damages streams at random and reads them: `python many.py SEED COUNT`. Prints what happened, as JSON.

A process of its own, so that its peak memory is that of reading damaged streams and nothing else.
"""

import json
import random
import resource
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzz.damage import DAMAGES, STREAMS, check, check_tools

TOOLS_EVERY = 5


def main(seed: int, count: int) -> None:
    rng = random.Random(seed)
    endings: Counter[str] = Counter()
    for number in range(count):
        data = rng.choice(STREAMS)
        for _ in range(rng.choice((1, 1, 2))):
            data = rng.choice(DAMAGES)(data, rng) or b"\0"
        try:
            endings[check(data)] += 1
            if number % TOOLS_EVERY == 0:
                check_tools(data)
        except Exception as error:
            raise SystemExit(f"stream {number}, {data.hex()}: {error!r}") from error
    print(json.dumps({"endings": endings, "peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """Peak memory of this program. Linux keeps ru_maxrss over exec: there it may be that of the caller."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
