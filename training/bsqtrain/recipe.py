"""Recipes: the numbers of a stage, in TOML, read into the dataclasses that hold them."""

from __future__ import annotations

import tomllib
from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from bsqcodec.errors import InputError
from bsqtrain.engine import Schedule

T = TypeVar("T")


def read(recipe: str | Path, stage: type[T]) -> tuple[Schedule, T]:
    """Schedule and stage numbers of a recipe, by name (those that ship) or by path.

    Raises InputError where the file is missing, not TOML, or has a key that is not known.
    """
    shipped = resources.files("bsqtrain").joinpath("recipes", f"{recipe}.toml")
    try:
        text = shipped.read_text() if shipped.is_file() else Path(recipe).read_text()
        tables = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{recipe}: no such recipe: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{recipe}: not a TOML file: {error}") from error
    unknown = set(tables) - {"schedule", "stage"}
    if unknown:
        raise InputError(f"{recipe}: unknown table {sorted(unknown)[0]}, expected schedule and stage")
    return _fill(Schedule, tables.get("schedule", {}), recipe), _fill(stage, tables.get("stage", {}), recipe)


def _fill(kind: type[T], table: dict[str, Any], recipe: str | Path) -> T:
    types = get_type_hints(kind)
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for name, value in table.items():
        if name not in known:
            raise InputError(f"{recipe}: unknown key {name}, expected one of {', '.join(sorted(known))}")
        if is_dataclass(types[name]):
            values[name] = _fill(types[name], value, recipe)
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
