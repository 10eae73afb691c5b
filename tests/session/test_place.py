"""Two commands at one place: nothing that was reported as stored is lost, and the later one is told."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from store_examples import small_session

from cryoscout.core.errors import StoreError
from cryoscout.core.new_files import prefix_of_partial
from cryoscout.session.model import Session
from cryoscout.session.place import mark_of_place
from cryoscout.session.store import SessionStore


def named(name: str) -> Session:
    return replace(small_session(), name=name)


def name_at(place: Path) -> str:
    with SessionStore.open(place) as store:
        return store.load().name


def test_of_two_imports_to_one_new_place_the_first_stays_and_the_second_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "run.session"
    with SessionStore.create(place) as one, SessionStore.create(place) as other:
        one.save_import(named("one"), "by hand")
        with pytest.raises(StoreError, match="Got a session that was stored meanwhile"):
            other.save_import(named("other"), "by hand")
    assert name_at(place) == "one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.session"]


@pytest.mark.parametrize("seen_at_the_start", [True, False])
def test_a_forced_import_does_not_replace_what_was_stored_since_it_began(
    tmp_path: Path, seen_at_the_start: bool
) -> None:
    place = tmp_path / "run.session"
    with SessionStore.create(place) as store:
        store.save_import(named("one"), "by hand")
    was = mark_of_place(place) if seen_at_the_start else None
    hole = small_session().holes["hole_id"].iloc[-1]
    with SessionStore.create(place, force=True, was=was) as other:
        with SessionStore.open(place) as store:
            store.record_imaged(hole)
            events = [event.kind for event in store.events()]
        with pytest.raises(StoreError, match="Got another session or new results that was stored meanwhile"):
            other.save_import(named("other"), "by hand")
    with SessionStore.open(place) as store:
        assert [event.kind for event in store.events()] == events
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.session"]


def test_a_writer_whose_store_was_replaced_is_refused_and_the_new_one_stays_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "run.session"
    with SessionStore.create(place) as store:
        store.save_import(named("one"), "by hand")
    with SessionStore.open(place) as old:
        with SessionStore.create(place, force=True) as other:
            other.save_import(named("other"), "by hand")
        with pytest.raises(StoreError, match="which another command has replaced or removed meanwhile"):
            old.record_imaged(small_session().holes["hole_id"].iloc[-1])
    assert name_at(place) == "other"


def test_a_forced_import_onto_a_link_replaces_what_it_leads_to(tmp_path: Path) -> None:
    place, link = tmp_path / "disk" / "run.session", tmp_path / "run.session"
    with SessionStore.create(place) as store:
        store.save_import(named("one"), "by hand")
    link.symlink_to(place)
    with SessionStore.create(link, force=True) as other:
        other.save_import(named("other"), "by hand")
    assert link.is_symlink()
    assert name_at(place) == name_at(link) == "other"


def ended_process() -> int:
    """The number of a process that is gone."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_leftovers_of_killed_runs_are_removed_and_those_of_running_ones_stay(tmp_path: Path) -> None:
    place = tmp_path / "run.session"
    killed = tmp_path / f".run.session.partial-{ended_process()}-abc"
    running = tmp_path / f"{prefix_of_partial(place)}abc"
    for folder in (killed, running):
        folder.mkdir()
        (folder / "session.db").write_text("half")
    with SessionStore.create(place) as store:
        store.save_import(named("one"), "by hand")
    assert not killed.exists()
    assert running.exists()


def killed_in(folder: Path, what: str) -> None:
    """A forced import in a process that is killed when it calls `what` of shutil or Path."""
    script = (
        "import os, pathlib, shutil, sys; sys.path[:0] = sys.argv[2].split(os.pathsep)\n"
        "from store_examples import small_session\n"
        "from cryoscout.session.store import SessionStore\n"
        "def kill(*_, **__): os.kill(os.getpid(), 9)\n"
        f"with SessionStore.create(pathlib.Path(sys.argv[1]), force=True) as store:\n"
        f"    {what} = kill\n"
        "    store.save_import(small_session(), 'by hand')\n"
    )
    path = os.pathsep.join(part for part in sys.path if part)
    ended = subprocess.run([sys.executable, "-c", script, str(folder), path], check=False)
    assert ended.returncode == -9


def test_what_a_killed_import_had_replaced_already_goes_with_the_next_write(tmp_path: Path) -> None:
    place = tmp_path / "run.session"
    with SessionStore.create(place) as store:
        store.save_import(named("one"), "by hand")
    killed_in(place, "shutil.rmtree")
    assert len(list(tmp_path.glob(".*.replaced"))) == 1
    with SessionStore.open_for_reading(place) as store:
        assert store.load().name == "small"
    assert len(list(tmp_path.glob(".*.replaced"))) == 1
    with SessionStore.open(place) as store:
        store.record_imaged(small_session().holes["hole_id"].iloc[-1])
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.session"]


def test_a_writer_that_comes_in_the_moment_of_the_exchange_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "run.session"
    with SessionStore.create(place) as store:
        store.save_import(named("one"), "by hand")
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        done = rename(self, target)
        if self == place:  # set aside; a writer that waits for its lock makes the folder of it again
            place.mkdir()
            (place / "write.lock").touch()
        return done

    with SessionStore.create(place, force=True) as other:
        monkeypatch.setattr(Path, "rename", watched)
        other.save_import(named("other"), "by hand")
    assert name_at(place) == "other"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.session"]


def test_the_folder_of_a_lock_alone_hides_no_session_that_was_set_aside(tmp_path: Path) -> None:
    place = tmp_path / "run.session"
    with SessionStore.create(place) as store:
        store.save_import(named("one"), "by hand")
    aside = tmp_path / f".run.session.partial-{ended_process()}-abc.replaced"
    place.rename(aside)
    place.mkdir()
    (place / "write.lock").touch()
    for opened in (SessionStore.open, SessionStore.open_for_reading, SessionStore.create):
        with pytest.raises(StoreError, match=r"Remedy: rename .*replaced, in the place of"):
            opened(place)
    assert aside.is_dir()


def test_a_reader_in_the_moment_of_the_exchange_waits_for_the_new_session(tmp_path: Path) -> None:
    place = tmp_path / "run.session"
    with SessionStore.create(place) as store:
        store.save_import(named("one"), "by hand")
    aside = tmp_path / f".run.session.partial-{os.getpid()}-abc.replaced"
    place.rename(aside)
    back = threading.Timer(0.2, lambda: aside.rename(place))
    back.start()
    with SessionStore.open_for_reading(place) as store:
        assert store.load().name == "one"
    back.join()


def test_another_session_set_aside_beside_one_that_is_there_is_never_removed(tmp_path: Path) -> None:
    place, aside = tmp_path / "run.session", tmp_path / ".run.session.partial-1-abc.replaced"
    for where in (place, aside):
        with SessionStore.create(where) as store:
            store.save_import(named("one"), "by hand")
    with SessionStore.create(place, force=True) as other:
        other.save_import(named("other"), "by hand")
    assert name_at(aside) == "one"


def test_a_session_that_was_set_aside_is_offered_back_and_not_imported_over(tmp_path: Path) -> None:
    place = tmp_path / "run.session"
    with SessionStore.create(place) as store:
        store.save_import(named("one"), "by hand")
    aside = tmp_path / f".run.session.partial-{ended_process()}-abc.replaced"
    place.rename(aside)
    with pytest.raises(StoreError, match=r"Remedy: rename .*replaced back to"):
        SessionStore.create(place)
    assert aside.is_dir()
