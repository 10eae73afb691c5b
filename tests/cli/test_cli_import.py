"""`cryoscout import`: what joined is told, deviations have lines, nothing is lost.

The tables are made by hand in the shapes of Leginon's: one square, two patches, five exposures.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cryoscout.session.store import SessionStore

SQUARE = "21jan01a_00001gr_00002sq"
HOLES = [f"{SQUARE}_0000{patch}hl_0000{hole}en" for patch, hole in ((3, 1), (3, 2), (3, 3), (4, 1), (4, 2))]
CTF = "".join(
    f"{hole}-a,{10 * i}.0,-5.0,{value},0.9\n"
    for i, (hole, value) in enumerate(zip(HOLES, ("3.5", "7.25", "inf", "-1", "4.0"), strict=True))
)
TIMES = "".join(
    f"{hole},2021-01-01 10:{minute:02d}:00\n" for hole, minute in zip(HOLES, (0, 2, 4, 9, 11), strict=True)
)
SCORES = "".join(f"{hole}-a 0.{i}0 0.{10 - i}0\n" for i, hole in enumerate(HOLES[:4], start=1))
UNKNOWN_HOLE = f"{SQUARE}_00009hl_00001en"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder of tables beside the working folder's sessions."""
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "ctf.csv").write_text(CTF)
    (folder / "times.csv").write_text(TIMES)
    (folder / "model7.txt").write_text(SCORES + f"{UNKNOWN_HOLE}-a 0.50 0.50\n")
    return folder


def test_the_json_tells_what_was_found_and_what_did_not_join(cli, tables):
    answer = cli("import tables -o run7.session --json")
    assert answer.code == 0
    assert answer.out.count("\n") == 1
    told = json.loads(answer.out)
    assert (told["session"], told["format"], told["folder"]) == ("run7", "leginon", "run7.session")
    assert [told[level] for level in ("grids", "squares", "patches", "holes", "exposures")] == [1, 1, 2, 5, 5]
    assert told["outcomes"] == {"measured": 3, "failed": 1, "pending": 1, "none": 0}
    assert told["not_joined"] == 1
    (predicted,) = [join for join in told["joins"] if "model7" in join["what"]]
    assert predicted["first_not_joined"] == [UNKNOWN_HOLE]
    assert told["models"] == ["model7"]
    assert told["time_model_s"] == {
        "same_patch": 120.0,
        "new_patch": 300.0,
        "new_square": 600.0,
        "new_grid": 1200.0,
    }
    assert told["time_model_events"] == {"same_patch": 3, "new_patch": 1, "new_square": 0, "new_grid": 0}
    assert told["time_model_pauses"] == {"same_patch": 0, "new_patch": 0, "new_square": 0, "new_grid": 0}
    assert any("fewer than 10" in note for note in told["notes"])
    assert any(note.startswith("The published time model cryorl is used: ") for note in told["notes"])


def test_the_session_can_be_planned_from_afterwards(cli, tables):
    assert cli("import tables/ctf.csv tables/times.csv -o run7.session").code == 0
    asked = "plan run7.session --budget-min 20 --policy random --as-new --json"
    plan = json.loads(cli(asked).out)
    assert (plan["prediction"], plan["time_model"]) == ("flat", "cryorl")
    assert any("hold 3 same patch, 1 new patch, 0 new square" in note for note in plan["notes"])
    plan = json.loads(cli(f"{asked} --time-model fitted").out)
    assert plan["time_model"] == "fitted"
    assert plan["holes"][0]["minutes"] == 10.0
    assert any("has no predictions" in note for note in plan["notes"])


def test_a_session_without_image_shift_is_planned_with_its_own_times(cli, tmp_path):
    lines = [f"g,s,p{i},h{i},2024-01-05 {10 + i // 60}:{i % 60:02d}:00,4.0\n" for i in range(58)]
    (tmp_path / "own.csv").write_text("grid,square,patch,hole,time,ctf\n" + "".join(lines))
    told = json.loads(cli("import own.csv -o run7.session --json").out)
    assert told["time_model_events"] == {"same_patch": 0, "new_patch": 57, "new_square": 0, "new_grid": 0}
    assert not any("cryorl is used" in note for note in told["notes"])
    plan = json.loads(cli("plan run7.session --budget-min 20 --policy random --as-new --json").out)
    assert plan["time_model"] == "fitted"
    assert {visit["minutes"] for visit in plan["holes"][1:]} == {1.0}
    assert any("filled by the ratios of cryorl: same patch 24 s" in note for note in plan["notes"])


