"""`cryoscout import` on real files of every vendor, at once and in steps, from folders it may not touch.

The samples are those of tests/formats/data; what is made here has their shapes.
"""

from __future__ import annotations

import gzip
import json
import shutil

import pytest
from import_samples import DATA, EXPOSURES, HARVEST, NAV, content

from cryoscout.session.store import SessionStore

CSV = (
    "grid,square,hole,micrograph,stage_x_um,stage_y_um,time,Fit\n"
    "g1,s1,h1,m1.mrc,0.0,0.0,2024-01-01 10:00:00,3.5\n"
    "g1,s1,h2,m2.mrc,2.0,0.0,2024-01-01 10:01:00,inf\n"
    "g1,s2,h3,m3.mrc,90.0,0.0,2024-01-01 10:05:00,\n"
)


def movie(label, number):
    return (
        "T = SerialEM: K3        08-Oct-2021  07:38:24\r\n\r\n[FrameSet = 0]\r\nStagePosition = -230.1 358.6\r\n"
        f"SubFramePath = X:\\frames\\m_{number:04d}.tif\r\nDateTime = 08-Oct-2021  07:39:{number:02d}\r\n"
        f"LowDoseConSet = 4\r\nNavigatorLabel = {label}\r\n"
    )


def test_an_epu_session_and_a_table_of_relion_become_one_session(cli, epu, star, tmp_path):
    before = content(epu)
    answer = cli("import epu micrographs_ctf.star -o run7.session --json")
    assert answer.code == 0
    told = json.loads(answer.out)
    assert (told["session"], told["format"], told["shots"]) == ("run7", "epu", 6)
    assert [told[level] for level in ("grids", "squares", "holes", "exposures")] == [1, 228, 4, 4]
    assert told["outcomes"] == {"measured": 3, "failed": 1, "pending": 0, "none": 20}
    assert [(join["found"], join["joined"]) for join in told["joins"]] == [(4, 4), (4, 4)]
    assert told["not_joined"] == 0
    # A night lies between the only two holes that were imaged: no step to fit a time to.
    assert told["time_model_s"] is None
    assert any("a step between two holes of one grid, of 3 hours at most" in note for note in told["notes"])
    assert any("226 squares are known of, without holes yet" in note for note in told["notes"])
    assert content(epu) == before
    with SessionStore.open(tmp_path / "run7.session") as store:
        session = store.load()
        stored = store.files()
    assert session.squares.loc[session.squares["looked"].fillna(False), "x_um"].notna().all()
    assert session.info.default_time_model == "fitted"
    assert len(stored[str(epu.resolve())]) == 9
    plan = json.loads(cli("plan run7.session --budget-min 60 --policy index --json").out)
    # Four exposures over night: their one step is no measure of a visit.
    assert plan["time_model"] == "cryorl"
    assert len(plan["holes"]) > 0


def test_a_session_grows_in_steps_to_what_one_import_gives(cli, epu, star, tmp_path):
    late = sorted(epu.rglob("FoilHole_*_Data_*.xml"))[-2:]
    kept = {path: path.read_bytes() for path in late}
    for path in late:
        path.unlink()
    assert cli("import epu -o run7.session").code == 0
    for path, data in kept.items():
        path.write_bytes(data)
    told = json.loads(cli("import epu -o run7.session --update --json").out)
    assert (told["added"]["holes"], told["added"]["exposures"], told["added"]["outcomes"]) == (1, 2, 0)
    told = json.loads(cli("import micrographs_ctf.star -o run7.session --update --json").out)
    assert {name: count for name, count in told["added"].items() if count} == {"outcomes": 4}
    assert cli("import epu micrographs_ctf.star -o once.session").code == 0
    with (
        SessionStore.open(tmp_path / "run7.session") as steps,
        SessionStore.open(tmp_path / "once.session") as once,
    ):
        for table, key in (("squares", "square_id"), ("holes", "hole_id"), ("exposures", "exposure_id")):
            one, other = (
                getattr(store.load(), table).sort_values(key).reset_index(drop=True)
                for store in (steps, once)
            )
            assert one.equals(other), table
        steps.rebuild()
        assert steps.load().counts() == once.load().counts()


