"""Which runs can stand beside an exposure, and which of them can be its result."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cryoscout.core.errors import DataError
from cryoscout.session.ctf_runs import has_failed
from cryoscout.session.model import Session, SessionInfo, session_from_holes
from cryoscout.session.tables import CTF_COLUMNS
from hidden_outcomes import with_outcomes_hidden

NAN = float("nan")


def session_with(*runs):
    """Exposures e1 (3.5 angstrom), e2 (failed), e3 (pending); runs: exposure, number, resolution, taken."""
    ids = ["1", "2", "3"]
    holes = pd.DataFrame(
        {"hole_id": ids, "patch_id": "p", "square_id": "s", "grid_id": "g", "x_px": NAN, "y_px": NAN}
    )
    exposures = pd.DataFrame(
        {
            "exposure_id": ["e1", "e2", "e3"],
            "hole_id": ids,
            "shot": 1,
            "started_at": pd.NaT,
            "outcome": ["measured", "failed", "pending"],
            "ctf_max_res_angstrom": [3.5, NAN, NAN],
        }
    )
    rows = pd.DataFrame(list(runs), columns=["exposure_id", "run", "ctf_max_res_angstrom", "taken"])
    rows = rows.assign(
        source="a.star", reader="relion", fields="{}", figure_of_merit=np.arange(len(rows)) / 8
    )
    return session_from_holes("run", SessionInfo(format="epu"), holes, exposures, {"ctf_runs": rows})  # fmt: skip


def test_a_fit_failed_at_a_hundred_angstrom_and_where_it_was_infinite():
    assert has_failed(np.array([99.9, 100.0, 999.0, NAN])).tolist() == [False, True, True, True]


def test_runs_stand_in_the_order_of_their_exposures_and_the_one_taken_gives_its_columns():
    runs = (("e2", 1, NAN, False), ("e1", 2, 3.5, True), ("e1", 1, 9.0, False), ("e2", 2, 100000.0, True))
    session = session_with(*runs)
    assert session.ctf_runs[["exposure_id", "run"]].to_numpy().tolist() == [
        ["e1", 1], ["e1", 2], ["e2", 1], ["e2", 2],
    ]  # fmt: skip
    found = session.exposures_with_ctf()
    assert list(found.columns) == [*session.exposures.columns, *CTF_COLUMNS]
    np.testing.assert_array_equal(found["figure_of_merit"], [1 / 8, 3 / 8, NAN])
    assert found["defocus_u_um"].isna().all()


def test_without_runs_the_columns_are_there_and_unknown():
    found = session_with().exposures_with_ctf()
    assert len(found) == 3
    assert found[list(CTF_COLUMNS)].isna().all(axis=None)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([("e9", 1, 3.5, False)], r"ctf_runs\.exposure_id must name a row of its parent table\. Got 'e9'"),
        ([("e1", 0, 3.5, False)], r"numbered from 1, each number once\. Got run 0 of 'e1' \(3\.5 angstrom\)"),
        (
            [("e1", 1, 3.5, False), ("e1", 1, 4.5, False)],
            r"numbered from 1, each number once\. Got run 1 of 'e1'",
        ),
        ([("e1", 1, 0.0, False)], r"of a resolution above 0 angstrom\. Got run 1 of 'e1' \(0 angstrom\)"),
        ([("e1", 1, 3.5, True), ("e1", 2, 3.5, True)], r"taken once for an exposure\. Got run 2 of 'e1'"),
        ([("e1", 1, 4.5, True)], r"the result of its exposure where it is taken\. Got run 1 of 'e1' \(4\.5"),
        ([("e1", 1, NAN, True)], r"the result of its exposure where it is taken\. Got run 1 of 'e1' \(nan"),
        ([("e2", 1, 3.5, True)], r"the result of its exposure where it is taken\. Got run 1 of 'e2'"),
        ([("e3", 1, 3.5, True)], r"the result of its exposure where it is taken\. Got run 1 of 'e3'"),
    ],
)
def test_a_run_that_fits_no_exposure_or_result_is_refused(runs, message):
    with pytest.raises(DataError, match=message):
        session_with(*runs)


def test_runs_go_with_their_exposures_and_are_hidden_with_them():
    session = session_with(("e1", 1, 3.5, True), ("e2", 1, NAN, True))
    part = session.subset(np.array([False, True, True]), "part")
    assert part.ctf_runs["exposure_id"].tolist() == ["e2"]
    assert with_outcomes_hidden(session).ctf_runs.empty
    assert isinstance(part, Session)
