"""The list shows where its holes are: numbered on the square's picture, or at the true stage positions."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cryoscout.advice.advise import advise
from cryoscout.advice.setting import AdviceRequest
from cryoscout.advice.square_maps import MOST_DRAWN, pictures_of_session, square_maps
from cryoscout.cli.main import main
from cryoscout.session.builtin import load_builtin
from cryoscout.session.store import SessionStore

DATA = Path(__file__).parents[1] / "formats" / "data"
SVG = "{http://www.w3.org/2000/svg}"
REQUEST = AdviceRequest(30.0, "index", time_model="cryorl")


@pytest.fixture(scope="module")
def epu(tmp_path_factory):
    """A real square and a made-up picture of it, as EPU names and places both."""
    folder = tmp_path_factory.mktemp("maps")
    (folder / "run" / "Metadata").mkdir(parents=True)
    square = gzip.decompress((DATA / "epu" / "GridSquare_4590776.dm.gz").read_bytes())
    (folder / "run" / "Metadata" / "GridSquare_4590776.dm").write_bytes(square)
    assert main(["import", str(folder / "run"), "-o", str(folder / "run.session")]) == 0
    return folder


def loaded(folder):
    with SessionStore.open(folder / "run.session") as store:
        return store.load()


def parsed(one):
    return ElementTree.fromstring(one.svg)  # noqa: S314


def test_the_square_is_drawn_to_scale_with_numbers_and_the_vendors_names(epu):
    session = loaded(epu)
    work_list = advise(session, REQUEST).work_list
    (one,) = square_maps(session, work_list)
    root = parsed(one)
    chosen = root.findall(f"{SVG}g")
    assert [group.findall(f"{SVG}text")[0].text for group in chosen] == [
        str(v.order) for v in work_list.visits
    ]
    assert [group.findall(f"{SVG}text")[1].text for group in chosen] == [v.hole for v in work_list.visits]
    drawn = np.array(
        [[float(group.find(f"{SVG}circle").get(key)) for key in ("cx", "cy")] for group in chosen]
    )
    stage = np.array([[v.x_um, v.y_um] for v in work_list.visits])
    scale = (drawn[1:, 0] - drawn[0, 0]) / (stage[1:, 0] - stage[0, 0])
    np.testing.assert_allclose(scale, scale[0], rtol=0.05)
    np.testing.assert_allclose(drawn[1:, 1] - drawn[0, 1], -scale[0] * (stage[1:, 1] - stage[0, 1]), atol=1.5)
    assert len(root.findall(f"{SVG}circle")) == 570 - len(chosen)
    assert "µm, stage x to the right, y up" in one.svg


def test_holes_stand_on_the_picture_of_their_square_at_their_pixels(epu):
    session = loaded(epu)
    place = epu / "pictures"
    place.mkdir(exist_ok=True)
    Image.fromarray(np.full((4096, 4096), 90, dtype=np.uint8)).save(place / "4590776.png")
    work_list = advise(session, REQUEST).work_list
    pictures = pictures_of_session(session, [place])
    (one,) = square_maps(session, work_list, pictures)
    root = parsed(one)
    assert root.find(f"{SVG}image").get("href").startswith("data:image/jpeg;base64,")
    holes = session.holes.set_index("hole_id")
    for group, visit in zip(root.findall(f"{SVG}g"), work_list.visits, strict=True):
        circle = group.find(f"{SVG}circle")
        at = [float(circle.get(key)) for key in ("cx", "cy")]
        expected = (holes.loc[visit.hole, ["x_px", "y_px"]].to_numpy(dtype=float) + 0.5) * 900 / 4096
        np.testing.assert_allclose(at, expected, atol=0.06)


def test_the_list_of_a_session_shows_the_pictures_of_its_folder(epu, capfd):
    disc = epu / "run" / "Images-Disc1" / "GridSquare_4590776"
    disc.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4096, 4096), 90, dtype=np.uint8)).save(disc / "GridSquare_20180101_101010.jpg")
    ask = [
        "plan",
        str(epu / "run.session"),
        "--budget-min",
        "30",
        "--policy",
        "index",
        "--export",
        "html",
        "-o",
    ]
    assert main([*ask, str(epu / "list.html")]) == 0
    assert "1 map has the chosen holes numbered" in capfd.readouterr().err
    page = (epu / "list.html").read_text(encoding="utf-8")
    assert page.count("<svg") == page.count("data:image/jpeg;base64,") == 1
    assert re.search(r'class="p">p 0\.\d\d, at -?\d+\.\d\d, -?\d+\.\d\d</span>', page)
    assert "white-space: nowrap" in page
    for path in disc.iterdir():
        path.unlink()
    assert main([*ask, str(epu / "without.html")]) == 0
    assert "--pictures FOLDER names those of your squares" in capfd.readouterr().err
    assert "µm, stage x to the right" in (epu / "without.html").read_text(encoding="utf-8")
    assert main([*ask, str(epu / "x.html"), "--pictures", str(epu / "nowhere")]) == 2


def test_a_session_without_positions_has_no_drawing():
    session = load_builtin("y1", split="val")
    assert square_maps(session, advise(session, AdviceRequest(60.0, "greedy")).work_list) == []


def test_names_are_text_and_never_markup(epu):
    session = loaded(epu)
    work_list = advise(session, REQUEST).work_list
    from dataclasses import replace

    evil = replace(work_list.visits[0], square=work_list.visits[0].square)
    holes = session.holes.assign(hole_id=session.holes["hole_id"].replace(evil.hole, "<script>x</script>"))
    exposures = session.exposures[session.exposures["hole_id"] != evil.hole]
    changed = replace(session, holes=holes, exposures=exposures, vendor_fields=session.vendor_fields.iloc[:0])
    visits = (replace(evil, hole="<script>x</script>"), *work_list.visits[1:])
    (one,) = square_maps(changed, replace(work_list, visits=visits))
    assert "<script>" not in one.svg
    assert "&lt;script&gt;" in one.svg
    assert MOST_DRAWN >= 10


def test_the_report_draws_the_squares_of_its_plan(epu):
    from cryoscout.report.replays import ReportRequest
    from cryoscout.report.session_report import session_page

    page = session_page(loaded(epu), ReportRequest(30.0, ("index",), time_model="cryorl"), None)
    drawn = [
        section for section in page.sections if section.heading == "The plan on 4590776: stage positions"
    ]
    assert len(drawn) == 1
    assert drawn[0].svg.count("<polyline") == 1
