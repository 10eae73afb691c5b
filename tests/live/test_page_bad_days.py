"""Bad days of the page: two grids, a slow network, a key that ended, a wrong clock, a night's sleep, another session in
the place of this one. Each says one plain sentence; nothing that was typed is lost, or taken for what it was not."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("uvicorn", reason="the extra live is not installed")

from browser import (
    CHROMIUM,
    WHY_NOT,
    Page,
    Served,
    sleep_over,
    slow_network,
    start_again,
    wait_for,
    with_own_clock,
)
from page_sessions import session_with_places, stored

from cryoscout.session.model import Session
from cryoscout.session.store import SessionStore
from cryoscout.session.tables import typed_table

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)]

DRAFT = "#tab-notes textarea"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    running = []

    def start(*sessions: Session) -> Served:
        names = [stored(each, tmp_path).name for each in sessions]
        running.append(Served(tmp_path, "serve", *names, "--port", "0", "--budget-min", "300"))
        return running[-1].start()

    yield start
    for each in running:
        each.stop()


def said_in(place: Path) -> list[dict[str, Any]]:
    """What people said and noted, oldest first, as the store has it."""
    with SessionStore.open_for_reading(place) as store:
        events = [event for event in store.events() if event.kind in ("overridden", "noted")]
        return [dict(event.payload) for event in events if event.payload["author"] != "serve"]


def sentences(page: Page, seconds: float) -> list[str]:
    """What the message line says within so many seconds, each once, in its order."""
    until, found = time.monotonic() + seconds, [page.text("#message-text")]
    while time.monotonic() < until:
        said = page.text("#message-text")
        if said != found[-1]:
            found.append(said)
        time.sleep(0.02)
    return found


def grid(name: str, holes: int, imaged: int = 0) -> Session:
    """A session of that name, with ice and motion of what is imaged."""
    session = replace(session_with_places(holes, imaged=imaged), name=name)
    ids, at = session.exposures["exposure_id"], np.arange(imaged)
    runs = pd.DataFrame(
        {
            "exposure_id": ids,
            "run": 1,
            "source": "live.star",
            "reader": "relion",
            "taken": True,
            "ctf_max_res_angstrom": session.exposures["ctf_max_res_angstrom"],
            "ice_thickness_nm": 20.0 + at,
            "fields": [f'{{"rlnAccumMotionTotal": "{3 + 0.5 * each}"}}' for each in at],
        }
    )
    return replace(session, ctf_runs=typed_table("ctf_runs", runs)) if imaged else session


def test_another_grid_is_looked_at_and_nothing_of_the_one_goes_to_the_other(
    browser: Any, serve: Any, tmp_path: Path
) -> None:
    served = serve(grid("here", 200, imaged=60), grid("there", 400))
    page = Page(browser, served.address())
    page.is_shown()
    page.sign("AB")
    page.shows("#mode", "WATCH")
    before = {name: said_in(tmp_path / f"{name}.session") for name in ("here", "there")}
    page.tab.keyboard.press("t")
    page.shows("#try-others", "there: Change ")
    # Something is tried, and a hole selected, on the one grid.
    page.tab.fill("#tab-try input[aria-label='good micrographs wanted']", "55")
    page.tab.click("#tab-try button:has-text('Try') >> nth=2")
    page.shows("#tab-try", "55 good:")
    page.tab.fill("#find", "h000150")
    page.tab.keyboard.press("Enter")
    page.shows("#selected-words", "h000150")
    page.tab.select_option("#session", "there")
    page.shows("#verb", "WAIT")
    page.shows("#try-others", "here: Change ")
    assert page.text("#selected-words") == "Click a hole or a square."
    assert "wants 55 good" not in page.text("#tab-try")
    assert page.tab.is_disabled("#tab-try button:has-text('Apply')")
    assert {name: said_in(tmp_path / f"{name}.session") for name in before} == before  # nothing was changed
    # A word that is on its way goes to the session it was said of.
    first = page.text("#next-hole")
    slow_network(page)
    page.tab.focus("#map")
    page.tab.keyboard.press("b")
    page.tab.select_option("#session", "here")
    page.shows("#message-text", "recorded", 20)
    page.shows("#tab-try", "55 good:", 20)
    page.shows("#place", "s0000", 20)
    assert [each["hole_id"] for each in said_in(tmp_path / "there.session")] == [first]
    assert said_in(tmp_path / "here.session") == []
    page.tab.click("#tab-try button:has-text('Apply')")
    page.shows("#goal", "of 55", 20)
    assert [each["good"] for each in said_in(tmp_path / "here.session")] == [55]
    assert page.complaints == []


def test_ice_and_motion_are_layers_where_a_source_gives_them(browser: Any, serve: Any) -> None:
    served = serve(grid("here", 200, imaged=60), grid("there", 400))
    for width, height in ((1024, 768), (1280, 720)):
        page = Page(browser, served.address(), width, height)
        page.is_shown()
        wait_for(lambda page=page: page.tab.is_visible("#scores"), 15, "what sources say")
        assert page("[...document.getElementById('scores').options].map((each) => each.text)") == [
            "image: …",
            "ice thickness (nm)",
            "motion total (Å)",
        ]
        # The row of the map's tools shows all of it.
        boxes = page(
            "[...document.querySelectorAll('#map-tools button, #map-tools select, #map-tools input')]"
            ".map((each) => each.getBoundingClientRect()).map((box) => [box.left, box.right, box.top])"
        )
        assert len({top for _, _, top in boxes}) == 1
        assert all(right <= left for (_, right, _), (left, _, _) in pairwise(boxes))
        edge = page("document.getElementById('map-tools').getBoundingClientRect().right")
        assert boxes[-1][1] <= edge
        mode = page("document.getElementById('mode').getBoundingClientRect().left")
        lamps = page(
            "[...document.querySelectorAll('#lamps b')].map((each) => each.getBoundingClientRect().right)"
        )
        assert width < 1100 or max(lamps) < mode
    value = "((hole) => window.cryoscout.map.value(hole))"
    for label, low, high in (("ice thickness (nm)", "20", "79"), ("motion total (Å)", "3", "32.5")):
        page.tab.select_option("#scores", label=label)
        page.shows("#legend", f"{label} {low}")
        page.shows("#legend", high)
        assert [page(f"{value}({hole})") for hole in (0, 59)] == [0, 1]
        assert page(f"Number.isNaN({value}(150))")  # nothing is said of what is not imaged
    page.tab.fill("#find", "h000059")
    page.tab.keyboard.press("Enter")
    page.shows("#selected-words", "motion total (Å) 32.5")
    # The other grid has none: its map shows what its legend says.
    page.tab.select_option("#session", "there")
    page.shows("#legend", "p 0")
    wait_for(lambda: not page.tab.is_visible("#scores"), 15, "a grid without them")
    assert page("document.querySelector('#layers [aria-checked=true]').textContent") == "predicted"
    assert page.complaints == []


def test_a_slow_network_is_said_and_takes_nothing_that_was_typed(
    browser: Any, serve: Any, tmp_path: Path
) -> None:
    served = serve(session_with_places(2400, imaged=60))
    page = Page(browser, "about:blank")
    slow_network(page)
    page.tab.goto(served.address(), wait_until="commit")
    wait_for(lambda: page.tab.query_selector("#message-text"), 30, "the page")
    found: list[str] = []
    while True:
        said = page.text("#message-text")
        if page("Boolean(window.cryoscout && window.cryoscout.shownRevision)"):
            break
        found += [said] if said not in found[-1:] else []
        time.sleep(0.05)
    assert found[:2] == ["Loading the page.", "Reading the session."]
    assert all(each.startswith("Reading the session since ") for each in found[2:])
    page.shows("#message-text", "All is well.", 20)
    page.sign("AB")
    hole = page.text("#next-hole")
    page.tab.click("#tab-button-notes")
    page.tab.focus("#map")
    for key in "pk":  # the second before the first is answered
        page.tab.keyboard.press(key)
    page.tab.fill(DRAFT, "first note")
    page.tab.keyboard.press("Control+Enter")
    page.tab.keyboard.type(" and half of the next")
    page.tab.keyboard.press("Control+Enter")
    page.shows("#message-text", 'sending: note "first note"', 10)
    page.shows("#message-text", 'by AB: note "first note"', 20)
    assert page("document.querySelector('#tab-notes textarea').value") == "and half of the next"
    page.shows("#verb", "WAIT", 20)
    said = said_in(tmp_path / "night.session")
    assert [each.get("hole_id") or each.get("text") or each["kind"] for each in said] == [
        hole,
        "pause",
        "first note",
    ]
    page.shows("#message-text", "Paused by an operator", 15)
    # The past is said to be read while what stands there is of now.
    page("(s => { s.value = 500; s.dispatchEvent(new Event('input')); })(document.getElementById('as-of'))")
    page.shows("#message-text", "Reading the state as of", 10)
    assert page("document.body.dataset.other") == "true"
    page.shows("#message-text", "this is the past", 60)
    assert page.complaints == []


def test_another_session_in_the_place_of_this_one_is_said_and_nothing_of_the_old_one_stays(
    browser: Any, serve: Any, tmp_path: Path
) -> None:
    served = serve(session_with_places(200, imaged=60))
    other = session_with_places(200, imaged=20, seed=5)  # as many holes, by other names
    names = {name: f"new-{name}" for name in other.holes["hole_id"]}
    holes = other.holes.assign(hole_id=other.holes["hole_id"].map(names))
    exposures = other.exposures.assign(hole_id=other.exposures["hole_id"].map(names))
    away = tmp_path / "away"
    away.mkdir()
    come = stored(replace(other, holes=holes, exposures=exposures), away)
    page = Page(browser, served.address())
    page.is_shown()
    page.sign("AB")
    page.tab.keyboard.press("b")
    page.shows("#message-text", "by AB: banned")
    page.tab.fill("#find", "h000150")
    page.tab.keyboard.press("Enter")
    page.tab.click("#tab-button-notes")
    page.tab.fill(DRAFT, "half typed")
    shutil.move(tmp_path / "night.session", away / "before.session")
    shutil.move(come, tmp_path / "night.session")
    page.shows("#message-text", "Another session stands at this place since", 30)
    wait_for(lambda: page.text("#next-hole").startswith("new-"), 20, "a hole of the other session")
    assert page("window.cryoscout.now.ids.holes.every((each) => each.startsWith('new-'))")
    assert page.text("#selected-words") == "Click a hole or a square."
    assert page("document.querySelector('#tab-notes textarea').value") == "half typed"
    page.tab.focus("#map")
    page.tab.keyboard.press("m")
    page.shows("#tab-messages", "Another session was put in the place of this one while it was served.", 15)
    hole = page.text("#next-hole")
    page.tab.keyboard.press("p")
    page.shows("#message-text", f"by AB: pinned {hole}")
    assert [each["hole_id"] for each in said_in(tmp_path / "night.session")] == [hole]
    assert [each["kind"] for each in said_in(away / "before.session")] == ["ban"]
    # The past, too, is that of the other session.
    page("(s => { s.value = 900; s.dispatchEvent(new Event('input')); })(document.getElementById('as-of'))")
    page.shows("#message-text", "this is the past", 30)
    assert page("window.cryoscout.now.ids.holes.every((each) => each.startsWith('new-'))")


def test_a_key_that_ended_is_said_as_such_and_the_page_goes_on_when_it_is_renewed(
    browser: Any, serve: Any, tmp_path: Path
) -> None:
    served = serve(session_with_places(200, imaged=60))
    page = Page(browser, served.address())
    page.is_shown()
    page.sign("AB")
    page.tab.click("#tab-button-notes")
    page.tab.fill(DRAFT, "half typed")
    served.kill()
    (tmp_path / "night.session" / "serve-tokens.json").unlink()  # the next start makes new ones
    start_again(served)
    page.shows("#message-text", "This page's key has ended. Open the address that serve printed again", 20)
    assert not any("No contact" in said for said in sentences(page, 3.0))
    assert page("document.body.dataset.link") == "down"
    page.tab.focus("#map")
    page.tab.keyboard.press("k")
    page.shows("#message-text", 'This page\'s key has ended: "paused" is kept', 5)
    page.context.new_page().goto(served.address())
    page.shows("#message-text", "Said while there was no connection: paused. Is it still right?", 20)
    assert page("document.querySelector('#tab-notes textarea').value") == "half typed"
    page.tab.click("#message-buttons button:has-text('Send')")
    page.shows("#verb", "WAIT", 20)
    assert [each["kind"] for each in said_in(tmp_path / "night.session")] == ["pause"]


@pytest.mark.parametrize(("ahead_s", "way"), [(7200.0, "ahead of"), (-5400.0, "behind")])
def test_a_browser_whose_clock_is_wrong_shows_the_servers_times(
    browser: Any, serve: Any, ahead_s: float, way: str
) -> None:
    served = serve(session_with_places(200, imaged=60))
    page = Page(browser, "about:blank")
    with_own_clock(page, ahead_s)
    page.tab.goto(served.address())
    page.is_shown()
    minutes = round(abs(ahead_s) / 60.0)
    page.shows("#message-text", f"This computer's clock is {minutes} min {way} the server's: times here are")
    assert page("document.body.dataset.stale") == "false"
    page.sign("AB")
    page.tab.keyboard.press("k")
    page.shows("#message-text", "recorded")
    at = page.text("#message-text").split()[1]
    page.tab.click("#tab-button-history")
    page.shows("#tab-history", "paused — AB")
    shown = {
        page.text("#clock-time"),
        at,
        page.text("#tab-history .past:has-text('paused') .quiet"),
    }
    said_min = [60 * int(each[:2]) + int(each[3:]) for each in shown]
    assert max(said_min) - min(said_min) <= 1 or max(said_min) - min(said_min) == 24 * 60 - 1
    # What was said a moment ago is in reach of the slider, and its end is not beyond now.
    page("(s => { s.value = 999; s.dispatchEvent(new Event('input')); })(document.getElementById('as-of'))")
    page.shows("#message-text", "this is the past", 20)
    page.shows("#tab-history", "left — serve")
    assert page("Math.abs(Date.parse(window.cryoscout.api.asOf) - window.cryoscout.now.healthAt) < 60000")
    assert page.complaints == []


def test_a_tab_that_slept_over_night_looks_first_and_warns_after(browser: Any, serve: Any) -> None:
    served = serve(session_with_places(200, imaged=60))
    page = Page(browser, "about:blank")
    with_own_clock(page)
    page.tab.goto(served.address())
    page.is_shown()
    page.sign("AB")
    page.shows("#message-text", "All is well.")
    page.tab.click("#tab-button-notes")
    page.tab.fill(DRAFT, "half typed")
    held: list[Any] = []
    is_late = ["an answer that is late leaves time to look"]
    page.tab.route("**/api/v1/health**", lambda route: held.append(route) if is_late else route.continue_())
    sleep_over(page, 9.0)
    said = sentences(page, 1.5)
    assert said[-1].startswith("Awake again: what came since")
    assert page("document.body.dataset.stale") == "false"
    is_late.clear()
    for each in held:
        each.continue_()
    said += sentences(page, 3.0)
    assert not any("old: no newer advice" in each or "No contact" in each for each in said), said
    page.shows("#message-text", "clock is 540 min ahead", 15)  # the server's did not sleep
    page.tab.click("#tab-button-history")
    page.shows("#tab-history", "0 holes imaged, 0 more good")
    assert page("document.querySelector('#tab-notes textarea').value") == "half typed"
    # The computer slept while the page was in front: no event says so, and nobody is there when it wakes.
    page("window.clockShiftMs += 3600000")
    page.shows("#message-text", "Awake again: what came since", 5)
    served.kill()
    sleep_over(page, 1.0)
    page.shows("#message-text", "No contact with the server since", 15)


def test_a_note_whose_answer_is_lost_is_asked_about_at_once_and_recorded_once(
    browser: Any, serve: Any, tmp_path: Path
) -> None:
    session = session_with_places(60, imaged=40)
    page = Page(browser, serve(session).address())
    page.is_shown()
    page.sign("AB")
    lost = []

    def lose_the_first_answer(route: Any) -> None:
        if lost:
            route.continue_()
            return
        lost.append(route.fetch().status)
        route.abort()

    page.tab.route("**/api/v1/note**", lose_the_first_answer)
    page.tab.click("#tab-button-notes")
    page.tab.fill(DRAFT, "nitrogen refilled")
    page.tab.keyboard.press("Control+Enter")
    page.shows("#message-text", 'note "nitrogen refilled"', 20)
    page.shows("#message-text", "Is it still right?")
    assert lost == [200]
    page.tab.click("#message-buttons button:has-text('Send')")
    page.shows("#message-text", "recorded")
    [place] = tmp_path.glob("*.session")
    assert [each["text"] for each in said_in(place) if "text" in each] == ["nitrogen refilled"]
    assert page("document.querySelector('#tab-notes textarea').value") == ""
