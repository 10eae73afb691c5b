"""`cryoscout find-holes`: its JSON contract, its pictures, and what it says of images that it cannot use."""

from __future__ import annotations

import json
import re
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def lattice(tmp_path: Path) -> Path:
    """25 bright discs of 20 px, 40 px apart, the first at row 30, column 50."""
    rows, columns = np.mgrid[:220, :260]
    down = (rows - 30 + 20) % 40 - 20
    across = (columns - 50 + 20) % 40 - 20
    inside = (rows < 210) & (columns > 30) & (columns < 230)
    pixels = 100 + 50 * ((np.hypot(down, across) <= 10) & inside)
    pixels = pixels + np.random.default_rng(0).normal(0, 4, pixels.shape)
    path = tmp_path / "square.png"
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty.png"
    Image.fromarray(np.full((100, 100), 90, dtype=np.uint8)).save(path)
    return path


def test_json_gives_diameter_and_holes_by_image(cli, lattice, empty):
    answer = cli("find-holes --json", lattice, empty)
    assert answer.code == 0
    given = json.loads(answer.out)
    assert given[str(empty)] == {
        "diameter_px": None, "spacing_um": None, "dark": False, "tiles": None, "parts": 0, "parts_with_holes": 0,
        "holes": [],
    }  # fmt: skip
    assert "empty.png: no lattice of holes was found" in answer.err
    found = given[str(lattice)]
    assert found["diameter_px"] == pytest.approx(20, abs=2)
    places = sorted((round(row / 40 - 0.75), round(column / 40 - 1.25)) for row, column, _ in found["holes"])
    assert places == [(row, column) for row in range(5) for column in range(5)]
    assert all(abs((row - 30 + 20) % 40 - 20) < 1 for row, _, _ in found["holes"])
    assert all(abs((column - 50 + 20) % 40 - 20) < 1 for _, column, _ in found["holes"])
    assert all(0 < score <= 1 for _, _, score in found["holes"])


def test_people_see_a_line_for_the_image_and_one_for_each_hole(cli, lattice):
    answer = cli("find-holes", lattice)
    assert answer.code == 0
    assert "25 holes, diameter" in answer.out
    assert len(answer.out.splitlines()) == 27


def test_pictures_show_a_circle_around_every_hole_and_are_not_replaced_unasked(cli, lattice, tmp_path):
    assert cli("find-holes -o pictures", lattice).code == 0
    picture = np.asarray(Image.open(tmp_path / "pictures" / "square_holes.png"))
    assert picture.shape == (220, 260, 3)
    orange = (picture[..., 0] > 200) & (picture[..., 2] < 40)
    assert orange[105:126, 125:146].sum() > 20
    refused = cli("find-holes -o pictures", lattice)
    assert refused.code == 2
    assert "--force" in refused.err
    assert cli("find-holes -o pictures --force", lattice).code == 0


