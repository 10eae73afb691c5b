"""Every CTF result becomes a run, the best one counts, and nothing that is said of one exposure twice is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.formats.ctf import cryosparc, ctffind, gctf, relion
from cryoscout.formats.leginon import exports as leginon_exports
from cryoscout.formats.records import EXPOSURE_COLUMNS, HOLE_COLUMNS, SourceRecords
from cryoscout.formats.smartscope import records as smartscope
from cryoscout.intake.assemble import assemble
from cryoscout.intake.assemble_ctf import Results, with_results
from cryoscout.session.store import SessionStore
from cryoscout.session.store_update import changes_between
from cryoscout.session.tables import CTF_COLUMNS, empty_table
from examples import share

NAN, INF = float("nan"), float("inf")
IDS = ("e0", "e1", "e2", "e3")


def table(values, **columns):
    """A `ctf` table.     values : name -> resolution     columns : further ones, a value for each name"""
    made = pd.DataFrame({"name": list(values), "ctf_max_res_angstrom": list(values.values()), **columns})
    return made.assign(line=pd.array(range(1, len(made) + 1), dtype="Int64"))


def results(values, name="micrographs_ctf.star", format_name="relion", **columns):
    return SourceRecords(format=format_name, path=Path("/data") / name, ctf=table(values, **columns))


def session(*sources, stored=None):
    return assembled(*sources, stored=stored).session


def assembled(*sources, stored=None):
    """Four exposures, one in each hole, with these results."""
    exposures = pd.DataFrame(
        [(name, f"h{name}", "s", "g", "", pd.NaT, NAN, NAN, NAN, NAN) for name in IDS],
        columns=list(EXPOSURE_COLUMNS),
    )
    holes = pd.DataFrame(
        [(f"h{name}", "p", "s", "g", *(NAN,) * 4, pd.NA) for name in IDS], columns=list(HOLE_COLUMNS)
    )
    exposures["started_at"] = exposures["started_at"].astype("datetime64[ns]")
    return assemble(
        [SourceRecords("epu", Path("/data/run"), holes=holes, exposures=exposures), *sources], stored
    )


def runs(one, *columns):
    table = one.ctf_runs if hasattr(one, "ctf_runs") else one
    columns = columns or ("exposure_id", "run", "source", "ctf_max_res_angstrom", "taken")
    rows = table[list(columns)].astype(object)
    return [tuple(row) for row in rows.where(rows.notna(), None).to_numpy().tolist()]


def resolutions(one):
    values = zip(
        one.exposures["exposure_id"],
        one.exposures["outcome"],
        one.exposures["ctf_max_res_angstrom"],
        strict=True,
    )
    return {name: value if outcome == "measured" else outcome for name, outcome, value in values}


@pytest.mark.parametrize("module", [cryosparc, ctffind, gctf, leginon_exports, relion, smartscope])
def test_every_number_that_a_reader_gives_has_its_column(module):
    fields = getattr(module, "CTF_FIELDS", None) or module.FIELDS
    columns = {column for column, _ in fields.values()}
    if module is leginon_exports:
        columns |= {"resolution_80_angstrom", "resolution_50_angstrom", "resolution_package_angstrom"}
    assert columns <= set(CTF_COLUMNS)


def test_every_column_of_a_result_is_kept_numbers_as_numbers_and_texts_as_texts():
    one = session(
        results(
            {"e1": 4.5, "e3_Fractions": INF, "e0": 999.0, "gone": 3.0},
            defocus_u_um=[1.25, None, NAN, 1.0],
            ice_thickness_nm=[21.0, -INF, "thin", 1.0],
            rlnOpticsGroup=["1", None, "2", "3"],
            score=[0.5, NAN, 0.25, 0.125],
        )
    )
    assert runs(one) == [
        ("e0", 1, "micrographs_ctf.star", 999.0, True),
        ("e1", 1, "micrographs_ctf.star", 4.5, True),
        ("e3", 1, "micrographs_ctf.star", None, True),
    ]
    assert runs(one, "reader", "line", "defocus_u_um", "ice_thickness_nm") == [
        ("relion", 3, None, None), ("relion", 1, 1.25, 21.0), ("relion", 2, None, None),
    ]  # fmt: skip
    assert [json.loads(text) for text in one.ctf_runs["fields"]] == [
        {"ice_thickness_nm": "thin", "rlnOpticsGroup": "2", "score": "0.25"},
        {"rlnOpticsGroup": "1", "score": "0.5"},
        {"ice_thickness_nm": "-inf", "name": "e3_Fractions"},
    ]
    assert resolutions(one) == {"e0": "failed", "e1": 4.5, "e2": "pending", "e3": "failed"}
    assert one.exposures_with_ctf()["defocus_u_um"].tolist()[1] == 1.25


def test_of_several_runs_all_are_kept_and_the_best_counts():
    made = assembled(
        results({"e0": 5.0, "e1": INF, "e2": 3.0}),
        results({"e0": 4.0, "e1": INF, "e2": 3.0}, "run2.star"),
        results({"e0": 4.0, "e1": 9.0}, "ctf", "ctffind"),
    )
    assert runs(made.session) == [
        ("e0", 1, "micrographs_ctf.star", 5.0, False),
        ("e0", 2, "run2.star", 4.0, True),
        ("e0", 3, "ctf", 4.0, False),
        ("e1", 1, "micrographs_ctf.star", None, False),
        ("e1", 2, "run2.star", None, False),
        ("e1", 3, "ctf", 9.0, True),
        ("e2", 1, "micrographs_ctf.star", 3.0, True),
        ("e2", 2, "run2.star", 3.0, False),
    ]
    assert resolutions(made.session) == {"e0": 4.0, "e1": 9.0, "e2": 3.0, "e3": "pending"}
    assert made.notes == ["3 exposures have several CTF runs; all are kept, and the best resolution counts"]


def test_runs_that_a_reader_did_not_choose_are_kept_and_never_count():
    source = replace(
        results({"e1": 5.0}, "ctf.dat", "leginon-export"), further_ctf=table({"e1": 3.0, "e2": 4.0})
    )
    one = session(source)
    assert runs(one) == [
        ("e1", 1, "ctf.dat", 5.0, True), ("e1", 2, "ctf.dat", 3.0, False), ("e2", 1, "ctf.dat", 4.0, False),
    ]  # fmt: skip
    assert resolutions(one) == {"e0": "pending", "e1": 5.0, "e2": "pending", "e3": "pending"}
    assert session(source, stored=one).ctf_runs.equals(one.ctf_runs)


def test_a_further_run_of_a_later_import_is_added_and_the_best_is_chosen_again():
    stored = session(results({"e0": 5.0, "e1": 5.0, "e2": INF, "e3": 4.0}))
    made = assembled(results({"e0": 4.0, "e1": 6.0, "e2": 9.0, "e3": INF}, "job9.star"), stored=stored)
    assert resolutions(made.session) == {"e0": 4.0, "e1": 5.0, "e2": 9.0, "e3": 4.0}
    assert runs(made.session, "exposure_id", "run", "taken") == [
        ("e0", 1, False), ("e0", 2, True), ("e1", 1, True), ("e1", 2, False),
        ("e2", 1, False), ("e2", 2, True), ("e3", 1, True), ("e3", 2, False),
    ]  # fmt: skip
    assert made.notes == ["4 exposures have several CTF runs; all are kept, and the best resolution counts"]
    parts = {each["part"]: each for each in changes_between(stored, made.session)}
    assert parts["better"]["columns"]["exposure_id"] == ["e0", "e2"]
    assert parts["taken"]["columns"] == {"exposure_id": ["e0", "e2"], "run": [2, 2]}


def test_a_result_that_is_another_one_now_is_a_further_run_and_the_report_says_so():
    stored = session(results({"e0": 3.0, "e1": 4.0, "e2": INF}, defocus_u_um=[1.0, 1.0, 1.0]))
    made = assembled(results({"e0": 9.0, "e1": 4.0, "e2": INF}, defocus_u_um=[1.0, 1.5, 1.0]), stored=stored)
    assert resolutions(made.session) == {"e0": 3.0, "e1": 4.0, "e2": "failed", "e3": "pending"}
    assert runs(made.session, "exposure_id", "run", "ctf_max_res_angstrom", "defocus_u_um", "taken") == [
        ("e0", 1, 3.0, 1.0, True), ("e0", 2, 9.0, 1.0, False), ("e1", 1, 4.0, 1.0, True), ("e1", 2, 4.0, 1.5, False),
        ("e2", 1, None, 1.0, True),
    ]  # fmt: skip
    assert made.notes[0] == (
        "micrographs_ctf.star: 2 exposures have another CTF result than before, such as e0 (3 angstrom before, now "
        "9 angstrom); it is kept as a further run"
    )
    again = assembled(
        results({"e0": 9.0, "e1": 4.0, "e2": INF}, defocus_u_um=[1.0, 1.5, 1.0]), stored=made.session
    )
    assert again.notes == []
    assert changes_between(made.session, again.session) == []
    failed = assembled(results({"e0": INF}), stored=stored)
    assert "such as e0 (3 angstrom before, now a failed fit)" in failed.notes[0]


def test_lines_may_move_and_columns_change_places_without_a_further_run():
    stored = session(results({"e0": 3.0, "e1": 4.0}, a=["1", "2"], b=["x", "y"]))
    moved = session(results({"e1": 4.0, "e0": 3.0}, b=["y", "x"], a=["2", "1"]), stored=stored)
    assert changes_between(stored, moved) == []


def test_what_comes_back_from_a_store_is_known_again(tmp_path):
    source = results(
        {"e0": 1 / 3, "e1": INF}, tilt_angle_deg=[-0.0, -NAN], defocus_u_um=[1e-17, None], a=["ü", None]
    )
    with SessionStore.create(tmp_path / "run.session") as store:
        store.save_import(session(source), "run")
        stored = store.load()
    assert changes_between(stored, session(source, stored=stored)) == []


def without_runs(one):
    """As a version that kept no runs has stored it."""
    return replace(one, ctf_runs=one.ctf_runs.head(0))


def test_a_result_that_was_stored_without_its_run_is_the_one_that_is_found_again():
    stored = without_runs(session(results({"e0": 3.0, "e1": INF, "e2": 5.0})))
    made = assembled(results({"e0": 3.0, "e1": INF, "e2": 4.0}), stored=stored)
    assert runs(made.session) == [
        ("e0", 1, "micrographs_ctf.star", 3.0, True),
        ("e1", 1, "micrographs_ctf.star", None, True),
        ("e2", 1, "", 5.0, False),
        ("e2", 2, "micrographs_ctf.star", 4.0, True),
    ]
    assert resolutions(made.session)["e2"] == 4.0
    worse = assembled(results({"e0": 9.0, "e1": INF}), stored=stored)
    assert runs(worse.session) == [
        ("e0", 1, "", 3.0, True),
        ("e0", 2, "micrographs_ctf.star", 9.0, False),
        ("e1", 1, "micrographs_ctf.star", None, True),
    ]
    assert changes_between(stored, worse.session)


VALUES = st.sampled_from([2.0, 3.5, 3.5000000001, 99.0, 100.0, 100000.0, INF])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a.star", "b.star"]), st.dictionaries(st.sampled_from(IDS), VALUES, max_size=3)
    ),
    max_size=3,
)


PENDING = pd.DataFrame({"exposure_id": list(IDS), "outcome": "pending", "ctf_max_res_angstrom": NAN})


@settings(max_examples=share(40, otherwise=100))
@given(STEPS)
def test_in_steps_or_at_once_the_best_of_all_runs_counts_and_none_is_lost(steps):
    made = Results(PENDING, empty_table("ctf_runs"))
    said = []
    for name, values in steps:
        made = with_results(made.exposures, [results(values, name)], made.runs)
        # As runs are stored: infinity as NaN, which no set can tell.
        said += [(key, name, None if np.isinf(value) else value) for key, value in values.items()]
    assert {row[:3] for row in runs(made.runs, "exposure_id", "source", "ctf_max_res_angstrom")} == set(said)
    for key, result in resolutions(made).items():
        mine = [INF if value is None or value >= 100 else value for each, _, value in said if each == key]
        best = min(mine, default=None)
        assert result == ("pending" if best is None else "failed" if best == INF else best)
        taken = made.runs[(made.runs["exposure_id"] == key) & made.runs["taken"].astype(bool)]
        assert len(taken) == bool(mine)
    for name, values in steps:
        again = with_results(made.exposures, [results(values, name)], made.runs)
        assert (again.runs.equals(made.runs), again.notes) == (True, [])
    at_once = with_results(
        PENDING, [results(values, name) for name, values in steps], empty_table("ctf_runs")
    )
    assert resolutions(at_once) == resolutions(made)
    order = ["exposure_id", "run"]
    assert runs(at_once.runs.sort_values(order)) == runs(made.runs.sort_values(order))
