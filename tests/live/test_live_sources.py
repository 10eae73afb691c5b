"""Sources that are followed: what cannot be seen, is not whole or joins nothing is said, and the thread goes on."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from cryoscout.intake.follow import TakenOn
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.take_in import Sources
from cryoscout.live import sources as sources_module
from cryoscout.live.serving import ServeRequest
from cryoscout.live.sources import Follower, Followers
from cryoscout.live.views import health_json, message_json


class Nothing:
    """No change is told."""

    def take(self):
        return set()

    def keep_looking_at(self, paths):
        """Nothing is kept."""

    def close(self):
        """Nothing is held."""


class Followed:
    """Notes down what is asked for."""

    def __init__(self):
        self.asked = []

    def take_in(self, pending):
        self.asked.append(pending)
        return TakenOn()


def follower_of(served, *paths):
    return Follower(served.advisor("run"), Sources(list(paths), [], ReadOptions(permissive=True), "tests"))


def said(served):
    advisor = served.advisor("run")
    return {cause: each.sentence for cause, each in advisor.troubles.items()}


@pytest.fixture
def share(tmp_path):
    folder = tmp_path / "share"
    folder.mkdir()
    (folder / "holes.csv").write_text("grid,square,patch,hole\n")
    return folder


@pytest.mark.parametrize(
    "error", [OSError(112, "Host is down"), OSError(116, "Stale file handle"), PermissionError(13, "Denied")]
)
def test_a_share_whose_server_is_away_is_said(served, share, monkeypatch, error):
    follower = follower_of(served, share)
    follower._look_for_sources()

    def away(path):
        raise error

    monkeypatch.setattr(os, "scandir", away)
    follower._look_for_sources()
    assert said(served)["folder"] == f"{share} cannot be seen ({error.strerror})."
    monkeypatch.undo()
    assert follower._look_for_sources()
    assert "folder" not in said(served)


def test_a_mount_point_that_is_empty_now_is_said(served, share, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    follower = follower_of(served, share, new)
    follower._look_for_sources()
    assert "folder" not in said(served)  # nothing was ever in the new one
    (share / "holes.csv").rename(tmp_path / "holes.csv")
    follower._look_for_sources()
    assert said(served)["folder"] == f"{share} is empty, and held files before."
    (tmp_path / "holes.csv").rename(share / "holes.csv")
    assert follower._look_for_sources()


def test_what_can_be_seen_is_read_while_another_source_is_gone(served, share, tmp_path):
    star = tmp_path / "results" / "micrographs_ctf.star"
    follower, followed = follower_of(served, share, star), Followed()
    follower._look_for_sources()
    assert "cannot be seen" in said(served)["folder"]
    assert follower._look(followed, Nothing(), {share / "holes.csv"}) == set()
    assert followed.asked == [{share / "holes.csv"}]
    share.rename(tmp_path / "away")
    follower._look_for_sources()
    assert follower._look(followed, Nothing(), {share / "holes.csv"}) == {share / "holes.csv"}
    assert len(followed.asked) == 1  # all are gone: it waits


def test_no_error_ends_the_thread(served, share, monkeypatch):
    """The first look fails as a share does whose server is away; the next one reads everything."""
    monkeypatch.setattr(sources_module, "FIRST_PAUSE_S", 0.01)
    failing = [OSError(112, "Host is down"), ValueError("a defect")]
    followed = Followed()

    def changes_below(paths):
        if failing:
            raise failing.pop()
        return Nothing()

    class Context:
        def __init__(self, *_):
            """Nothing is opened."""

        def __enter__(self):
            return followed

        def __exit__(self, *_):
            """Nothing is closed."""

    monkeypatch.setattr(sources_module, "changes_below", changes_below)
    monkeypatch.setattr(sources_module, "FollowedSources", Context)
    follower = follower_of(served, share)
    follower.start()
    deadline = time.monotonic() + 20.0
    while not followed.asked and time.monotonic() < deadline:
        time.sleep(0.01)
    follower.close()
    assert followed.asked[0] is None
    assert failing == []


def test_a_file_that_stays_half_is_tried_again_with_growing_pauses_and_named(served, share, monkeypatch):
    follower, half = follower_of(served, share), share / "half.xml"
    now_s = [0.0]
    monkeypatch.setattr(sources_module.time, "monotonic", lambda: now_s[0])
    tried_at_s = []
    while now_s[0] < 400.0:
        if not tried_at_s or follower._due():
            tried_at_s.append(now_s[0])
            follower._wait_for(TakenOn(waiting=(half,)))
            assert ("incomplete" in said(served)) == (now_s[0] >= sources_module.NAMED_AFTER_S)
        now_s[0] += 0.5
    pauses_s = [later - earlier for earlier, later in itertools.pairwise(tried_at_s)]
    assert pauses_s == sorted(pauses_s)
    assert (pauses_s[0], pauses_s[-1]) == (sources_module.FIRST_PAUSE_S, sources_module.LONGEST_PAUSE_S)
    assert said(served)["incomplete"] == f"{half} is not whole for over a minute."
    follower._wait_for(TakenOn())
    assert "incomplete" not in said(served)
    assert not follower._due()


def test_a_folder_without_a_session_is_named_as_such(served, share, monkeypatch):
    monkeypatch.setattr(sources_module, "NAMED_AFTER_S", 0.0)
    follower_of(served, share)._wait_for(TakenOn(waiting=(share,)))
    assert said(served)["incomplete"] == f"{share} holds nothing of a session yet."


def test_results_of_images_that_nobody_has_shown_are_said_after_a_minute(served, share, monkeypatch):
    follower = follower_of(served, share)
    now_s = [1000.0]
    monkeypatch.setattr(sources_module.time, "monotonic", lambda: now_s[0])
    lost = TakenOn(n_unjoined=3, unjoined=("FoilHole_1_Data_2",))
    follower._wait_for(lost)
    assert "unjoined" not in said(served)  # their images may be on the way
    now_s[0] += 61.0
    follower._wait_for(lost)
    sentence = "3 CTF results are of images that are not in the session, such as FoilHole_1_Data_2."
    assert said(served)["unjoined"] == sentence
    follower._wait_for(TakenOn())
    assert "unjoined" not in said(served)


def test_results_that_were_others_before_are_said_for_a_while(served, share, monkeypatch):
    follower = follower_of(served, share)
    now_s = [1000.0]
    monkeypatch.setattr(sources_module.time, "monotonic", lambda: now_s[0])
    follower._wait_for(TakenOn(changed=("a.star: 2 exposures have another CTF result than before",)))
    for later_s, is_said in ((60.0, True), (sources_module.CHANGED_TOLD_S, False)):
        now_s[0] += later_s
        follower._wait_for(TakenOn())
        assert ("changed" in said(served)) == is_said


def test_sources_that_were_not_looked_at_for_minutes_are_said(served, share):
    """A share that does not answer holds the look up, and nobody else could tell."""
    follower, moment = follower_of(served, share), served.advisor("run").moment
    now_s = time.time()
    for age_s, is_said in ((5.0, False), (600.0, True)):
        follower.looked_s = now_s - age_s
        folder = {**follower.clock(), "age_s": age_s}
        told = [each["sentence"] for each in message_json(moment, now_s, [], folder)["all"]]
        assert ("The sources were last looked at 10 min ago." in told) == is_said
        assert (health_json(moment, now_s, folder)["clocks"]["folder"]["state"] == "stalled") == is_said


def test_the_folder_clock_runs_from_the_beginning(served, tmp_path):
    """Also where the first look never ends."""
    follower = follower_of(served, Path(tmp_path))
    follower._began_s -= 300.0
    assert follower.clock()["age_s"] >= 300.0


def test_results_that_are_named_are_followed_beside_what_the_session_was_imported_from(
    tmp_path, served, monkeypatch
):
    table, star = tmp_path / "holes.csv", tmp_path / "ctf.star"
    monkeypatch.setattr(sources_module, "sources_of", lambda place: [table])
    lines = []

    def followed(**named):
        followers = Followers(ServeRequest(("run",), **named), {"run": tmp_path}, served, lines.append)
        return [path for each in followers._followers for path in each.sources.paths]

    assert followed() == [table]
    assert followed(ctf=(star, tmp_path / "x" / ".." / "holes.csv")) == [table, star]
    assert len(lines) == 2
    assert f"{table}, from which run was imported, cannot be seen now." in lines[0]
    assert str(star) not in lines[1]  # results are waited for
    assert followed(watch=(tmp_path / "new",), ctf=(star,)) == [tmp_path / "new", star]
    assert len(lines) == 2
