"""report.html in headless Chromium: curves with values on hover, a table to sort, a slider that moves."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bsqcodec.evaluation.evaluate import Selection, choose, evaluate, pictures, write_outputs
from bsqcodec.evaluation.sources import Source
from bsqcodec.evaluation.stills import PillowCodec
from bsqcodec.evaluation.views import match_bytes

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=1250,900",
    "--enable-logging=stderr",
    "--virtual-time-budget=8000",
)
PROBE = Path(__file__).with_name("report_probe.js")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of one photograph with two codecs, written out."""
    from PIL import Image
    from skimage.data import astronaut

    place = tmp_path_factory.mktemp("report")
    Image.fromarray(astronaut()[40:136, 160:272]).save(place / "astronaut <!--<script>.png")
    codecs = [PillowCodec("jpeg"), PillowCodec("webp")]
    chosen = choose([str(place)], None, Selection())
    evaluation, _ = evaluate(chosen, codecs, cache=None, executor=None)
    views = list(pictures(chosen, codecs, evaluation, None, 6))
    write_outputs(evaluation, place / "out", plots=False, views=views)
    return place / "out"


def test_the_report_is_one_file_without_addresses(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    outside = re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:)[a-z]+:|@import|url\(|fetch\(|XMLHttp""", page)
    assert outside == []
    inside = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert inside is not None
    data = json.loads(inside[1])
    assert [view["name"] for view in data["views"]] == ["astronaut <!--<script>"]
    assert len(data["views"][0]["rates"]) == 2


def test_others_have_as_many_bytes(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    data = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0])
    for rate in data["views"][0]["rates"]:
        (jpeg,), (webp,) = (
            re.findall(r"([\d.]+) bpp", caption) for view in rate["views"] for caption in view["captions"]
        )
        assert float(webp) == pytest.approx(float(jpeg), rel=0.06)


def test_matching_takes_the_end_of_the_range_where_it_must(folder: Path, tmp_path: Path) -> None:
    (item,) = choose([str(folder.parent)], None, Selection()).items
    value, path = match_bytes(PillowCodec("jpeg"), Source(item), 10, [(5.0, 2500)], tmp_path)
    assert value == 1
    assert path.stat().st_size > 10


def test_the_report_works_in_a_browser(folder: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium here (Debian package chromium)")
    page = tmp_path / "probed.html"
    page.write_text(
        (folder / "report.html")
        .read_text()
        .replace("</body>", f"<script>{PROBE.read_text()}</script></body>")
    )
    done = subprocess.run(
        [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert text is not None, "the script ended early"
    found = json.loads(text[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    assert found["curves"] == 2
    assert found["curvesLeft"] == 1
    assert re.match(r"jpeg quality 2.*bpp: \d+\.\d\d PSNR-RGB", found["tip"])
    assert found["rising"] == sorted(found["rising"], key=float)
    assert found["falling"] == found["rising"][::-1]
    assert found["before"] == "inset(0px 50% 0px 0px)"
    assert found["after"] == "inset(0px 75% 0px 0px)"
    assert found["zoom"][0] == found["zoom"][1]
    assert "scale(1.25)" in found["zoom"][0]
    assert found["panned"][0] == found["panned"][1] != found["zoom"][0]
    assert found["caption"].startswith("webp, quality")
    assert found["widths"] == [112, 112]
