"""A real browser on the real page: Debian's Chromium, driven by Playwright; a server in a process of its own.

The page's content security policy forbids evaluating text, so waiting is done here and not inside the page.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WHY_NOT = "no Chromium is installed (apt install chromium)" if CHROMIUM is None else ""

_RUN = "import sys; from cryoscout.cli.main import run; sys.argv[0] = 'cryoscout'; run()"


class Served:
    """`cryoscout COMMAND ...` that serves a page, in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.arguments = folder, arguments
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "served.log"

    def start(self) -> Served:
        """Start it and wait for its address."""
        environment = dict(os.environ, PYTHONUNBUFFERED="1")
        out = self.log.open("ab")
        begin = self.log.stat().st_size
        self.process = subprocess.Popen(
            [sys.executable, "-c", _RUN, *self.arguments],
            cwd=self.folder,
            env=environment,
            stdout=out,
            stderr=out,
        )
        out.close()
        wait_for(lambda: "token=" in self._said(begin) or self.process_ended(), 240.0, "the server's address")
        assert not self.process_ended(), self._said(begin)
        self.said = self._said(begin)
        return self

    def _said(self, begin: int) -> str:
        return self.log.read_bytes()[begin:].decode("utf-8", "replace")

    def process_ended(self) -> bool:
        """Whether the process has ended."""
        return self.process is not None and self.process.poll() is not None

    def address(self, role: str = "operator") -> str:
        """The address with the token of a role."""
        found = re.search(rf"{role}\s+(http\S+)", self.said) or re.search(r"(http\S+token=\S+)", self.said)
        assert found is not None, self.said
        return found.group(1)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """As Ctrl-C."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()


def wait_for(holds: Callable[[], Any], limit_s: float, what: str) -> Any:
    """Ask again until it holds; fails with what was waited for."""
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        found = holds()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {limit_s:g} s for {what}")


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Page:
    """One tab, with the complaints of its console."""

    def __init__(self, browser: Any, address: str, width: int = 1280, height: int = 720) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.tab = self.context.new_page()
        self.complaints: list[str] = []
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on(
            "console", lambda said: self.complaints.append(said.text) if said.type == "error" else None
        )
        self.tab.goto(address)

    def __call__(self, script: str) -> Any:
        """What a script of the page gives."""
        return self.tab.evaluate(script)

    def text(self, selector: str) -> str:
        """Text of an element."""
        return str(self.tab.inner_text(selector))

    def shows(self, selector: str, wanted: str, limit_s: float = 15.0) -> None:
        """Wait until an element shows a text."""
        wait_for(
            lambda: wanted in self.tab.inner_text(selector),
            limit_s,
            f"{wanted!r} in {selector}: {self.text(selector)!r}",
        )

    def is_shown(self, limit_s: float = 60.0) -> None:
        """Wait until the first advice is drawn."""
        wait_for(
            lambda: self("(window.cryoscout && window.cryoscout.shownRevision) || 0"),
            limit_s,
            "the first view",
        )

    def sign(self, initials: str) -> None:
        """Write the operator's initials."""
        self.tab.fill("#author", initials)
        self.tab.keyboard.press("Escape")


def close_pages(browser: Any) -> None:
    """Before their server ends: an answer that was to be changed and does not come would fail the next test."""
    for context in browser.contexts:
        for tab in context.pages:
            tab.unroute_all(behavior="ignoreErrors")
        context.close()


SHIFTED_CLOCK = """(() => {
  const real = Date;
  window.clockShiftMs = MILLISECONDS;
  const now = () => real.now() + window.clockShiftMs;
  window.Date = class extends real {
    constructor(...given) { if (given.length) super(...given); else super(now()); }
    static now() { return now(); }
  };
  Object.defineProperty(document, "hidden", { get: () => Boolean(window.isHidden) });
})()"""


def with_own_clock(page: Page, ahead_s: float = 0.0) -> None:
    """From the next load on its clock is ahead by `window.clockShiftMs`, and `window.isHidden` puts the tab away."""
    page.tab.add_init_script(SHIFTED_CLOCK.replace("MILLISECONDS", str(1000.0 * ahead_s)))


def sleep_over(page: Page, hours: float) -> None:
    """The tab is put away, and looked at again after so many hours by its clock."""
    event = "document.dispatchEvent(new Event('visibilitychange'))"
    page(f"window.isHidden = true; {event}")
    page(f"window.clockShiftMs += {3.6e6 * hours}; window.isHidden = false; {event}")


def slow_network(page: Page, latency_ms: float = 400.0, kb_per_s: float = 50.0) -> None:
    """From now on everything, the socket too, is so slow."""
    told = page.context.new_cdp_session(page.tab)
    told.send("Network.enable")
    told.send(
        "Network.emulateNetworkConditions",
        {
            "offline": False,
            "latency": latency_ms,
            "downloadThroughput": 1000.0 * kb_per_s,
            "uploadThroughput": 1000.0 * kb_per_s,
        },
    )


def start_again(served: Served) -> None:
    """Start a server that was killed, at the address that it had."""
    port = served.address().split(":")[2].split("/")[0]
    served.arguments = tuple(port if each == "0" else each for each in served.arguments)
    served.start()
