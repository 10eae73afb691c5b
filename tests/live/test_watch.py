"""What has changed below a folder: found by folders' times and living files, and told by the system."""

from __future__ import annotations

import os
import threading
import time

import pytest

from cryoscout.live.watch import LIVING_S, WHOLE_SCAN_S, Poller, Told, changes_below


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def later(path, seconds=5):
    """Its time of change a little later, whatever the disk's clock can tell apart."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + seconds * 10**9))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "one.xml").write_text("x")
    (root / "results.star").write_text("data_\n")
    return root


def test_new_changed_renamed_and_gone_files_are_found(folder, clock):
    poller = Poller((folder,), clock)
    assert poller.take() == set()
    assert poller.take() == set()
    new = folder / "a" / "b" / "two.xml"
    new.write_text("x")
    later(new.parent)
    assert poller.take() == {new}
    with (folder / "results.star").open("a") as file:
        file.write("row\n")
    assert poller.take() == {folder / "results.star"}, "a table grows without a change of its folder"
    renamed = new.rename(new.with_name("three.xml"))
    later(new.parent, 10)
    assert poller.take() == {new, renamed}
    deep = folder / "c" / "d"
    deep.mkdir(parents=True)
    (deep / "four.xml").write_text("x")
    later(folder, 10)
    assert poller.take() == {deep / "four.xml"}


def test_a_file_that_lives_is_looked_at_and_one_that_rests_only_now_and_then(folder, clock):
    poller = Poller((folder,), clock)
    poller.take()
    new = folder / "a" / "half.xml"
    new.write_text("x")
    later(folder / "a")
    assert poller.take() == {new}
    new.write_text("xyz")
    assert poller.take() == {new}
    clock.now_s += LIVING_S + 1
    poller.take()
    new.write_text("xyzxyz")
    assert poller.take() == set()
    poller.keep_looking_at([new])
    assert poller.take() == {new}
    old = folder / "a" / "one.xml"
    old.write_text("changed in place")
    assert poller.take() == set()
    clock.now_s += WHOLE_SCAN_S
    assert poller.take() == {old}


def test_a_share_that_is_unmounted_and_back_is_read_on(folder, clock):
    poller = Poller((folder,), clock)
    poller.take()
    away = folder.rename(folder.with_name("away"))
    poller.take()
    away.rename(folder)
    new = folder / "new.xml"
    new.write_text("x")
    later(folder)
    assert new in poller.take()


def test_the_system_tells_on_a_local_disk(folder):
    changes = changes_below([folder, folder / "results.star"])
    assert isinstance(changes, Told)
    try:
        time.sleep(0.5)
        new = folder / "a" / "new.xml"
        new.write_text("x")
        found, deadline = set(), time.monotonic() + 20
        while new not in found and time.monotonic() < deadline:
            found |= changes.take()
            time.sleep(0.05)
        assert new in found
    finally:
        changes.close()


def test_what_comes_in_the_same_second_is_found_where_a_disk_counts_seconds(folder, clock):
    poller, data = Poller((folder,), clock), folder / "a"
    poller.take()
    for name in ("two.xml", "three.xml"):
        (data / name).write_text("x")
        os.utime(data, ns=(2 * 10**18, 2 * 10**18))  # the time of the folder is the same after both
        assert poller.take() == {data / name}
    assert poller.take() == set()
    assert poller._again == set()


def test_a_named_table_is_looked_at_however_many_others_grow(folder, clock, monkeypatch):
    monkeypatch.setattr("cryoscout.live.watch.MOST_GROWING", 1)
    for number in range(3):
        (folder / f"{number}.mdoc").write_text("x")
    star = folder / "results.star"
    poller = Poller((folder, star), clock)
    poller.take()
    with star.open("a") as file:
        file.write("row\n")
    assert poller.take() == {star}


def found_by(changes, wanted, limit_s=20.0):
    """Those of the wanted files that are told in time."""
    found, deadline = set(), time.monotonic() + limit_s
    while not wanted <= found and time.monotonic() < deadline:
        found |= changes.take()
        time.sleep(0.05)
    return wanted & found


def test_files_of_folders_that_were_just_made_or_moved_in_are_told(folder, tmp_path):
    """The system watches a new folder a moment after its first files came: EPU makes one with the first image."""
    changes, made = changes_below([folder]), set()
    try:
        found_by(changes, {folder / "nothing"}, 1.5)  # it is told by now
        for number in range(12):
            data = folder / f"GridSquare_{number}" / "Data"
            data.mkdir(parents=True)
            for file in (data.parent / "square.xml", data / "exposure.xml"):
                file.write_text("x")
                made.add(file)
        away = tmp_path / "away"
        away.mkdir()
        (away / "hole.xml").write_text("x")
        away.rename(folder / "moved")
        made.add(folder / "moved" / "hole.xml")
        assert found_by(changes, made, 6.0) == made
    finally:
        changes.close()


def test_where_the_system_has_no_watch_left_it_is_polled(folder, monkeypatch):
    def none_left(*_, **__):
        raise OSError(28, "No space left on device (inotify watches)")

    monkeypatch.setattr("watchfiles.watch", none_left)
    monkeypatch.setattr("cryoscout.live.watch.POLL_S", 0.05)
    changes = Told([folder])
    try:
        new = folder / "a" / "new.xml"
        new.write_text("x")
        assert found_by(changes, {new}, 5.0) == {new}
    finally:
        changes.close()


def test_what_comes_before_the_system_tells_is_looked_for(folder, monkeypatch):
    begins = threading.Event()

    def late(*_, stop_event, **__):
        begins.wait(10.0)
        while not stop_event.wait(0.02):
            yield set()

    monkeypatch.setattr("watchfiles.watch", late)
    monkeypatch.setattr("cryoscout.live.watch.POLL_S", 600.0)
    changes = Told([folder])
    try:
        new = folder / "a" / "new.xml"
        new.write_text("x")
        assert found_by(changes, {new}, 0.2) == set()
        begins.set()
        assert found_by(changes, {new}, 5.0) == {new}
    finally:
        changes.close()


def test_network_file_systems_are_polled(folder, monkeypatch):
    monkeypatch.setattr("cryoscout.live.watch.is_on_network", lambda path: True)
    assert isinstance(changes_below([folder]), Poller)
