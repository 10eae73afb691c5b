"""Images of one name in two folders of SerialEM: two images, and no result of one goes to the other."""

from __future__ import annotations

import pytest

from cryoscout.intake.assemble import assemble
from cryoscout.intake.read import read_sources
from cryoscout.session.store import SessionStore


def holes_of_exposures(session):
    return dict(zip(session.exposures["exposure_id"], session.exposures["hole_id"], strict=True))


def two_folders(tmp_path, later="09:39:08"):
    """Folders of two grids, in each a navigator with an item 21 and an image b_0001, 200 um apart."""
    for name, x_um, at in (("A", 100, "07:39:08"), ("B", 300, later)):
        (tmp_path / name).mkdir()
        navigator = [
            "AdocVersion = 2.00", "", "[Item = 21]", "Color = 0", f"StageXYZ = {x_um} 20 0", "NumPts = 1", "Regis = 1",
            "Type = 0", f"MapID = {x_um}", "Acquire = 1", f"PtsX = {x_um}", "PtsY = 20", "",
        ]  # fmt: skip
        (tmp_path / name / f"grid{name}.nav").write_text("\n".join(navigator))
        (tmp_path / name / "b_0001.tif.mdoc").write_text(
            f"[FrameSet = 0]\nStagePosition = {x_um}.4 20\nSubFramePath = b_0001.tif\nNavigatorLabel = 21\n"
            f"DateTime = 08-Oct-2021  {at}\n"
        )
    (tmp_path / "ctf.csv").write_text("micrograph,ctf\nraw/b_0001.mrc,3.5\n")
    return tmp_path / "A", tmp_path / "B"


def test_an_image_of_the_same_name_elsewhere_is_another_and_takes_no_result_of_it(tmp_path):
    both = assemble(read_sources(two_folders(tmp_path)).records)
    assert holes_of_exposures(both.session) == {"b_0001": "21", "B/b_0001": "gridB/21"}
    said = "1 image has the name of another that was taken elsewhere: they are FOLDER/NAME (first: B/b_0001)"
    assert any(said in note for note in both.notes)


def test_an_image_of_the_same_name_in_a_later_folder_is_another(tmp_path, cli):
    two_folders(tmp_path)
    assert cli("import A -o run.session").code == 0
    answer = cli("import B ctf.csv -o run.session --update")
    assert answer.code == 2
    assert "none joins (first: b_0001; its exposures are called b_0001, B/b_0001)" in answer.err
    answer = cli("import B ctf.csv -o run.session --update --allow-unjoined")
    assert answer.code == 0
    assert "1 name images that several folders have" in " ".join(answer.out.split())
    with SessionStore.open(tmp_path / "run.session") as store:
        session = store.load()
    assert holes_of_exposures(session) == {"b_0001": "21", "B/b_0001": "gridB/21"}
    assert set(session.exposures["outcome"]) == {"pending"}
    assert "nothing new" in cli("import A B -o run.session --update").out
    planned = cli("plan run.session --budget-min 60 --json")
    assert planned.code == 2  # both holes are imaged


def test_without_navigators_too(tmp_path, cli):
    for folder in two_folders(tmp_path):
        next(folder.glob("*.nav")).unlink()
    assert cli("import A -o run.session").code == 0
    refused = cli("import B -o run.session --update")
    assert refused.code == 2
    assert (
        "A later import must be of the same session. Got 1 holes and none of the squares or holes"
        in refused.err
    )
    assert cli("import A B -o both.session").code == 0
    with SessionStore.open(tmp_path / "both.session") as store:
        assert sorted(store.load().exposures["exposure_id"]) == ["B/b_0001", "b_0001"]


