"""Practice mode: its application asked as a page asks it, its file, its command, and one round in a real browser."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the extra live is not installed")

from browser import CHROMIUM, WHY_NOT, Page, Served, wait_for
from typer.testing import CliRunner

from cryoscout.cli.main import build_app
from cryoscout.core.errors import DataError, InputError
from cryoscout.live.practice import Practice, practice_app, practice_of, read_results
from cryoscout.session.named import load_session
from cryoscout.session.store import SessionStore


@pytest.fixture(scope="module")
def session():
    return load_session("y1", "val")


def asked(app: Any, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async def exchange() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8322", trust_env=False
        ) as client:
            return await client.request(method, path, json=body)

    answer = asyncio.run(exchange())
    kind = answer.headers["content-type"]
    return answer.status_code, answer.json() if kind.startswith("application/json") else answer.text


def played(app: Any, picks: int, player: str = "AB") -> Any:
    """A whole round; its result."""
    _, state = asked(app, "POST", "/practice/round", {"player": player, "picks": picks})
    holes = [each["hole"] for patch in state["patches"] for each in patch["holes"]]
    for hole in holes[:picks]:
        status, _ = asked(app, "POST", "/practice/pick", {"hole": hole})
        assert status == 200
    return asked(app, "GET", "/practice/result")[1]


def test_a_round_is_played_compared_kept_and_exported(session, tmp_path):
    file = tmp_path / "rounds.json"
    app = practice_app(Practice(session, file, 5))
    status, state = asked(app, "GET", "/practice/state")
    assert (status, state["round"], state["choices"]) == (200, None, [5, 50, 100])
    answer = played(app, 5)
    assert answer["result"]["n_picks"] == 5
    assert len(answer["result"]["picks"]["you"]) == 5
    assert "arXiv:2204.07543" in answer["citation"]
    asked(app, "GET", "/practice/result")  # asked again, it is kept once
    played(app, 5, "=cmd|x")
    kept = read_results(file)
    assert [each["player"] for each in kept] == ["AB", "=cmd|x"]
    lines = asked(app, "GET", "/practice/results.csv")[1].splitlines()
    assert lines[0].startswith("session,player,picks,good,adaptive")
    assert lines[2].startswith("y1,'=cmd|x,5,")
    again = Practice(session, file, 5)
    assert len(again.results) == 2


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/practice/round", {"player": "", "picks": 5}, "1 to 40 printable"),
        ("/practice/round", {"player": "a\u202eb", "picks": 5}, "1 to 40 printable"),
        ("/practice/round", {"player": "AB", "picks": True}, "picks (int)"),
        ("/practice/round", {"player": "AB", "picks": 0}, "1 or more"),
        ("/practice/round", {"player": "AB", "picks": 99999}, "1074"),
        ("/practice/round", {"player": "AB"}, "player (str)"),
        ("/practice/pick", {"hole": 3}, "must have begun"),
        ("/practice/pick", [3], "hole (int)"),
    ],
)
def test_what_is_no_round_and_no_pick_is_said(session, tmp_path, path, body, said):
    app = practice_app(Practice(session, tmp_path / "rounds.json", 5))
    status, answer = asked(app, "POST", path, body)
    assert status == 400
    assert said in answer["detail"]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"x_px": 7.0, "y_px": 9.0, "x_um": 1.0, "y_um": 2.0}, (7.0, 9.0)),
        ({"x_px": np.nan, "y_px": np.nan, "x_um": 1.0, "y_um": 2.0}, (1.0, -2.0)),
        ({"x_px": np.nan, "y_px": np.nan, "x_um": np.nan, "y_um": np.nan}, (None, None)),
    ],
)
def test_holes_stand_as_on_the_patch_image_else_as_on_the_stage(session, tmp_path, known, expected):
    placed = replace(session, holes=session.holes.assign(**known))
    app = practice_app(Practice(placed, tmp_path / "rounds.json", 2))
    status, state = asked(app, "POST", "/practice/round", {"player": "AB", "picks": 2})
    assert status == 200
    assert {(hole["x"], hole["y"]) for patch in state["patches"] for hole in patch["holes"]} == {expected}


def test_picks_twice_too_many_and_early_results_are_refused(session, tmp_path):
    app = practice_app(Practice(session, tmp_path / "rounds.json", 2))
    asked(app, "POST", "/practice/round", {"player": "AB", "picks": 2})
    assert asked(app, "POST", "/practice/pick", {"hole": 3})[0] == 200
    for body, said in (
        ({"hole": 3}, "not picked yet"),
        ({"hole": -1}, "below 1074"),
        ({"hole": 10**9}, "below 1074"),
    ):
        status, answer = asked(app, "POST", "/practice/pick", body)
        assert (status, said in answer["detail"]) == (400, True)
    status, answer = asked(app, "GET", "/practice/result")
    assert (status, "1 picks left" in answer["detail"]) == (400, True)
    assert not (tmp_path / "rounds.json").exists()


def test_a_file_that_is_none_is_refused_and_stays(session, tmp_path):
    file = tmp_path / "rounds.json"
    for content in ("{", "{}", '[{"player": 1}]', "\x00"):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match="another --results"):
            Practice(session, file, 5)
        assert file.read_text(encoding="utf-8") == content


def test_images_are_of_the_hole_and_only_where_they_are_stored(session, tmp_path, session_with_crops):
    app = practice_app(Practice(session, tmp_path / "rounds.json", 2))
    assert asked(app, "GET", "/practice/image/3.png")[0] == 404
    assert asked(app, "GET", "/practice/image/99999999.png")[0] == 404
    with SessionStore.open_for_reading(session_with_crops) as store:
        made = practice_of(store, store.load(), tmp_path / "other.json", 2)
        picture = made.image_of(0)
        assert picture is not None
        assert picture.startswith(b"\x89PNG")
        status, state = asked(practice_app(made), "POST", "/practice/round", {"player": "AB", "picks": 2})
        assert status == 200
        assert state["patches"][0]["holes"][0]["image"] is True


@pytest.fixture
def session_with_crops(tmp_path: Path) -> Path:
    from session_with_images import stored

    return stored(tmp_path / "crops.session")


def test_the_command_exports_and_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    ran = runner.invoke(build_app("practice"), ["practice", "y1", "--export", "csv"])
    assert ran.exit_code == 0
    assert ran.stdout.splitlines() == ["session,player,picks,good,adaptive,dqn-y1,bound,minutes_taken"]
    ran = runner.invoke(build_app("practice"), ["practice", "y1", "--json"])
    assert json.loads(ran.stdout) == {"results": "cryoscout-practice.json", "rows": []}
    assert isinstance(runner.invoke(build_app("practice"), ["practice"]).exception, InputError)
    assert isinstance(
        runner.invoke(build_app("practice"), ["practice", "y1", "--export", "xml"]).exception, InputError
    )


def _scale(left, top, x, y):
    """CSS px of the page for each px of the patch image."""
    return np.hypot(np.ptp(left), np.ptp(top)) / np.hypot(np.ptp(x), np.ptp(y))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)
def test_a_round_is_played_to_its_end_in_a_browser(browser, tmp_path):
    served = Served(tmp_path, "practice", "y1", "--picks", "4", "--port", "0").start()
    try:
        page = Page(browser, served.address())
        page.shows("#message-text", "Write your initials")
        page.tab.fill("#author", "AB")
        page.tab.click("#start")
        wait_for(lambda: page("document.querySelectorAll('.hole').length") == 1074, 20, "the holes")
        # The hole map: as they stand in the patch, no target below 44 px and none over another.
        places = page("""[...document.querySelectorAll('.patch')].map((patch) =>
            [...patch.querySelectorAll('.hole')].map((hole) => {
                const at = hole.getBoundingClientRect();
                return [Number(hole.dataset.hole), at.left, at.top, at.width, at.height];
            }))""")
        holes = load_session("y1", "val").holes
        for patch in places:
            number, left, top, width, height = np.array(patch).T
            x, y = holes.loc[number.astype(int), ["x_px", "y_px"]].to_numpy(dtype=float).T
            assert min(width.min(), height.min()) >= 44
            for shown, real in ((left, x), (top, y)):
                # Pixels of the page are whole where it draws them.
                assert np.allclose(
                    shown - shown.min(), (real - real.min()) * _scale(left, top, x, y), atol=1.0
                )
            apart = np.maximum(abs(left[:, None] - left), abs(top[:, None] - top))
            assert apart[~np.eye(len(apart), dtype=bool)].min() >= 44 / np.sqrt(2)
        for at in range(4):
            page.tab.click(f".hole >> nth={at * 7}")
            wait_for(
                lambda at=at: page("document.querySelectorAll('#picked li').length") == at + 1, 20, "a pick"
            )
        page.shows("#table", "15 students (published)", 60)
        page.shows("#message-text", "of 4 picks were good")
        assert page.text("#verb") == "DONE"
        # One round has no spread; the curves are drawn in the colours of the theme.
        assert "±" not in page("document.querySelectorAll('#table tr')[1].children[2].textContent")
        before = page("document.getElementById('by-picks').toDataURL()")
        page.tab.click("#theme")
        assert page("document.getElementById('by-picks').toDataURL()") != before
        assert page("Math.min(...[...document.querySelectorAll('.hole')].map((e) => e.offsetWidth))") >= 44
        assert page.complaints == []
    finally:
        served.stop()
    assert len(read_results(tmp_path / "cryoscout-practice.json")) == 1
