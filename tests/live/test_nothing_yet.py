"""A session of which nothing is known yet: it is served, says so, and goes on with the first files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from live_samples import epu_session

from cryoscout.core.errors import InputError
from cryoscout.live.serving import ServeRequest, check, serving
from cryoscout.session.store import SessionStore
from smartscope_server import TOKEN, running

GRID = Path(__file__).parents[1] / "formats" / "data" / "smartscope" / "made_by_hand_grid.yaml"


def quiet(message):
    """Nothing is shown."""


def until(holds, limit_s=60.0):
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def empty(tmp_path):
    folder = tmp_path / "night"
    folder.mkdir()
    return folder


def test_an_empty_folder_is_served_and_its_first_files_are_taken(empty, tmp_path):
    place = tmp_path / "night.session"
    with serving(ServeRequest((), watch=(empty,), output=place), quiet) as served:
        [advisor] = served.advisors.values()
        said = advisor.moment.content
        assert said["verdict"]["verb"] == "WAIT"
        assert "first files" in said["verdict"]["sentence"]
        assert said["next"] is None
        epu_session(empty)
        until(lambda: advisor.moment.content["holes_left"] > 0)
        assert advisor.moment.content["next"] is not None
    with SessionStore.open(place) as store:
        assert store.load().info.format == "epu"
    with serving(ServeRequest((), watch=(empty,), output=place), quiet) as served:
        [advisor] = served.advisors.values()
        assert advisor.moment.content["holes_left"] > 0


def test_folders_without_a_file_yet_are_waited_for_too(empty, tmp_path):
    """EPU makes Images-Disc1 and its squares before their first file is there."""
    (empty / "Images-Disc1" / "GridSquare_1" / "Data").mkdir(parents=True)
    with serving(ServeRequest((), watch=(empty,), output=tmp_path / "night.session"), quiet) as served:
        [advisor] = served.advisors.values()
        assert advisor.moment.content["verdict"]["verb"] == "WAIT"


def test_a_folder_of_something_else_is_refused(empty, tmp_path):
    (empty / "notes.doc").write_text("x")
    from cryoscout.core.errors import FileFormatError

    with (
        pytest.raises(FileFormatError),
        serving(ServeRequest((), watch=(empty,), output=tmp_path / "s.session"), quiet),
    ):
        pass


def test_a_session_of_a_smartscope_server_is_made_and_followed(tmp_path, monkeypatch):
    """New images come with the next answer; a server that fails is named, and asked again."""
    monkeypatch.setenv("CRYOSCOUT_SMARTSCOPE_TOKEN", TOKEN)
    monkeypatch.setattr("cryoscout.live.sources.ASK_SERVER_S", 0.2)
    place = tmp_path / "run7.session"
    with running(GRID) as server:
        late = server.lists["highmag"].pop()
        request = ServeRequest(
            (), smartscope_address=server.address, smartscope_session="run7", output=place, also_unchosen=True
        )
        with serving(request, quiet) as served:
            [advisor] = served.advisors.values()
            before = advisor.moment.content["holes_imaged"]
            server.lists["highmag"].append(late)
            until(lambda: advisor.moment.content["holes_imaged"] > before)
            server.answer = (500, b"{}")
            until(lambda: "sources" in advisor.troubles)
            assert advisor.troubles["sources"].remedy.endswith("look at the server.")
            server.answer = None
            until(lambda: "sources" not in advisor.troubles)
    with SessionStore.open(place) as store:
        assert store.load().info.format == "smartscope"


def test_a_smartscope_session_without_its_server_is_refused(tmp_path):
    with pytest.raises(InputError, match="--smartscope-address"):
        check(ServeRequest((), smartscope_session="run7"))