def test_importing_an_unchanged_session_again_changes_nothing(cli, epu, star, tmp_path):
    assert cli("import epu micrographs_ctf.star -o run7.session").code == 0
    database = tmp_path / "run7.session" / "session.db"
    before = database.read_bytes()
    answer = cli("import epu micrographs_ctf.star -o run7.session --update")
    assert answer.code == 0
    assert "Added to run7 (epu) in run7.session: nothing new" in answer.out
    assert "Unchanged since the last import: micrographs_ctf.star" in answer.out
    assert database.read_bytes() == before


def test_an_existing_session_is_kept_and_both_remedies_are_named(cli, epu, tmp_path):
    assert cli("import epu -o run7.session").code == 0
    before = content(tmp_path / "run7.session")
    answer = cli("import epu -o run7.session")
    assert answer == (
        2,
        "",
        "A new session must get a new place. Got run7.session, which exists, instead. Remedy: add what is new to it "
        "with --update, or choose another name with -o.\n",
    )
    assert content(tmp_path / "run7.session") == before
    assert cli("import epu -o run7.session --update").code == 0
    assert cli("import epu -o run7.session --force").code == 0


def test_another_session_is_not_added_to_one(cli, epu, tmp_path):
    assert cli("import epu -o run7.session").code == 0
    before = content(tmp_path / "run7.session")
    answer = cli("import", HARVEST, "-o", "run7.session", "--update")
    assert answer.code == 2
    assert "must be of the same session. Got 2 holes and none of the squares or holes" in answer.err
    assert (
        "must come from one format. Got epu, serialem"
        in cli("import", NAV, "-o", "run7.session", "--update").err
    )
    assert content(tmp_path / "run7.session") == before


def test_an_update_makes_the_session_where_there_is_none(cli, epu):
    told = json.loads(cli("import epu -o run7.session --update --json").out)
    assert (told["holes"], "added" in told) == (4, False)


def test_the_real_harvest_session_has_the_name_in_its_file_or_that_of_the_user(cli, tmp_path):
    told = json.loads(cli("import", HARVEST, "--json").out)
    assert told["session"] == "Supervisor_20230919_140141_84_bi23047-106_grid1"
    assert (tmp_path / f"{told['session']}.session" / "session.db").is_file()


def test_a_single_dm_file_is_imported_with_its_570_holes(cli, tmp_path):
    file = tmp_path / "GridSquare_4590776.dm"
    file.write_bytes(gzip.decompress((DATA / "epu" / "GridSquare_4590776.dm.gz").read_bytes()))
    told = json.loads(cli("import GridSquare_4590776.dm -o one.session --patch-radius-um 12 --json").out)
    assert (told["holes"], told["squares"]) == (570, 1)
    assert 1 < told["patches"] < 570
    by_default = json.loads(cli("import GridSquare_4590776.dm -o default.session --json").out)
    assert told["patches"] < by_default["patches"] < 570
    assert (
        "570 holes without a patch were put into patches of radius 5 um, which no file says: --patch-radius-um says "
        "another"
    ) in by_default["notes"]
    # Its exposures have no XML here: imaged at a stage position that is not known.
    assert told["exposures"] == told["outcomes"]["pending"] > 0


def test_a_navigator_with_image_metadata_and_results_becomes_a_session(cli, tmp_path):
    (tmp_path / "frames").mkdir()
    for number, label in enumerate(("7", "8", "9"), 1):
        (tmp_path / "frames" / f"m_{number:04d}.tif.mdoc").write_text(movie(label, number), newline="")
    shutil.copy(NAV, tmp_path / "grid1.nav")
    (tmp_path / "ctf.csv").write_text("micrograph,ctf\nm_0001.tif,3.5\nm_0002.tif,inf\nm_0009.tif,4\n")
    answer = cli("import grid1.nav frames ctf.csv --store-dir .")
    assert answer.code == 0, answer.err
    for part in (
        "Imported grid1 (serialem) into grid1.session",
        "1 grid, 2 squares, 10 patches, 40 holes, 3 exposures",
        "1 measured, 1 failed, 1 pending, 37 none",
        "CTF results of ctf.csv (generic): 2 of 3 joined; 1 not (no exposure of a hole has the name; first: m_0009)",
    ):
        assert part in answer.out


