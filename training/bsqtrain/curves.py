"""Line charts as one PNG, drawn with Pillow: what a training machine without matplotlib has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

WIDTH, HEIGHT, MARGIN = 560, 320, 56
COLUMNS = 2
INK, GRID, LINES = "#222222", "#dddddd", ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e")
TICKS = 5
FIGURES = ("loss", "bpp", "ms_ssim_loss", "mse", "tube_bpp", "distortion")
"""What is drawn of a stage's log, where it is there."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Lines over one pair of axes: name and points (x, y) of each."""

    title: str
    x_label: str
    lines: tuple[tuple[str, Points], ...]


def rows(folder: Path) -> list[dict[str, Any]]:
    """The log of a stage; nothing where there is none."""
    log = folder / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


def of_stage(folder: Path) -> list[Chart]:
    """One chart for every figure in the log of a stage."""
    found = rows(folder)
    lines = {name: [(row["seconds"] / 60, row[name]) for row in found if name in row] for name in FIGURES}
    return [
        Chart(f"{folder.name}: {name}", "minutes", ((name, line),)) for name, line in lines.items() if line
    ]


def draw(charts: Sequence[Chart], path: Path) -> None:
    """Write the charts side by side, two in a row; those without a point are left out."""
    shown = [chart for chart in charts if any(points for _, points in chart.lines)]
    rows = max(1, -(-len(shown) // COLUMNS))
    sheet = Image.new("RGB", (WIDTH * COLUMNS, HEIGHT * rows), "white")
    for number, chart in enumerate(shown):
        place = (WIDTH * (number % COLUMNS), HEIGHT * (number // COLUMNS))
        sheet.paste(_draw_one(chart), place)
    sheet.save(path)


def _draw_one(chart: Chart) -> Image.Image:
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    points = [point for _, line in chart.lines for point in line]
    left, right = _range([x for x, _ in points])
    low, high = _range([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        across = MARGIN + (x - left) / (right - left) * (WIDTH - 2 * MARGIN)
        return across, HEIGHT - MARGIN - (y - low) / (high - low) * (HEIGHT - 2 * MARGIN)

    for tick in range(TICKS):
        share = tick / (TICKS - 1)
        x, y = left + share * (right - left), low + share * (high - low)
        pen.line([place(left, y), place(right, y)], fill=GRID)
        pen.line([place(x, low), place(x, high)], fill=GRID)
        pen.text(place(left, y), f"{y:.4g} ", fill=INK, anchor="rm")
        pen.text((place(x, low)[0], HEIGHT - MARGIN + 4), f"{x:.4g}", fill=INK, anchor="mt")
    pen.text((WIDTH / 2, 16), chart.title, fill=INK, anchor="mm")
    pen.text((WIDTH / 2, HEIGHT - 16), chart.x_label, fill=INK, anchor="mm")
    for number, (name, line) in enumerate(chart.lines):
        colour = LINES[number % len(LINES)]
        places = [place(x, y) for x, y in line]
        pen.line(places, fill=colour, width=2)
        for x, y in places if len(places) <= 20 else ():
            pen.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
        pen.text((WIDTH - MARGIN - 4, MARGIN + 4 + 14 * number), name, fill=colour, anchor="rt")
    return picture


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis, apart also where all values are one."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
