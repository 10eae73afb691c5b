"""Sessions and comparisons that the tests of the store share."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pandas as pd

from cryoscout.session.model import Session, SessionInfo
from cryoscout.session.place import DATABASE
from cryoscout.session.tables import TABLES
from cryoscout.session.vendor_fields import packed

NAN = float("nan")


def small_session():
    """Hand-made: two patches, three holes, one imaged; odd characters on purpose."""
    return Session(
        "small",
        SessionInfo(format="hand-made", shots=2),
        pd.DataFrame({"grid_id": ["g"]}),
        pd.DataFrame({"square_id": ["s"], "grid_id": ["g"]}),
        pd.DataFrame({"patch_id": ["p/1", "p 2ü"], "square_id": ["s", "s"]}),
        pd.DataFrame(
            {
                "hole_id": ["h1", "h2", "h3"],
                "patch_id": ["p/1", "p/1", "p 2ü"],
                "x_px": [0.1, NAN, 1e-17],
                "y_px": [1.0, 2.0, 3.0],
                "image_row": pd.array([1, 0, None], dtype="Int64"),
            }
        ),
        pd.DataFrame(
            {
                "exposure_id": ["e1", "e2"],
                "hole_id": ["h1", "h2"],
                "shot": [1, 1],
                "started_at": pd.to_datetime(["2024-01-01 10:00:00.123456789", None]),
                "outcome": ["measured", "none"],
                "ctf_max_res_angstrom": [3.3, NAN],
            }
        ),
        provenance=pd.DataFrame({"table": ["holes"], "field": ["x_px"], "file": ["f"], "reader": ["hand"]}),
    )


def full_session():
    """The small session with everything that a later schema brought."""
    runs = pd.DataFrame(
        {
            "exposure_id": ["e1", "e1", "e1"],
            "run": [1, 2, 3],
            "source": ["a.star", "b.star", "b.star"],
            "reader": "relion",
            "ctf_max_res_angstrom": [3.3, NAN, 999.0],
            "taken": [True, False, False],
            "defocus_u_um": [1.1, NAN, 1e-17],
            "line": pd.array([7, None, 9], dtype="Int64"),
            "fields": ["{}", '{"rlnMicrograph": "ü\\n"}', "{}"],
        }
    )
    fields = packed({"h1": {"Nöte": "a\nb"}, "an area": {"": ""}}, "run", "epu")
    small = small_session()
    chosen = pd.array([True, False, None], dtype="boolean")
    return replace(small, holes=small.holes.assign(chosen=chosen), ctf_runs=runs, vendor_fields=fields)


def assert_same(one, other):
    assert (one.name, one.info) == (other.name, other.info)
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(one, table), getattr(other, table))


def dump(path):
    """Every row of every table of the database but the events."""
    with closing(sqlite3.connect(path / DATABASE)) as database:
        return {
            table: database.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()  # noqa: S608
            for table in (*TABLES, "session")
        }