def test_a_sites_own_table_is_a_session_once_its_columns_are_said(cli, tmp_path):
    (tmp_path / "site.csv").write_text(CSV)
    told = json.loads(cli("import site.csv -o a.session --json").out)
    assert told["outcomes"] == {"measured": 0, "failed": 0, "pending": 3, "none": 0}
    assert any("Fit" in note for note in told["notes"])
    told = json.loads(cli("import site.csv -o b.session --column ctf=Fit --patch-radius-um 5 --json").out)
    assert told["outcomes"] == {"measured": 1, "failed": 1, "pending": 1, "none": 0}
    assert (told["grids"], told["squares"], told["patches"], told["holes"]) == (1, 2, 2, 3)
    assert told["time_model_s"]["same_patch"] == 60.0
    (tmp_path / "map.toml").write_text("[columns]\nctf = 'Fit'\n")
    told = json.loads(cli("import site.csv -o c.session --mapping map.toml --json").out)
    assert told["outcomes"]["measured"] == 1


@pytest.mark.slow
def test_leginon_tables_grow_too(cli, tmp_path):
    name = "21jan01a_00001gr_00002sq_00003hl_0000{}en"
    rows = [f"{name.format(i)}-a,{i}.0,-5.0,{value},0.9\n" for i, value in enumerate(("3.5", "-1", "4.0"), 1)]
    (tmp_path / "ctf.csv").write_text("".join(rows[:2]))
    assert cli("import ctf.csv -o run7.session").code == 0
    (tmp_path / "ctf.csv").write_text("".join(rows).replace(",-1,", ",inf,"))
    told = json.loads(cli("import ctf.csv -o run7.session --update --json").out)
    assert {what: count for what, count in told["added"].items() if count} == {
        "holes": 1, "exposures": 1, "outcomes": 1,
    }  # fmt: skip
    assert told["outcomes"] == {"measured": 2, "failed": 1, "pending": 0, "none": 0}


def test_deviating_rows_are_left_out_and_named_with_their_file(cli, epu, tmp_path):
    (tmp_path / "bad.csv").write_text(f"micrograph,ctf\n{EXPOSURES[0]},soft\n{EXPOSURES[1]},3.5\n")
    answer = cli("import epu bad.csv -o run7.session")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("bad.csv, line 2: the CTF resolution must be a number.")
    answer = cli("import epu bad.csv -o run7.session --permissive --json")
    assert "Left out: bad.csv, line 2: the CTF resolution must be a number." in answer.err
    assert json.loads(answer.out)["left_out"] == 1


def test_what_was_left_out_is_named_before_the_error_that_nothing_is_left(cli, tmp_path):
    rows = "".join(f"{EXPOSURES[0]},soft{n}\n" for n in range(8))
    (tmp_path / "bad.csv").write_text(f"micrograph,ctf\n{rows}")
    answer = cli("import bad.csv -o run7.session --permissive")
    assert (answer.code, answer.out) == (2, "")
    *left_out, error = answer.err.splitlines()
    assert [line.partition(": the")[0] for line in left_out[:5]] == [
        f"Left out: bad.csv, line {n}" for n in range(2, 7)
    ]
    assert left_out[5:] == ["Left out: 3 more lines; cryoscout validate FILE lists all."]
    assert error.startswith("A session must have squares, holes or exposures.")
    assert not (tmp_path / "run7.session").exists()


def test_what_was_left_out_of_leginon_tables_is_named_before_the_error_too(cli, tmp_path):
    (tmp_path / "ctf.csv").write_text("21jan01a_00001gr_00002sq_00003hl_00001en-a,1.0,-5.0,soft,0.9\n")
    for line in ("import ctf.csv -o run7.session", "import . -o run7.session"):
        answer = cli(line + " --permissive")
        assert (answer.code, answer.out) == (2, "")
        left_out, error = answer.err.splitlines()
        assert left_out.startswith("Left out: ctf.csv, line 1: the CTF resolution must be a number.")
        assert error.startswith("A CTF table must name exposures")
        assert cli(line).err.startswith("ctf.csv, line 1: the CTF resolution must be a number.")


def test_what_an_update_leaves_out_is_named_before_its_error(cli, epu, tmp_path):
    assert cli("import epu -o run7.session").code == 0
    (tmp_path / "bad.csv").write_text("hole,square,x,y\nh1,s1,soft,0\n")
    answer = cli("import bad.csv -o run7.session --update --permissive")
    assert answer.err.startswith("Left out: bad.csv, line 2: x must be a finite number.")


