"""Every state has its sentence on the real page, and a photograph in the folder CRYOSCOUT_PAGE_STATES, if it is set."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra live is not installed")

from browser import (
    CHROMIUM,
    WHY_NOT,
    Page,
    Served,
    close_pages,
    sleep_over,
    slow_network,
    start_again,
    wait_for,
    with_own_clock,
)
from page_sessions import session_with_places, stored
from page_states import STATES, State, documentation

ROOT = Path(__file__).resolve().parents[2]


def test_the_documented_states_are_those_that_are_tested() -> None:
    page = (ROOT / "docs" / "explanation" / "page-states.md").read_text(encoding="utf-8")
    assert page == documentation()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_the_state_says_its_sentence(browser: Any, tmp_path: Path, state: State) -> None:
    session = session_with_places(
        state.holes,
        imaged=state.imaged,
        pending=state.pending,
        long_names=state.long_names,
        unseen=state.unseen,
    )
    folder = stored(session, tmp_path)
    served = Served(tmp_path, "serve", folder.name, "--port", "0", *state.serves).start()
    try:
        for said in state.says:
            _post(served, "override", {**said, "author": "AB", "revision": 10**6})
        page = Page(browser, "about:blank")
        for what, changed in state.answers.items():
            page.tab.route(f"**/api/v1/{what}**", _changing(changed))
        page.tab.goto(served.address(state.role))
        page.is_shown()
        time.sleep(0.6)
        _do(state, page, served)
        page.shows("#message-text", state.sentence, 30)
        if state.verb:
            assert page.text("#verb") == state.verb
        if state.stay:
            assert page.text("#stay") == state.stay
        assert page("document.documentElement.scrollHeight") <= 720
        assert page("document.documentElement.scrollWidth") <= 1280
        _is_not_cut(page)
        _photograph(page, state.name)
        assert [
            each
            for each in page.complaints
            if "ERR_CONNECTION" not in each
            and "WebSocket" not in each
            and not (state.does == "key" and "401" in each)
        ] == []
    finally:
        close_pages(browser)
        served.stop()


def _is_not_cut(page: Page) -> None:
    """Verdict and number stand beside each other, whole but for the place, which gives way."""
    names = ["verb", "place", "stay", "goal-number", "goal-words", "clock"]
    box = "(name => { const r = document.getElementById(name).getBoundingClientRect(); return [r.left, r.right]; })"
    boxes = page(f"{json.dumps(names)}.map({box})")
    for name, (_, right), (left, _) in zip(names, boxes, boxes[1:], strict=False):
        assert right <= left + 1, name
    assert boxes[-1][1] <= 1280
    assert page(
        "document.getElementById('goal').scrollWidth <= document.getElementById('goal').clientWidth + 1"
    )


def _do(state: State, page: Page, served: Served) -> None:
    if state.does == "past":
        page.tab.evaluate(
            "const s = document.getElementById('as-of'); s.value = 500; s.dispatchEvent(new Event('input'))"
        )
    elif state.does == "bound":
        points = "((window.cryoscout.now.forecast || {}).bound || []).length"
        wait_for(lambda: page(points), 60, "the bound of what is played")
    elif state.does == "kill":
        served.kill()
    elif state.does == "restart":
        served.kill()
        wait_for(lambda: page("document.body.dataset.link") == "down", 6, "the lost contact")
        start_again(served)
    elif state.does == "slow":
        slow_network(page)
        page.tab.route("**/api/v1/holes/columns**", lambda route: None)  # still on its way
        page.tab.reload(wait_until="commit")
    elif state.does == "key":
        served.kill()
        next(served.folder.glob("*.session/serve-tokens.json")).unlink()
        start_again(served)
    elif state.does == "clock":
        with_own_clock(page, 7200.0)
        page.tab.reload()
        page.is_shown()
    elif state.does == "sleep":
        with_own_clock(page)
        page.tab.reload()
        page.is_shown()
        page.shows("#message-text", "All is well.")
        page.tab.route("**/api/v1/health**", lambda route: None)  # no answer yet
        sleep_over(page, 9.0)
    elif state.does == "replace":
        away = served.folder / "away"
        away.mkdir()
        come = stored(session_with_places(300, imaged=40, seed=5), away)
        place = served.folder / come.name
        place.rename(away / "before.session")
        come.rename(place)


def _post(served: Served, what: str, body: dict[str, Any]) -> None:
    base, _, token = served.address().partition("?token=")
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    request = urllib.request.Request(f"{base}api/v1/{what}", json.dumps(body).encode(), headers)  # noqa: S310
    urllib.request.urlopen(request, timeout=20).close()  # noqa: S310


def _changing(changed: dict[str, Any]) -> Any:
    def answer(route: Any) -> None:
        given = route.fetch()
        route.fulfill(response=given, json={**given.json(), **changed})

    return answer


def _photograph(page: Page, name: str) -> None:
    folder = os.environ.get("CRYOSCOUT_PAGE_STATES")
    if folder:
        if name != "slow network":
            wait_for(lambda: page.text("#mode"), 30, "what is read after the advice")
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.tab.screenshot(path=str(Path(folder) / f"{name.replace(' ', '-')}.png"))
