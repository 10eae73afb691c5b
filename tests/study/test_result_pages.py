"""The index of results names every page, and which of them are of earlier results than today's code gives."""

from __future__ import annotations

import json
import re
from pathlib import Path

from cryoscout.study.engine.catalogue import study_named
from cryoscout.study.engine.versions import result_version

RESULTS = Path(__file__).parents[2] / "docs" / "results"
EARLIER = "## Pages of earlier results"


def pages() -> dict[str, dict[str, object]]:
    return {
        file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))
    }


def release_of(content: dict[str, object]) -> str:
    found = re.search(r"cryoscout ([0-9.]+[0-9])", str(content["machine"]))
    assert found is not None
    return found[1]


def is_of_today(content: dict[str, object]) -> bool:
    study = study_named(str(content["command"]).split()[2])
    return content.get("result_version") == result_version(study.packages, study.result_version)


def test_the_index_names_every_page():
    table = (RESULTS / "index.md").read_text(encoding="utf-8").partition(EARLIER)[0]
    assert set(re.findall(r"\]\(([a-z0-9-]+)\.md\)", table)) == set(pages())


def test_the_index_says_which_pages_are_of_earlier_results_and_of_which_release():
    _, heading, section = (RESULTS / "index.md").read_text(encoding="utf-8").partition(EARLIER)
    assert heading
    listed = dict(re.findall(r"^\| \[([a-z0-9-]+)\]\(\1\.md\) \| ([0-9.]+) \|", section, re.MULTILINE))
    assert listed == {
        name: release_of(content) for name, content in pages().items() if not is_of_today(content)
    }