def test_an_image_that_cannot_be_read_ends_with_2_and_its_name(cli, lattice, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    answer = cli("find-holes --json", lattice, tmp_path / "notes.txt")
    assert (answer.code, answer.out) == (2, "")
    assert "notes.txt must" in answer.err
    assert cli("find-holes missing.mrc").code == 2


def test_images_of_one_name_or_named_twice_are_refused(cli, lattice, tmp_path):
    assert cli("find-holes", lattice, lattice).code == 2
    other = tmp_path / "other"
    other.mkdir()
    (other / lattice.name).write_bytes(lattice.read_bytes())
    answer = cli("find-holes -o pictures", lattice, other / lattice.name)
    assert answer.code == 2
    assert "different names" in answer.err


def test_the_help_has_an_example(cli):
    assert "cryoscout find-holes square.mrc" in cli("find-holes --help").out


def test_an_image_of_inverted_contrast_has_its_holes_and_says_so(cli, lattice, tmp_path):
    inverted = tmp_path / "inverted.png"
    Image.fromarray(255 - np.asarray(Image.open(lattice))).save(inverted)
    answer = cli("find-holes --json", lattice, inverted)
    given = json.loads(answer.out)
    assert given[str(inverted)]["dark"] is True
    assert given[str(lattice)]["dark"] is False
    places = np.array(given[str(lattice)]["holes"])[:, :2]
    np.testing.assert_allclose(np.array(given[str(inverted)]["holes"])[:, :2], places, atol=0.5)
    assert "inverted.png: the holes are darker than the film" in answer.err
    said = cli("find-holes --dark-holes", inverted)
    assert said.err == ""
    assert "25 dark holes" in said.out


def test_lengths_are_said_in_um_where_the_pixel_size_is_known_and_squares_are_told(cli, lattice, tmp_path):
    (tmp_path / f"{lattice.name}.mdoc").write_text("[ZValue = 0]\nPixelSpacing = 500\n")
    answer = cli("find-holes", lattice)
    assert re.search(
        r"diameter \d+\.\d px \(1\.0\d um\), spacing \d\d\.\d px \((2\.0\d|1\.9\d) um\)", answer.out
    )
    assert answer.err == ""
    (tmp_path / f"{lattice.name}.mdoc").write_text("[ZValue = 0]\nPixelSpacing = 15000\n")
    answer = cli("find-holes --json", lattice)
    assert json.loads(answer.out)[str(lattice)]["spacing_um"] == pytest.approx(60, abs=1)
    assert "the spacing is 60 um: these are the squares of a grid, not holes" in answer.err


def test_a_table_of_the_holes_leads_on_to_a_plan(cli, lattice):
    answer = cli("find-holes -o holes.csv", lattice)
    assert answer.code == 0
    assert "Go on with: cryoscout import holes.csv -o NAME.session" in answer.err
    told = json.loads(cli("import holes.csv -o mine.session --json").out)
    assert (told["squares"], told["holes"]) == (1, 25)
    plan = json.loads(cli("plan mine.session --policy index --budget-min 30 --json").out)
    assert {hole["square"] for hole in plan["holes"]} == {"square"}
    assert cli("find-holes -o holes.csv", lattice).code == 2
    assert cli("find-holes -o holes.csv --force", lattice).code == 0


NAV = """AdocVersion = 2.00

[Item = 1-A]
Color = 2
StageXYZ = 100 200 5
NumPts = 5
Regis = 3
Type = 2
MapFile = square.png
MapID = 123456
MapMontage = 0
MapSection = 0
MapBinning = 1
MapMagInd = 14
MapCamera = 0
MapScaleMat = 10 0 0 10
MapWidthHeight = 520 440
PtsX = 74 74 126 126 74
PtsY = 178 222 222 178 178
"""


def test_a_navigator_of_the_holes_has_them_at_their_stage_positions(cli, lattice, tmp_path):
    """10 px of the map are 1 um; the picture has half the map's pixels, its top row first."""
    from cryoscout.session.store import SessionStore

    (tmp_path / "mine.nav").write_text(NAV)
    answer = cli("find-holes -o holes.nav --nav mine.nav", lattice)
    assert answer.code == 0
    assert "25 points on map 1-A, not marked Acquire" in answer.err
    assert (tmp_path / "holes.nav").read_text().startswith(NAV)
    assert cli("validate holes.nav").code == 0
    assert cli("import holes.nav -o sem.session").code == 0
    with SessionStore.open(tmp_path / "sem.session") as store:
        holes = store.load().holes
    # The first hole, row 30, column 50 of 220 rows and 260 columns.
    expected = 100 + (2 * 50.5 - 260) / 10, 200 + (220 - 2 * 30.5) / 10
    at = holes[["x_um", "y_um"]].to_numpy()
    assert np.hypot(*(at - expected).T).min() < 0.15
    assert len(holes) == 25
    plan = cli(
        "plan sem.session --policy index --budget-min 60 --also-unchosen --export nav --nav holes.nav -o p.nav"
    )
    assert plan.code == 0


def test_a_list_without_a_hole_leads_nowhere(cli, empty, tmp_path):
    (tmp_path / "mine.nav").write_text(NAV.replace("square.png", "empty.png"))
    for answer in (
        cli("find-holes -o holes.csv", empty),
        cli("find-holes -o holes.nav --nav mine.nav", empty),
    ):
        assert answer.code == 0
        assert "no lattice of holes was found" in answer.err
        assert "Go on with" not in answer.err
    answer = cli("import holes.csv -o x.session")
    assert answer.code == 2
    assert "Got none of them instead: holes.csv" in answer.err


def test_a_list_of_holes_on_a_picture_asks_for_the_picture(cli, lattice):
    assert cli("find-holes -o holes.csv", lattice).code == 0
    assert cli("import holes.csv -o mine.session").code == 0
    line = "plan mine.session --policy index --budget-min 30 --export html -o"
    assert (
        "The holes have places on pictures alone, and no picture of them was found" in cli(line, "a.html").err
    )
    answer = cli(f"{line} b.html --pictures .")
    assert "1 map has the chosen holes numbered." in answer.err


def test_an_mrc_has_its_lowest_row_first_whatever_its_name(cli, lattice, tmp_path):
    from cryoscout.formats.serialem.nav import read_nav

    image = np.asarray(Image.open(lattice)).astype(np.float32)
    film = np.random.default_rng(1).normal(100, 4, (40, image.shape[1])).astype(np.float32)
    pixels = np.vstack([film, image])
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / "square.png")
    with mrcfile.new(tmp_path / "square.mrc") as made:
        made.set_data(pixels[::-1])
    (tmp_path / "square.mrc").rename(tmp_path / "square.rec")
    rows = {}
    for name in ("square.png", "square.rec"):
        (tmp_path / "mine.nav").write_text(NAV.replace("square.png", name).replace("520 440", "520 520"))
        assert cli(f"find-holes -o {name}.nav --nav mine.nav {name}").code == 0
        items = read_nav(tmp_path / f"{name}.nav").holes
        rows[name] = sorted(item.coords_in[1][1] for item in items)
    assert rows["square.rec"] == pytest.approx(rows["square.png"], abs=2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-o holes.nav", "must be made of one image and your own navigator. Got no --nav instead."),
        ("-o holes.csv --map 9", "--map must go with --nav FILE."),
        (
            "-o holes.nav --nav mine.nav --map 9",
            "Got '9', which fits 0, instead. Remedy: name its label with --map",
        ),
    ],
)
def test_lists_that_cannot_be_made_are_refused(cli, lattice, tmp_path, options, message):
    (tmp_path / "mine.nav").write_text(NAV)
    answer = cli(f"find-holes {options}", lattice)
    assert (answer.code, message in answer.err) == (2, True)
    assert not (tmp_path / "holes.nav").exists()