def test_a_night_at_the_only_change_of_square_is_told_as_a_pause_and_the_square_as_filled(cli, tmp_path):
    at = [f"0{i // 60}:{i % 60:02d}" for i in range(20)]
    lines = [f"g,s1,p1,a{i},2024-01-05 {each}:00\n" for i, each in enumerate(at)]
    lines += [f"g,s2,p2,b{i},2024-01-06 {each}:00\n" for i, each in enumerate(at)]
    (tmp_path / "own.csv").write_text("grid,square,patch,hole,time\n" + "".join(lines))
    out = " ".join(cli("import own.csv -o run7.session").out.split())
    assert (
        "60 s same patch (38 steps), 150 s new patch (filled, not measured), 300 s new square (filled" in out
    )
    assert "Tier 'new square' has no timed step but 1 longer than 1800 s, set apart as pauses" in out


def test_people_read_counts_joins_and_times(cli, tables):
    answer = cli("import tables -o run7.session --model-id res7")
    assert answer.code == 0
    text = " ".join(answer.out.split())
    for part in (
        "Imported run7 (leginon) into run7.session",
        "5 holes, 5 exposures",
        "3 measured, 1 failed, 1 pending, 0 none",
        "Predictions: res7",
        "predictions of model7.txt: 4 of 5 joined; 1 not",
        "120 s same patch (3 steps), 300 s new patch (1 step)",
    ):
        assert part in text


def test_without_times_there_is_no_time_model_and_it_is_said(cli, tables):
    told = json.loads(cli("import tables/ctf.csv -o run7.session --json").out)
    assert told["time_model_s"] is None
    assert told["time_model_events"] is None
    assert "the session has no times" in told["notes"][0]


def test_nothing_is_written_beside_the_sources_unasked(cli, tables, monkeypatch):
    monkeypatch.chdir(tables)
    before = sorted(tables.iterdir())
    answer = cli("import ctf.csv")
    # The `cli` fixture works in tmp_path; this test calls from the folder of the tables.
    assert answer.code == 2
    assert answer.err.startswith("A session must not be written beside the files it is read from unasked.")
    assert sorted(tables.iterdir()) == before
    assert cli("import ctf.csv -o mine.session").code == 0


def test_the_default_place_is_here_or_the_store_dir_by_the_sessions_own_name(cli, tables, tmp_path):
    (tmp_path / "stores").mkdir()
    assert cli("import tables").code == 0
    assert cli("import tables --store-dir stores").code == 0
    assert (tmp_path / "21jan01a.session" / "session.db").is_file()
    assert (tmp_path / "stores" / "21jan01a.session" / "session.db").is_file()


def test_an_existing_session_is_kept_without_force_and_replaced_with_it(cli, tables, tmp_path):
    assert cli("import tables -o run7.session").code == 0
    before = (tmp_path / "run7.session" / "session.db").read_bytes()
    answer = cli("import tables/ctf.csv -o run7.session")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "--update" in answer.err
    assert (tmp_path / "run7.session" / "session.db").read_bytes() == before
    assert cli("import tables/ctf.csv -o run7.session --force").code == 0
    with SessionStore.open(tmp_path / "run7.session") as store:
        assert store.load().models() == []


def test_a_deviating_line_stops_the_import_or_is_left_out_and_listed(cli, tables, tmp_path):
    (tables / "ctf.csv").write_text(CTF + f"{UNKNOWN_HOLE}-a,1.0,2.0,nan,0.9\n")
    answer = cli("import tables/ctf.csv -o run7.session")
    assert answer == (
        2,
        "",
        "tables/ctf.csv, line 6: the CTF resolution must be a number. Got 'nan' instead.\n",
    )
    assert not (tmp_path / "run7.session").exists()
    answer = cli("import tables/ctf.csv -o run7.session --permissive --json")
    assert answer.code == 0
    assert "Left out: tables/ctf.csv, line 6: " in answer.err
    assert (json.loads(answer.out)["holes"], json.loads(answer.out)["left_out"]) == (5, 1)


