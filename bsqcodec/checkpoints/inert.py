"""A reader of torch's .pt archives that runs no code from the file.

A pickle names callables and has them called. Here every name must be on a list, and every entry of the list
is something inert of this module: nothing that the file names is imported, and no object is given a state.
Tensors stay descriptions (`StoredTensor`) until the caller asks for one of them.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor

from bsqcodec.errors import ModelError

LARGEST_PICKLE = 64 << 20
"""Bytes of the archive's pickle, which holds names and shapes; the tensors lie beside it."""

STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
}


class Inert:
    """Stands for an object of a class that is not wanted: takes whatever it is given and keeps nothing."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        """A list's, for pickles of subclasses of list."""

    def extend(self, values: object) -> None:
        """See append."""


INERT = {
    ("argparse", "Namespace"),
    ("collections", "defaultdict"),
    ("typing", "Any"),
    ("typing", "Dict"),
    ("typing", "List"),
    ("builtins", "dict"),
    ("builtins", "list"),
    ("builtins", "int"),
    ("builtins", "float"),
    ("builtins", "str"),
    ("builtins", "bool"),
    ("builtins", "set"),
    ("__builtin__", "set"),
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("pathlib", "PosixPath"),
    ("torch", "Size"),
    ("torch", "device"),
    ("omegaconf.base", "ContainerMetadata"),
    ("omegaconf.base", "Metadata"),
    ("omegaconf.dictconfig", "DictConfig"),
    ("omegaconf.listconfig", "ListConfig"),
    ("omegaconf.nodes", "AnyNode"),
    ("omegaconf.nodes", "BooleanNode"),
    ("omegaconf.nodes", "FloatNode"),
    ("omegaconf.nodes", "IntegerNode"),
    ("omegaconf.nodes", "StringNode"),
}
"""Names that checkpoints hold for reasons of their own; Inert takes their place."""


@dataclass(frozen=True)
class Storage:
    """The bytes of one tensor or several: an entry of the archive."""

    key: str
    dtype: torch.dtype


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in the archive; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage: object, offset: object, shape: object, strides: object, *others: object) -> StoredTensor:
    """In place of torch._utils._rebuild_tensor_v2."""
    sizes, steps = _whole_numbers(shape), _whole_numbers(strides)
    if not isinstance(storage, Storage) or 0 in sizes or len(sizes) != len(steps):
        raise pickle.UnpicklingError("a tensor that is described in another way than torch does")
    return StoredTensor(storage, _whole_numbers((offset,))[0], sizes, steps)


def _whole_numbers(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple) or any(type(value) is not int or value < 0 for value in values):
        raise pickle.UnpicklingError("a tensor whose sizes are no whole numbers")
    return values


def _parameter(tensor: object, *others: object) -> object:
    """In place of torch._utils._rebuild_parameter."""
    return tensor


class _Unpickler(pickle._Unpickler):  # the one in Python: no memory is taken on the word of the file
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        found = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }.get((module, name))
        if found is not None:
            return found
        if (module, name) in INERT:
            return Inert
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no checkpoint needs")

    def persistent_load(self, pid: Any) -> Storage:
        match pid:
            case ("storage", torch.dtype() as dtype, str() as key, str(), int()):
                return Storage(key, dtype)
        raise pickle.UnpicklingError("a storage that is described in another way than torch does")

    def _no_state(self) -> None:
        """BUILD: the state is dropped, so that nothing can be put into anything."""
        self.stack.pop()  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = _no_state


class Archive:
    """A .pt file, as torch.save has written it since version 1.6.

    contents: what was saved; tensors are StoredTensor, unwanted objects Inert. ModelError where the file is
    none, is damaged, or names anything that is not on the list.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(file)
            names = [name for name in self._zip.namelist() if name.endswith("/data.pkl")]
            if len(names) != 1 or self._zip.getinfo(names[0]).file_size > LARGEST_PICKLE:
                raise self._fault("no archive with one pickle of at most 64 MiB")
            self._folder = names[0].removesuffix("data.pkl")
            order = self._folder + "byteorder"
            if order in self._zip.namelist() and self._zip.read(order) != b"little":
                raise self._fault("its numbers are not little-endian")
            self.contents = _Unpickler(BytesIO(self._zip.read(names[0]))).load()
        except zipfile.BadZipFile as error:
            raise self._fault("no checkpoint of torch 1.6 or newer (not a zip archive)") from error
        except ModelError:
            raise
        except Exception as error:  # whatever a hostile pickle makes of the unpickler
            raise self._fault(f"refused: {str(error) or type(error).__name__}") from error

    def tensor(self, stored: StoredTensor) -> Tensor:
        """A copy of a tensor of the archive, contiguous."""
        name = f"{self._folder}data/{stored.storage.key}"
        size = stored.storage.dtype.itemsize
        last = stored.offset + sum((n - 1) * s for n, s in zip(stored.shape, stored.strides, strict=True))
        try:
            entry = self._zip.getinfo(name)
            if entry.compress_type != zipfile.ZIP_STORED or (last + 1) * size > entry.file_size:
                raise self._fault(f"entry {name} has {entry.file_size} bytes, too few for its tensor")
            if math.prod(stored.shape) > entry.file_size // size:
                raise self._fault(f"a tensor of {stored.shape} elements is more than its entry {name} holds")
            data = bytearray(self._zip.read(name))
        except (KeyError, zipfile.BadZipFile) as error:
            raise self._fault(f"entry {name} is missing or damaged") from error
        flat = torch.frombuffer(data, dtype=stored.storage.dtype)
        return flat.as_strided(stored.shape, stored.strides, stored.offset).contiguous()

    def _fault(self, reason: str) -> ModelError:
        return ModelError(f"{self._path}: {' '.join(reason.split())}")
