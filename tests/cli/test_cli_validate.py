"""`cryoscout validate`: 0 for clean, 1 for any deviation, 2 for what cannot be read and for wrong options; any format.

The samples are those of tests/formats; what is made here has their shapes.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cryoscout.formats.ctf.relion import write_micrographs
from cryoscout.formats.epu.athena import SquarePlan, decisions_of, write_decisions
from cryoscout.formats.leginon.order import LeginonOrder, write_order
from cryoscout.formats.serialem.nav import read_nav
from cryoscout.formats.serialem.nav_writer import PlannedHole, write_nav
from cryoscout.formats.smartscope.selection import write_selection
from session_with_images import stored

DATA = Path(__file__).resolve().parents[1] / "formats" / "data"
SMARTEM = DATA / "epu" / "smartem_example"
NAV = DATA / "serialem" / "made_by_hand_two_squares.nav"
HOLE = "21jan01a_00001gr_00002sq_00003hl_0000{}en"
CTF = "".join(
    f"{HOLE.format(i)}-a,{i}.0,-5.0,{value},0.9\n" for i, value in enumerate((3.5, 7.25, "inf", -1), 1)
)


@pytest.fixture
def table(tmp_path):
    (tmp_path / "ctf.csv").write_text(CTF)
    return tmp_path / "ctf.csv"


@pytest.fixture
def star(tmp_path):
    write_micrographs(tmp_path / "micrographs_ctf.star", ["a.mrc", "b.mrc"], [3.0, 25.0])
    return tmp_path / "micrographs_ctf.star"


def test_a_clean_file_is_one_line_and_0(cli, table):
    assert cli("validate ctf.csv") == (0, "ctf.csv: no deviation\n", "")


def test_every_deviation_is_listed_with_its_line_and_leaves_with_1(cli, table):
    table.write_text(CTF.replace(",3.5,", ",soft,").replace(",-1,", ",-3,"))
    answer = cli("validate ctf.csv")
    assert (answer.code, answer.err) == (1, "")
    assert answer.out.splitlines() == [
        "ctf.csv, line 1: the CTF resolution must be a number. Got 'soft' instead.",
        "ctf.csv, line 4: the CTF resolution must be above 0 angstrom, or -1 for none. Got '-3' instead.",
    ]
    (told,) = json.loads(cli("validate ctf.csv --json").out)["files"]
    assert (told["format"], told["kind"]) == ("leginon", "ctf")
    assert [each["line"] for each in told["deviations"]] == [1, 4]


@pytest.mark.parametrize(
    ("file", "format_name"),
    [
        (SMARTEM, "epu"),
        (DATA / "epu" / "harvest_session" / "EpuSession.dm", "epu"),
        (NAV, "serialem"),
        (DATA / "serialem" / "mdocfile_frame_set_single.mdoc", "serialem"),
        (DATA / "smartscope" / "made_by_hand_grid.yaml", "smartscope"),
    ],
)
def test_the_real_files_validate_clean(cli, file, format_name):
    answer = cli("validate", file, "--json")
    (told,) = json.loads(answer.out)["files"]
    assert (answer.code, told["format"], told["deviations"]) == (0, format_name, [])


def test_several_paths_are_listed_one_after_the_other(cli, table, star):
    star.write_text(star.read_text().replace("25.000000", "soft"))
    answer = cli("validate ctf.csv micrographs_ctf.star ctf.csv")
    assert (answer.code, answer.err) == (1, "")
    clean, deviation = answer.out.splitlines()
    assert clean == "ctf.csv: no deviation"
    assert deviation.startswith("micrographs_ctf.star, line ")
    assert deviation.endswith("the CTF resolution must be a number. Got 'soft' instead.")
    told = json.loads(cli("validate ctf.csv micrographs_ctf.star --json").out)
    assert [(each["file"], each["format"], len(each["deviations"])) for each in told["files"]] == [
        ("ctf.csv", "leginon", 0),
        ("micrographs_ctf.star", "relion", 1),
    ]
    assert told["unreadable"] == []


def test_a_deviation_in_a_folder_names_its_file(cli, tmp_path):
    shutil.copytree(SMARTEM, tmp_path / "epu")
    broken = sorted((tmp_path / "epu").rglob("FoilHole_*_Data_*.xml"))[0]
    broken.write_text(broken.read_text()[:500])
    answer = cli("validate epu")
    assert answer.code == 1
    (line,) = answer.out.splitlines()
    assert line.startswith(f"epu, {broken.relative_to(tmp_path / 'epu').as_posix()}, line ")


DOCTYPE = '<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY b "c">]>\n'
WHOLE_FILES = {
    "EPU with a document type": ("FoilHole_1_Data_2_3_20240105_115150.xml", f"{DOCTYPE}<MicroscopeImage/>"),
    "EPU cut": ("EpuSession.dm", '<?xml version="1.0"?>\n<EpuSessionXml><A'),
    "XML navigator with a document type": ("a.nav", f"{DOCTYPE}<n><AdocVersion>2</AdocVersion></n>"),
    "tab-delimited navigator": ("b.nav", "Label\tColor\n1\t0\n"),
    "navigator with a NUL byte": ("c.nav", b"AdocVersion = 2.00\nNote = \0\n"),
    "SmartScope with an alias": ("grid.yaml", "atlas: &a\n- targets: *a\nsession_id: 1\n"),
    "JSON that is cut": ("plan.json", '[{"decisionType": "focus"'),
    "star without CTF": ("motion.star", "data_\nloop_\n_rlnMicrographName #1\na.mrc\n"),
    "CTFFIND's averages": (
        "a_avrot.txt",
        "# Input file: a.mrc ; Number of micrographs: 1\n# 6 lines per micrograph\n",
    ),
    "cryoSPARC cut": ("a.cs", b"\x95CSDAT\xff\xff"),
    "own table without exposures": ("own.csv", b"hole,square\n\0,s1\n"),
    "binary": ("image.mrc", bytes(range(256)) * 10),
    "empty table": ("empty.csv", ""),
    "empty navigator": ("empty.nav", ""),
    "empty EPU": ("GridSquare_1.dm", ""),
    "empty star": ("empty.star", ""),
}


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_a_file_that_cannot_be_parsed_deviates_in_a_line_or_element_whatever_the_format(cli, tmp_path, name):
    file, content = WHOLE_FILES[name]
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    answer = cli("validate", file, "--json")
    (told,) = json.loads(answer.out)["files"]
    assert (answer.code, answer.err) == (1, "")
    assert told["deviations"]
    assert all(each["line"] is not None or each["element"] for each in told["deviations"])
    assert cli("validate", file).out.count("\n") == len(told["deviations"])


def test_what_cannot_be_read_leaves_with_2_and_the_other_files_are_told_all_the_same(cli, table, tmp_path):
    answer = cli("validate gone.csv ctf.csv")
    assert answer == (
        2,
        "ctf.csv: no deviation\n",
        "gone.csv: must be a readable file. Got nothing there instead.\n",
    )
    table.write_text("")
    answer = cli("validate gone.csv ctf.csv --json")
    told = json.loads(answer.out)
    assert (answer.code, len(told["files"])) == (2, 1)
    assert told["unreadable"] == [
        {"file": "gone.csv", "message": "must be a readable file. Got nothing there instead."}
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--column Fit", "A column must be said as MEANING=NAME. Got 'Fit' instead."),
        ("--column ctff=Fit", "A role must be one of grid, square"),
        (
            "--column ctf=Gone",
            "The column for ctf must be one of micrograph, Fit. Got 'Gone' for site.csv instead.",
        ),
        ("--column ctf=Fit --mapping map.toml", "Columns must be said once."),
        ("--mapping gone.toml", "gone.toml: must be a file."),
        ("--mapping map.toml", "map.toml: a column map must be TOML."),
        ("--no-such-option", "No such option"),
    ],
)
def test_wrong_options_leave_with_2_and_nothing_is_listed(cli, tmp_path, options, message):
    (tmp_path / "site.csv").write_text("micrograph,Fit\nm1.mrc,soft\n")
    (tmp_path / "map.toml").write_text("[columns\n")
    answer = cli(f"validate site.csv {options}")
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


def test_columns_are_said_as_for_import(cli, tmp_path):
    (tmp_path / "site.csv").write_text("micrograph,ctf,Fit\nm1.mrc,soft,3.5\n")
    (tmp_path / "map.toml").write_text("[columns]\nctf = 'Fit'\n")
    assert cli("validate site.csv").code == 1
    for options in ("--column ctf=Fit", "--mapping map.toml"):
        assert cli(f"validate site.csv {options}") == (0, "site.csv: no deviation\n", "")


def plan_as(format_name, path):
    """A plan as each of our own formats has it."""
    if format_name == "athena":
        squares = [SquarePlan("7", {"11": 1, "12": 2}, ["13"])]
        write_decisions(path, decisions_of("12345678-1234-1234-1234-123456789abc", squares, "c"))
    elif format_name == "smartscope-selection":
        write_selection(path, [["a", "b"], ["c"]])
    elif format_name == "leginon-order":
        write_order(path, LeginonOrder((HOLE.format(1), HOLE.format(2)), {"policy": "index"}))
    elif format_name == "relion":
        write_micrographs(path, ["a", "b"], [3.5, 4.5])
    else:
        source = read_nav(NAV)
        write_nav(source, [PlannedHole(item.id, "p", 0.5) for item in source.holes[:3]], path)


@pytest.mark.parametrize(
    "format_name", ["athena", "smartscope-selection", "leginon-order", "relion", "serialem"]
)
def test_what_a_plan_is_written_as_is_recognised_and_clean(cli, tmp_path, format_name):
    plan_as(format_name, tmp_path / "plan.dat")
    answer = cli("validate plan.dat --json")
    (told,) = json.loads(answer.out)["files"]
    assert (answer.code, told["format"], told["deviations"]) == (0, format_name, [])


def test_the_exported_work_list_is_recognised_and_clean(cli, sim):
    assert cli(f"plan {sim} --as-new --budget-min 60 --policy greedy --export csv -o plan.csv").code == 0
    (told,) = json.loads(cli("validate plan.csv --json").out)["files"]
    assert (told["format"], told["deviations"]) == ("generic", [])


def test_importing_a_selection_says_that_it_is_a_target_list(cli, tmp_path):
    plan_as("smartscope-selection", tmp_path / "plan.json")
    answer = cli("import plan.json -o a.session")
    assert (answer.code, answer.out) == (2, "")
    assert (
        "Got a selection of holes for SmartScope instead: a target list, which says which holes" in answer.err
    )
    assert not (tmp_path / "a.session").exists()


@pytest.mark.parametrize("format_name", ["athena", "leginon-order"])
def test_importing_a_target_list_that_has_places_says_that_it_is_one(cli, tmp_path, format_name):
    plan_as(format_name, tmp_path / "plan.dat")
    answer = cli("import plan.dat -o a.session")
    assert answer.code == 0, answer.err
    assert "plan.dat: a target list: it says which holes are to be imaged" in " ".join(answer.out.split())


def test_a_stored_session_is_whole_or_what_is_damaged_is_listed(cli, tmp_path):
    place = stored(tmp_path / "tiny.session")
    assert cli("validate tiny.session") == (0, "tiny.session: no deviation\n", "")
    images = sorted((place / "images").iterdir())
    images[0].unlink()
    content = bytearray(images[1].read_bytes())
    content[-3] ^= 8
    images[1].write_bytes(content)
    with closing(sqlite3.connect(place / "session.db")) as database, database:
        database.execute("DROP TRIGGER events_no_update")
        database.execute("UPDATE events SET kind = 'planned' WHERE id = 2")
    answer = cli("validate tiny.session")
    assert (answer.code, answer.err) == (1, "")
    first, second, third = answer.out.splitlines()
    assert "tiny.session, images of patch p0: must be there. Got no file instead." in first
    assert "images of patch p1: must be as they were written" in second
    assert "tiny.session, events:" in third
    assert "the content of event 2" in third
    (told,) = json.loads(cli("validate tiny.session --json").out)["files"]
    assert (told["format"], len(told["deviations"])) == ("cryoscout session", 3)
    with closing(sqlite3.connect(place / "session.db")) as database, database:
        database.execute("DROP TRIGGER exposures_touched_by_update")
        database.execute("UPDATE exposures SET ctf_max_res_angstrom = 2 WHERE rowid = 3")
    assert "tiny.session, tables:" in cli("validate tiny.session").out
