import json
import shutil
import sqlite3
import zlib
from contextlib import closing
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from store_examples import NAN, assert_same, dump, full_session, small_session

from cryoscout.core.errors import DataError, InputError, StoreError, UnknownNameError
from cryoscout.session import store_database, store_events
from cryoscout.session.builtin import load_builtin
from cryoscout.session.named import load_session
from cryoscout.session.place import DATABASE
from cryoscout.session.replacing import COMPLETE
from cryoscout.session.store import SessionStore
from cryoscout.session.store_layout import METADATA
from cryoscout.session.store_schema import SCHEMA_VERSION
from cryoscout.session.tables import CTF_COLUMNS, TABLES
from cryoscout.session.vendor_fields import packed
from examples import share
from hidden_outcomes import with_outcomes_hidden


def p_good_rows(p_good, at):
    return pd.DataFrame(
        {
            "hole_id": ["h1", "h2", "h3"],
            "model_id": "m",
            "threshold_angstrom": 6.0,
            "p_good": p_good,
            "ctf_predicted_angstrom": NAN,
            "predicted_at": pd.Timestamp(at),
        }
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "small.session"


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """The small session in a store, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "small.session"
    with SessionStore.create(folder) as store:
        store.save_import(small_session(), "by hand")
    return folder


@pytest.fixture
def store(made_once, path):
    with SessionStore.open(shutil.copytree(made_once, path)) as store:
        yield store


def test_a_session_comes_back_as_it_was_saved(store, path):
    assert_same(store.load(), small_session())
    with SessionStore.open(path) as again:
        assert_same(again.load(), small_session())


NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)


@settings(max_examples=share(25))
@given(
    chosen=st.lists(st.sampled_from([True, False, None]), min_size=3, max_size=3),
    runs=st.lists(
        st.tuples(
            st.sampled_from(["e1", "e2"]),
            st.none() | st.floats(min_value=1e-6, allow_nan=False, allow_infinity=False),
            st.dictionaries(st.sampled_from(CTF_COLUMNS), NUMBERS, max_size=3),
            st.dictionaries(TEXTS, TEXTS, max_size=2),
        ),
        max_size=6,
    ),
    records=st.dictionaries(TEXTS.filter(bool), st.dictionaries(TEXTS, TEXTS, max_size=4), max_size=5),
    taken=st.booleans(),
)
def test_any_session_comes_back_as_it_was_saved(tmp_path_factory, chosen, runs, records, taken):
    rows = pd.DataFrame(
        [
            {"exposure_id": exposure_id, "run": number, "source": "a", "reader": "b", "taken": False,
             "ctf_max_res_angstrom": resolution, "fields": json.dumps(fields), **columns}
            for number, (exposure_id, resolution, columns, fields) in enumerate(runs, start=1)
        ],
        columns=list(TABLES["ctf_runs"]),
    )  # fmt: skip
    rows = rows.astype({"taken": "bool"})
    mine = rows.index[rows["exposure_id"] == "e1"]
    if taken and len(mine):
        rows.loc[mine[0], ["taken", "ctf_max_res_angstrom"]] = [True, 3.3]
    small = small_session()
    session = replace(
        small,
        holes=small.holes.assign(chosen=pd.array(chosen, dtype="boolean")),
        ctf_runs=rows,
        vendor_fields=packed(records, "source", "reader"),
    )
    with SessionStore.create(tmp_path_factory.mktemp("any") / "any.session") as store:
        store.save_import(session, "by hand")
        assert_same(store.load(), session)


def test_columns_without_any_value_stand_in_no_event(store):
    columns = {
        event.payload["table"]: set(event.payload["columns"])
        for event in store.events(kind="imported")
        if event.payload["part"] == "rows"
    }
    assert columns["holes"] == {"hole_id", "patch_id", "x_px", "y_px", "image_row"}
    assert columns["squares"] == {"square_id", "grid_id"}
    assert columns.keys().isdisjoint(("ctf_runs", "vendor_fields"))


def test_a_result_that_is_recorded_later_is_none_of_the_runs(path):
    with SessionStore.create(path) as store:
        store.save_import(full_session(), "by hand")
        store.record_outcome("e1", 5.0)
        for _ in range(2):
            session = store.load()
            assert session.exposures["ctf_max_res_angstrom"].tolist()[0] == 5.0
            assert session.ctf_runs["taken"].tolist() == [False, False, False]
            assert len(session.ctf_runs) == 3
            store.rebuild()


def test_a_whole_built_in_session_comes_back_as_it_was_saved(path):
    session = load_builtin("y1", "all")
    with SessionStore.create(path) as store:
        store.save_import(session, "y1")
        assert_same(store.load(), session)


def test_tables_of_many_chunks_come_back_whole(path, monkeypatch):
    monkeypatch.setattr(store_events, "ROWS_PER_EVENT", 100)
    session = load_builtin("y1")
    with SessionStore.create(path) as store:
        store.save_import(session, "y1")
        holes = [e for e in store.events(kind="imported") if e.payload.get("table") == "holes"]
        assert [len(event.payload["columns"]["hole_id"]) for event in holes] == [100] * 10 + [74]
        assert_same(store.load(), session)


def test_nothing_stands_at_the_place_until_the_import_ends(path):
    store = SessionStore.create(path)
    assert not path.exists()
    with pytest.raises(StoreError, match=r"must hold a session.*still empty"):
        store.load()
    store.save_import(small_session(), "by hand")
    store.close()
    assert (path / COMPLETE).is_file()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_store_that_was_never_filled_leaves_nothing_behind(path):
    with SessionStore.create(path):
        pass
    assert list(path.parent.iterdir()) == []


def test_a_second_import_is_refused(store):
    with pytest.raises(StoreError, match="must be imported into once"):
        store.save_import(small_session(), "again")
    assert_same(store.load(), small_session())


def test_an_existing_store_is_kept_unless_forced(store, path):
    with pytest.raises(
        StoreError, match=r"must get a new place.*-o, or add to it with cryoscout import --update"
    ):
        SessionStore.create(path)
    with SessionStore.create(path, force=True):
        pass
    assert_same(store.load(), small_session())
    with SessionStore.create(path, force=True) as other:
        other.save_import(with_outcomes_hidden(small_session()), "new")
    with SessionStore.open(path) as replaced:
        assert not replaced.load().imaged_by_hole().any()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_folder_that_is_no_store_is_never_replaced(path):
    path.mkdir()
    (path / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match=r"Only a session store may be replaced.*holds no session\.db"):
        SessionStore.create(path, force=True)
    assert (path / "thesis.txt").read_text() == "precious"


def test_a_half_written_store_is_refused_and_left_untouched(store, path):
    store.close()
    (path / COMPLETE).unlink()
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(StoreError, match=r"must be complete\. Got .*whose import never ended.*left as it is"):
        SessionStore.open(path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_a_missing_store_names_the_command_that_makes_one(path):
    with pytest.raises(StoreError, match=r"must be a folder NAME\.session\. Got .*cryoscout import"):
        SessionStore.open(path)


def test_a_newer_schema_is_refused_and_left_untouched(store, path):
    store.close()
    with closing(sqlite3.connect(path / DATABASE)) as database:
        database.execute("UPDATE schema_version SET version = 99")
        database.commit()
    before = dump(path)
    with pytest.raises(StoreError, match=r"must be 6 or older\. Got 99 in .*update cryoscout"):
        SessionStore.open(path)
    assert dump(path) == before


def test_a_damaged_database_is_refused(store, path):
    store.close()
    (path / DATABASE).write_bytes(b"not a database, far from it" * 100)
    with pytest.raises(StoreError, match="cannot be read"):
        SessionStore.open(path)


CANNOT_BE_READ = (
    r"must be a session store\. Got a damaged database, which cannot be read, instead .*Remedy: restore it"
)


def changed_by_hand(path, *statements):
    with closing(sqlite3.connect(path / DATABASE)) as connection, connection:
        for statement, *values in statements:
            connection.execute(statement, values)


@pytest.mark.parametrize("seed", range(4))
def test_overwritten_pages_of_a_database_raise_nothing_but_errors_with_a_remedy(store, path, seed):
    store.close()
    content = bytearray((path / DATABASE).read_bytes())
    rng = np.random.default_rng(seed)
    for page in rng.choice(np.arange(1, len(content) // 4096), 10, replace=False):
        content[page * 4096 : (page + 1) * 4096] = rng.bytes(4096)
    (path / DATABASE).write_bytes(content)
    refused = 0
    for action in ("load", "events", "files", "rebuild"):
        try:
            with SessionStore.open(path) as damaged:
                done = getattr(damaged, action)()
                list(done if action == "events" else ())
        except StoreError as error:
            refused += "Got a damaged database" in str(error)
    assert refused > 0


@pytest.mark.parametrize(
    ("statement", "action"),
    [
        (("DROP TABLE holes",), lambda store: store.load()),
        (("DROP TABLE files",), lambda store: store.files()),
        (("DROP TABLE exposures",), lambda store: store.record_outcome("e1", 3.0)),
        (('UPDATE session SET info = \'{"format": "epu", "colour": 1}\'',), lambda store: store.load()),
        (("UPDATE session SET info = '{'",), lambda store: store.load()),
        (("UPDATE session SET info = '{'",), lambda store: store.record_imaged("h2")),
        (("UPDATE holes SET x_px = 'left'",), lambda store: store.load()),
        (
            ("INSERT INTO events (id, kind, at, payload) VALUES (99, 'error', '', ?)", b"?"),
            lambda store: list(store.events()),
        ),
        (
            ("INSERT INTO events (id, kind, at, payload) VALUES (99, 'error', '', ?)", zlib.compress(b"{")),
            lambda store: store.rebuild(),
        ),
    ],
)
def test_what_cannot_be_read_in_a_store_is_one_error_with_a_remedy(store, path, statement, action):
    store.close()
    changed_by_hand(path, statement)
    with SessionStore.open(path) as damaged, pytest.raises(StoreError, match=CANNOT_BE_READ):
        action(damaged)


def test_a_refused_database_keeps_its_journal_mode(store, path):
    store.close()
    changed_by_hand(path, ("UPDATE schema_version SET version = 1000",))
    with closing(sqlite3.connect(path / DATABASE)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    before = (path / DATABASE).read_bytes()
    with pytest.raises(StoreError, match="Got 1000 in"):
        SessionStore.open(path)
    assert (path / DATABASE).read_bytes() == before
    changed_by_hand(path, ("UPDATE schema_version SET version = ?", SCHEMA_VERSION))
    with SessionStore.open(path) as opened:
        opened.load()
    with closing(sqlite3.connect(path / DATABASE)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_replacement_that_was_killed_names_where_the_old_store_lies(store, path, monkeypatch):
    # Nobody puts it back in the meantime.
    monkeypatch.setattr("cryoscout.session.replacing._EXCHANGE_S", 0.1)
    store.close()
    aside = path.with_name(f".{path.name}.partial-abc.replaced")
    path.rename(aside)
    for opening in (SessionStore.open, lambda place: load_session(str(place))):
        with pytest.raises(
            StoreError, match=rf"was set aside as {aside}.*Remedy: rename {aside} back to {path}"
        ):
            opening(path)
    aside.rename(path)
    with SessionStore.open(path) as restored:
        assert_same(restored.load(), small_session())


def test_a_network_file_system_is_refused(path, monkeypatch, tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text("server:/ / nfs4 rw 0 0\n")
    monkeypatch.setattr("cryoscout.session.file_systems._MOUNTS", mounts)
    with pytest.raises(StoreError, match=r"nfs4.*--store-dir"):
        SessionStore.create(path)


@pytest.mark.parametrize("statement", ["UPDATE events SET kind = 'error'", "DELETE FROM events WHERE id = 1"])
def test_events_can_be_added_but_never_changed(store, path, statement):
    store.append("error", {"message": "lost beam"})
    with (
        closing(sqlite3.connect(path / DATABASE)) as database,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        database.execute(statement)
    assert next(store.events(kind="error")).payload == {"message": "lost beam"}


def test_a_delayed_outcome_is_pending_first_and_measured_later(store):
    exposure_id = store.record_imaged("h3", pd.Timestamp("2024-01-01 11:00"), shot=2)
    session = store.load()
    assert session.counts()["outcomes"]["pending"] == 1
    assert np.isnan(session.good_by_hole(6.0)[2])
    store.record_outcome(exposure_id, 4.5)
    assert store.load().good_by_hole(6.0)[2] == 1
    assert [event.kind for event in store.events()][-2:] == ["imaged", "measured"]


def test_a_planned_shot_becomes_the_vendors_exposure(store):
    store.record_imaged("h2", exposure_id="vendor-2")
    assert store.load().exposures["exposure_id"].tolist() == ["e1", "vendor-2"]


def test_a_failed_fit_is_recorded_as_failed_and_a_later_fit_replaces_it(store):
    exposure_id = store.record_imaged("h2")
    store.record_outcome(exposure_id, float("inf"))
    assert store.load().good_by_hole(6.0)[1] == 0
    assert store.load().counts()["outcomes"]["failed"] == 1
    store.record_outcome(exposure_id, 5.0)
    assert store.load().good_by_hole(6.0)[1] == 1


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (lambda store: store.record_imaged("h9"), r"of a hole of the session\. Got shot 1 of 'h9'"),
        pytest.param(
            lambda store: store.record_imaged("h1", shot=3),
            r"must be a shot \(1 to 2\).*Got shot 3",
            marks=pytest.mark.slow,
        ),
        (
            lambda store: store.record_imaged("h1", exposure_id="other"),
            r"must be imaged once\. Got shot 1 of hole 'h1' again",
        ),
        (
            lambda store: store.record_imaged("h3", exposure_id="e1"),
            r"must be of one shot\. Got 'e1' for shot 1 of 'h3', which is shot 1 of 'h1'",
        ),
        pytest.param(
            lambda store: store.record_outcome("e9", 4.0),
            r"exposure that was taken\. Got 'e9'",
            marks=pytest.mark.slow,
        ),
        (lambda store: store.record_outcome("e2", 4.0), r"exposure that was taken\. Got 'e2'"),
        (lambda store: store.record_outcome("e1", -1.0), r"above 0 angstrom\. Got -1\.0"),
        pytest.param(
            lambda store: store.record_outcome("e1", NAN),
            r"above 0 angstrom\. Got nan",
            marks=pytest.mark.slow,
        ),
        (lambda store: store.append("measured", {}), r"must have 'exposure_id'"),
        (lambda store: store.append("planned", {"minutes": NAN}), r"must be plain JSON"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_and_not_written(store, record, message):
    before = len(list(store.events()))
    with pytest.raises(InputError, match=message):
        record(store)
    assert len(list(store.events())) == before
    assert_same(store.load(), small_session())


def test_rows_that_do_not_fit_together_are_refused_and_not_written(store):
    before = len(list(store.events()))
    twice = {"exposure_id": "e1", "hole_id": "h3", "shot": 1, "started_at": None}
    with pytest.raises(StoreError, match=r"must fit together.*exposure_id.*nothing was written"):
        store.append("imaged", twice)
    assert len(list(store.events())) == before


def test_an_unknown_kind_of_event_offers_the_nearest(store):
    with pytest.raises(UnknownNameError, match="Did you mean 'planned'"):
        store.append("planed", {})
    with pytest.raises(UnknownNameError, match="Did you mean 'measured'"):
        store.events(kind="measure")


def test_two_runs_of_one_model_are_both_kept_and_only_the_newest_is_read(store):
    store.add_predictions(p_good_rows([0.1, 0.2, 0.3], "2024-01-01"))
    store.add_predictions(p_good_rows([0.4, 0.5, 0.6], "2024-01-02"))
    session = store.load()
    assert len(session.predictions) == 3
    assert session.prediction("m", 6.0).tolist() == [0.4, 0.5, 0.6]
    kept = [event.payload["columns"]["p_good"] for event in store.events(kind="predicted")]
    assert kept == [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]


@settings(max_examples=share(16, otherwise=25))
@given(
    runs=st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(["h1", "h2", "h3"]),
                st.sampled_from(["m", "n"]),
                st.sampled_from([6.0, 4.0, NAN]),
                st.sampled_from(["2024-01-01", "2024-01-02", None]),
                st.floats(0, 1),
            ),
            min_size=1,
            max_size=4,
        ),
        max_size=4,
    )
)
def test_of_a_hole_a_model_and_a_threshold_the_newest_prediction_is_read(tmp_path_factory, runs):
    newest = {}
    with SessionStore.create(tmp_path_factory.mktemp("newest") / "s.session") as store:
        store.save_import(small_session(), "by hand")
        for rows in runs:
            frame = pd.DataFrame(rows, columns=["hole_id", "model_id", "threshold_angstrom", "at", "value"])
            is_label = frame["threshold_angstrom"].isna()
            frame = frame.assign(
                p_good=frame["value"].mask(is_label),
                ctf_predicted_angstrom=(frame["value"] + 1).where(is_label),
                predicted_at=pd.to_datetime(frame["at"]).astype("datetime64[ns]"),
            )
            store.add_predictions(frame.drop(columns=["at", "value"]))
            for hole_id, model_id, threshold, at, value in rows:
                key = (hole_id, model_id, None if np.isnan(threshold) else threshold)
                if (at or "") >= newest.get(key, ("", 0))[0]:
                    newest[key] = (at or "", value)
        for _ in range(2):
            read = store.load().predictions
            shown = read["p_good"].fillna(read["ctf_predicted_angstrom"] - 1)
            thresholds = [None if np.isnan(each) else each for each in read["threshold_angstrom"]]
            found = zip(read["hole_id"], read["model_id"], thresholds, strict=True)
            assert dict(zip(found, shown, strict=True)) == pytest.approx(
                {key: value for key, (_, value) in newest.items()}
            )
            store.rebuild()


def test_predictions_that_break_a_rule_are_not_written(store):
    with pytest.raises(DataError, match="between 0 and 1"):
        store.add_predictions(p_good_rows([0.1, 0.2, 1.3], "2024-01-01"))
    assert list(store.events(kind="predicted")) == []


def test_the_tables_are_a_fold_over_the_events(store, path):
    store.add_predictions(p_good_rows([0.1, 0.2, 0.3], "2024-01-01"))
    store.record_outcome(store.record_imaged("h3"), 4.5)
    store.record_imaged("h2", pd.Timestamp("2024-01-01 12:00"))
    store.append("planned", {"route": ["h2"]})
    store.append("overridden", {"kind": "ban", "hole_id": "h2", "note": "dirt"})
    expected, session = dump(path), store.load()
    with closing(sqlite3.connect(path / DATABASE)) as database:
        database.execute("DELETE FROM exposures")
        database.execute("UPDATE holes SET x_px = 0")
        database.commit()
    store.rebuild()
    assert dump(path) == expected
    assert_same(store.load(), session)


def test_images_come_back_by_patch(path):
    images = {
        "p/1": np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4),
        "p 2ü": np.zeros((0, 3, 4), dtype=np.uint8),
    }
    with SessionStore.create(path) as store:
        store.save_import(small_session(), "by hand", images)
    with SessionStore.open(path) as store:
        np.testing.assert_array_equal(store.images("p/1"), images["p/1"])
        assert store.images("p9") is None
    assert all(file.parent == path / "images" for file in path.rglob("*.npy"))


def test_images_are_taken_one_by_one(path):
    def made():
        for at, patch_id in enumerate(("p/1", "p 2ü")):
            # Whatever was given before is stored already: it need not stay in memory.
            assert len(list(path.parent.rglob("*.npy"))) == at
            yield patch_id, np.full((2, 3, 4), at, dtype=np.uint8)

    with SessionStore.create(path) as store:
        store.save_import(small_session(), "by hand", made())
    with SessionStore.open(path) as store:
        assert [int(store.images(patch_id).max()) for patch_id in ("p/1", "p 2ü")] == [0, 1]


def test_a_wrong_image_that_comes_late_leaves_nothing(path):
    def made():
        yield "p/1", np.zeros((2, 3, 4), dtype=np.uint8)
        yield "p9", np.zeros((2, 3, 4), dtype=np.uint8)

    with pytest.raises(InputError, match="Got 'p9'"), SessionStore.create(path) as store:
        store.save_import(small_session(), "by hand", made())
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"p9": np.zeros((1, 2, 2), dtype=np.uint8)}, r"belong to a patch of the session\. Got 'p9'"),
        ({"p/1": np.zeros((2, 2, 2))}, r"uint8 array.*Got float64"),
        ({"p/1": np.zeros((1, 2, 2), dtype=np.uint8)}, r"a row for every image_row\. Got uint8 \(1, 2, 2\)"),
    ],
)
def test_wrong_images_are_refused_and_nothing_is_left(path, images, message):
    with pytest.raises(InputError, match=message), SessionStore.create(path) as store:
        store.save_import(small_session(), "by hand", images)
    assert list(path.parent.iterdir()) == []


def test_a_store_can_live_behind_a_url(tmp_path):
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with SessionStore.create(url) as store:
        store.save_import(small_session(), "by hand")
        assert store.images("p/1") is None
    with SessionStore.open(url) as store:
        assert_same(store.load(), small_session())
    with pytest.raises(StoreError, match="must start in an empty database"):
        SessionStore.create(url)
    with pytest.raises(StoreError, match="must be a folder or a database URL"):
        SessionStore.open("nonsense://x")


def test_the_schema_and_its_guards_can_be_written_for_postgresql():
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateTable

    ddl = {
        table.name: str(CreateTable(table).compile(dialect=postgresql.dialect()))
        for table in METADATA.sorted_tables
    }
    assert "BYTEA" in ddl["events"]
    assert "BIGSERIAL" in ddl["holes"]
    assert "DOUBLE PRECISION" in ddl["holes"]


def test_a_moved_store_opens_at_its_new_place(store, path):
    store.close()
    moved = path.with_name("moved.session")
    shutil.move(path, moved)
    with SessionStore.open(moved) as again:
        assert_same(again.load(), small_session())


def test_a_reader_sees_the_state_before_a_write_in_progress(store):
    with SessionStore.open(store._location) as reader, store._engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM exposures"))
        assert_same(reader.load(), small_session())
        connection.rollback()


def test_a_second_writer_waits_and_is_told_when_the_first_does_not_end(store, path, monkeypatch):
    monkeypatch.setattr(store_database, "WAIT_FOR_OTHERS_S", 0.2)
    with (
        SessionStore.open(path) as other,
        store._engine.execution_options(writes=True).begin(),
        pytest.raises(StoreError, match=r"must be free for writing\. Got database is locked"),
    ):
        other.append("error", {"message": "lost beam"})
    assert list(store.events(kind="error")) == []
