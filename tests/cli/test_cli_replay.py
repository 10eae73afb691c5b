"""`cryoscout replay`: the JSON contract, the same starts for all, the bound above everyone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

POLICY_KEYS = {
    "kind",
    "prediction",
    "good_mean",
    "good_std",
    "visited_mean",
    "reward_mean",
    "bound_mean",
    "runtime_s",
}


def test_the_json_follows_the_contract_and_nobody_beats_the_bound(cli):
    answer = cli("replay y1 --budget-min 60,120 --policies random,greedy@res18 --starts 4 --json")
    assert answer.code == 0
    assert answer.out.count("\n") == 1
    told = json.loads(answer.out)
    assert (told["session"], told["budgets_min"]) == ("y1", [60.0, 120.0])
    assert (told["crossing"], told["starts_from"], told["starts"], told["seed"]) == (
        "count",
        "all",
        [4, 4],
        0,
    )
    assert list(told["policies"]) == ["as recorded", "random", "greedy@res18"]
    for spec, row in told["policies"].items():
        assert set(row) - {"minutes_recorded_mean"} == POLICY_KEYS
        assert ("minutes_recorded_mean" in row) == (spec == "as recorded")
        assert all(len(row[key]) == 2 for key in POLICY_KEYS - {"kind", "prediction", "runtime_s"})
        assert all(good <= bound for good, bound in zip(row["good_mean"], row["bound_mean"], strict=True))
        assert row["good_mean"][0] <= row["visited_mean"][0]
    assert told["policies"]["greedy@res18"]["prediction"] == "res18"
    assert told["policies"]["random"]["bound_mean"] == told["policies"]["greedy@res18"]["bound_mean"]
    recorded = told["policies"]["as recorded"]
    assert (recorded["kind"], recorded["prediction"]) == ("recorded", None)
    assert 0 < recorded["minutes_recorded_mean"][0] < recorded["minutes_recorded_mean"][1]
    assert "where the recorded order found" in told["headline"]
    assert "in the same 120 minutes" in told["headline"]


def test_the_recorded_order_is_the_sessions_own_whoever_is_replayed_beside_it(cli):
    ask = "replay y1 --budget-min 60,120 --starts 4 --json --policies"
    alone, beside = (figures(cli(ask, names))["policies"] for names in ("random", "greedy,index"))
    assert alone["as recorded"] == beside["as recorded"]


def test_without_predictions_and_times_random_stands_in_and_greedy_is_left_out(cli):
    Path("ctf.csv").write_text(
        "hole_id,square_id,ctf_max_res\n"
        + "".join(f"h{hole},s{hole // 10},{3 + hole % 5}\n" for hole in range(40))
    )
    assert cli("import ctf.csv -o own.session").code == 0
    answer = cli("replay own.session --budget-min 30 --starts 2 --json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert list(told["policies"]) == ["random", "adaptive"]
    assert told["headline"].endswith("random pays for constant switching.")
    assert any(note.startswith("greedy is left out") for note in told["notes"])
    assert any("does not say in which order its holes were imaged" in note for note in told["notes"])
    named = json.loads(cli("replay own.session --budget-min 30 --starts 2 --json --policies greedy").out)
    assert named["policies"]["greedy"]["good_mean"] == [0.0]


def test_a_budget_longer_than_the_session_says_so_in_words(cli, sim):
    answer = cli("replay sim.session --budget-min 5000,20000 --policies index --starts 2")
    assert "The session has only 300 measured holes" in answer.out
    assert "every policy images them all" in answer.out
    assert "100 %" not in answer.out
    assert answer.out.count("all holes") >= 4


def test_the_default_policies_are_those_the_session_can_serve(cli):
    told = json.loads(cli("replay y1 --budget-min 30 --starts 1 --json").out)
    assert list(told["policies"]) == ["as recorded", "greedy", "adaptive@combined"]
    later = json.loads(cli("replay y1-2022 --budget-min 30 --starts 1 --json").out)
    assert {spec: row["prediction"] for spec, row in later["policies"].items()} == {
        "as recorded": None,
        "greedy": "regress50-2022",
        "adaptive": "regress50-2022",
    }


def figures(answer) -> dict:
    told = json.loads(answer.out)
    for row in told["policies"].values():
        del row["runtime_s"]
    return told


def test_the_same_seed_gives_the_same_figures(cli, sim):
    ask = "replay sim.session --budget-min 60 --policies random --starts 5 --json --seed"
    first = figures(cli(ask, "7"))
    assert first == figures(cli(ask, "7"))
    assert first["policies"]["random"] != figures(cli(ask, "8"))["policies"]["random"]


def test_a_policy_finds_the_same_whoever_is_replayed_beside_it(cli, sim):
    ask = "replay sim.session --budget-min 60 --starts 5 --json --policies"
    alone = figures(cli(ask, "greedy"))["policies"]["greedy"]
    assert figures(cli(ask, "random,greedy"))["policies"]["greedy"] == alone


def test_all_starts_each_hole_once_and_eliminated_starts_are_fewer_and_better(cli, sim):
    ask = "replay sim.session --budget-min 30 --policies random --starts all --json --starts-from"
    everywhere = figures(cli(ask, "all"))
    kept = figures(cli(ask, "eliminated"))
    assert everywhere["starts"] == [300]
    assert 0 < kept["starts"][0] < 300
    assert kept["policies"]["random"]["bound_mean"][0] > everywhere["policies"]["random"]["bound_mean"][0]


def test_a_dropped_crossing_finds_no_more_than_a_counted_one(cli, sim):
    ask = "replay sim.session --budget-min 50 --policies random --starts 20 --json --crossing"
    counted, dropped = (figures(cli(ask, rule))["policies"]["random"] for rule in ("count", "drop"))
    assert dropped["visited_mean"][0] < counted["visited_mean"][0] <= dropped["visited_mean"][0] + 1
    assert dropped["bound_mean"][0] <= counted["bound_mean"][0]


def test_holes_without_an_outcome_are_left_out_and_counted(cli):
    answer = cli("replay y1 --split all --budget-min 40 --policies random@flat --starts 3")
    assert answer.code == 0
    assert "471 holes without an outcome were left out" in answer.out


def test_the_table_has_mean_std_bound_share_and_runtime(cli, sim):
    answer = cli("replay sim.session --budget-min 30,60 --policies random --starts 5")
    assert answer.code == 0
    for part in (
        "30 min",
        "60 min",
        " ± ",
        " %)",
        "exact bound",
        "runtime",
        "5 starts from all holes",
        "seed 0",
    ):
        assert part in answer.out


def test_late_results_and_rare_replanning_are_accepted(cli, sim):
    ask = "replay sim.session --budget-min 40 --policies random --starts 2 --json"
    told = figures(cli(ask, "--ctf-delay-min", "5", "--replan-every", "square"))
    assert (told["ctf_delay_min"], told["replan_every"]) == (5.0, "square")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget-min", "120,0"], "The budget must be a positive number of minutes. Got 0.0 instead."),
        (
            ["--budget-min", "120,x"],
            "A length of time must be minutes, or hours and minutes. Got 'x' instead.",
        ),
        (["--policies", "gredy"], "Got 'gredy' instead. Did you mean 'greedy'?"),
        (["--policies", ","], "The policies must be at least one."),
        (["--policies", "random@res51"], "Did you mean 'res50'?"),
        (["--starts", "0"], "The starts must be a number above 0 or 'all'. Got '0' instead."),
        (["--starts-from", "elim"], "--starts-from must be one of all, eliminated. Got 'elim' instead."),
        (
            ["--crossing", "dop"],
            "--crossing must be one of count, drop. Got 'dop' instead. Did you mean 'drop'?",
        ),
        (["--ctf-delay-min=-1"], "The CTF delay must be 0 minutes or more. Got -1.0 instead."),
        (
            ["--replan-every", "0"],
            "Replanning must be every N holes, N above 0, or 'square'. Got '0' instead.",
        ),
        (["--time-model", "cryrl"], "Did you mean 'cryorl'?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli, options, message):
    answer = cli("replay y1 --budget-min 60 --policies random --starts 2", *options)
    assert answer.code == 2
    assert answer.out == ""
    assert message in answer.err
    assert answer.err.count("\n") == 1