def test_hole_images_are_stored_with_the_session(cli, tables, tmp_path):
    crops = tmp_path / "crops"
    crops.mkdir()
    for grey, hole in enumerate(HOLES[:2]):
        Image.fromarray(np.full((4, 4), 50 * grey, dtype=np.uint8)).save(crops / f"{hole}-a_crop.png")
    assert cli("import tables -o run7.session --images crops").code == 0
    with SessionStore.open(tmp_path / "run7.session") as store:
        session = store.load()
        array = store.images(session.holes["patch_id"].iloc[0])
    assert array is not None
    assert session.holes["image_row"].notna().sum() == 2
    assert array[session.holes["image_row"].iloc[1]].max() == 50


def test_a_built_in_session_is_written_into_a_store_with_its_known_times(cli, tmp_path):
    told = json.loads(cli("import y1 --json").out)
    assert (told["session"], told["holes"], told["folder"]) == ("y1", 1074, "y1.session")
    assert told["models"] == ["res18", "res50"]
    seconds = list(told["time_model_s"].values())
    assert seconds == pytest.approx([91, 185, 186, 194], rel=0.05)
    direct = json.loads(cli("plan y1 --budget-min 30 --policy greedy --json").out)
    stored = json.loads(cli("plan y1.session --budget-min 30 --policy greedy --json").out)
    assert stored["holes"] == direct["holes"]


def test_hole_images_join_a_built_in_session(cli, tmp_path):
    (tmp_path / "crops").mkdir()
    hole = "21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01_00002en"
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "crops" / f"{hole}-a_crop.png")
    told = json.loads(cli("import y1 --images crops --json").out)
    assert [(join["found"], join["joined"]) for join in told["joins"]] == [(1, 1)]
    with SessionStore.open(tmp_path / "y1.session") as store:
        holes = store.load().holes
    assert holes.loc[holes["image_row"].notna(), "hole_id"].tolist() == [hole]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import nothing.csv", "nothing.csv: must be a readable file."),
        ("import y1 tables", "A built-in session must be imported alone. Got y1, tables instead."),
        ("import tables --split val", "A split must belong to a built-in session"),
        ("import y1 --split vale", "Did you mean 'val'?"),
        ("import y1 --model-id res7", "A model id must be given for files of predictions."),
        ("import tables -o run7", "The session folder must be called NAME.session. Got run7 instead."),
        ("import tables -o no/run7.session", "The folder for the session must exist. Got no instead."),
        ("import tables --images tables", "must be a folder with hole images"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli, tables, line, message, tmp_path):
    answer = cli(line)
    assert answer.code == 2
    assert answer.out == ""
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert not list(tmp_path.glob("*session*"))


def test_why_plans_do_not_take_the_fitted_times_is_said(cli, tables):
    missing = "".join(f"{SQUARE}_0000{patch}hl_00001en,2021-01-02 10:00:00\n" for patch in range(5, 9))
    (tables / "times.csv").write_text(TIMES + missing)
    out = " ".join(cli("import tables -o run7.session").out.split())
    note = "Plans use the published time model cryorl unless --time-model fitted is given: "
    assert note + "the session holds only part of the timed exposures" in out
    out = " ".join(cli("import y1 -o y1.session").out.split())
    assert note + "y1 is built in" in out
    assert "s same patch (3,8" in out
    assert "of them pauses)" in out


def test_a_full_path_leaves_no_use_for_the_store_dir(cli, tables, tmp_path):
    (tmp_path / "stores").mkdir()
    answer = cli("import tables --store-dir stores -o", tmp_path / "run7.session")
    assert answer.code == 2
    assert "must be relative where --store-dir is given" in answer.err
    assert answer.err.endswith("Remedy: leave --store-dir out, or give -o run7.session.\n")
    assert cli("import tables --store-dir stores -o run7.session").code == 0
    assert (tmp_path / "stores" / "run7.session").is_dir()


DOWNLOAD_HEADER = (
    "image #\tnominal_def\tdefocus_1\tdefocus_2\tangle_astig\tamp_cont\textra_phase_shift\tres(0.8)\tres(0.5)\t"
    "res(pkg)\tconf(30/10)\tconf(5_peak)\tconf\tconf(appion)\timage_name\n"
)