def test_a_half_written_file_names_both_ways_on(cli, epu, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    late = sorted(epu.rglob("FoilHole_*_Data_*.xml"))[-1]
    whole = late.read_bytes()
    for half in (whole[:500], whole[:500] + b"\0" * 100):
        late.write_bytes(half)
        answer = cli("import epu -o run7.session")
        assert answer.code == 2
        assert answer.err.rstrip().endswith(
            "Remedy: read it again when the microscope has finished writing it. Or leave it out with --permissive; "
            "--update adds it once it is whole."
        )
    assert json.loads(cli("import epu -o run7.session --permissive --json").out)["left_out"] == 1
    late.write_bytes(whole)
    told = json.loads(cli("import epu -o run7.session --update --json").out)
    assert told["added"]["exposures"] == 1


@pytest.mark.parametrize(
    ("options", "note"),
    [
        pytest.param(
            "epu", "not on 2 in patches that the format names or exposures show", marks=pytest.mark.slow
        ),
        (NAV, "not on 20 in patches that the format names or exposures show"),
        pytest.param(
            DATA / "smartscope" / "made_by_hand_grid.yaml",
            "not on 12 in patches that the format names",
            marks=pytest.mark.slow,
        ),
        ("px.csv", "not on 2 with positions in px alone, 1 without a position"),
        ("um.csv", None),
        pytest.param(
            "y1",
            "--patch-radius-um does not act: the names of Leginon's images say the patches",
            marks=pytest.mark.slow,
        ),
        ("ctf.csv", "--patch-radius-um does not act: the names of Leginon's images say the patches"),
    ],
)
def test_a_radius_that_cannot_act_is_said(cli, epu, tmp_path, options, note):
    (tmp_path / "px.csv").write_text("hole,square,x px,y px\nh1,s1,1,2\nh2,s1,3,4\nh3,s1,,\n")
    (tmp_path / "um.csv").write_text("hole,square,stage x um,stage y um\nh1,s1,1,2\nh2,s1,3,4\n")
    (tmp_path / "ctf.csv").write_text("21jan01a_00001gr_00002sq_00003hl_00001en-a,1.0,-5.0,4.0,0.9\n")
    told = json.loads(cli("import -o run7.session --patch-radius-um 3 --json", options).out)
    said = [each for each in told["notes"] if "--patch-radius-um" in each]
    assert len(said) == (note is not None)
    assert all(note in each for each in said)
    told = json.loads(cli("import -o other.session --json", options).out)
    assert not any("--patch-radius-um does not act" in each for each in told["notes"])


def test_a_radius_does_not_act_on_what_is_stored_and_that_is_said(cli, tmp_path):
    head = "hole,square,stage x um,stage y um\nh1,s1,1,2\nh2,s1,3,4\n"
    (tmp_path / "um.csv").write_text(head)
    assert cli("import um.csv -o run7.session").code == 0
    line = "import um.csv -o run7.session --patch-radius-um 1 --update --json"
    told = json.loads(cli(line).out)
    assert "--patch-radius-um does not act: all sources are unchanged" in told["notes"]
    (tmp_path / "um.csv").write_text(head + "h3,s1,50,4\n")
    told = json.loads(cli(line).out)
    assert (
        "--patch-radius-um does not act on every hole: not on 2 stored with their patches before (--force imports "
        "them anew)"
    ) in told["notes"]


@pytest.mark.parametrize("radius_um", ["0", "-1", "nan", "1e7"])
def test_a_radius_is_a_length_whatever_the_format(cli, epu, tmp_path, radius_um):
    for source in ("epu", NAV, DATA / "smartscope" / "made_by_hand_grid.yaml"):
        answer = cli(f"import -o run7.session --patch-radius-um {radius_um}", source)
        assert answer.code == 2
        assert "must be above 0 and at most 1e+06" in answer.err
    assert not (tmp_path / "run7.session").exists()


def test_a_folder_above_sessions_names_them(cli, epu, tmp_path):
    (tmp_path / "week" / "more").mkdir(parents=True)
    shutil.move(epu, tmp_path / "week" / "run1")
    shutil.copytree(HARVEST, tmp_path / "week" / "more" / "run2")
    (tmp_path / "week" / "Data").mkdir()
    shutil.copy(NAV, tmp_path / "week" / "Data" / "grid1.nav")
    answer = cli("import week -o run7.session")
    assert answer == (
        2,
        "",
        "week: must be the folder of a session. Got a folder above 3 sessions instead: Data, run1, more/run2. Remedy: "
        "name the session's own folder, such as week/Data.\n",
    )
    for name in range(10):
        (tmp_path / "week" / f"s{name}").mkdir()
        shutil.copy(NAV, tmp_path / "week" / f"s{name}" / "grid1.nav")
    assert "13 sessions instead: Data, run1, s0, s1, s2, ..." in cli("import week -o run7.session").err
    (tmp_path / "empty").mkdir()
    assert "must be a folder of a known format" in cli("import empty -o run7.session").err


def test_a_session_beside_the_one_that_is_read_is_named(cli, epu, tmp_path):
    shutil.copytree(HARVEST, epu / "earlier")
    told = json.loads(cli("import epu -o run7.session --json").out)
    (note,) = [note for note in told["notes"] if "not entered" in note]
    assert note.endswith(
        "sub-folders with files of the same kind that were not entered: 1 (earlier); to read one too, name it beside "
        "the folder, such as epu/earlier"
    )
    (tmp_path / "tables" / "day2").mkdir(parents=True)
    name = "21jan01a_00001gr_00002sq_00003hl_0000{}en-a,1.0,-5.0,4.0,0.9\n"
    (tmp_path / "tables" / "ctf.csv").write_text(name.format(1))
    (tmp_path / "tables" / "day2" / "ctf.csv").write_text(name.format(2))
    told = json.loads(cli("import tables -o leginon.session --json").out)
    assert told["holes"] == 1
    assert any("not entered: 1 (day2)" in note for note in told["notes"])
    told = json.loads(cli("import tables tables/day2 -o both.session --json").out)
    assert told["holes"] == 2
    assert not any("not entered" in note for note in told["notes"])


@pytest.mark.slow
def test_a_folder_with_one_dm_file_is_read_whatever_its_name(cli, tmp_path):
    (tmp_path / "square").mkdir()
    file = tmp_path / "square" / "foo.dm"
    file.write_bytes(gzip.decompress((DATA / "epu" / "GridSquare_4590776.dm.gz").read_bytes()))
    told = json.loads(cli("import square -o one.session --json").out)
    assert (told["holes"], told["squares"]) == (570, 1)
    shutil.copy(file, tmp_path / "square" / "bar.dm")
    answer = cli("import square -o two.session")
    assert answer.code == 2
    assert "left out: 2 .dm files with names that EPU does not give, such as bar.dm" in answer.err
    assert "or name single files." in answer.err
    shutil.copy(file, tmp_path / "square" / "GridSquare_4590776.dm")
    told = json.loads(cli("import square -o three.session --json").out)
    assert (told["holes"], told["squares"]) == (570, 1)


@pytest.mark.slow
def test_a_folder_of_the_atlas_beside_a_session_places_its_squares(cli, epu, tmp_path):
    shutil.rmtree(epu)
    shutil.copytree(HARVEST, epu)
    for place in (tmp_path / "Atlas", epu / "Atlas"):
        place.mkdir()
        atlas = gzip.decompress((DATA / "epu" / "Atlas.dm.gz").read_bytes())
        (place / "Atlas.dm").write_bytes(atlas)
    alone = json.loads(cli("import epu -o alone.session --json").out)
    assert any("not entered: 1 (Atlas)" in note for note in alone["notes"])
    for number, place in enumerate(("Atlas", "epu/Atlas", "epu/Atlas/Atlas.dm")):
        told = json.loads(cli(f"import epu {place} -o run{number}.session --json").out)
        assert told["holes"] == alone["holes"]
        assert any("not entered" in note for note in told["notes"]) == (place == "Atlas")
        with SessionStore.open(tmp_path / f"run{number}.session") as store:
            assert store.load().squares["x_um"].notna().all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import micrographs_ctf.star", "A session must have squares, holes or exposures."),
        (
            "import notes.txt",
            "notes.txt: must be a file of a known format. Got none of these instead: EPU session,",
        ),
        (
            "import epu --update",
            "An update must add files to the session of -o NAME.session. Got no -o instead.",
        ),
        ("import epu -o a.session --update --force", "Got --force instead."),
        ("import y1 -o a.session --update", "Got a built-in session instead."),
        (
            "import epu --images epu",
            "--images must be a folder with hole images *_crop.png (Leginon) or with patch",
        ),
        ("import epu --model-id m", "--model-id must go with Leginon tables alone. Got epu instead."),
        ("import site.csv --column Fit", "A column must be said as MEANING=NAME. Got 'Fit' instead."),
        ("import site.csv --column ctff=Fit", "A role must be one of grid, square"),
        ("import site.csv --column ctf=Gone", "The column for ctf must be one of grid, square"),
        ("import site.csv --column ctf=Fit --mapping map.toml", "Columns must be said once."),
        ("import epu --patch-radius-um -1", "must be above 0"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_session(cli, epu, star, tmp_path, line, message):
    (tmp_path / "site.csv").write_text(CSV)
    (tmp_path / "notes.txt").write_text("nothing of the kind\n")
    answer = cli(line)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert not list(tmp_path.glob("*.session"))


def test_nothing_that_was_read_is_lost_on_the_way_to_the_session(cli, epu, star, tmp_path):
    text = star.read_text()
    assert cli("import epu micrographs_ctf.star -o run7.session").code == 0
    with SessionStore.open(tmp_path / "run7.session") as store:
        session = store.load()
    assert session.fields_of(EXPOSURES[0])["microscopeData/gun/ExtractorVoltage"] == "4250"
    assert session.ctf_runs["source"].tolist() == ["micrographs_ctf.star"] * 4
    assert session.ctf_runs["taken"].all()
    # One result is another one now, and another program has fitted one image better.
    star.write_text(text.replace("3.000000", "9.000000"))
    (tmp_path / "fits.csv").write_text(f"micrograph,ctf\n{EXPOSURES[1]},5.5\n")
    answer = cli("import micrographs_ctf.star fits.csv -o run7.session --update --json")
    told = json.loads(answer.out)
    assert {what: count for what, count in told["added"].items() if count} == {"further_ctf_runs": 2}
    (note,) = [note for note in told["notes"] if "than before" in note]
    assert note.startswith("micrographs_ctf.star: 1 exposures have another CTF result than before, such as ")
    assert note.endswith("(3 angstrom before, now 9 angstrom); it is kept as a further run")
    assert "2 exposures have several CTF runs; all are kept, and the best resolution counts" in told["notes"]
    with SessionStore.open(tmp_path / "run7.session") as store:
        for _ in range(2):
            session = store.load()
            assert len(session.ctf_runs) == 6
            results = dict(
                zip(session.exposures["exposure_id"], session.exposures["ctf_max_res_angstrom"], strict=True)
            )
            assert (results[EXPOSURES[0]], results[EXPOSURES[1]]) == (3.0, 5.5)
            store.rebuild()
    assert "nothing new" in cli("import micrographs_ctf.star fits.csv epu -o run7.session --update").out


def test_how_many_holes_the_operator_had_chosen_is_said(cli, tmp_path):
    chosen_of(cli, tmp_path)


def chosen_of(cli, tmp_path):
    """Import a navigator into a.session; how many of its holes were chosen."""
    (tmp_path / "grid1.nav").write_bytes(NAV.read_bytes())
    answer = cli("import grid1.nav -o a.session")
    with SessionStore.open(tmp_path / "a.session") as store:
        marked = store.load().chosen_holes()
    assert 0 < marked < 40
    assert f"Chosen by the operator: {marked} of 40 holes" in answer.out
    return marked


@pytest.mark.slow
def test_how_many_holes_the_operator_had_chosen_is_said_where_a_file_says_it(cli, tmp_path):
    nav, marked = NAV.read_bytes(), chosen_of(cli, tmp_path)
    assert json.loads(cli("import grid1.nav -o b.session --json").out)["chosen"] == marked
    (tmp_path / "grid1.nav").write_bytes(nav.replace(b"Acquire = 1", b"Acquire = 0", 1))
    told = json.loads(cli("import grid1.nav -o a.session --update --json").out)
    assert (told["chosen"], told["added"]["changed_choices"]) == (marked - 1, 1)
    (tmp_path / "site.csv").write_text(CSV)
    answer = cli("import site.csv -o c.session")
    assert "Chosen by the operator" not in answer.out
    assert json.loads(cli("import site.csv -o d.session --json").out)["chosen"] is None
