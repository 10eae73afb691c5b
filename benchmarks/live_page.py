"""How fast the page of `cryoscout serve` is, in headless Chromium without a GPU.

    python benchmarks/live_page.py [--json] [--small N] [--large N] [--results N]

first_view_s                   from the address to the first drawn advice, large session
outcome_to_pixel_p95_ms        an outcome is posted -> the pixel of its hole has another colour, small session
outcome_to_pixel_100k_p95_ms   the same, large session
pan_p95_ms                     draw time of one frame over a fixed path, large session: whole grid, then one square
page_mb                        bytes / 10^6 of what the first view loads, uncompressed
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "live"))

from browser import CHROMIUM, Page, Served, chromium, wait_for
from page_sessions import session_with_places, stored

from cryoscout.live.assets import assets

AIMS = {
    "first_view_s": 2.0,
    "outcome_to_pixel_p95_ms": 300.0,
    "outcome_to_pixel_100k_p95_ms": 1500.0,
    "pan_p95_ms": 16.0,
    "page_mb": 0.4,
}

# A loop on the page's own frames notes when the pixel of a hole has another colour than at the beginning.
_WATCH = """(hole) => {
  const map = window.cryoscout.map, ratio = 1;
  map.setLayer("measured"); map.following = false; map.showSquare(map.holes.square[hole]);
  const [x, y] = map.toScreen(map.holes.x[hole], map.holes.y[hole]).map(Math.round);
  const pixel = () => [...map.canvas.getContext("2d").getImageData(x, y, ratio, ratio).data].join();
  const before = pixel();
  window.changedAt = 0;
  const look = () => { if (pixel() !== before) window.changedAt = Date.now(); else requestAnimationFrame(look); };
  requestAnimationFrame(look);
}"""


def measure(n_holes: int, results: int, folder: Path, *, pans: bool) -> dict[str, Any]:
    """Figures of one session."""
    place = stored(session_with_places(n_holes, imaged=40), folder)
    served = Served(folder, "serve", place.name, "--port", "0", "--budget-min", "480").start()
    try:
        with chromium() as browser:
            Page(browser, served.address()).is_shown(120)  # compiled code and caches of the system are warm
            began = time.perf_counter()
            page = Page(browser, served.address())
            page.is_shown(120)
            found: dict[str, Any] = {"first_view_s": time.perf_counter() - began}
            lags = [_outcome_to_pixel(page, served) for _ in range(results)]
            found["outcome_to_pixel_p95_ms"] = float(np.quantile(lags, 0.95))
            if pans:
                found["pan_p95_ms"] = _pan(page)
        return found
    finally:
        served.stop()


def _outcome_to_pixel(page: Page, served: Served) -> float:
    next_hole = page("window.cryoscout.now.advice.next.hole")
    hole = page(f"window.cryoscout.now.place.get({json.dumps(next_hole)})")
    page.tab.evaluate(_WATCH, hole)
    base, _, token = served.address().partition("?token=")
    body = json.dumps({"author": "benchmark", "hole_id": next_hole, "ctf_max_res_angstrom": 3.5}).encode()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    began_ms = time.time() * 1000.0
    urllib.request.urlopen(urllib.request.Request(f"{base}api/v1/outcome", body, headers), timeout=60).close()  # noqa: S310
    changed_ms = float(wait_for(lambda: page("window.changedAt"), 60, "the pixel"))
    wait_for(lambda: page("window.cryoscout.now.advice.next.hole") != next_hole, 60, "the next hole")
    return changed_ms - began_ms


def _pan(page: Page) -> float:
    """95th percentile of a frame's draw time, the hand moving 40 times at each of two zooms; full drawings included."""
    page("window.cryoscout.map.frameTimes.length = 0")
    for zoom in (
        "window.cryoscout.map.showWhole()",
        "window.cryoscout.map.showSquare(window.cryoscout.map.holes.square[50])",
    ):
        page(zoom)
        for step in range(40):
            page(f"window.cryoscout.map.pan({7 if step % 20 < 10 else -7}, 3)")
            time.sleep(0.02)
        time.sleep(0.3)
    return float(np.quantile(page("window.cryoscout.frames()"), 0.95))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", type=int, default=2_400)
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--results", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if CHROMIUM is None:
        sys.exit("The page must be measured in Chromium. Got none instead. Remedy: apt install chromium.")
    with tempfile.TemporaryDirectory() as folder:
        (small_folder := Path(folder) / "small").mkdir()
        (large_folder := Path(folder) / "large").mkdir()
        small = measure(asked.small, asked.results, small_folder, pans=False)
        large = measure(asked.large, asked.results, large_folder, pans=True)
    loaded = [
        len(content) for name, (content, _) in assets().items() if not name.startswith(("docs", "practice"))
    ]
    figures = {
        "first_view_s": large["first_view_s"],
        "outcome_to_pixel_p95_ms": small["outcome_to_pixel_p95_ms"],
        "outcome_to_pixel_100k_p95_ms": large["outcome_to_pixel_p95_ms"],
        "pan_p95_ms": large["pan_p95_ms"],
        "page_mb": sum(loaded) / 1e6,
    }
    if asked.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:30} {value:10.3f}   aim {AIMS[name]:g}")


if __name__ == "__main__":
    main()