def download_of(results: dict[str, str]) -> str:
    """A CTF download of Leginon's web page: image name -> angstrom."""
    return DOWNLOAD_HEADER + "".join(
        f"{number}\t-1.5e-06\t1.2e-06\t1.3e-06\t45.0\t0.07\t0.0\t8.00\t{angstrom}\t{angstrom}\t0.9\t0.8\t0.9\t0.95\t{name}\n"
        for number, (name, angstrom) in enumerate(results.items(), start=1)
    )


def test_a_ctf_download_alone_is_a_session_because_its_names_hold_the_tree(cli, tmp_path):
    results = {
        f"{hole}-a": angstrom
        for hole, angstrom in zip(HOLES, ("3.50", "7.25", "100000.00", "4.00", "5.00"), strict=True)
    }
    (tmp_path / "ctfdata-session1.dat").write_text(download_of(results))
    told = json.loads(cli("import ctfdata-session1.dat -o run7.session --json").out)
    assert (told["session"], told["format"]) == ("run7", "leginon")
    assert [told[level] for level in ("grids", "squares", "patches", "holes", "exposures")] == [1, 1, 2, 5, 5]
    assert told["outcomes"] == {"measured": 4, "failed": 1, "pending": 0, "none": 0}
    with SessionStore.open(tmp_path / "run7.session") as store:
        session = store.load()
    assert sorted(session.holes["hole_id"]) == sorted(HOLES)
    assert session.ctf_runs["reader"].unique().tolist() == ["leginon-export"]
    order = "plan run7.session --budget-min 30 --policy random --as-new --export leginon -o order.txt"
    assert cli(order).code == 0
    assert HOLES[0] in (tmp_path / "order.txt").read_text()


def test_a_ctf_download_takes_times_and_predictions_of_leginon_tables_and_grows(cli, tables, tmp_path):
    (tables / "ctf.csv").unlink()
    values = dict(zip([f"{hole}-a" for hole in HOLES], ("3.50", "7.25", "4.00", "4.00", "5.00"), strict=True))
    download = tmp_path / "ctfdata-session1.dat"
    download.write_text(download_of(dict(list(values.items())[:3])))
    named = "ctfdata-session1.dat tables/times.csv tables/model7.txt"
    told = json.loads(cli(f"import {named} -o run7.session --json").out)
    assert [told[level] for level in ("patches", "holes", "exposures")] == [1, 3, 3]
    assert told["time_model_events"] == {"same_patch": 2, "new_patch": 0, "new_square": 0, "new_grid": 0}
    assert told["models"] == ["model7"]
    download.write_text(download_of(values))
    told = json.loads(cli(f"import {named} -o run7.session --update --json").out)
    assert [told[level] for level in ("patches", "holes", "exposures")] == [2, 5, 5]
    assert told["outcomes"]["measured"] == 5
    assert told["time_model_events"] == {"same_patch": 3, "new_patch": 1, "new_square": 0, "new_grid": 0}


def test_a_ctf_download_beside_a_ctf_table_gives_results_alone(cli, tables, tmp_path):
    other = f"{SQUARE}_00009hl_00001en-a"
    (tmp_path / "ctfdata-session1.dat").write_text(download_of({f"{HOLES[4]}-a": "3.25", other: "5.00"}))
    told = json.loads(cli("import ctfdata-session1.dat tables -o run7.session --json").out)
    assert (told["holes"], told["outcomes"]["measured"]) == (5, 3)
    (join,) = [join for join in told["joins"] if "ctfdata" in join["what"]]
    assert (join["found"], join["joined"], join["first_not_joined"]) == (2, 1, [other])


