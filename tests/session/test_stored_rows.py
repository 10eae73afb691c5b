"""Single rows of a store, and a few changes written in the transaction in which they were found out."""

from __future__ import annotations

import pandas as pd
import pytest
from store_examples import full_session

from cryoscout.session.store import SessionStore


@pytest.fixture
def store(tmp_path):
    with SessionStore.create(tmp_path / "small.session") as made:
        made.save_import(full_session(), "by hand")
        yield made


def looked_up(store, look):
    """What a function says of the stored rows; nothing is written."""
    found = []
    payloads, newest = store.save_changes(lambda rows: found.append(look(rows)) or [], "looking")
    assert payloads == []
    assert newest == list(store.events())[-1].id
    return found[0]


def test_rows_are_those_of_the_loaded_session(store):
    session = store.load()
    before = len(list(store.events()))
    for table, column in (("holes", "hole_id"), ("exposures", "hole_id"), ("ctf_runs", "exposure_id")):
        for value in getattr(session, table)[column].unique():
            whole = getattr(session, table)
            expected = whole[whole[column] == value].reset_index(drop=True)
            found = looked_up(store, lambda rows, at=(table, column, value): rows.frame(*at[:2], [at[2]]))
            pd.testing.assert_frame_equal(found, expected)
    assert len(list(store.events())) == before


def test_of_many_values_each_row_comes_once_and_in_its_order(store):
    ids = [f"x{number}" for number in range(1200)] + ["h3", "h1", "h1"]
    rows = looked_up(store, lambda rows: rows.where("holes", "hole_id", ids))
    assert [row["hole_id"] for row in rows] == ["h1", "h3"]
    assert looked_up(store, lambda rows: rows.where("holes", "hole_id", [])) == []
    assert len(looked_up(store, lambda rows: rows.frame("holes", "hole_id", ["nowhere"]))) == 0


def test_counts_are_those_of_the_loaded_session(store):
    session = store.load()
    assert (
        looked_up(store, lambda rows: rows.timed_exposures()) == session.exposures["started_at"].notna().sum()
    )
    assert looked_up(store, lambda rows: rows.info()) == session.info
    assert looked_up(store, lambda rows: rows.provenance()) == set(
        session.provenance.itertuples(index=False, name=None)
    )


def test_changes_are_written_as_events_and_folded(store):
    payload = {"part": "info", "changes": {"shots": 7}}
    payloads, newest = store.save_changes(lambda _: [payload], "more shots")
    assert payloads == [payload]
    assert store.load().info.shots == 7
    events = list(store.events(kind="imported"))
    assert [event.payload for event in events[-2:]] == [{"part": "again", "source": "more shots"}, payload]
    assert events[-1].id == newest
    store.rebuild()
    assert store.load().info.shots == 7


def test_nothing_is_written_where_finding_out_fails(store):
    before = len(list(store.events()))

    def fails(rows):
        rows.info()
        raise KeyError("h1")

    with pytest.raises(KeyError):
        store.save_changes(fails, "failing")
    assert len(list(store.events())) == before
    store.append("planned", {"holes": []})


def test_the_newest_event_of_a_kind_is_known(store):
    imported = list(store.events(kind="imported"))[-1].id
    store.append("planned", {"holes": []})
    assert looked_up(store, lambda rows: rows.last_event("imported")) == imported
    assert looked_up(store, lambda rows: rows.last_event()) == imported + 1
    assert looked_up(store, lambda rows: rows.last_event("measured")) == 0