def test_a_montage_says_in_how_many_of_its_tiles_there_are_holes(cli, lattice, tmp_path):
    image = np.asarray(Image.open(lattice)).astype(np.float32)
    film = np.random.default_rng(1).normal(100, 4, image.shape)
    pixels = np.block([[image, film], [film, film]])
    path = tmp_path / "montage.png"
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    answer = cli("find-holes --json", path)
    assert (
        "holes in 1 of 4 quarters of the picture; whether it is a montage, and of which tiles, no file"
        in answer.err
    )
    given = json.loads(answer.out)[str(path)]
    assert (given["tiles"], given["parts"], given["parts_with_holes"]) == (None, 4, 1)
    pieces = "".join(
        f"[ZValue = {n}]\nPieceCoordinates = {260 * (n % 2)} {220 * (n // 2)} 0\n" for n in range(4)
    )
    (tmp_path / "montage.mrc.mdoc").write_text(f"ImageSize = 260 220\nMontage = 1\n{pieces}")
    answer = cli("find-holes --json", path)
    assert (
        "montage.png: holes in 1 of 4 tiles of the montage. Look at the others with -o FOLDER" in answer.err
    )
    given = json.loads(answer.out)[str(path)]
    assert (given["tiles"], given["parts_with_holes"], len(given["holes"])) == (4, 1, 25)


def test_a_navigator_says_the_tiles_of_a_map_whatever_is_written(cli, lattice, tmp_path):
    image = np.asarray(Image.open(lattice)).astype(np.float32)
    film = np.random.default_rng(1).normal(100, 4, image.shape)
    pixels = np.clip(np.block([[image, film, film]]), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    (tmp_path / "mine.nav").write_text(NAV.replace("MapMontage = 0", "MapMontage = 1\nMapFramesXY = 3 1"))
    answer = cli("find-holes wide.png --nav mine.nav -o wide.csv")
    assert answer.code == 0, answer.err
    assert "wide.png: holes in 1 of 3 tiles of the montage." in answer.err
    assert (tmp_path / "wide.csv").read_text().startswith("hole,square")