@pytest.mark.slow
def test_a_ctf_download_in_a_folder_of_tables_is_read_with_it(cli, tables):
    (tables / "ctf.csv").unlink()
    values = dict.fromkeys([f"{hole}-a" for hole in HOLES], "4.00")
    (tables / "ctfdata-session00123.dat").write_text(download_of(values))
    assert cli("validate tables").code == 0
    told = json.loads(cli("import tables -o run7.session --json").out)
    assert (told["exposures"], told["outcomes"]["measured"], told["models"]) == (5, 5, ["model7"])
    assert not any(note.startswith("not read") for note in told["notes"])
    (tables / "ctfdata-session00123.dat").write_text(download_of(values | {f"{HOLES[0]}-a": "3.00"}))
    assert cli("import tables -o run7.session --update").code == 0
    with SessionStore.open("run7.session") as store:
        assert sorted(store.load().exposures["ctf_max_res_angstrom"]) == [3.0, 4.0, 4.0, 4.0, 4.0]
    (tables / "ctfdata-session00123.dat").write_text(download_of(dict.fromkeys(values, "four")))
    refused = cli("validate tables")
    assert refused.code == 1
    assert "tables, ctfdata-session00123.dat, line 2: res(" in refused.out


def test_a_ctf_download_in_a_folder_is_named_where_tables_must_stand_alone(cli, tables):
    (tables / "ctfdata-session00123.dat").write_text(download_of({f"{HOLES[4]}-a": "3.25"}))
    answer = cli("import tables -o run7.session --model-id mine")
    assert answer.code == 0
    assert "not read in the folder: 1 Leginon or Appion export (ctfdata-session00123.dat)" in answer.out


@pytest.mark.slow
def test_images_of_a_ctf_download_without_a_resolution_are_imaged_and_pending(cli, tables, tmp_path):
    (tables / "ctf.csv").unlink()
    values = dict(zip([f"{hole}-a" for hole in HOLES], ("3.50", "0.00", "4.00", "0.00", "5.00"), strict=True))
    (tmp_path / "ctfdata-session1.dat").write_text(download_of(values))
    named = "ctfdata-session1.dat tables/times.csv"
    told = json.loads(cli(f"import {named} -o run7.session --json").out)
    assert told["outcomes"] == {"measured": 3, "failed": 0, "pending": 2, "none": 0}
    assert told["time_model_events"] == {"same_patch": 3, "new_patch": 1, "new_square": 0, "new_grid": 0}
    assert any(
        "2 rows give no resolution (0.00); 2 images have no result yet" in each for each in told["notes"]
    )
    (tmp_path / "ctfdata-session1.dat").write_text(download_of(dict.fromkeys(values, "4.00")))
    told = json.loads(cli(f"import {named} -o run7.session --update --json").out)
    assert told["outcomes"]["measured"] == 5
    (tmp_path / "ctfdata-session2.dat").write_text(download_of(dict.fromkeys(values, "0.00")))
    told = json.loads(cli("import ctfdata-session2.dat -o none.session --json").out)
    assert told["outcomes"]["pending"] == 5


def test_a_ctf_download_of_other_names_is_no_session(cli, tmp_path):
    (tmp_path / "ctfdata-session1.dat").write_text(download_of({"made_up_0001": "3.25"}))
    answer = cli("import ctfdata-session1.dat -o run7.session")
    assert answer.code == 2
    assert "A session must have squares, holes or exposures. Got only results" in answer.err


def test_results_of_which_none_joins_are_an_error_that_names_both_sides(cli, tmp_path):
    (tmp_path / "own.csv").write_text("hole,micrograph,time\nh1,m1,2024-01-05 10:00:00\n")
    (tmp_path / "other.star").write_text(
        "data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnCtfMaxResolution #2\nx1.mrc 4.0\nx2.mrc 5.0\n"
    )
    message = (
        "CTF results of other.star (relion) must be of exposures of the session. Got 2 results of which none joins "
        "(first: x1, x2; its exposures are called m1) instead. Remedy: name the results of this session; add "
        "--allow-unjoined where their images are still to come, and name the results again when these are there."
    )
    answer = cli("import own.csv other.star -o run.session")
    assert (answer.code, answer.out) == (2, "")
    assert message in " ".join(answer.err.split())
    assert not (tmp_path / "run.session").exists()
    assert cli("import own.csv -o run.session").code == 0
    assert cli("import own.csv other.star -o run.session --update").code == 2
    answer = cli("import own.csv other.star -o run.session --update --allow-unjoined")
    assert answer.code == 0
    assert answer.out.startswith("Nothing joined: CTF results of other.star (relion): 0 of 2 joined; 2 not")
