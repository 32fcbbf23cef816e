"""The prior and the range decoder a second time: slow, from bitstreams/PRIOR.md alone, int64 and Python
integers.

Nothing here is shared with bsqcodec.prior but the names of the tensors. Grids are numpy arrays, rows x
columns x channels.
"""

import numpy as np

PHASES = [(0, 0), (1, 1), (0, 1), (1, 0)]


def shift_even(value: int, shift: int) -> int:
    """value / 2**shift, rounded to nearest, ties to even; value >= 0."""
    if shift <= 0:
        return value << -shift
    whole, rest = value >> shift, value & ((1 << shift) - 1)
    half = 1 << (shift - 1)
    return whole + (rest > half or (rest == half and whole % 2 == 1))


def scaled(value: int, factor: int, exponent: int) -> tuple[int, int]:
    """value * factor rounded to 24 significant bits: (mantissa, exponent) with value = mantissa *
    2**exponent.
    """
    product = value * factor
    drop = max(0, abs(product).bit_length() - 24)
    mantissa = shift_even(abs(product), drop)
    return (mantissa if product >= 0 else -mantissa), exponent + drop


def scaled_round(value: int, factor: int, exponent: int) -> int:
    """value * factor * 2**exponent: first to 24 significant bits, then to an integer, ties to even both
    times.
    """
    mantissa, power = scaled(value, factor, exponent)
    return (1 if mantissa >= 0 else -1) * shift_even(abs(mantissa), -power)


def scaled_floor(value: int, factor: int, exponent: int) -> int:
    """The same, rounded down in the second step."""
    mantissa, power = scaled(value, factor, exponent)
    return mantissa << power if power >= 0 else mantissa >> -power


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def normalise(row: list[int]) -> list[int]:
    total = max(sum(abs(v) for v in row), 4 * len(row))
    factor = (24 * len(row) << 20) // total
    return [clamp(scaled_round(v, factor, -20), -127, 127) for v in row]


