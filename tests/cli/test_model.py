"""Importing the authors' checkpoints: the right tensors arrive, and nothing in a file is run."""

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import official_layout
import pytest
import torch
from calling import Run

from bsqcodec import model
from bsqcodec.checkpoints.official import import_checkpoint, read_checkpoint
from bsqcodec.errors import ModelError
from bsqcodec.inspection import verify


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Last weights of seed 0, averaged ones of seed 1."""
    values = official_layout.contents(official_layout.network(), official_layout.network(seed=1))
    return official_layout.save(tmp_path / "checkpoint.pt", values)


@pytest.mark.parametrize(("ema", "seed"), [(False, 0), (True, 1)])
def test_the_tensors_arrive_as_they_are(checkpoint: Path, tmp_path: Path, ema: bool, seed: int) -> None:
    expected = official_layout.network(seed=seed).state_dict()
    import_checkpoint(checkpoint, tmp_path / "model.safetensors", ema=ema)
    weights = model.load(tmp_path / "model.safetensors")
    found = weights.bsqvit().state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert weights.card.tokenizer == official_layout.CONFIG
    assert weights.card.name == "bsqvit-6"
    assert weights.card.origin["weights"] == ("ema_state_dict" if ema else "state_dict")


@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
def test_prefixes_are_stripped_as_often_as_they_occur(tmp_path: Path, prefix: str) -> None:
    values = official_layout.contents(official_layout.network(), None, prefix=prefix)
    network, _ = read_checkpoint(official_layout.save(tmp_path / "c.pt", values), ema=False)
    assert network.config == official_layout.CONFIG


def test_an_exact_zero_is_minus_one_as_in_the_authors_code(checkpoint: Path) -> None:
    network, origin = read_checkpoint(checkpoint, ema=False)
    assert network.bits(torch.tensor([-0.5, 0.0, 0.5])).tolist() == [0, 0, 1]
    assert set(origin) == {"checkpoint", "weights", "zero", "bit order", "value range"}


def test_command_line(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "paper.safetensors"
    assert "from ema_state_dict of checkpoint.pt" in run("model", "import", checkpoint, out, "--ema").stderr
    assert "already" in run("model", "import", checkpoint, out, code=1).stderr
    shown = run("model", "show", out).stdout
    assert "kind: BSQ-ViT" in shown
    assert "bit order" in shown
    assert "bsqvit-6: BSQ-ViT, 0.3 M parameters, 0.0938 bpp" in run("model", "list", tmp_path).stdout
    assert "decoded, exactly" in run("model", "verify", out).stdout


class Runs:
    """A pickle of this calls whatever it was made with."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of an archive with every entry changed; None drops it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = change(entry.filename, old.read(entry))
            if data is not None:
                new.writestr(entry.filename, data)
    return target


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "call",
    [
        lambda mark: Runs(os.system, f"touch {mark}"),
        lambda mark: Runs(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: Runs(getattr, Path, "cwd"),
        lambda mark: Runs(torch.load, str(mark)),
        lambda mark: Runs(Path.touch, mark),
    ],
    ids=["system", "eval", "getattr", "torch.load", "method"],
)
def test_a_pickle_that_would_run_something_is_refused(
    checkpoint: Path, tmp_path: Path, call: Callable[[Path], Runs], protocol: int
) -> None:
    mark = tmp_path / "was-run"
    hostile = pickle.dumps({"state_dict": call(mark)}, protocol)
    path = rewritten(
        checkpoint, tmp_path / "hostile.pt", lambda name, data: hostile if name.endswith("data.pkl") else data
    )
    with pytest.raises(ModelError, match=r"hostile\.pt: refused: it asks for .*, which no checkpoint needs"):
        read_checkpoint(path, ema=False)
    assert not mark.exists()


