"""`cryoscout plan`: the JSON, the table, the exports, and every bad input."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing

import pytest

from cryoscout.advice.setting import split_policy_spec
from cryoscout.core.errors import InputError
from cryoscout.session.store import SessionStore
from cryoscout.session.store_schema import SCHEMA_VERSION


def test_the_plan_of_y1_as_json_is_one_object_that_keeps_the_budget(cli):
    answer = cli("plan y1 --budget-min 120 --policy greedy --json")
    assert answer.code == 0
    plan = json.loads(answer.out)
    assert answer.out.count("\n") == 1
    assert (plan["session"], plan["policy"], plan["prediction"]) == ("y1", "greedy", "res50")
    assert (plan["budget_min"], plan["time_model"], plan["start"]) == (120.0, "cryorl", None)
    holes = plan["holes"]
    places = {"hole", "patch", "square", "grid", "x_um", "y_um"}
    assert set(holes[0]) == places | {"p_good", "tier", "minutes", "minutes_used"}
    assert holes[-1]["minutes_used"] == plan["minutes_used"] <= 120
    assert sum(hole["minutes"] for hole in holes) == pytest.approx(plan["minutes_used"])
    tiers = [hole["tier"] for hole in holes]
    assert plan["switches"] == {"patch": tiers.count(1), "square": tiers.count(2), "grid": tiers.count(3)}
    assert plan["switch_cost_min"] == pytest.approx(plan["minutes_used"] - 2 * len(holes))
    low_80, high_80 = plan["interval_80"]
    low_50, high_50 = plan["interval_50"]
    assert 0 <= low_80 <= low_50 <= high_50 <= high_80 <= len(holes)
    # The mean of a skewed count may lie just outside the shortest half of it.
    assert low_50 - 1 <= plan["expected_good"] <= high_50 + 1
    assert any("Planned as new" in note for note in plan["notes"])
    assert any("'res50' is the model's own, not calibrated" in note for note in plan["notes"])


def test_the_same_seed_gives_the_same_plan_and_another_seed_another(cli):
    def ask(seed: int) -> str:
        return cli("plan y1 --budget-min 60 --policy random --seed", seed, "--json").out

    assert ask(0) == ask(0)
    assert ask(0) != ask(1)


def test_the_default_policy_is_adaptive_on_the_combined_prediction(cli):
    plan = json.loads(cli("plan y1 --budget-min 60 --json").out)
    assert (plan["policy"], plan["prediction"]) == ("adaptive", "combined")
    assert plan["expected_good"] > 0.7 * len(plan["holes"])
    assert plan["notes"] == ["Planned as new: outcomes are hidden."]


def test_the_table_says_what_switches_cost_and_what_to_expect(cli):
    answer = cli("plan y1 --budget-min 120 --policy greedy@res18")
    assert answer.code == 0
    assert "new grid +18.0 min first hole" in " ".join(answer.out.split())
    for part in ("Good micrographs expected: ", "50 %", "80 %", "Switches: ", "prediction res18", "of 120"):
        assert part in answer.out


def test_a_start_hole_is_taken_and_not_planned(cli):
    first = json.loads(cli("plan y1 --budget-min 60 --policy greedy --json").out)["holes"][0]["hole"]
    answer = cli("plan y1 --budget-min 60 --policy greedy --from", first, "--json")
    plan = json.loads(answer.out)
    assert plan["start"] == first
    assert first not in [hole["hole"] for hole in plan["holes"]]
    assert plan["holes"][0]["minutes"] < 20


def test_exports_are_written_and_never_overwritten_without_force(cli, tmp_path):
    ask = "plan y1 --budget-min 60 --policy greedy --export csv -o list.csv"
    assert cli(ask).code == 0
    rows = list(csv.DictReader((tmp_path / "list.csv").read_text().splitlines()))
    assert float(rows[-1]["minutes_used"]) <= 60
    (tmp_path / "list.csv").write_text("mine")
    answer = cli(ask)
    assert answer == (
        2,
        "",
        "The output must be a new file. Got list.csv, which exists, instead. "
        "Remedy: add --force to overwrite it.\n",
    )
    assert (tmp_path / "list.csv").read_text() == "mine"
    assert cli(ask, "--force").code == 0
    assert (tmp_path / "list.csv").read_text().startswith("order,hole")
    assert cli(ask.replace("csv", "html")).code == 0
    assert (tmp_path / "list.html").read_text(encoding="utf-8").count('type="checkbox"') == len(rows)


def test_a_plan_is_remembered_in_a_stored_session(cli, sim, tmp_path):
    answer = cli("plan sim.session --budget-min 60 --policy greedy --as-new --json")
    assert answer.code == 0
    plan = json.loads(answer.out)
    assert plan["prediction"] == "simulated"
    assert any("no prediction 'res50'" in note for note in plan["notes"])
    with SessionStore.open(tmp_path / sim) as store:
        (event,) = store.events(kind="planned")
    assert event.payload == plan


def test_imaged_holes_are_never_planned(cli, sim):
    answer = cli("plan sim.session --budget-min 60 --policy greedy")
    assert answer == (
        2,
        "",
        "Session sim must have a hole that is not imaged yet. Got 300 imaged holes instead. "
        "Remedy: add --as-new to plan it as if nothing was imaged.\n",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget-min", "0"], "The budget must be a positive number of minutes. Got 0.0 instead."),
        (["--budget-min=-5"], "The budget must be a positive number of minutes. Got -5.0 instead."),
        (["--budget-min", "nan"], "The budget must be a positive number of minutes. Got nan instead."),
        (["--policy", "adaptve"], "Got 'adaptve' instead. Did you mean 'adaptive'?"),
        (["--policy", "greedy@res5"], "Got 'res5' instead. Did you mean 'res50'?"),
        (
            ["--policy", "greedy@"],
            "A policy must be written policy or policy@prediction. Got 'greedy@' instead.",
        ),
        (["--policy", "greedy@res18", "--prediction", "res50"], "The prediction must be named once."),
        (["--time-model", "fited"], "Got 'fited' instead. Did you mean 'fitted'?"),
        (["--split", "vale"], "Got 'vale' instead. Did you mean 'val'?"),
        (["--from", "nowhere"], "The hole must be one of session y1. Got 'nowhere' instead."),
        (
            ["--threshold-angstrom", "0"],
            "The threshold must be a resolution from 0.5 to 100 angstrom. Got 0.0 instead.",
        ),
        (
            ["--threshold-angstrom", "1e300"],
            "The threshold must be a resolution from 0.5 to 100 angstrom. Got 1e+300 instead.",
        ),
        (["--threshold-angstrom", "4"], "The threshold of model 'res50' must be 6 angstrom"),
        (["--export", "csb", "-o", "x"], "Got 'csb' instead. Did you mean 'csv'?"),
        (["--export", "csv"], "An export must have a format and a file. Got only --export instead."),
        (["-o", "x.csv"], "An export must have a format and a file. Got only -o instead."),
        (["--export", "csv", "-o", "no/x.csv"], "The output's folder must exist. Got no instead."),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli, options, message):
    answer = cli("plan y1 --budget-min 60 --policy greedy --json", *options)
    assert answer.code == 2
    assert answer.out == ""
    assert message in answer.err
    assert answer.err.count("\n") == 1


def test_an_unknown_session_offers_the_nearest(cli, sim):
    answer = cli("plan sim --budget-min 60")
    assert answer.code == 2
    assert answer.err == (
        "The session must be one of sim.session, y1, y1-2022. Got 'sim' instead. "
        "Did you mean 'sim.session'?\n"
    )


def test_a_newer_store_is_refused_and_left_as_it_is(cli, sim, tmp_path):
    database = tmp_path / sim / "session.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE schema_version SET version = version + 1000")
    before = database.read_bytes()
    answer = cli("plan sim.session --budget-min 60 --as-new")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert f"Got {SCHEMA_VERSION + 1000} in sim.session instead. Remedy: update cryoscout" in answer.err
    assert database.read_bytes() == before


def test_policy_specs_are_split_at_the_sign():
    assert split_policy_spec("adaptive") == ("adaptive", None)
    assert split_policy_spec("adaptive", "flat") == ("adaptive", "flat")
    assert split_policy_spec("adaptive@flat", "flat") == ("adaptive", "flat")
    with pytest.raises(InputError, match="named once"):
        split_policy_spec("adaptive@flat", "combined")


def test_combined_away_from_the_dataset_it_was_fitted_to_says_so(cli, sim):
    answer = cli("plan sim.session --budget-min 60 --as-new --json")
    plan = json.loads(answer.out)
    assert plan["prediction"] == "combined"
    assert (
        "combined was fitted to the ResNet-18 of the Y1 session; for model 'simulated' its calibration is not "
        "checked. CTF results that are imported correct it."
    ) in plan["notes"]


def test_an_empty_plan_says_what_the_first_hole_takes(cli):
    answer = cli("plan y1 --budget-min 5 --policy greedy --json")
    plan = json.loads(answer.out)
    assert plan["holes"] == []
    assert plan["notes"][0] == (
        "Nothing fits: the first hole takes 20 min. Remedy: give more time, or your own times with --time-model."
    )


def test_labels_without_probabilities_get_no_interval(cli):
    answer = cli("plan y1-2022 --budget-min 60 --policy greedy")
    text = " ".join(answer.out.split())
    assert "(50 %: -, 80 %: -)" in text
    assert (
        "Prediction 'regress50-2022' gives labels without probabilities: its intervals say nothing." in text
    )
    assert "(50 %: -" not in cli("plan y1 --budget-min 60 --policy greedy").out


def holes_of_a_table(ctf_of: dict[int, str]) -> list[str]:
    """Lines of a table: four squares, holes 1 to 48 that differ in nothing but place and result."""
    return [
        f"g{hole % 2},s{hole % 4},p{hole % 8},h{hole},{10 * hole % 70},{7 * hole % 90},{ctf_of.get(hole, '')}"
        for hole in range(1, 49)
    ]


@pytest.mark.parametrize(
    "policies",
    [
        ("adaptive", "index"),
        pytest.param(("adaptive-trust", "expected", "random"), marks=pytest.mark.slow),
    ],
)
def test_the_order_of_a_tables_lines_changes_nothing(cli, tmp_path, policies):
    lines = holes_of_a_table({3: "3.5", 7: "9", 8: "4.1", 20: "12", 31: "3.9", 44: "8"})
    orders = [lines, lines[::-1], lines[17:] + lines[:17]]
    for number, order in enumerate(orders):
        table = "\n".join(["grid,square,patch,hole,x_px,y_px,ctf_max_res_angstrom", *order])
        (tmp_path / "own.csv").write_text(table + "\n")
        (tmp_path / str(number)).mkdir()
        assert cli(f"import own.csv -o {number}/own.session").code == 0
    for policy in policies:
        line = f"/own.session --budget-min 70 --policy {policy} --from h5 --json"
        plans = [json.loads(cli(f"plan {number}{line}").out) for number in range(len(orders))]
        assert len(plans[0]["holes"]) > 5, policy
        assert plans[1] == plans[0], policy
        assert plans[2] == plans[0], policy
