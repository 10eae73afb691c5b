"""`cryoscout import` and `validate` on real files of every vendor, at once and in steps, from folders it may not touch.

The samples are those of tests/formats/data; what is made here has their shapes.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from cryoscout.formats.relion import write_micrographs
from cryoscout.session.store import SessionStore

DATA = Path(__file__).resolve().parents[1] / "formats" / "data"
SMARTEM = DATA / "epu" / "smartem_example"
HARVEST = DATA / "epu" / "harvest_session"
NAV = DATA / "serialem" / "made_by_hand_two_squares.nav"
EXPOSURES = sorted(path.stem for path in SMARTEM.rglob("FoilHole_*_Data_*.xml"))
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


def content(folder):
    return {
        path.relative_to(folder): (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def epu(tmp_path):
    """A copy of the real session, so that a test may take files away."""
    shutil.copytree(SMARTEM, tmp_path / "epu")
    return tmp_path / "epu"


@pytest.fixture
def star(tmp_path):
    names = [f"MotionCorr/job002/Movies/{name}_Fractions.mrc" for name in EXPOSURES]
    write_micrographs(tmp_path / "micrographs_ctf.star", names, [3.0, 25.0, 999.0, 4.0])
    return tmp_path / "micrographs_ctf.star"


def test_an_epu_session_and_a_table_of_relion_become_one_session(cli, epu, star, tmp_path):
    before = content(epu)
    answer = cli("import epu micrographs_ctf.star -o run7.session --json")
    assert answer.code == 0
    told = json.loads(answer.out)
    assert (told["session"], told["format"], told["shots"]) == ("run7", "epu", 6)
    assert [told[level] for level in ("grids", "squares", "holes", "exposures")] == [1, 2, 4, 4]
    assert told["outcomes"] == {"measured": 3, "failed": 1, "pending": 0, "none": 20}
    assert [(join["found"], join["joined"]) for join in told["joins"]] == [(4, 4), (4, 4)]
    assert told["not_joined"] == 0
    assert told["time_model_s"] is not None
    assert told["extra_shot_s"] == pytest.approx(3.0, abs=1.0)
    assert any("226 squares without holes" in note for note in told["notes"])
    assert content(epu) == before
    with SessionStore.open(tmp_path / "run7.session") as store:
        session = store.load()
        stored = store.files()
    assert session.squares["x_um"].notna().all()
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
        "with --update, replace it with --force, or choose another name with -o.\n",
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
    told = json.loads(cli("import GridSquare_4590776.dm -o one.session --cluster-radius-um 12 --json").out)
    assert (told["holes"], told["squares"]) == (570, 1)
    assert 1 < told["patches"] < 570
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
        "1 grids, 2 squares, 10 patches, 40 holes, 3 exposures",
        "1 measured, 1 failed, 1 pending, 37 none",
        "CTF results of ctf.csv (generic): 2 of 3 joined; 1 not (no exposure of a hole has the name; first: m_0009)",
    ):
        assert part in answer.out


def test_a_sites_own_table_is_a_session_once_its_columns_are_said(cli, tmp_path):
    (tmp_path / "site.csv").write_text(CSV)
    told = json.loads(cli("import site.csv -o a.session --json").out)
    assert told["outcomes"] == {"measured": 0, "failed": 0, "pending": 3, "none": 0}
    assert any("Fit" in note for note in told["notes"])
    told = json.loads(cli("import site.csv -o b.session --column ctf=Fit --cluster-radius-um 5 --json").out)
    assert told["outcomes"] == {"measured": 1, "failed": 1, "pending": 1, "none": 0}
    assert (told["grids"], told["squares"], told["patches"], told["holes"]) == (1, 2, 2, 3)
    assert told["time_model_s"]["same_patch"] == 60.0
    (tmp_path / "map.toml").write_text("[columns]\nctf = 'Fit'\n")
    told = json.loads(cli("import site.csv -o c.session --mapping map.toml --json").out)
    assert told["outcomes"]["measured"] == 1


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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import micrographs_ctf.star", "A session must have holes or exposures."),
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
        ("import epu --images epu", "--images must go with Leginon tables alone. Got epu instead."),
        ("import epu --model-id m", "--model-id must go with Leginon tables alone. Got epu instead."),
        ("import site.csv --column Fit", "A column must be said as MEANING=NAME. Got 'Fit' instead."),
        ("import site.csv --column ctff=Fit", "A role must be one of grid, square"),
        ("import site.csv --column ctf=Gone", "The column for ctf must be one of grid, square"),
        ("import site.csv --column ctf=Fit --mapping map.toml", "Columns must be said once."),
        ("import epu --cluster-radius-um -1", "must be above 0"),
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


def test_nothing_is_written_anywhere_inside_a_source_folder_unasked(cli, epu, monkeypatch):
    monkeypatch.chdir(epu / "Images-Disc1")
    before = content(epu)
    answer = cli("import", epu)
    assert answer.code == 2
    assert answer.err.startswith("A session must not be written beside the files it is read from unasked.")
    assert content(epu) == before


@pytest.mark.parametrize(
    ("file", "format_name"),
    [
        (SMARTEM, "epu"),
        (HARVEST / "EpuSession.dm", "epu"),
        (NAV, "serialem"),
        (DATA / "serialem" / "mdocfile_frame_set_single.mdoc", "serialem"),
        (DATA / "smartscope" / "made_by_hand_grid.yaml", "smartscope"),
    ],
)
def test_the_real_files_validate_clean(cli, file, format_name):
    answer = cli("validate", file, "--json")
    told = json.loads(answer.out)
    assert (answer.code, told["format"], told["deviations"]) == (0, format_name, [])


def test_validate_lists_lines_and_elements_of_any_format(cli, epu, star, tmp_path):
    star.write_text(star.read_text().replace("25.000000", "soft"))
    answer = cli("validate micrographs_ctf.star")
    assert answer.code == 1
    assert answer.out.startswith("micrographs_ctf.star, line ")
    assert "the CTF resolution must be a number. Got 'soft' instead." in answer.out
    broken = sorted(epu.rglob("FoilHole_*_Data_*.xml"))[0]
    broken.write_text(broken.read_text()[:500])
    answer = cli("validate epu")
    assert answer.code == 1
    (line,) = answer.out.splitlines()
    assert line.startswith(f"epu, {broken.relative_to(epu).as_posix()}")
    told = json.loads(cli("validate epu --json").out)
    assert (told["kind"], len(told["deviations"])) == ("epu", 1)
    assert told["deviations"][0]["element"].startswith("Images-Disc1/")
