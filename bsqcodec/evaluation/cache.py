"""What was computed, on disk, so that a run can be stopped, resumed, and given another codec."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bsqcodec.evaluation.measures import MEASURES_VERSION, FrameScore
from bsqcodec.evaluation.trial import Result, Trial
from bsqcodec.whole_file import whole_file

Identity = Mapping[str, Any]
"""All that something depends on, as JSON can hold it."""


class Cache:
    """One JSON file a thing, under the digest of its identity.

    folder: where; None for the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            from platformdirs import user_cache_path  # of the extra `eval`, which match_bytes does without

            folder = user_cache_path("bsqcodec") / "rd-curve"
        self.folder = folder

    def get(self, trial: Trial) -> Result | None:
        """The result remembered, under the item's present name; None where there is none that can be read."""
        found = self.get_object(identity(trial))
        try:
            return None if found is None else result_from(found | {"item": trial.item.name})
        except (KeyError, TypeError):
            return None

    def put(self, trial: Trial, result: Result) -> None:
        self.put_object(identity(trial), asdict(result))

    def get_object(self, of: Identity) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._path(of).read_text())["result"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found

    def put_object(self, of: Identity, found: dict[str, Any]) -> None:
        path = self._path(of)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, force=True) as stream:
            stream.write(json.dumps({"of": of, "result": found}).encode())

    def _path(self, of: Identity) -> Path:
        name = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.json"


def identity(trial: Trial) -> Identity:
    """Bytes and selection of the item, codec, settings, versions."""
    return {
        "digest": trial.digest,
        "selection": trial.item.selection,
        "codec": trial.codec.name,
        "settings": trial.codec.describe(),
        "version": trial.version,
        "value": trial.value,
        "measures": MEASURES_VERSION,
    } | ({"judges": judges} if (judges := trial.judges.identity()) else {})


def result_from(stored: dict[str, Any]) -> Result:
    """A Result from what asdict() made of it."""
    return Result(**(stored | {"frames": tuple(FrameScore(**frame) for frame in stored["frames"])}))
