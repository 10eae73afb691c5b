"""`cryoscout import` to `cryoscout plan` on every shape an EPU session comes in.

Real files: the session `smartem_example` (four exposures) and the square `GridSquare_4590776.dm`. Made by hand from
real files: whole sessions (benchmarks/formats_data.py: other ids, times, positions and beam shifts) and the lacey
square (the real targets under the lacey name, moved off their lattice).
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil

import epu_samples
import numpy as np
import pytest

from cryoscout.cli.main import main
from cryoscout.session.store import SessionStore

SMARTEM = epu_samples.DATA / "smartem_example"


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """A whole session made by hand: 240 exposures, 3 shots a hole, clusters of up to 25 holes, 3 squares."""
    folder = tmp_path_factory.mktemp("made") / "epu"
    truth = epu_samples.formats_data.write_epu_session(folder, 240, shots=3, holes_along_square=6, seed=2)
    return folder, truth


@pytest.fixture
def made(made_once, tmp_path):
    """A copy of it, so that a test may take files away, and what it holds."""
    return shutil.copytree(made_once[0], tmp_path / "epu"), made_once[1]


@pytest.fixture(scope="module")
def imported_once(made_once):
    """What an import of it tells; its run.session lies beside it."""
    folder, _ = made_once
    with contextlib.chdir(folder.parent), contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["import", str(folder), "-o", "run.session", "--json"]) == 0
    return json.loads(out.getvalue())


@pytest.fixture
def whole(imported_once, made_once, tmp_path):
    """What the import of `made` tells; run.session is there."""
    shutil.copytree(made_once[0].parent / "run.session", tmp_path / "run.session")
    return imported_once


def imported(cli, path, *more):
    answer = cli("import", path, "-o", "run.session", "--json", *more)
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def loaded(tmp_path):
    with SessionStore.open(tmp_path / "run.session") as store:
        return store.load()


def planned(cli, tmp_path, *more):
    """A plan of 60 minutes; its holes are not imaged and each stands once."""
    answer = cli("plan run.session --budget-min 60 --policy index --json", *more)
    assert answer.code == 0, answer.err
    plan = json.loads(answer.out)
    ids = [hole["hole"] for hole in plan["holes"]]
    session = loaded(tmp_path)
    free = set(session.holes["hole_id"]) - set(session.exposures["hole_id"])
    assert ids
    assert set(ids) <= free
    assert len(set(ids)) == len(ids)
    return plan


def test_a_whole_session_is_planned_in_its_own_times_and_says_how_the_beam_shift_fits(cli, made, tmp_path):
    folder, truth = made
    told = imported(cli, folder)
    assert (told["format"], told["shots"], told["exposures"]) == ("epu", 3, 240)
    assert told["squares"] == truth["square_id"].nunique()
    (note,) = [note for note in told["notes"] if "um per unit" in note]
    assert "beam shift (magnification 165000, NanoProbe): 33.3 um per unit" in note
    assert "residual 0.00" in note
    plan = planned(cli, tmp_path)
    assert plan["time_model"] == "fitted"
    # One grid: what a change of it costs is filled, and the plan says so.
    assert any("filled by the ratios of cryorl: new grid" in note for note in plan["notes"])


def test_holes_without_a_target_are_placed_by_their_beam_shift(cli, made, whole, tmp_path):
    folder, truth = made
    square = truth["square_id"].iloc[0]
    gone = truth.loc[truth["square_id"] == square, "hole_id"].drop_duplicates().tolist()[3:6]
    file = folder / "Metadata" / f"GridSquare_{square}.dm"
    text = file.read_text()
    before = whole
    where = loaded(tmp_path).holes.set_index("hole_id").loc[gone, ["x_um", "y_um"]]
    shutil.rmtree(tmp_path / "run.session")
    name = "b:KeyValuePairOfintTargetLocationXmlBpEWF4JT"
    for target in re.findall(rf"<{name}>.*?</{name}>", text, re.DOTALL):
        if any(f"<b:key>{hole}</b:key>" in target for hole in gone):
            text = text.replace(target, "")
    file.write_text(text)
    told = imported(cli, folder)
    assert told["holes"] == before["holes"]
    assert any("3 holes without an own position were placed by" in note for note in told["notes"])
    now = loaded(tmp_path).holes.set_index("hole_id").loc[gone, ["x_um", "y_um"]]
    np.testing.assert_allclose(now, where, atol=0.01)
    planned(cli, tmp_path)


def test_a_folder_with_exposures_alone_has_patches_and_says_that_its_holes_are_unplaced(cli, made, tmp_path):
    folder, truth = made
    for path in folder.glob("Images-Disc1/*/Data"):
        shutil.copytree(path, tmp_path / "flat", dirs_exist_ok=True)
    told = imported(cli, tmp_path / "flat")
    assert (told["holes"], told["exposures"]) == (truth["hole_id"].nunique(), 240)
    assert told["patches"] > 1
    assert any("has no length here" in note and "Got 0 instead" in note for note in told["notes"])
    assert f"{told['holes']} holes without an own position are not placed" in " ".join(told["notes"])
    assert loaded(tmp_path).holes["x_um"].isna().all()
    # All holes are imaged: there is a plan only as if they were new.
    answer = cli("plan run.session --budget-min 60 --policy index --as-new --json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["holes"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("GridSquare_4590776.dm", marks=pytest.mark.slow),
        "any name.dm",
        pytest.param("square.xml", marks=pytest.mark.slow),
    ],
)
def test_a_single_square_file_of_any_name_is_planned(cli, tmp_path, name):
    (tmp_path / name).write_text(epu_samples.SQUARE)
    told = imported(cli, tmp_path / name, "--patch-radius-um", 12)
    assert (told["squares"], told["holes"], told["exposures"]) == (1, 570, 868)
    seconds = told["time_model_s"]
    events = told["time_model_events"]
    assert (events["new_square"], events["new_grid"]) == (0, 0)
    # Tenths of seconds are shown.
    assert seconds["new_square"] == pytest.approx(2 * seconds["new_patch"], abs=0.2)
    assert seconds["new_grid"] == pytest.approx(4 * seconds["new_patch"], abs=0.4)
    plan = planned(cli, tmp_path)
    assert len(plan["holes"]) > 5


def test_a_lacey_square_without_a_lattice_is_planned(cli, tmp_path):
    rng = np.random.default_rng(3)
    text = re.sub(r"<TargetLocations i:nil=[^>]*/>", "", epu_samples.SQUARE)
    text = text.replace("TargetLocationsEfficient", "TargetLocations")

    def moved(found):
        x_m, y_m = (float(found[index]) + rng.uniform(-1.2e-6, 1.2e-6) for index in (2, 4))
        return f"{found[1]}{x_m!r}{found[3]}{y_m!r}"

    text = re.sub(r"(<StagePosition.*?<c:X>)([^<]*)(</c:X><c:Y>)([^<]*)", moved, text)
    (tmp_path / "GridSquare_4590776.dm").write_text(text)
    told = imported(cli, tmp_path / "GridSquare_4590776.dm", "--patch-radius-um", 12)
    assert (told["holes"], told["exposures"]) == (570, 868)
    assert 1 < told["patches"] < 570
    holes = loaded(tmp_path).holes
    assert holes[["x_um", "y_um"]].notna().all(axis=None)
    assert holes[["x_um", "y_um"]].drop_duplicates().shape[0] == 570
    planned(cli, tmp_path)


def test_several_discs_are_one_session_with_one_plan(cli, made, whole, tmp_path):
    folder, _ = made
    once = whole
    plan = planned(cli, tmp_path)
    shutil.rmtree(tmp_path / "run.session")
    squares = sorted((folder / "Images-Disc1").iterdir())
    (folder / "Images-Disc2").mkdir()
    shutil.move(squares[-1], folder / "Images-Disc2")
    # A disc that was full in the middle of a square: half of its exposures are on the next one.
    half = sorted((squares[0] / "Data").iterdir())[::2]
    target = folder / "Images-Disc2" / squares[0].name / "Data"
    target.mkdir(parents=True)
    for path in half:
        shutil.move(path, target)
    told = imported(cli, folder)
    assert {key: told[key] for key in ("squares", "patches", "holes", "exposures", "outcomes")} == {
        key: once[key] for key in ("squares", "patches", "holes", "exposures", "outcomes")
    }
    assert planned(cli, tmp_path)["holes"] == plan["holes"]


def test_repeated_images_of_a_hole_give_one_hole_at_its_newest_position(cli, tmp_path):
    told = imported(cli, SMARTEM)
    assert any("older images of a hole imaged again" in note for note in told["notes"])
    holes = loaded(tmp_path).holes.set_index("hole_id")
    assert holes.index.is_unique
    assert tuple(holes.loc["9015889", ["x_um", "y_um"]]) == pytest.approx((-97.1461882, -152.721848))
    planned(cli, tmp_path)


def test_a_session_that_is_named_by_a_dot_is_called_by_its_folder(cli, tmp_path, monkeypatch):
    shutil.copytree(SMARTEM, tmp_path / "run7")
    monkeypatch.chdir(tmp_path / "run7")
    answer = cli("import . -o ../mine.session")
    assert answer.code == 0
    assert "exposures of run7: 4 of 4 joined" in answer.out
    assert "Note: run7: left out: 2 older images" in answer.out
    assert "of :" not in answer.out
    assert "Note: :" not in answer.out


def test_a_list_of_holes_that_no_file_places_on_a_picture_says_so(cli, tmp_path):
    """Pictures of the squares are there; the files that place holes on them are not."""
    assert cli(f"import {SMARTEM} -o mine.session").code == 0
    answer = cli("plan mine.session --looks free --policy index --budget-min 60 --export html -o list.html")
    assert answer.code == 0
    assert "2 maps have the chosen holes numbered" in answer.err
    assert "No file says where the holes are on a picture of their square" in answer.err
    assert "No picture of them was found" not in answer.err


def test_shots_of_a_hole_are_timed_apart_from_visits(cli, made_once, whole, tmp_path):
    _, truth = made_once
    told = whole
    assert told["shots"] == 3
    # One exposure every 4 s: what a shot adds is 4 s, and so is the step to the next hole.
    assert told["extra_shot_s"] == pytest.approx(4.0, abs=0.1)
    assert told["time_model_s"]["same_patch"] == pytest.approx(4.0, abs=0.1)
    assert told["time_model_events"]["same_patch"] < truth["hole_id"].nunique()
    shots = loaded(tmp_path).exposures.sort_values("shot").groupby("hole_id")["shot"].apply(list)
    assert shots.tolist() == [[1, 2, 3]] * truth["hole_id"].nunique()
    planned(cli, tmp_path)
