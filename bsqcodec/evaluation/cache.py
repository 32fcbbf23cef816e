"""Results of trials on disk, so that a run can be stopped, resumed, and given another codec."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from bsqcodec.evaluation.measures import MEASURES_VERSION, FrameScore
from bsqcodec.evaluation.trial import Result, Trial
from bsqcodec.whole_file import whole_file


class Cache:
    """One JSON file a result, under the digest of all that it depends on.

    folder: where; None for the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else user_cache_path("bsqcodec") / "rd-curve"

    def get(self, trial: Trial) -> Result | None:
        """The result remembered, under the item's present name; None where there is none that can be read."""
        try:
            stored = json.loads(self._path(trial).read_text())
            return result_from(stored["result"] | {"item": trial.item.name, "codec": trial.codec.name})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, trial: Trial, result: Result) -> None:
        path = self._path(trial)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, force=True) as stream:
            stream.write(json.dumps({"of": identity(trial), "result": asdict(result)}).encode())

    def _path(self, trial: Trial) -> Path:
        name = hashlib.sha256(json.dumps(identity(trial), sort_keys=True).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.json"


def identity(trial: Trial) -> dict[str, str | float]:
    """All that a result depends on: bytes and selection of the item, codec, settings, versions."""
    return {
        "digest": trial.digest,
        "selection": trial.item.selection,
        "codec": trial.codec.name,
        "settings": trial.codec.describe(),
        "version": trial.codec.version(),
        "value": trial.value,
        "measures": MEASURES_VERSION,
    }


def result_from(stored: dict[str, Any]) -> Result:
    """A Result from what asdict() made of it."""
    return Result(**(stored | {"frames": tuple(FrameScore(**frame) for frame in stored["frames"])}))
