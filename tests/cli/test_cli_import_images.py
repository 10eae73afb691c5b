"""`cryoscout import --images` with patch images: holes are cut where they are; damaged pictures are named."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cryoscout.session.store import SessionStore

SQUARE = "21jan01a_00001gr_00002sq"
PATCHES = [f"{SQUARE}_00003hl", f"{SQUARE}_00004hl_v01"]
PLACES = {
    f"{PATCHES[0]}_00001en": (-30, -20),
    f"{PATCHES[0]}_00002en": (25, 40),
    f"{PATCHES[1]}_00001en": (0, 5),
}


def picture(at: list[tuple[int, int]], shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Grey noise with a bright pixel at (row, column) of each hole."""
    pixels = np.random.default_rng(0).integers(90, 110, shape).astype(np.uint8)
    pixels[:, 152:] = (
        255  # so many bright pixels that those of holes are not cut as hot ones; no hole lies there
    )
    for row, column in at:
        pixels[row, column] = 255
    return pixels


@pytest.fixture
def leginon(tmp_path: Path) -> Path:
    """A table whose positions are from the centre of pictures of 160 x 120 px: column 80 + x, row 60 + y."""
    (tmp_path / "ctf.csv").write_text(
        "".join(f"{hole}-a,{x}.0,{y}.0,4.0,0.9\n" for hole, (x, y) in PLACES.items())
    )
    folder = tmp_path / "pictures"
    folder.mkdir()
    with mrcfile.new(folder / f"{PATCHES[0]}.mrc") as file:
        file.set_data(picture([(40, 50), (100, 105)]).astype(np.float32))
    Image.fromarray(picture([(65, 80)])).save(folder / f"{PATCHES[1]}.tif")
    return folder


def stored_images(folder: Path) -> dict[str, np.ndarray]:
    """Hole -> its image."""
    with SessionStore.open(folder) as store:
        holes = store.load().holes
        imaged = holes.loc[holes["image_row"].notna(), "patch_id"].unique()
        of_patch = {patch: store.images(patch) for patch in imaged}
        return {
            hole: of_patch[patch][row]
            for hole, patch, row in zip(holes["hole_id"], holes["patch_id"], holes["image_row"], strict=True)
            if not pd.isna(row)
        }


def test_holes_are_cut_from_leginons_patch_images_where_they_are(cli, leginon, tmp_path):
    answer = cli("import ctf.csv -o run7.session --images pictures --crop-px 21 --json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    (join,) = [join for join in told["joins"] if "pictures" in join["what"]]
    assert (join["found"], join["joined"], join["without"]) == (2, 2, 0)
    images = stored_images(tmp_path / "run7.session")
    assert set(images) == set(PLACES)
    for image in images.values():
        assert image.shape == (21, 21)
        assert np.unravel_index(image.argmax(), image.shape) == (10, 10)


def test_pictures_of_a_folder_that_is_named_by_a_dot_are_of_its_name(cli, leginon, monkeypatch):
    monkeypatch.chdir(leginon)
    answer = cli("import ../ctf.csv -o ../mine.session --images .")
    assert answer.code == 0
    assert f"pictures of {leginon.name}: 2 of 2 joined" in answer.out


def test_the_side_is_150_unless_said_and_edges_are_padded(cli, leginon, tmp_path):
    assert cli("import ctf.csv -o run7.session --images pictures").code == 0
    images = stored_images(tmp_path / "run7.session")
    for image in images.values():
        assert image.shape == (150, 150)
        assert image[75, 75] == image.max()
        assert (image[75, 74], image[74, 75]) < (image.max(), image.max())
    # Row 40 of the picture: the first 35 rows lie above its border, which goes on there.
    image = images[f"{PATCHES[0]}_00001en"]
    assert (image[:35] == image[35]).all()
    assert (image[36] != image[35]).any()


def test_names_of_derived_images_belong_to_their_patch_and_others_are_told(cli, leginon, tmp_path):
    (leginon / f"{PATCHES[0]}.mrc").rename(leginon / f"{PATCHES[0]}-a.mrc")
    Image.fromarray(picture([])).save(leginon / "atlas.png")
    told = json.loads(cli("import ctf.csv -o run7.session --images pictures --json").out)
    (join,) = [join for join in told["joins"] if "pictures" in join["what"]]
    assert (join["found"], join["joined"], join["first_not_joined"]) == (3, 2, ["atlas.png"])
    assert len(stored_images(tmp_path / "run7.session")) == 3


def test_a_damaged_picture_is_named_or_left_out_and_listed(cli, leginon, tmp_path):
    damaged = leginon / f"{PATCHES[0]}.mrc"
    damaged.write_bytes(damaged.read_bytes()[:-99])
    answer = cli("import ctf.csv -o run7.session --images pictures")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"pictures/{damaged.name} must have")
    assert not (tmp_path / "run7.session").exists()
    answer = cli("import ctf.csv -o run7.session --images pictures --permissive --json")
    assert answer.code == 0
    assert f"Left out: pictures/{damaged.name} must have" in answer.err
    assert json.loads(answer.out)["left_out"] == 1
    assert set(stored_images(tmp_path / "run7.session")) == {f"{PATCHES[1]}_00001en"}


def test_a_text_named_as_a_picture_is_refused(cli, leginon):
    (leginon / f"{PATCHES[0]}.mrc").write_text("no picture")
    answer = cli("import ctf.csv -o run7.session --images pictures")
    assert answer.code == 2
    assert "must be an MRC, TIFF, PNG or JPEG picture" in answer.err


