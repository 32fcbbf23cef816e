"""Data sets fetched from a server on localhost that serves small files laid out like the originals."""

import hashlib
import io
import json
import os
import zipfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import py7zr
import pytest
from PIL import Image

from bsqcodec.errors import InputError
from bsqcodec.evaluation.datasets import DATA_SETS, DataSet, Member, items_of
from bsqcodec.evaluation.fetch import HUB_FILES, HUB_LISTING, LOCK_FILE, Fetcher, data_folder, states
from bsqcodec.evaluation.sources import RawFormat, Source

from .server import FileServer, serve

RAW = RawFormat(16, 8, Fraction(30))
FRAMES = 6


def picture(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, "PNG")
    return data.getvalue()


def clip_bytes(seed: int) -> bytes:
    return np.random.default_rng(seed).integers(16, 236, FRAMES * RAW.frame_bytes, np.uint8).tobytes()


def small_kodak() -> tuple[DataSet, dict[str, bytes]]:
    files = {f"kodim{number:02d}.png": picture(number) for number in (1, 2, 3)}
    members = tuple(
        Member(name[:7], name, name, len(data), hashlib.sha256(data).hexdigest())
        for name, data in files.items()
    )
    return replace(DATA_SETS["kodak"], members=members), files


def small_uvg() -> tuple[DataSet, dict[str, bytes]]:
    clip, archive = clip_bytes(1), io.BytesIO()
    file = "ReadySteadyGo_16x8_30fps_420_8bit_YUV.yuv"
    with py7zr.SevenZipFile(archive, "w") as opened:
        opened.writestr(clip, file)
        opened.writestr("about", "ReadySteadyGo.txt")
    remote = "ReadySetGo_16x8_30fps_420_8bit_YUV_RAW.7z"
    member = Member("ReadySteadyGo", file, remote, len(clip), frames=FRAMES, raw=RAW)
    return replace(DATA_SETS["uvg"], members=(member,)), {remote: archive.getvalue()}


def small_mcl_jcv(compression: int) -> tuple[DataSet, dict[str, bytes]]:
    clips = {number: clip_bytes(number) for number in (1, 2)}
    names = {number: f"videoSRC{number:02d}_16x8_30.yuv" for number in clips}
    files: dict[str, bytes] = {}
    for number, clip in clips.items():
        part = io.BytesIO()
        with zipfile.ZipFile(part, "w", compression) as opened:
            opened.writestr("MCL-JCV/720P/encoded.mp4", os.urandom(200_000))
            opened.writestr(f"MCL-JCV/1080P/YUV_source/{names[number]}", clip)
        files[f"{HUB_FILES}part_{number}.zip"] = part.getvalue()
    listing = [{"type": "file", "path": f"part_{number}.zip"} for number in clips] + [{"path": "README.md"}]
    files[HUB_LISTING] = json.dumps(listing).encode()
    members = tuple(
        Member(name[:10], name, f"1080P/YUV_source/{name}", len(clips[number]), frames=FRAMES, raw=RAW)
        for number, name in names.items()
    )
    return replace(DATA_SETS["mcl-jcv"], members=members), files


def fetcher(data_set: DataSet, server: FileServer, folder: Path) -> Fetcher:
    return Fetcher(data_set, folder, host=server.url, pause=0.001)


def leftovers(folder: Path) -> list[str]:
    kept = (".png", ".yuv", LOCK_FILE)
    return [entry.name for entry in folder.iterdir() if not entry.name.endswith(kept)]


def test_fetches_only_what_is_missing(tmp_path: Path) -> None:
    data_set, files = small_kodak()
    with serve(files) as server:
        paths = fetcher(data_set, server, tmp_path).fetch(("kodim02",))
        assert [path.read_bytes() for path in paths] == [files["kodim02.png"]]
        fetcher(data_set, server, tmp_path).fetch()
        assert [path for path, _ in server.requests] == ["/kodim02.png", "/kodim01.png", "/kodim03.png"]
    assert all(state.fault is None for state in states(data_set, tmp_path))
    assert leftovers(tmp_path) == []


def test_goes_on_where_the_server_broke_off(tmp_path: Path) -> None:
    data_set, files = small_kodak()
    whole = len(files["kodim01.png"])
    with serve(files) as server:
        server.cut_after, server.cuts = 1500, 2
        fetcher(data_set, server, tmp_path).fetch(("kodim01",))
        assert [asked for _, asked in server.requests] == [None, "bytes=1500-", "bytes=3000-"]
        assert server.sent == whole
    assert (tmp_path / "kodim01.png").read_bytes() == files["kodim01.png"]


def test_a_later_run_goes_on_where_the_first_gave_up(tmp_path: Path) -> None:
    data_set, files = small_kodak()
    with serve(files) as server:
        server.cut_after, server.cuts = 1000, 5
        with pytest.raises(
            InputError, match=r"kodim01.png: cannot be fetched after 5 attempts.*run again to go on"
        ):
            fetcher(data_set, server, tmp_path).fetch(("kodim01",))
        assert not (tmp_path / "kodim01.png").exists()
        server.requests.clear()
        fetcher(data_set, server, tmp_path).fetch(("kodim01",))
        assert server.requests == [("/kodim01.png", "bytes=5000-")]
    assert (tmp_path / "kodim01.png").read_bytes() == files["kodim01.png"]
    assert leftovers(tmp_path) == []


