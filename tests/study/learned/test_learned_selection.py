"""The study `learned-selection`: every variant trains and is judged alike; a failed one is missing."""

import pytest

from cryoscout.study.engine.runner import Trial, TrialRow
from cryoscout.study.learned.selection import DEFAULT, STUDY, VARIANTS, page, results_by_variant, trials
from examples import slow_but


def _rows(failed=None):
    rows = []
    for trial in trials("quick"):
        name = trial.parameters["variant"]
        share = 0.8 + 0.01 * trial.seed + (0.0 if name == DEFAULT else -0.05)
        result = {"share": share, "course": [0.5, share], "best_epoch": 2, "seconds": 1.0}
        error = "killed" if name == failed and trial.seed == 1 else None
        rows.append(TrialRow(trial, 1.0, None if error else result, error))
    return rows


def test_differences_are_paired_by_split():
    made = page(_rows(), "quick")
    assert "-5.0 [-5.0, -5.0]" in made.markdown
    assert made.figure_png.startswith(b"\x89PNG")
    default = next(row for row in made.rows if row["variant"] == DEFAULT)
    assert default["share_mean"] == pytest.approx(0.81)
    assert [row["variant"] for row in made.rows] == list(VARIANTS)


def test_a_variant_with_a_failed_split_is_missing_and_so_are_all_differences_from_a_failed_default():
    assert results_by_variant(_rows("hard"))["hard"] is None
    assert "missing" in page(_rows("hard"), "quick").markdown
    rows = page(_rows(DEFAULT), "quick")
    assert rows.markdown.count("missing") == 4 * len(VARIANTS)
    assert rows.rows[0]["share_mean"] is None


@pytest.mark.parametrize("name", slow_but(["default"], VARIANTS))
def test_every_variant_trains_and_is_judged(name, tmp_path):
    trial = next(trial for trial in trials("quick") if trial.parameters["variant"] == name)
    short = {**trial.parameters["training"], "epochs": 1, "steps_per_epoch": 40}
    short["changes"] = {**short["changes"], "parts": 1 if short["changes"].get("parts", 1) else 0}
    run = STUDY.run_one.in_folder(tmp_path)
    result = run(Trial(trial.name, {**trial.parameters, "training": short}, 0))
    assert 0.0 < result["share"] <= 1.0
    assert result["best_epoch"] == len(result["course"]) == 1
