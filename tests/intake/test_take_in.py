"""Imports into a stored session that come at the same time."""

from __future__ import annotations

import pytest

from cryoscout.core.telling import SILENT
from cryoscout.intake import take_in
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.take_in import Sources, update_session
from cryoscout.session.model import session_without_rows
from cryoscout.session.store import SessionStore

TABLES = {
    "a.csv": "grid,square,hole,name,ctf\ng,s1,h1,m1.mrc,3.5\ng,s1,h2,m2.mrc,4.5\n",
    "b.csv": "grid,square,hole,name,ctf\ng,s1,h2,m2.mrc,4.5\ng,s1,h3,m3.mrc,5.5\n",
}


def table(tmp_path, name):
    path = tmp_path / name
    path.write_text(TABLES[name])
    return Sources([path], [], ReadOptions(), name)


@pytest.mark.parametrize("second", [pytest.param("a.csv", marks=pytest.mark.slow), "b.csv"])
def test_of_two_first_imports_at_once_the_later_one_adds_what_is_new(tmp_path, monkeypatch, second):
    place = tmp_path / "night.session"
    with SessionStore.create(place) as store:
        store.save_import(session_without_rows("night"), source="nothing yet")
    read = take_in.read_session

    def read_while_another_comes(sources, telling):
        monkeypatch.setattr(take_in, "read_session", read)
        update_session(place, table(tmp_path, "a.csv"), SILENT)
        return read(sources, telling)

    monkeypatch.setattr(take_in, "read_session", read_while_another_comes)
    update_session(place, table(tmp_path, second), SILENT)
    with SessionStore.open(place) as store:
        session = store.load()
    wanted = ["h1", "h2"] if second == "a.csv" else ["h1", "h2", "h3"]
    assert session.holes["hole_id"].tolist() == wanted
    assert session.exposures["exposure_id"].tolist() == [f"m{hole[1]}" for hole in wanted]
    assert session.name == "night"