def test_a_server_without_ranges_starts_again(tmp_path: Path) -> None:
    data_set, files = small_kodak()
    with serve(files) as server:
        server.ranges = False
        server.cut_after, server.cuts = 1500, 1
        fetcher(data_set, server, tmp_path).fetch(("kodim01",))
    assert (tmp_path / "kodim01.png").read_bytes() == files["kodim01.png"]


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(tmp_path: Path) -> None:
    data_set, files = small_kodak()
    with serve(files) as server:
        server.refuse_next = 2
        fetcher(data_set, server, tmp_path).fetch(("kodim01",))
        assert len(server.requests) == 3
        del server.files["kodim02.png"]
        with pytest.raises(InputError, match=r"kodim02.png: the server answers 404"):
            fetcher(data_set, server, tmp_path).fetch(("kodim02",))
        assert len(server.requests) == 4


def test_another_file_under_the_name_is_refused_and_not_kept(tmp_path: Path) -> None:
    data_set, files = small_kodak()
    wrong = files | {"kodim01.png": files["kodim02.png"]}
    with serve(wrong) as server, pytest.raises(InputError, match="its SHA-256 differs"):
        fetcher(data_set, server, tmp_path).fetch(("kodim01",))
    assert list(tmp_path.iterdir()) == []


def test_offline_says_so(tmp_path: Path) -> None:
    data_set, files = small_kodak()
    with serve(files) as server:
        gone = server.url
    with pytest.raises(InputError, match=r"offline\? .* --path"):
        Fetcher(data_set, tmp_path, host=gone, pause=0.001).fetch()


def test_7z_archive_gives_its_raw_clip_and_its_digests_are_locked(tmp_path: Path) -> None:
    data_set, files = small_uvg()
    with serve(files) as server:
        (path,) = fetcher(data_set, server, tmp_path).fetch()
        assert path.read_bytes() == clip_bytes(1)
        assert leftovers(tmp_path) == []
        locked = json.loads((tmp_path / LOCK_FILE).read_text())
        assert locked[path.name] == hashlib.sha256(clip_bytes(1)).hexdigest()
        (item,) = items_of(data_set, tmp_path)
        assert Source(item).info.frame_rate == 30
        assert sum(1 for _ in Source(item).rgb_frames()) == FRAMES

        path.write_bytes(bytes(len(clip_bytes(1))))
        (state,) = states(data_set, tmp_path)
        assert state.fault is not None
        assert LOCK_FILE in state.fault

        path.unlink()
        archive = io.BytesIO()
        with py7zr.SevenZipFile(archive, "w") as opened:
            opened.writestr(clip_bytes(2), path.name)
        server.files = dict.fromkeys(files, archive.getvalue())
        with pytest.raises(InputError, match="which was first seen"):
            fetcher(data_set, server, tmp_path).fetch()
        assert not path.exists()


def test_first_frames_of_a_7z_archive(tmp_path: Path) -> None:
    data_set, files = small_uvg()
    with serve(files) as server:
        (path,) = fetcher(data_set, server, tmp_path).fetch(frames=2)
        assert path.read_bytes() == clip_bytes(1)[: 2 * RAW.frame_bytes]
        (state,) = states(data_set, tmp_path)
        assert (state.fault, state.frames) == (None, 2)
        (path,) = fetcher(data_set, server, tmp_path).fetch(frames=1)
        assert len(server.requests) == 1, "two frames are there, one is asked for"
        (path,) = fetcher(data_set, server, tmp_path).fetch()
        assert path.read_bytes() == clip_bytes(1)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    data_set, files = small_uvg()
    (name,) = files
    damaged = bytearray(files[name])
    damaged[60] ^= 0xFF
    with serve({name: bytes(damaged)}) as server, pytest.raises(InputError, match="damaged"):
        fetcher(data_set, server, tmp_path).fetch()
    assert leftovers(tmp_path) == []
    assert not list(tmp_path.glob("*.yuv"))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_part_gives_the_wanted_member_alone(tmp_path: Path, compression: int) -> None:
    data_set, files = small_mcl_jcv(compression)
    with serve(files) as server:
        server.cut_after, server.cuts = 300, 1
        (path,) = fetcher(data_set, server, tmp_path).fetch(("videoSRC02",))
        assert path.read_bytes() == clip_bytes(2)
        assert server.sent < 170_000, "the 200,000 bytes of encoded clips stay where they are"
    assert leftovers(tmp_path) == []


def test_first_frames_of_a_zip_part_are_all_that_is_fetched(tmp_path: Path) -> None:
    data_set, files = small_mcl_jcv(zipfile.ZIP_STORED)
    with serve(files) as server:
        (path,) = fetcher(data_set, server, tmp_path).fetch(("videoSRC01",), frames=1)
        assert path.read_bytes() == clip_bytes(1)[: RAW.frame_bytes]


def test_a_member_of_another_size_is_refused(tmp_path: Path) -> None:
    data_set, files = small_mcl_jcv(zipfile.ZIP_STORED)
    longer = replace(data_set.members[0], size=999, frames=1)
    with serve(files) as server, pytest.raises(InputError, match="999 were expected"):
        fetcher(replace(data_set, members=(longer,)), server, tmp_path).fetch()


def test_the_folder_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BSQC_DATA", str(tmp_path))
    assert data_folder() == tmp_path


def test_real_kodak_files_are_the_published_ones(data_dir: Path) -> None:
    found = states(DATA_SETS["kodak"], data_dir / "kodak")
    assert [state.fault for state in found] == [None] * 24


def test_the_tables_of_clips_add_up() -> None:
    uvg, mcl_jcv = DATA_SETS["uvg"], DATA_SETS["mcl-jcv"]
    assert sum(member.frames for member in uvg.members) == 3900
    assert uvg.members[5].size == 933_120_000
    assert sum(member.frames for member in mcl_jcv.members) == 4115
    assert len(mcl_jcv.members) == 30
