"""The page in a real browser: looked at, changed, left alone over a restart, and never led astray by a name."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra live is not installed")

from browser import CHROMIUM, WHY_NOT, Page, Served, wait_for
from page_sessions import MARKUP, session_with_places, stored

from cryoscout.live.assets import assets

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)
PAGE_MB = 0.4
PANELS = {name: f"#tab-button-{name}" for name in ("next", "squares", "history", "trust", "notes", "try")} | {
    "messages": "#message-more",
    "mode": "#mode",
    "help": "#help-button",
}
"""Panel -> what opens it."""


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Served]:
    """A session of 400 holes, 60 of them imaged, that is served."""
    folder = stored(session_with_places(400, imaged=60), tmp_path)
    served = Served(tmp_path, "serve", folder.name, "--port", "0", "--budget-min", "300").start()
    yield served
    served.stop()


def asked(served: Served, what: str, body: dict[str, Any] | None = None) -> Any:
    """What a script gets."""
    base, _, token = served.address().partition("?token=")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310  the test's own server
        f"{base}api/v1/{what}",
        data,
        {"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        return json.loads(answer.read())


def said_by_people(served: Served) -> list[dict[str, Any]]:
    """Actions, newest first, without the budget of the command line."""
    return [row for row in asked(served, "actions")["actions"] if row["author"] != "serve"]


def test_the_page_is_small_and_loads_nothing_from_elsewhere() -> None:
    total = sum(len(content) for content, _ in assets().values())
    assert total / 1e6 <= PAGE_MB
    for name, (content, _) in assets().items():
        text = content.decode("utf-8")
        assert "https://" not in text, name
        assert text.count("http://") == text.count("http://www.w3.org/"), name
        if name.endswith(".js"):
            for markup in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
                assert markup not in text, f"{name}: {markup}"
        if name.endswith(".html"):
            assert "style=" not in text, name
            assert "<script>" not in text, name


@needs_browser
def test_it_is_looked_at_changed_and_taken_back(browser: Any, night: Served) -> None:
    page = Page(browser, night.address())
    page.is_shown()
    assert "token" not in page("location.href")
    assert page.text("#verb") in ("START", "LOOK", "STAY", "LEAVE", "CHANGE GRID", "WAIT", "STOP")
    assert page("document.querySelectorAll('#next-list li').length") == 20
    page.shows("#lamp-page", "Page well")
    page.sign("AB")
    first = page.text("#next-hole")
    page.tab.keyboard.press("b")
    page.shows("#message-text", "by AB: banned")
    wait_for(lambda: page.text("#next-hole") != first, 15, "another next hole")
    page.tab.click("#tab-button-history")
    page.shows("#tab-history", f"banned {first} — AB")
    page.tab.click("#tab-history button")
    wait_for(lambda: page.text("#next-hole") == first, 15, "the hole that was banned, back")
    # A square through the map's own list, then a note with markup in it: it stays text.
    page.tab.click("#tab-button-notes")
    page.tab.fill("#tab-notes textarea", f"look at this {MARKUP}")
    page.tab.keyboard.press("Control+Enter")
    page.shows("#tab-notes", MARKUP)
    assert page("document.images.length") == 0
    page.tab.keyboard.press("Escape")
    scale = page("window.cryoscout.map.scale")
    page.tab.keyboard.press("+")
    wait_for(lambda: page("window.cryoscout.map.scale") > scale, 5, "a larger map")
    assert [row["kind"] for row in asked(night, "events?kind=noted")["events"]] == ["noted"]
    assert page.complaints == []


@needs_browser
@pytest.mark.slow
def test_a_server_that_was_killed_comes_back_and_nothing_said_is_lost(browser: Any, night: Served) -> None:
    page = Page(browser, night.address())
    page.is_shown()
    page.sign("AB")
    page.tab.click("#tab-button-notes")
    page.tab.fill("#tab-notes textarea", "half typed")
    page.tab.focus("#map")
    page.tab.keyboard.press("+")
    time.sleep(0.5)
    scale = page("window.cryoscout.map.scale")
    port = night.address().split(":")[2].split("/")[0]
    night.kill()
    began = time.monotonic()
    page.shows("#message-text", "No contact with the server since", 6)
    assert time.monotonic() - began < 3.5
    assert page("document.body.dataset.link") == "down"
    next_hole = page.text("#next-hole")
    page.tab.keyboard.press("p")
    night.arguments = tuple(port if each == "0" else each for each in night.arguments)
    night.start()
    page.shows("#message-text", "Said while there was no connection: pinned", 30)
    page.tab.click("#message-buttons button:has-text('Send')")
    page.shows("#message-text", "by AB: pinned", 15)
    said = asked(night, "actions")["actions"]
    assert [row["payload"]["hole_id"] for row in said if row["payload"]["kind"] == "pin"] == [next_hole]
    assert page("document.querySelector('#tab-notes textarea').value") == "half typed"
    assert page("window.cryoscout.map.scale") == pytest.approx(scale)


@needs_browser
@pytest.mark.slow
def test_sending_is_armed_on_the_page_for_some_minutes_and_taken_back(browser: Any, tmp_path: Path) -> None:
    session, folder = stored(session_with_places(400, imaged=60), tmp_path), tmp_path / "out"
    folder.mkdir()
    served = Served(
        tmp_path, "serve", session.name, "--port", "0", "--export-to", str(folder), "--bridge", "serialem"
    ).start()
    try:
        page = Page(browser, served.address())
        page.is_shown()
        page.shows("#mode", "SUGGEST")
        page.tab.keyboard.press("w")
        page.shows("#tab-mode", "Bridge: serialem")
        page.tab.click("#tab-mode button:has-text('Send')")
        page.shows("#message-text", "Write your initials above first")
        assert asked(served, "session")["mode"] == "suggest"
        page.sign("AB")
        page.tab.fill("#tab-mode input", "0")
        page.tab.click("#tab-mode button:has-text('Send')")
        page.shows("#tab-mode", "Minutes must be 1 to 1440.")
        page.tab.fill("#tab-mode input", "30")
        page.tab.click("#tab-mode button:has-text('Send')")
        page.shows("#tab-mode", "by AB: mode send for 30 min")
        page.shows("#mode", "SENDuntil ")
        assert asked(served, "session")["mode"] == "send"
        wait_for(
            lambda: json.loads((folder / "next.json").read_text())["mode"] == "send",
            20,
            "the file of the bridge",
        )
        page.tab.click("#tab-mode button:has-text('Watch')")
        page.shows("#mode", "WATCH")
        assert asked(served, "session")["armed_until"] is None
        notes = [note["text"] for note in asked(served, "actions")["notes"]]
        assert {"mode send for 30 min", "mode watch"} <= set(notes)
    finally:
        served.stop()


@pytest.mark.slow
def test_two_browsers_and_a_script_see_one_truth(browser: Any, night: Served) -> None:
    one, other = Page(browser, night.address()), Page(browser, night.address())
    for page, name in ((one, "AB"), (other, "CD")):
        page.is_shown()
        page.sign(name)
    first = one.text("#next-hole")
    other.tab.keyboard.press("b")
    wait_for(lambda: one.text("#next-hole") != first, 15, "the other's word")
    revision = asked(night, "session")["revision"]
    asked(night, "override", {"kind": "pause", "author": "script", "revision": revision})
    for page in (one, other):
        page.shows("#verb", "WAIT")
    one.tab.keyboard.press("k")
    for page in (one, other):
        wait_for(lambda page=page: page.text("#verb") != "WAIT", 15, "the end of the pause")
    names = [row["author"] for row in said_by_people(night)]
    assert names == ["AB", "script", "CD"]  # newest first
    hole = one.text("#next-hole")
    asked(night, "outcome", {"author": "ctf", "hole_id": hole, "ctf_max_res_angstrom": 3.1})
    for page in (one, other):
        wait_for(lambda page=page: page.text("#next-hole") != hole, 15, "the result")


@needs_browser
@pytest.mark.slow
def test_what_if_changes_nothing_and_the_past_is_shown_as_such(browser: Any, night: Served) -> None:
    page = Page(browser, night.address())
    page.is_shown()
    page.sign("AB")
    before = asked(night, "session")["revision"]
    page.tab.keyboard.press("t")
    page.tab.fill("#tab-try input[aria-label='good micrographs wanted']", "55")
    page.tab.click("#tab-try button:has-text('Try') >> nth=2")
    page.shows("#tab-try", "55 good:")
    assert asked(night, "session")["revision"] == before
    page.tab.click("#tab-try button:has-text('Apply')")
    page.shows("#goal", "of 55")
    assert asked(night, "session")["overrides"]["target"]["good"] == 55
    page.tab.evaluate(
        "const s = document.getElementById('as-of'); s.value = 300; s.dispatchEvent(new Event('input'))"
    )
    page.shows("#message-text", "this is the past")
    page.shows("#goal", "expected")  # the target was not said yet
    page.tab.click("#mode")
    page.tab.click("#tab-mode button:has-text('Watch')")
    page.shows("#tab-mode", "This is the past: move the slider to now")
    page.tab.click("#mode")
    page.tab.evaluate(
        "const s = document.getElementById('as-of'); s.value = 1000; s.dispatchEvent(new Event('input'))"
    )
    page.shows("#goal", "of 55")
    with page.tab.expect_download() as saved:
        page.tab.keyboard.press("Escape")
        page.tab.keyboard.press("e")
    lines = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("order,hole,")
    assert len(lines) == 21


@needs_browser
@pytest.mark.slow
def test_a_square_that_is_to_be_looked_into_is_skipped_found_and_taken_back(
    browser: Any, tmp_path: Path
) -> None:
    folder = stored(session_with_places(0, unseen=9), tmp_path)
    served = Served(tmp_path, "serve", folder.name, "--port", "0", "--budget-min", "300").start()
    try:
        page = Page(browser, served.address())
        page.is_shown()
        page.sign("AB")
        assert page.text("#verb") == "LOOK"
        first = asked(served, "verdict")["place"]
        page.shows("#next-hole", first)
        page.tab.focus("#map")
        page.tab.keyboard.press("S")
        wait_for(lambda: first not in page.text("#next-hole"), 15, "another square")
        assert page.text("#verb") == "LOOK"
        page.tab.fill("#find", first)
        page.tab.keyboard.press("Enter")
        page.shows("#selected-words", f"Square {first}: left out, not looked at yet")
        page.tab.focus("#map")
        page.tab.keyboard.press("k")
        wait_for(lambda: page.text("#verb") == "WAIT", 15, "the pause")
        page.tab.keyboard.press("k")
        wait_for(lambda: page.text("#verb") == "LOOK", 15, "its end")
        page.tab.click("#tab-button-squares")
        page.shows("#tab-squares", "? look into")
        page.tab.click("#tab-button-history")
        page.tab.click("#tab-history .past:has-text('skipped') button")
        wait_for(lambda: first in page.text("#next-hole"), 15, "the first square, back")
        assert page.complaints == []
    finally:
        served.stop()


@needs_browser
@pytest.mark.slow
def test_a_viewer_may_look_and_not_write(browser: Any, night: Served) -> None:
    page = Page(browser, night.address("viewer"))
    page.is_shown()
    page.sign("EF")
    page.tab.keyboard.press("b")
    page.shows("#message-text", "look and not write")
    assert said_by_people(night) == []


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize(("holes", "long_names"), [(1, False), (3, True), (2000, True)])
def test_sessions_of_any_size_and_name_are_shown(
    browser: Any, tmp_path: Path, holes: int, long_names: bool
) -> None:
    folder = stored(session_with_places(holes, long_names=long_names), tmp_path)
    served = Served(tmp_path, "serve", folder.name, "--port", "0").start()
    try:
        page = Page(browser, served.address())
        page.is_shown()
        assert page("document.images.length") == 0
        assert page("document.documentElement.scrollWidth") <= 1280
        assert page.complaints == []
    finally:
        served.stop()


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_no_error(browser: Any, night: Served, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    context = browser.new_context(viewport={"width": 1280, "height": 720}, bypass_csp=True)
    tab = context.new_page()
    tab.goto(night.address())
    wait_for(
        lambda: tab.evaluate("(window.cryoscout && window.cryoscout.shownRevision) || 0"),
        60,
        "the first view",
    )
    if theme == "light":
        tab.click("#theme")
    for name, opener in PANELS.items():
        tab.click(opener)
        time.sleep(0.3)
        found = axe.Axe().run(tab).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == [], name


TOO_SMALL_OR_OUTSIDE = """() => [...document.querySelectorAll('button, select, input, textarea')].flatMap((each) => {
  const box = each.getBoundingClientRect(), name = each.id || each.textContent;
  if (!box.width || each.closest('[hidden]')) return [];
  const found = [];
  if (box.width < 44 || box.height < 44) found.push(`${name} is ${box.width} x ${box.height}`);
  if (box.left < -1 || box.right > window.innerWidth + 1) found.push(`${name} is outside`);
  return found;
})"""


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1024, 768), (820, 1180)])
def test_a_tablet_has_targets_of_44_px_and_nothing_overflows(
    browser: Any, night: Served, width: int, height: int
) -> None:
    page = Page(browser, night.address(), width, height)
    page.is_shown()
    time.sleep(1.0)
    for tab, opener in PANELS.items():
        page.tab.click(opener)
        assert page(f"({TOO_SMALL_OR_OUTSIDE})()") == [], tab
        assert page("document.documentElement.scrollWidth") <= width
        assert page("document.documentElement.scrollHeight") <= height
    assert page.complaints == []
