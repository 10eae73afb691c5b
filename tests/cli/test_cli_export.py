"""`plan --export`: each vendor's file is read back by its own reader, and fits its own sessions only."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cryoscout.advice.export import EXPORTS
from cryoscout.formats.ctf import relion
from cryoscout.formats.epu.athena import LABEL, ORDER, SELECTION, read_decisions
from cryoscout.formats.leginon.order import read_order
from cryoscout.formats.own import table as generic_table
from cryoscout.formats.serialem.nav import read_nav
from cryoscout.formats.smartscope.addresses import TOKEN_VARIABLE
from cryoscout.formats.smartscope.selection import read_selection
from cryoscout.session.builtin import load_builtin
from cryoscout.session.store import SessionStore
from smartscope_server import TOKEN, Server, running

DATA = Path(__file__).parents[1] / "formats" / "data"
NAV = DATA / "serialem" / "made_by_hand_two_squares.nav"
GRID = DATA / "smartscope" / "made_by_hand_grid.yaml"
UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
QUICK = "--policy random --time-model cryorl --budget-min"
QUICK_ALL = f"--also-unchosen {QUICK}"


@pytest.fixture
def nav_session(once) -> str:
    return once(f"import {NAV} -o sem.session")


@pytest.fixture
def epu_session(once, tmp_path) -> str:
    square = tmp_path / "GridSquare_4590776.dm"
    square.write_bytes(gzip.decompress((DATA / "epu" / "GridSquare_4590776.dm.gz").read_bytes()))
    return once(f"import {square.name} -o epu.session")


@pytest.fixture
def smartscope_session(once) -> str:
    return once(f"import {GRID} -o scope.session")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with running(GRID) as state:
        yield state


def planned(answer) -> list[str]:
    assert answer.code == 0, answer.err
    return [hole["hole"] for hole in json.loads(answer.out)["holes"]]


def good_of_smartscope(path: Path) -> list[str]:
    # Not the plan: what was measured so far.
    assert relion.read_source(path).ctf["ctf_max_res_angstrom"].tolist() == [3.8, 4.2, 5.1]
    return []


FIXTURES = {"serialem": "nav", "epu": "epu"}
READ_BACK: dict[str, Callable[[Path], list[str]]] = {
    "csv": lambda path: generic_table.read_source(path).holes["hole_id"].tolist(),
    "star": good_of_smartscope,
    "nav": lambda path: [item.id for item in read_nav(path).holes if item.acquire],
    "athena-json": lambda path: [str(hole.hole_id) for hole in read_decisions(path)[1].holes],
    "leginon": lambda path: list(read_order(path).targets),
    "smartscope": lambda path: [hole for patch in read_selection(path) for hole in patch],
}
"""Export -> the holes in order of visit, as our own reader of that format reads them."""


def test_every_export_but_the_page_for_people_has_a_reader():
    assert set(READ_BACK) == set(EXPORTS) - {"html"}


@pytest.mark.parametrize("export", READ_BACK)
def test_every_export_is_read_back_by_its_own_reader(cli, request, tmp_path, export):
    of = EXPORTS[export].of
    name = "y1" if of == "leginon" else request.getfixturevalue(f"{FIXTURES.get(of, 'smartscope')}_session")
    options = {"nav": f"--nav {NAV}", "athena-json": f"--athena-session {UUID}"}.get(export, "")
    answer = cli(f"plan {name} {QUICK_ALL} 45 --export {export} -o plan.out --json {options}")
    holes = planned(answer)
    assert len(holes) > 2
    assert READ_BACK[export](tmp_path / "plan.out") == ([] if export == "star" else holes)


def test_an_exported_csv_is_imported_as_holes_that_are_not_imaged(cli, smartscope_session, tmp_path):
    holes = planned(cli(f"plan {smartscope_session} {QUICK_ALL} 45 --export csv -o targets.csv --json"))
    told = json.loads(cli("import targets.csv -o back.session --json").out)
    assert (told["holes"], told["exposures"], told["outcomes"]["none"]) == (len(holes), 0, len(holes))
    assert any("not used: order, p_good, tier, minutes, minutes_used" in note for note in told["notes"])
    with (
        SessionStore.open(tmp_path / smartscope_session) as before,
        SessionStore.open(tmp_path / "back.session") as after,
    ):
        places = [
            store.load().holes.merge(store.load().patches, on="patch_id").set_index("hole_id").loc[holes]
            for store in (before, after)
        ]
    assert places[0][["patch_id", "square_id"]].equals(places[1][["patch_id", "square_id"]])


def test_nav_marks_the_planned_holes_in_order_in_a_new_file(cli, nav_session, tmp_path):
    before = NAV.read_bytes()
    answer = cli(f"plan {nav_session} {QUICK} 60 --export nav -o plan.nav --json --nav", NAV)
    holes = planned(answer)
    written = read_nav(tmp_path / "plan.nav")
    assert [item.id for item in written.holes if item.acquire] == holes
    assert "Wrote plan.nav" in answer.err
    assert "Load plan.nav in SerialEM with Navigator > Read & Open." in answer.err
    assert NAV.read_bytes() == before


def test_your_own_navigator_is_never_overwritten_not_even_by_force(cli, nav_session, tmp_path):
    own = tmp_path / "own.nav"
    own.write_bytes(NAV.read_bytes())
    answer = cli(f"plan {nav_session} {QUICK} 60 --export nav --nav own.nav -o own.nav --force")
    assert answer.code == 2
    assert answer.err.startswith("The output must be another file than the one it is made from. Got own.nav")
    assert own.read_bytes() == NAV.read_bytes()


def test_decisions_hold_every_open_hole_of_the_visited_square(cli, epu_session, tmp_path):
    answer = cli(
        f"plan {epu_session} {QUICK} 60 --export athena-json --athena-session {UUID} -o a.json --json"
    )
    holes = planned(answer)
    selection, order = read_decisions(tmp_path / "a.json")
    assert (selection.decision_type, order.decision_type) == (SELECTION, ORDER)
    assert [str(hole.hole_id) for hole in order.holes] == holes
    assert {str(hole.hole_id) for hole in selection.holes if hole.result == "true"} == set(holes)
    assert len(selection.holes) == 570 - 217
    assert selection.session_id == UUID
    assert selection.details == f"{LABEL}; plan of epu for 60 min"
    assert f"{LABEL}: try them on a test session first." in answer.err


def test_a_leginon_order_is_the_plan(cli, tmp_path):
    answer = cli(f"plan y1 {QUICK} 60 --export leginon -o order.txt --json")
    assert list(read_order(tmp_path / "order.txt").targets) == planned(answer)
    assert "Leginon does not load target lists" in answer.err


def test_a_smartscope_selection_is_written_and_sent_only_when_asked(
    cli, smartscope_session, server, tmp_path
):
    ask = f"plan {smartscope_session} {QUICK_ALL} 60 --export smartscope --json -o"
    answer = cli(ask, "a.json")
    holes = planned(answer)
    assert [hole for patch in read_selection(tmp_path / "a.json") for hole in patch] == holes
    assert "Nothing was sent" in answer.err
    assert server.bodies == []
    answer = cli(ask, "b.json", "--smartscope-address", server.address)
    assert planned(answer) == holes
    assert f"Selected in SmartScope: {len(holes)} of {len(holes)} planned holes" in answer.err
    sent = {hole for body in server.bodies for hole in body["ids"]}
    wanted = {f"H{name.split('square')[1].replace('_hole', '-')}" for name in holes}
    in_groups = {f"H2-{number}" for number in range(1, 7)}
    assert sent - {"H2-2"} == wanted - in_groups
    assert ("H2-2" in sent) == bool(wanted & in_groups)
    assert TOKEN not in answer.err + answer.out + (tmp_path / "b.json").read_text()


def test_a_server_that_fails_leaves_the_file_and_the_memory_of_the_plan(
    cli, smartscope_session, server, tmp_path
):
    server.answer = (500, b"")
    answer = cli(
        f"plan {smartscope_session} {QUICK_ALL} 60 --export smartscope -o a.json --smartscope-address",
        server.address,
    )
    assert answer.code == 2
    assert "Got status 500" in answer.err
    assert (tmp_path / "a.json").is_file()
    with SessionStore.open(tmp_path / smartscope_session) as store:
        assert len(list(store.events(kind="planned"))) == 1


def test_star_holds_the_good_micrographs_measured_so_far(cli, smartscope_session, tmp_path):
    answer = cli(f"plan {smartscope_session} {QUICK_ALL} 30 --export star -o good.star")
    assert answer.code == 0
    ctf = relion.read_source(tmp_path / "good.star").ctf
    assert ctf["ctf_max_res_angstrom"].tolist() == [3.8, 4.2, 5.1]
    assert "3 good micrographs, by name alone" in answer.err


def test_star_needs_no_hole_left_to_plan(cli, sim, tmp_path):
    answer = cli(f"plan {sim} --budget-min 60 --export star -o good.star --json")
    assert answer.code == 0
    assert json.loads(answer.out) == {"session": "sim", "holes": []}
    assert "no hole that may be planned is left" in answer.err
    with SessionStore.open(tmp_path / sim) as store:
        good = store.load().good_by_hole(6.0).sum()
    assert len(relion.read_source(tmp_path / "good.star").ctf) == good
    answer = cli(f"plan {sim} --budget-min 60 --export star -o none.star --threshold-angstrom 0.5")
    assert answer.code == 2
    assert "must have a micrograph with a CTF resolution of 0.5 angstrom or better." in answer.err
    assert not (tmp_path / "none.star").exists()


def test_star_keeps_the_rows_of_your_own_table(cli, tmp_path):
    good = load_builtin("y1").exposures.query("ctf_max_res_angstrom <= 6")["exposure_id"].head(3)
    rows = "".join(f"MotionCorr/{name}.mrc 4.5 1\n" for name in [*good, "another"])
    table = "data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnCtfMaxResolution #2\n_rlnOpticsGroup #3\n"
    (tmp_path / "all.star").write_text(table + rows)
    answer = cli(f"plan y1 {QUICK} 30 --export star --star all.star -o good.star")
    assert answer.code == 0
    assert "MotionCorr/" in (tmp_path / "good.star").read_text()
    assert len(relion.read_source(tmp_path / "good.star").ctf) == 3
    answer = cli(f"plan y1 {QUICK} 30 --export star --star all.star -o all.star --force")
    assert answer.code == 2
    assert "The output must be another file" in answer.err


@pytest.mark.parametrize("export", [name for name, each in EXPORTS.items() if each.of])
def test_an_export_of_another_vendor_is_one_clear_error(cli, sim, server, tmp_path, export):
    # At once, and not after what the format needs was asked for.
    answer = cli(f"plan {sim} --budget-min 60 --as-new --export {export} -o x")
    assert answer == (
        2,
        "",
        f"--export {export} must be of a session read from {EXPORTS[export].of} files. Got sim, read from simulated, "
        "instead. Remedy: for simulated use one of csv, html, star.\n",
    )
    assert list(tmp_path.glob("x")) == []


@pytest.mark.parametrize("export", EXPORTS)
def test_no_export_overwrites_a_file_without_force(cli, tmp_path, server, export):
    (tmp_path / "x").write_text("mine")
    options = {"nav": f"--nav {NAV}", "athena-json": f"--athena-session {UUID}"}.get(export, "")
    answer = cli(f"plan y1 --budget-min 60 --export {export} -o x {options}")
    assert answer.code == 2
    assert answer.err.startswith("The output must be a new file. Got x, which exists, instead.")
    assert (tmp_path / "x").read_text() == "mine"


def test_force_replaces_the_file_of_every_writer(cli, nav_session, tmp_path):
    (tmp_path / "x").write_text("mine")
    answer = cli(f"plan {nav_session} {QUICK} 60 --export nav -o x --force --json --nav", NAV)
    assert planned(answer)
    assert (tmp_path / "x").read_text() != "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sem.session", "x"]


def test_a_writer_that_fails_leaves_the_old_file_and_no_other(cli, nav_session, tmp_path):
    (tmp_path / "x").write_text("mine")
    other = DATA / "serialem" / "semmatch_newNav.nav"
    answer = cli(f"plan {nav_session} {QUICK} 60 --export nav -o x --force --nav", other)
    assert answer.code == 2
    assert "A route must name holes of semmatch_newNav.nav." in answer.err
    assert (tmp_path / "x").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sem.session", "x"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--export nav -o x", "--export nav must be of a session read from serialem files."),
        ("--export athena-json -o x --athena-session 19503064", "must be a uuid such as"),
        ("--export csv -o x --nav y", "--nav must go with --export nav. Got --export csv instead."),
        ("--star y", "--star must go with --export star. Got no export instead. Remedy: leave it out."),
        (
            "--export smartscope -o x --smartscope-address http://scope.example.org",
            "A token must travel encrypted. Got http to scope.example.org instead.",
        ),
        ("--export nave -o x", "Got 'nave' instead. Did you mean 'nav'?"),
    ],
)
def test_wrong_options_are_told_before_anything_is_planned(cli, server, options, message):
    answer = cli(f"plan y1 --budget-min 60 {options}")
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1


def test_what_a_format_needs_is_asked_for_where_it_fits(cli, nav_session):
    answer = cli(f"plan {nav_session} {QUICK} 60 --export nav -o x")
    assert (answer.code, answer.err) == (
        2,
        "--export nav must have --nav. Got none instead. Remedy: add --nav FILE, the navigator file that the session "
        "was read from.\n",
    )


def test_a_token_that_is_missing_is_told(cli, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    answer = cli("plan y1 --budget-min 60 --export smartscope -o x --smartscope-address https://host")
    assert answer.code == 2
    assert answer.err.startswith(
        "A SmartScope token must be one word of letters and digits. Got none in the variable"
    )
