"""What the page says and how it is answered: the worst first, all of it reachable, undo, kept words, names, places."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("uvicorn", reason="the extra live is not installed")

from browser import CHROMIUM, WHY_NOT, Page, Served, wait_for
from page_sessions import session_with_places, session_with_unseen_patches, stored
from page_states import worst_is

from cryoscout.session.model import Session

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)]

DRIFT = worst_is("drift", "Fewer good than promised all at once: 3 of 20.", "Look at focus and beam.")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    running = []

    def start(session: Session) -> Served:
        place = stored(session, tmp_path)
        served = Served(tmp_path, "serve", place.name, "--port", "0", "--budget-min", "300").start()
        running.append(served)
        return served

    yield start
    for each in running:
        each.stop()


def said_in(place: Path) -> list[dict[str, Any]]:
    """What people said, oldest first, as the store has it."""
    from cryoscout.session.store import SessionStore

    with SessionStore.open_for_reading(place) as store:
        found = [dict(event.payload) for event in store.events(kind="overridden")]
    return [each for each in found if each["author"] != "serve"]


def test_the_worst_is_shown_and_all_others_are_one_key_away(browser: Any, serve: Any) -> None:
    served = serve(session_with_places(200, imaged=12))
    page = Page(browser, "about:blank")
    page.tab.route("**/api/v1/message**", lambda route: route.fulfill(body=json.dumps(DRIFT)))
    page.tab.goto(served.address("viewer"))
    page.is_shown()
    # Few results and a page that may not write are good to know; the drift is worse, whoever says it.
    page.shows("#message-text", "Fewer good than promised", 30)
    page.shows("#message-more", "+2 (m)")
    page.tab.focus("#map")
    top = page("document.querySelector('main').getBoundingClientRect().top")
    page.tab.keyboard.press("m")
    rows = page("[...document.querySelectorAll('.message-row')].map((row) => row.innerText)")
    assert [row.split("\n")[0] for row in rows] == ["act", "fine", "fine"]
    assert "Only 12 results so far" in rows[1]
    assert "Read-only" in rows[2]
    assert page("document.activeElement.id") == "map"
    assert page("document.getElementById('message-more').getAttribute('aria-expanded')") == "true"
    assert page("document.querySelector('main').getBoundingClientRect().top") == top
    page.tab.keyboard.press("m")
    assert page("document.getElementById('tab-messages').hidden")
    assert not page("document.getElementById('tab-next').hidden")


def test_u_takes_back_one_action_after_the_other(browser: Any, serve: Any) -> None:
    served = serve(session_with_places(200, imaged=60))
    page = Page(browser, served.address())
    page.is_shown()
    page.sign("AB")
    for key in "bb":  # at once, each signed with what this page has seen
        hole = page.text("#next-hole")
        page.tab.keyboard.press(key)
        wait_for(lambda hole=hole: page.text("#next-hole") != hole, 15, "another next hole")
    page.tab.click("#tab-button-history")
    for taken_back in (1, 2):
        page.tab.keyboard.press("u")
        rows = "[...document.querySelectorAll('#tab-history .quiet')].map((each) => each.textContent)"
        wait_for(
            lambda rows=rows, wanted=taken_back: page(rows).count("taken back") == wanted, 15, "the undo"
        )
    kinds = [(each["kind"], each.get("of")) for each in said_in(served.folder / "night.session")]
    assert kinds == [("ban", None), ("ban", None), ("undo", "ban"), ("undo", "ban")]
    assert page.text("#tab-history").count('took back "banned') == 2


def test_what_was_said_without_a_connection_is_answered_kept_over_a_reload_and_all_of_it_sent(
    browser: Any, serve: Any
) -> None:
    served = serve(session_with_places(200, imaged=60))
    page = Page(browser, served.address())
    page.is_shown()
    page.sign("AB")
    served.kill()
    page.shows("#message-text", "No contact with the server since", 10)
    for key, word in (("p", "pinned"), ("k", "paused")):
        page.tab.keyboard.press(key)
        page.shows("#message-text", f'No connection: "{word}', 5)
    port = served.address().split(":")[2].split("/")[0]
    served.arguments = tuple(port if each == "0" else each for each in served.arguments)
    served.start()
    page.tab.goto(served.address())
    page.shows("#message-text", "2 things were said while there was no connection", 30)
    page.tab.click("#message-buttons button:has-text('Send')")
    page.shows("#verb", "WAIT", 20)
    said = wait_for(
        lambda: len(found := said_in(served.folder / "night.session")) == 2 and found, 10, "both words"
    )
    assert [each["kind"] for each in said] == ["pin", "pause"]
    assert page("sessionStorage.getItem('cryoscout-kept')") == "[]"


def test_two_things_that_are_tried_are_both_applied_and_an_end_is_said_by_the_24_h_clock(
    browser: Any, serve: Any
) -> None:
    served = serve(session_with_places(200, imaged=60))
    page = Page(browser, served.address())
    page.is_shown()
    page.sign("AB")
    page.tab.keyboard.press("t")
    end = "#tab-try input[aria-label^='session ends at']"
    assert page.tab.get_attribute(end, "type") == "text"
    page.tab.fill(end, "25:00")
    page.tab.click("#tab-try button:has-text('Try') >> nth=1")
    page.shows("#tab-try", "24 h clock")
    page.tab.fill(end, "03:30")
    page.tab.click("#tab-try button:has-text('Try') >> nth=1")
    page.shows("#tab-try", "Expected")
    page.tab.fill("#tab-try input[aria-label='good micrographs wanted']", "55")
    page.tab.click("#tab-try button:has-text('Try') >> nth=2")
    page.shows("#tab-try", "55 good:")
    page.tab.click("#tab-try button:has-text('Apply')")
    page.shows("#goal", "of 55")
    said = said_in(served.folder / "night.session")
    assert [each["kind"] for each in said] == ["budget", "target"]
    assert said[0]["end_at"].endswith("T03:30:00")
    assert said[1]["by"] == said[0]["end_at"]


def test_lists_show_the_ends_of_long_names_and_buttons_stay_where_they_are(browser: Any, serve: Any) -> None:
    session = session_with_places(400, imaged=60)

    def named(name: str) -> str:
        return f"21mar02c_grid1c_{int(name[1:]) // 100:05d}gr_with_a_long_beginning_{name}"

    holes, exposures = session.holes.copy(), session.exposures.copy()
    holes["hole_id"], exposures["hole_id"] = holes["hole_id"].map(_long), exposures["hole_id"].map(_long)
    squares, patches = session.squares.copy(), session.patches.copy()
    squares["square_id"], patches["square_id"] = (
        squares["square_id"].map(named),
        patches["square_id"].map(named),
    )
    from dataclasses import replace

    served = serve(replace(session, holes=holes, exposures=exposures, squares=squares, patches=patches))
    for width, height in ((1280, 720), (1024, 768), (820, 1180), (768, 1024)):
        page = Page(browser, served.address(), width, height)
        page.is_shown()
        for tab, rows in (("next", 20), ("squares", 4)):
            page.tab.click(f"#tab-button-{tab}")
            shown = page(f"({ENDS})('#tab-{tab}')")
            assert shown == [0] * rows, (tab, width)
            lines = page(
                f"[...document.querySelectorAll('#tab-{tab} button.name')].map((each) => each.offsetHeight)"
            )
            assert max(lines) == min(lines) <= 44, (tab, width)  # one line each
        assert (
            page("document.getElementById('goal').scrollWidth - document.getElementById('goal').clientWidth")
            <= 1
        )
        assert page(f"({ENDS})('#top')") == [0]
        page.tab.click("#tab-button-next")
        assert "Runner-up …" in page.text("#next-why")
        # As far below the top of the panel as with any other hole.
        assert page("document.getElementById('next').offsetHeight") == (186 if width > 900 else 118)
        # The buttons are in view without scrolling.
        assert page(f"({BELOW_THE_PANEL})()") <= 0


BELOW_THE_PANEL = """() => document.getElementById('actions').getBoundingClientRect().bottom
  - document.getElementById('panels').getBoundingClientRect().bottom"""
ENDS = """(where) => [...document.querySelectorAll(`${where} bdi`)].map((each) => {
  const inner = each.getBoundingClientRect(), outer = each.parentElement.getBoundingClientRect();
  return Math.max(0, Math.round(inner.right - outer.right));
})"""


def _long(name: str) -> str:
    return (
        f"21mar02c_grid1c_{int(name[1:]) % 7:05d}gr_with_a_long_beginning_{name}" if name[0] == "h" else name
    )


def test_squares_without_a_place_stand_beside_each_other_and_unseen_patches_below_theirs(
    browser: Any, serve: Any
) -> None:
    from dataclasses import replace

    session = session_with_unseen_patches(400, {"s0001": 2, "u0000": 3})
    squares = session.squares.copy()
    more = pd.DataFrame({"square_id": [f"v{at:03d}" for at in range(40)], "grid_id": "g1"})
    squares = pd.concat([squares, more.assign(x_um=np.nan, y_um=np.nan)], ignore_index=True)
    served = serve(replace(session, squares=squares))
    page = Page(browser, served.address())
    page.is_shown()
    boxes = page("[...window.cryoscout.map.squareBoxes.values()]")
    assert len(boxes) == 47
    for at, one in enumerate(boxes):
        for other in boxes[at + 1 :]:
            apart_x = one["right"] <= other["left"] or other["right"] <= one["left"]
            apart_y = one["high"] <= other["low"] or other["high"] <= one["low"]
            assert apart_x or apart_y, (one, other)
    for square, says in (("s0001", "2 patches not looked at yet"), ("u0000", "3 patches not looked at yet")):
        page.tab.fill("#find", square)
        page.tab.keyboard.press("Enter")
        page.shows("#selected-words", says)
    time.sleep(0.3)
    assert page.complaints == []