def test_as_many_folders_of_one_name_have_as_many_images(tmp_path, cli):
    for number, x_um in enumerate((100, 300, 500, 700)):
        folder = tmp_path / "run" / f"grid{number}" / "frames"
        folder.mkdir(parents=True)
        (folder / "b_0001.tif.mdoc").write_text(
            f"[FrameSet = 0]\nStagePosition = {x_um} 20\nSubFramePath = b_0001.tif\nNavigatorLabel = 21\n"
            "DateTime = 08-Oct-2021  07:39:08\n"
        )
    folders = " ".join(f"run/grid{number}/frames" for number in range(4))
    assert cli(f"import {folders} -o run.session").code == 0
    wanted = ["b_0001", "frames#2/b_0001", "frames#3/b_0001", "frames/b_0001"]
    with SessionStore.open(tmp_path / "run.session") as store:
        assert sorted(store.load().exposures["exposure_id"]) == wanted
    assert "nothing new" in cli(f"import {folders} -o run.session --update").out


def test_an_image_at_the_same_place_is_the_same_whenever_a_file_says_it_was_taken(tmp_path):
    a, b = two_folders(tmp_path)
    movie = b / "b_0001.tif.mdoc"
    movie.write_text(movie.read_text().replace("300.4 20", "100.4 20"))
    (b / "gridB.nav").unlink()
    assert list(holes_of_exposures(assemble(read_sources((a, b)).records).session)) == ["b_0001"]


STAR = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCtfMaxResolution #2\n"


def results_of(place):
    with SessionStore.open(place) as store:
        rows = store.load().exposures
    return dict(zip(rows["exposure_id"], rows["ctf_max_res_angstrom"].fillna(0), strict=True))


@pytest.mark.parametrize(
    ("movies", "results"),
    [
        pytest.param(("A", "B"), {"b_0001": 4.0, "B/b_0001": 5.0}, marks=pytest.mark.slow),
        (("raw", "raw"), {"b_0001": 0.0, "B/b_0001": 5.0}),
    ],
)
def test_the_folder_of_a_result_tells_which_image_it_is_of(tmp_path, cli, movies, results):
    for folder, movie in zip(two_folders(tmp_path), movies, strict=True):
        text = (folder / "b_0001.tif.mdoc").read_text()
        (folder / "b_0001.tif.mdoc").write_text(text.replace("= b_0001.tif", f"= X:\\{movie}\\b_0001.tif"))
    (tmp_path / "ctf.star").write_text(
        f"{STAR}MotionCorr/job002/A/b_0001.mrc 4.0\nMotionCorr/job002/B/b_0001.mrc 5.0\n"
    )
    (tmp_path / "ctf.csv").write_text("path,ctf\nraw/A/b_0001.mrc,4.0\nraw/B/b_0001.mrc,5.0\n")
    for number, table in enumerate(("ctf.star", "ctf.csv")):
        assert cli(f"import A B {table} -o run{number}.session").code == 0
        assert results_of(tmp_path / f"run{number}.session") == results
    (tmp_path / "later.star").write_text(f"{STAR}MotionCorr/job002/B/b_0001.mrc 3.0\n")
    assert cli("import later.star -o run0.session --update").code == 0
    assert results_of(tmp_path / "run0.session") == results | {"B/b_0001": 3.0}


def test_results_of_one_name_in_two_folders_join_no_single_image(tmp_path, cli):
    two_folders(tmp_path)
    (tmp_path / "ctf.star").write_text(f"{STAR}job2/A/b_0001.mrc 4.0\njob2/B/b_0001.mrc 5.0\n")
    answer = cli("import A ctf.star -o run.session --allow-unjoined")
    assert "0 of 2 joined; 2 not (2 stand in several folders under one name; first: b_0001" in " ".join(
        answer.out.split()
    )
    assert results_of(tmp_path / "run.session") == {"b_0001": 0.0}


def test_numbers_that_begin_anew_in_each_square_keep_their_results(tmp_path, cli):
    (tmp_path / "h.csv").write_text("square,hole,stage x,stage y,ctf\nA,1,0,0,4\nB,1,100,0,6\n")
    assert cli("import h.csv -o run.session").code == 0
    assert results_of(tmp_path / "run.session") == {"1": 4.0, "B/1": 6.0}
