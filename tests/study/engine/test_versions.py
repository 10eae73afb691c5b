"""A package whose figures changed has another number: else `--resume` would mix two results in one table."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from cryoscout.study.engine.catalogue import STUDIES, study_named
from cryoscout.study.engine.versions import RESULT_VERSIONS, result_version

_HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("reference_figures", _HERE / "reference_figures.py")
assert _spec is not None
assert _spec.loader is not None
reference_figures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference_figures)
STORED = json.loads(reference_figures.FILE.read_text(encoding="utf-8"))


def test_the_reference_figures_are_those_of_the_declared_versions():
    assert STORED["versions"] == RESULT_VERSIONS, "write reference_figures.json anew"


@pytest.mark.parametrize("package", sorted(reference_figures.FIGURES))
def test_figures_that_changed_have_another_version(package):
    found = reference_figures.FIGURES[package]()
    assert found == pytest.approx(STORED["figures"][package], rel=1e-7, abs=1e-9), (
        f"results of {package} changed: raise RESULT_VERSIONS[{package!r}], then write reference_figures.json anew"
    )


def test_a_version_names_packages_in_one_order_and_changes_with_each(monkeypatch):
    before = result_version(["routing", "belief"])
    assert before == result_version(["belief", "routing"])
    assert result_version(["routing", "belief"], study=2) != before
    monkeypatch.setitem(RESULT_VERSIONS, "learning", RESULT_VERSIONS["learning"] + 1)
    assert result_version(["routing", "belief"]) == before
    monkeypatch.setitem(RESULT_VERSIONS, "belief", RESULT_VERSIONS["belief"] + 1)
    assert result_version(["routing", "belief"]) != before


def test_every_study_stands_on_packages_with_a_version():
    for name in STUDIES:
        study = study_named(name)
        assert result_version(study.packages, study.result_version)