def test_a_hole_outside_its_picture_is_refused_by_name_or_left_out(cli, leginon, tmp_path):
    Image.fromarray(picture([], (8, 8))).save(leginon / f"{PATCHES[1]}.tif")
    assert cli("import ctf.csv -o run7.session --images pictures").code == 2
    answer = cli("import ctf.csv -o run7.session --images pictures")
    assert f"{PATCHES[1]}.tif: Holes must lie within" in answer.err
    assert f"Got {PATCHES[1]}_00001en outside" in answer.err
    answer = cli("import ctf.csv -o run7.session --images pictures --permissive")
    assert answer.code == 0
    assert f"Left out: pictures/{PATCHES[1]}.tif: Holes must lie" in answer.err
    assert len(stored_images(tmp_path / "run7.session")) == 2


def test_two_pictures_of_a_patch_are_refused_or_the_second_left_out(cli, leginon):
    Image.fromarray(picture([])).save(leginon / f"{PATCHES[0]}.png")
    answer = cli("import ctf.csv -o run7.session --images pictures")
    assert answer.code == 2
    assert "A patch must have one picture." in answer.err
    assert cli("import ctf.csv -o run7.session --images pictures --permissive").code == 0


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A site's own table: px from the upper left corner; two squares of one patch each, one hole without a place."""
    (tmp_path / "own.csv").write_text(
        "grid,square,patch,hole,x_px,y_px,ctf\n"
        "g,s/1,p/1,h1,30,40,3.5\ng,s/1,p/1,h2,70,20,9\ng,s/2,p/2,h3,50,60,4\ng,s/2,p/2,h4,,,5\n"
    )
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(picture([(40, 30), (20, 70)])).save(folder / "p%2F1.png")
    Image.fromarray(picture([(60, 50)])).save(folder / "s%2F2.png")
    return folder


def test_own_tables_count_from_the_corner_on_the_patch_or_square(cli, table, tmp_path):
    answer = cli("import own.csv --position-unit px -o run7.session --images pictures --crop-px 15")
    assert answer.code == 0, answer.err
    assert "1 hole has no position in px, so no image was cut of them" in answer.out
    images = stored_images(tmp_path / "run7.session")
    assert len(images) == 3
    assert all(np.unravel_index(image.argmax(), image.shape) == (7, 7) for image in images.values())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "import ctf.csv --images empty",
            "must be a folder with hole images *_crop.png (Leginon) or with patch",
        ),
        ("import ctf.csv --images nowhere", "Got nowhere, which has none, instead"),
        ("import ctf.csv --crop-px 64", "--crop-px must go with --images"),
        ("import ctf.csv --images pictures --crop-px 4", "at least 8 px wide. Got 4 px"),
        (
            "import ctf.csv --images others",
            "Pictures must be named by the patch_id they show, such as 21jan01a",
        ),
        ("import nopx.csv --images pictures", "must have positions of holes in px"),
        ("import ctf.csv -o a.session --update --images pictures", "Got --images instead"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_session(cli, leginon, tmp_path, line, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "others").mkdir()
    Image.fromarray(picture([])).save(tmp_path / "others" / "other.png")
    (tmp_path / "nopx.csv").write_text("hole,ctf\nh1,3.5\nh2,4\n")
    answer = cli(line if "-o" in line else f"{line} -o run7.session")
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert not list(tmp_path.glob("*.session"))


def test_crops_and_pictures_are_told_apart(cli, leginon, tmp_path):
    crop = leginon / f"{PATCHES[0]}_00001en-a_crop.png"
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(crop)
    answer = cli("import ctf.csv -o run7.session --images pictures --crop-px 20")
    assert answer.code == 2
    assert "Remedy: leave --crop-px out" in answer.err
    assert cli("import ctf.csv -o run7.session --images pictures").code == 0
    (image,) = stored_images(tmp_path / "run7.session").values()
    assert image.shape == (16, 16)


@pytest.mark.slow
def test_cutting_needs_no_torch(leginon, tmp_path):
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from cryoscout.cli.main import main\n"
        "sys.exit(main('import ctf.csv -o run7.session --images pictures'.split()))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_the_pictures_of_epus_squares_are_found_in_the_sessions_folder(cli, tmp_path):
    square = tmp_path / "epu" / "Images-Disc1" / "GridSquare_4590776"
    square.mkdir(parents=True)
    (tmp_path / "epu" / "Metadata").mkdir()
    packed = Path(__file__).parents[1] / "formats" / "data" / "epu" / "GridSquare_4590776.dm.gz"
    (tmp_path / "epu" / "Metadata" / "GridSquare_4590776.dm").write_bytes(
        gzip.decompress(packed.read_bytes())
    )
    # The older picture gets darker to the right, the newest brighter.
    ramp = np.broadcast_to(np.linspace(20, 235, 4096).astype(np.uint8), (4096, 4096))
    Image.fromarray(ramp[:, ::-1].copy()).save(square / "GridSquare_20240101_100000.jpg")
    Image.fromarray(ramp.copy()).save(square / "GridSquare_20240101_110000.jpg")
    answer = cli("import epu --images epu -o run.session --permissive --json")
    assert answer.code == 0, answer.err
    images = stored_images(tmp_path / "run.session")
    with SessionStore.open(tmp_path / "run.session") as store:
        x_px = store.load().holes.set_index("hole_id")["x_px"]
    assert len(images) > 500
    left = [image.mean() for hole, image in images.items() if x_px[hole] < 1948]
    right = [image.mean() for hole, image in images.items() if x_px[hole] > 2148]
    assert max(left) < min(right)