class Net:
    """One kind of block and one level."""

    def __init__(self, tensors: dict[str, np.ndarray], config, kind: str, index: int) -> None:
        self.t = {
            name.removeprefix(f"{kind}.{index}."): value
            for name, value in tensors.items()
            if name.startswith(f"{kind}.{index}.")
        }
        self.exp2, self.counts = tensors["exp2"], tensors["counts"]
        self.levels, self.level, self.index = config.levels, config.levels[index], index

    def product(self, name: str, row, stack: tuple[int, ...] = ()) -> list[tuple[int, int, int]]:
        weight = self.t[f"{name}.weight"][stack].astype(np.int64)
        sums = (weight @ np.asarray(row, dtype=np.int64)).tolist()
        mantissas = self.t[f"{name}.mantissa"][stack].tolist()
        exponents = self.t[f"{name}.exponent"][stack].tolist()
        return list(zip(sums, mantissas, exponents, strict=True))

    def linear(self, name: str, row, limit: int, stack: tuple[int, ...] = ()) -> list[int]:
        return [clamp(scaled_round(*part), -limit, limit) for part in self.product(name, row, stack)]

    def seen(self, name: str, k: int, signs: np.ndarray, i: int, j: int) -> list[int]:
        """What cell (i, j) gets from a level's tokens."""
        stride, width = self.levels[k].stride, self.level.width
        if stride == self.level.stride:
            return self.linear(name, cell(signs, i, j), 32767)
        factor = stride // (2 * self.level.stride)
        values = self.linear(name, signs[i // factor, j // factor], 32767)
        part = (i % factor) * factor + j % factor
        return values[part * width : (part + 1) * width]

    def context(self, shape, rate, coarse, previous) -> np.ndarray:
        rows, columns = (shape[0] + 1) // 2, (shape[1] + 1) // 2
        row = min(rate // 100, 9)
        part = rate - 100 * row
        table = self.t["rate"].astype(np.int64)
        start = (table[row] * (100 - part) + table[row + 1] * part + 50) // 100
        x = np.zeros((rows, columns, self.level.width), np.int64)
        for i in range(rows):
            for j in range(columns):
                x[i, j] = start
                for k, signs in enumerate(coarse):
                    x[i, j] += self.seen(f"coarse.{k}", k, signs, i, j)
                if previous is not None:
                    for k in range(self.index + 1):
                        x[i, j] += self.seen(f"after_{previous[0]}.{k}", k, previous[1][k], i, j)
        return x

    def states(self, context: np.ndarray, first: int, group: int, known: np.ndarray) -> np.ndarray:
        """The head's state for each cell. first: group that the pass begins with; known: what it knows."""
        x = context.copy()
        rows, columns, _ = x.shape
        for i in range(rows):
            for j in range(columns):
                x[i, j] += self.linear("own", cell(known, i, j), 32767) + self.t["step"][first].astype(
                    np.int64
                )
        x = np.clip(x, -32767, 32767)
        for number, letter in enumerate(self.level.blocks):
            self.block(x, f"block.{number}", letter)
        result = np.zeros((rows, columns, self.level.head), np.int64)
        for i in range(rows):
            for j in range(columns):
                start = self.linear("start", normalise(x[i, j].tolist()), 32767, (group,))
                result[i, j] = start + self.t["start.bias"][group].astype(np.int64)
        return result

    def block(self, x: np.ndarray, name: str, letter: str) -> None:
        """Changes x in place."""
        rows, columns, width = x.shape
        normal = np.zeros((rows + 2, columns + 2, width), np.int64)
        for i in range(rows):
            for j in range(columns):
                normal[i + 1, j + 1] = normalise(x[i, j].tolist())
        weight = self.t[f"{name}.mix.weight"].astype(np.int64).reshape(3, 3, width)
        mixed = np.zeros_like(x)
        for i in range(rows):
            for j in range(columns):
                sums = (normal[i : i + 3, j : j + 3] * weight).sum((0, 1)).tolist()
                parts = zip(
                    sums,
                    self.t[f"{name}.mix.mantissa"].tolist(),
                    self.t[f"{name}.mix.exponent"].tolist(),
                    strict=True,
                )
                mixed[i, j] = [clamp(scaled_round(*part), -127, 127) for part in parts]
        if letter != "c":
            seen = self.attention(mixed, name, self.level.window // 2 if letter == "s" else 0)
            for i in range(rows):
                for j in range(columns):
                    x[i, j] += self.linear(f"{name}.out", seen[i, j], 1 << 40)
            np.clip(x, -32767, 32767, out=x)
            for i in range(rows):
                for j in range(columns):
                    mixed[i, j] = normalise(x[i, j].tolist())
        for i in range(rows):
            for j in range(columns):
                hidden = [
                    clamp(scaled_floor(*part), 0, 127) for part in self.product(f"{name}.up", mixed[i, j])
                ]
                x[i, j] += self.linear(f"{name}.down", hidden, 1 << 40)
        np.clip(x, -32767, 32767, out=x)

    def attention(self, mixed: np.ndarray, name: str, shift: int) -> np.ndarray:
        rows, columns, width = mixed.shape
        size, dim = self.level.window, self.level.head_dim
        position = self.t[f"{name}.position"].astype(np.int64)
        places = [(i, j) for i in range(rows) for j in range(columns)]
        qkv = {place: self.linear(f"{name}.qkv", mixed[place], 127) for place in places}
        result = np.zeros_like(mixed)
        for i, j in places:
            window = [
                (a, b)
                for a, b in places
                if ((a + shift) // size, (b + shift) // size) == ((i + shift) // size, (j + shift) // size)
            ]
            for head in range(width // dim):
                query = qkv[i, j][head * dim : (head + 1) * dim]
                scores = []  # in units of 2**-7 steps
                for a, b in window:
                    key = qkv[a, b][width + head * dim : width + (head + 1) * dim]
                    offset = (i - a + size - 1) * (2 * size - 1) + j - b + size - 1
                    scores.append(
                        sum(p * q for p, q in zip(query, key, strict=True))
                        + 128 * int(position[head, offset])
                    )
                weights = [int(self.exp2[min(255, (max(scores) - score) >> 7)]) for score in scores]
                factor = (1 << 26) // sum(weights)
                for d in range(dim):
                    total = sum(
                        w * qkv[place][2 * width + head * dim + d]
                        for w, place in zip(weights, window, strict=True)
                    )
                    result[i, j, head * dim + d] = scaled_round(total, factor, -26)
        return result

    def node_counts(self, state: np.ndarray, chunk: int) -> list[int]:
        hidden = [clamp(int(v) >> 4, 0, 127) for v in state]
        bias = self.t["node.bias"][chunk].tolist()
        logits = [
            clamp(scaled_round(*part) + bias[node], -767, 767)
            for node, part in enumerate(self.product("node", hidden, (chunk,)))
        ]
        return [int(self.counts[logit + 767]) for logit in logits]


def cell(signs: np.ndarray, i: int, j: int) -> np.ndarray:
    """The four positions of a cell side by side; 0 where the grid has none."""
    rows, columns, bits = signs.shape
    parts = [
        signs[2 * i + dy, 2 * j + dx]
        if 2 * i + dy < rows and 2 * j + dx < columns
        else np.zeros(bits, np.int64)
        for dy in (0, 1)
        for dx in (0, 1)
    ]
    return np.concatenate(parts)


class PlainRangeDecoder:
    """32-bit words, 64-bit state, probabilities of 24 bits."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 8
        self.lower, self.span = 0, (1 << 64) - 1
        self.point = int.from_bytes(data[:8].ljust(8, b"\0"), "big")

    def decode(self, count: int) -> int:
        zero = ((65536 - count) * ((1 << 24) - 2) >> 16) + 1
        scale = self.span >> 24
        quantile = ((self.point - self.lower) % (1 << 64)) // scale
        bit = int(quantile >= zero)
        self.lower = (self.lower + bit * zero * scale) % (1 << 64)
        self.span = ((1 << 24) - zero if bit else zero) * scale
        if self.span < 1 << 32:
            word = self.data[self.position : self.position + 4].ljust(4, b"\0")
            self.position += 4
            self.lower = (self.lower << 32) % (1 << 64)
            self.span <<= 32
            self.point = (self.point << 32) % (1 << 64) | int.from_bytes(word, "big")
        return bit


def decode_block(
    tensors, config, kind: str, shapes, rate: int, previous, parts: list[bytes]
) -> list[np.ndarray]:
    """Tokens of a block. previous: None or (kind, tokens) of the block before."""
    tensors = {name: tensor.numpy() for name, tensor in tensors.items()}
    if previous is not None:
        previous = previous[0], [2 * grid.astype(np.int64) - 1 for grid in previous[1]]
    known: list[np.ndarray] = []
    for index, (shape, data) in enumerate(zip(shapes, parts, strict=True)):
        net, decoder = Net(tensors, config, kind, index), PlainRangeDecoder(data)
        level = config.levels[index]
        signs = np.zeros((*shape, level.bits), np.int64)
        context = net.context(shape, rate, known, previous)
        size = 4 // config.tube_passes if kind == "tube" else 1
        for group, (dy, dx) in enumerate(PHASES):
            first = group - group % size
            if group == first:
                before = signs.copy()
            places = [(y, x) for y in range(dy, shape[0], 2) for x in range(dx, shape[1], 2)]
            states = net.states(context, first, group, before) if places else None
            state = {place: states[place[0] // 2, place[1] // 2].copy() for place in places}
            for chunk in range(-(-level.bits // 4)):
                counts = {place: net.node_counts(state[place], chunk) for place in places}
                value = dict.fromkeys(places, 0)
                width = min(4, level.bits - 4 * chunk)
                for bit in range(width):
                    for place in places:
                        new = decoder.decode(counts[place][(1 << bit) - 1 + value[place]])
                        value[place] = 2 * value[place] + new
                        signs[place][4 * chunk + bit] = 2 * new - 1
                for place in places:
                    state[place] += net.t["embedding"][chunk, value[place] << (4 - width)].astype(np.int64)
        known.append(signs)
    return [(grid > 0).astype(np.uint8) for grid in known]