def test_a_harmless_name_cannot_be_made_to_do_harm(checkpoint: Path, tmp_path: Path) -> None:
    """A dotted name under a listed module, state for a class, and a call of what was built."""
    for hostile in (
        b"\x80\x04\x8c\x08argparse\x8c\x0asys.stdout\x93.",
        b"\x80\x04\x8c\x0bcollections\x8c\x0bOrderedDict\x93}\x8c\x08__init__\x8c\x01xsb)R)R.",
        b"\x80\x04\x8c\x0ctorch._utils\x8c\x12_rebuild_tensor_v2\x93(K\x01K\x00)t)R.",
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x04r\xff\xff\xff\xff.",
    ):
        path = rewritten(
            checkpoint,
            tmp_path / "hostile.pt",
            lambda name, data, hostile=hostile: hostile if name.endswith("data.pkl") else data,  # type: ignore[misc]
        )
        with pytest.raises(ModelError, match=r"hostile\.pt: "):
            read_checkpoint(path, ema=False)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "has no state_dict"),
        ({"state_dict": {"a": 1}}, "something else than named tensors"),
        ({"state_dict": {"a": torch.ones(1)}}, "not a BSQ-ViT"),
        ([1, 2], "has no state_dict"),
    ],
)
def test_other_checkpoints_end_in_one_line(tmp_path: Path, values: Any, reason: str) -> None:
    torch.save(values, tmp_path / "c.pt")
    with pytest.raises(ModelError, match=reason) as caught:
        read_checkpoint(tmp_path / "c.pt", ema=False)
    assert "\n" not in str(caught.value)


def test_tensors_of_other_shapes_or_missing_ones_are_named(tmp_path: Path) -> None:
    values = official_layout.contents(official_layout.network(), None)
    del values["state_dict"]["module.decoder.conv_out.bias"]
    with pytest.raises(ModelError, match=r"decoder\.conv_out\.bias"):
        read_checkpoint(official_layout.save(tmp_path / "c.pt", values), ema=False)
    values["state_dict"]["module.decoder.conv_out.bias"] = torch.ones(7)
    with pytest.raises(ModelError, match=r"decoder\.conv_out\.bias"):
        read_checkpoint(official_layout.save(tmp_path / "c.pt", values), ema=False)
    with pytest.raises(ModelError, match="has no ema_state_dict"):
        read_checkpoint(tmp_path / "c.pt", ema=True)


def test_damaged_files_end_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(ModelError) as caught:
            read_checkpoint(path, ema=False)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    whole = checkpoint.read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    assert "not a zip archive" in refused(tmp_path / "cut.pt")
    (tmp_path / "text.pt").write_bytes(b"hello")
    assert "not a zip archive" in refused(tmp_path / "text.pt")
    short = rewritten(
        checkpoint, tmp_path / "short.pt", lambda name, data: data[:4] if "/data/" in name else data
    )
    assert "too few for its tensor" in refused(short)
    gone = rewritten(
        checkpoint, tmp_path / "gone.pt", lambda name, data: None if name.endswith("/data/0") else data
    )
    assert "is missing or damaged" in refused(gone)
    big = rewritten(checkpoint, tmp_path / "big.pt", lambda name, data: b">" if "byteorder" in name else data)
    assert "little-endian" in refused(big)


def test_a_tensor_larger_than_its_bytes_is_refused(tmp_path: Path) -> None:
    stretched = torch.ones(1).expand(1 << 20, 1 << 20)  # four tebibytes, if it were copied
    values = official_layout.contents(official_layout.network(), None)
    values["state_dict"]["module.quant_embed.weight"] = stretched
    with pytest.raises(ModelError, match="more than its entry"):
        read_checkpoint(official_layout.save(tmp_path / "c.pt", values), ema=False)


def test_verify_finds_what_is_wrong(tmp_path: Path) -> None:
    broken = official_layout.network()
    broken.quant_embed.bias[2] = float("nan")
    card = model.ModelCard("x", broken.config, None, (0, 0))
    model.save(tmp_path / "x.safetensors", card, broken, None)
    with pytest.raises(ModelError, match=r"quant_embed\.bias is not finite"):
        verify(tmp_path / "x.safetensors")


def test_the_pickle_of_a_file_is_not_read_without_bound(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb/data.pkl", bytes((64 << 20) + 1))
    with pytest.raises(ModelError, match="at most 64 MiB"):
        read_checkpoint(tmp_path / "bomb.pt", ema=False)


def test_the_helper_pickles_what_the_authors_files_hold(checkpoint: Path) -> None:
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(checkpoint, weights_only=True)
    assert struct.unpack("<I", io.BytesIO(checkpoint.read_bytes()).read(4))[0] == 0x04034B50
