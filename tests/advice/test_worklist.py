"""The work list never passes the budget, adds up, and says what an operator needs."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.advice.work_list import (
    CSV_COLUMNS,
    PlaceNames,
    PlannedLook,
    WorkList,
    name_within,
    named_visits,
    planned_route,
    work_list_of,
)
from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.formats.own import table as generic_table
from cryoscout.formats.own.cells import NO_VALUE
from cryoscout.routing.course import PolicyError
from cryoscout.routing.plan_route import plan_route
from cryoscout.routing.policies import make_policy
from cryoscout.routing.policies.base import STOP, AskedHoleByHole, Observation
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.testing import random_problem


class Listed(AskedHoleByHole):
    """Visits the holes it was given, in order, whatever happens."""

    name = "listed"
    kind = "baseline"
    default_prediction = "res50"
    drops_crossing = False

    def __init__(self, holes: list[int]) -> None:
        self.holes = holes

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        self.left = list(self.holes)

    def next_hole(self, observation: Observation) -> int:
        return self.left.pop(0) if self.left else STOP


def names_of(problem: RoutingProblem) -> PlaceNames:
    return PlaceNames(
        holes=tuple(f"g_s_p_{i:03d}h" for i in range(problem.n_holes)),
        patches=tuple(f"g_s_{i:03d}p" for i in range(len(problem.square_of_patch))),
        squares=tuple(f"g_{i:03d}s" for i in range(len(problem.grid_of_square))),
        grids=tuple(f"{i:03d}g" for i in range(int(problem.grid_of_square[-1]) + 1)),
    )


def listed(problem: RoutingProblem, holes: list[int], start: int = NOWHERE) -> WorkList:
    return work_list_of(
        planned_route(problem, Listed(holes), start_hole=start, seed=0),
        names_of(problem),
        session="made <up>",
        policy="listed",
        prediction="res50",
        threshold_angstrom=6.0,
    )


@pytest.fixture
def two_grids() -> RoutingProblem:
    return two_grids_problem()


def two_grids_problem() -> RoutingProblem:
    """Patches 0 (holes 0, 1) and 1 (2) in square 0, patch 2 (3) in square 1, patch 3 (4, 5) in grid 1."""
    return RoutingProblem(
        tree=HoleTree(
            np.array([0, 0, 1, 2, 3, 3], dtype=np.int32),
            np.array([0, 0, 1, 2], dtype=np.int32),
            np.array([0, 0, 1], dtype=np.int32),
        ),
        prior_p_good=np.array([0.9, 0.25, 0.8, 0.7, 0.6, 0.5]),
        budget_min=60.0,
    )


def test_minutes_follow_the_tiers_and_switches_are_counted_at_their_highest_level(two_grids):
    plan = listed(two_grids, [0, 2, 3, 4, 5])
    assert [visit.tier for visit in plan.visits] == [3, 1, 2, 3, 0]
    assert [visit.minutes_used for visit in plan.visits] == [20.0, 25.0, 35.0, 55.0, 57.0]
    assert plan.switches == {"patch": 1, "square": 1, "grid": 2}
    assert plan.switch_cost_min == 18 + 3 + 8 + 18
    assert plan.minutes_used == 57.0
    assert plan.expected_good == pytest.approx(0.9 + 0.8 + 0.7 + 0.6 + 0.5)


def test_the_visit_that_would_cross_the_budget_is_never_planned_even_where_it_counts_in_replay(two_grids):
    problem = replace(two_grids, budget_min=54.9, crossing="count")
    plan = listed(problem, [0, 2, 3, 4, 5])
    assert [visit.hole[-4:] for visit in plan.visits] == ["000h", "002h", "003h"]
    assert plan.minutes_used == 35.0


def test_set_up_minutes_come_out_of_the_budget(two_grids):
    model = two_grids.time_model.model_copy(update={"setup_min": 30.0})
    plan = listed(replace(two_grids, time_model=model), [0, 1, 2, 3])
    assert [visit.minutes_used for visit in plan.visits] == [50.0, 52.0, 57.0]


def test_a_start_hole_is_where_the_plan_stands_and_is_not_planned(two_grids):
    plan = listed(two_grids, [0, 2], start=1)
    assert plan.start == "g_s_p_001h"
    assert [visit.tier for visit in plan.visits] == [0, 1]
    with pytest.raises(PolicyError, match=r"must choose an allowed, unvisited hole\. Got 0 instead"):
        listed(two_grids, [0], start=0)


def test_every_switch_says_what_it_costs_and_why(two_grids):
    stays = listed(two_grids, [0, 2, 3, 4, 5]).stays()
    assert [len(stay.visits) for stay in stays] == [1, 1, 1, 2]
    assert [stay.switch_min for stay in stays] == [18.0, 3.0, 8.0, 18.0]
    assert stays[0].reason == "first hole"
    assert stays[1].reason == "best left behind: p 0.25"
    assert stays[2].reason == "patch finished"
    assert stays[3].p_good_mean == pytest.approx(0.55)


def test_a_patch_that_is_entered_again_makes_two_stays(two_grids):
    assert [stay.first.patch for stay in listed(two_grids, [0, 2, 1]).stays()] == [
        "g_s_000p",
        "g_s_001p",
        "g_s_000p",
    ]


def test_imaged_holes_are_never_planned(two_grids):
    imaged = np.array([True, False, False, False, False, False])
    problem = replace(two_grids, imaged=imaged, outcome=np.where(imaged, 1.0, np.nan))
    with pytest.raises(PolicyError, match="unvisited"):
        listed(problem, [0])
    assert [visit.hole for visit in listed(problem, [1]).visits] == ["g_s_p_001h"]


def test_the_forecast_takes_in_the_outcomes_known_so_far_and_is_the_same_for_the_same_seed(two_grids):
    imaged = np.array([True, False, False, False, True, False])

    def forecast(outcome: float) -> tuple[float, tuple[float, float]]:
        problem = replace(two_grids, imaged=imaged, outcome=np.where(imaged, outcome, np.nan))
        plan = listed(problem, [1, 2])
        return plan.expected_good, plan.interval_80

    assert forecast(1.0)[0] > forecast(0.0)[0]
    problem = replace(two_grids, imaged=imaged, outcome=np.where(imaged, 1.0, np.nan))
    plan = listed(problem, [1, 2])
    assert plan.visits[0].p_good > two_grids.prior_p_good[1]
    assert sum(visit.p_good for visit in plan.visits) == pytest.approx(plan.expected_good)
    assert forecast(1.0) == forecast(1.0)


def test_the_intervals_hold_the_expectation_and_the_wide_one_holds_the_narrow_one():
    problem = random_problem(np.random.default_rng(5), 600, budget_min=2500.0)
    plan = listed(problem, list(range(600)))
    (low_80, high_80), (low_50, high_50) = plan.interval_80, plan.interval_50
    assert 0 <= low_80 < low_50 < plan.expected_good < high_50 < high_80 <= len(plan.visits)
    again = listed(problem, list(range(600)))
    assert (again.interval_50, again.interval_80) == (plan.interval_50, plan.interval_80)


def test_a_plan_without_a_visit_has_nothing_to_add_up(two_grids):
    plan = listed(replace(two_grids, budget_min=1.0), [0])
    assert plan.visits == ()
    assert (plan.minutes_used, plan.expected_good, plan.switch_cost_min) == (0.0, 0.0, 0.0)
    assert plan.interval_80 == (0.0, 0.0)
    assert plan.to_csv() == ",".join(CSV_COLUMNS) + "\n"
    assert "<h1>" in plan.to_html()


def test_names_must_fit_the_problem(two_grids):
    with pytest.raises(InputError, match="Names must be given for 6 holes"):
        work_list_of(
            planned_route(two_grids, Listed([0]), start_hole=NOWHERE, seed=0),
            replace(names_of(two_grids), holes=("only",)),
            session="s",
            policy="listed",
            prediction="res50",
            threshold_angstrom=6.0,
        )


def test_the_csv_reads_back_to_the_same_visits(two_grids):
    plan = listed(two_grids, [0, 2, 3])
    rows = list(csv.DictReader(io.StringIO(plan.to_csv())))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["hole"] for row in rows] == [visit.hole for visit in plan.visits]
    assert [float(row["minutes_used"]) for row in rows] == [visit.minutes_used for visit in plan.visits]


ID = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=12
)
ID = ID.map(str.strip).filter(lambda text: text.lower() not in NO_VALUE)


POSITION_UM = st.floats(-2000, 2000) | st.just(float("nan"))


@given(
    st.lists(ID, min_size=6, max_size=6, unique=True),
    st.lists(ID, min_size=4, max_size=4, unique=True),
    st.lists(POSITION_UM, min_size=12, max_size=12),
)
def test_our_own_reader_of_tables_reads_the_csv_back_as_holes_that_are_not_imaged(
    tmp_path_factory, holes, others, positions_um
):
    problem = two_grids_problem()
    x_um, y_um = np.array(positions_um).reshape(2, 6)
    names = PlaceNames(tuple(holes), tuple(others), tuple(others[:3]), tuple(others[2:]), x_um, y_um)
    plan = replace(
        listed(problem, [3, 0, 5, 4]),
        visits=named_visits(
            plan_route(problem, Listed([3, 0, 5, 4]), NOWHERE, 0), names, problem.prior_p_good
        ),
    )
    path = tmp_path_factory.mktemp("plan") / "targets.csv"
    path.write_text(plan.to_csv(), encoding="utf-8", newline="")
    assert generic_table.detect(path)
    assert generic_table.validate(path) == []
    source = generic_table.read_source(path)
    wanted = [(visit.hole, visit.patch, visit.square, visit.grid) for visit in plan.visits]
    assert wanted == list(
        source.holes[["hole_id", "patch_id", "square_id", "grid_id"]].itertuples(index=False, name=None)
    )
    np.testing.assert_array_equal(source.holes["x_um"].to_numpy(), x_um[[3, 0, 5, 4]])
    np.testing.assert_array_equal(source.holes["y_um"].to_numpy(), y_um[[3, 0, 5, 4]])
    assert source.holes[["x_px", "y_px"]].isna().all(axis=None)
    assert source.exposures.empty
    assert source.ctf.empty
    (ignored,) = source.notes
    unused = ["order", "p_good", "tier", "minutes", "minutes_used", *CSV_COLUMNS[CSV_COLUMNS.index("step") :]]
    assert ignored.endswith(f"not used: {', '.join(unused)}")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.boxes = 0
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.boxes += ("type", "checkbox") in attrs
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_has_a_box_per_hole_and_loads_nothing_and_escapes_names(two_grids):
    plan = replace(listed(two_grids, [0, 2, 3, 4, 5]), notes=("<script>alert(1)</script>",))
    html = plan.to_html()
    page = _Page()
    page.feed(html)
    assert page.boxes == 5
    assert page.addresses == []
    assert not re.search(r"https?://|@import|url\(", html)
    assert "<script>" not in html
    assert "made &lt;up&gt;" in html


def test_list_page_and_json_say_where_a_hole_is_where_that_is_known(two_grids):
    x_um = np.array([-495.956, np.nan, 7.0, 0.0, 0.0, 0.0])
    y_um = np.array([436.348, np.nan, 0.5, 0.0, 0.0, 0.0])
    names = replace(names_of(two_grids), x_um=x_um, y_um=y_um)
    visits = named_visits(plan_route(two_grids, Listed([0, 1]), NOWHERE, 0), names, two_grids.prior_p_good)
    plan = replace(listed(two_grids, [0, 1]), visits=visits)
    rows = list(csv.DictReader(io.StringIO(plan.to_csv())))
    assert [(row["x_um"], row["y_um"]) for row in rows] == [("-495.956", "436.348"), ("", "")]
    assert [(hole["x_um"], hole["y_um"]) for hole in plan.to_json()["holes"]] == [
        (-495.956, 436.348),
        (None, None),
    ]
    assert plan.to_html().count(", at -495.96, 436.35</span>") == 1
    assert plan.to_html().count(", at ") == 1
    assert "position of the hole on the stage" in plan.to_html()
    without = listed(two_grids, [0, 1])
    assert [(visit.x_um, visit.y_um) for visit in without.visits] == [(None, None)] * 2
    assert "position of the hole" not in without.to_html()


def test_looks_after_holes_have_their_own_numbers_as_on_the_map_and_in_json(two_grids):
    look = PlannedLook(1, "s9", "000g", None, None, None, 2.0, (0.0, 4.0), 5.0, 0.4, (0.0, 0.8), in_plan=True)
    plan = replace(listed(two_grids, [1, 2]), looks=(look,))
    page = plan.to_html()
    assert "1. Look at square s9" in page
    assert f"of which {plan.minutes_used:.1f} min are planned for holes" in page
    assert plan.to_json()["looks"][0]["order"] == 1
    of_look = list(csv.DictReader(io.StringIO(plan.to_csv())))[-1]
    assert (of_look["step"], of_look["square"], of_look["order"]) == ("look", "s9", "3")
    assert (of_look["hole"], of_look["p_good"], of_look["minutes_used"]) == ("", "", "")
    worth = [float(of_look[name]) for name in ("expected_good", "good_80_low", "good_80_high")]
    per_min = [float(of_look[f"good_per_min{part}"]) for part in ("", "_80_low", "_80_high")]
    assert (worth, per_min) == ([2.0, 0.0, 4.0], [0.4, 0.0, 0.8])


def test_the_short_name_is_what_the_parent_does_not_say():
    assert name_within("21mar_00008gr_00011sq", "21mar_00008gr") == "00011sq"
    assert name_within("h12", "p3") == "h12"
    assert name_within("same", "same") == "same"


@pytest.mark.parametrize("policy", ["random", "greedy"])
@given(seed=st.integers(0, 10_000))
def test_no_plan_passes_the_budget_or_repeats_a_hole(policy, seed):
    problem = random_problem(np.random.default_rng(seed), 12, share_imaged=0.3, share_allowed=0.8)
    free = np.flatnonzero(problem.available())
    start = int(free[0]) if len(free) and seed % 2 else NOWHERE
    course = plan_route(problem, make_policy(policy), start, seed)
    route, tiers = course.route, course.tiers
    minutes = problem.time_model.setup_min + problem.time_model.tiers_min(problem.shots)[tiers].sum()
    assert len(route) == 0 or minutes <= problem.budget_min
    assert len(set(route.tolist())) == len(route)
    assert problem.available()[route].all()
    assert start not in route
    again = plan_route(problem, make_policy(policy), start, seed)
    assert again.route.tolist() == route.tolist()


def test_a_work_list_states_its_number_and_intervals_on_the_belief_that_its_policy_plans_on():
    """Scores that were wrong are trusted less by `adaptive-trust`: so must be what its list promises."""
    rng = np.random.default_rng(3)
    problem = random_problem(rng, 60, budget_min=120.0)
    imaged = np.arange(60) < 30
    wrong = np.where(imaged, problem.prior_p_good < 0.5, np.nan).astype(float)
    problem = replace(problem, imaged=imaged, outcome=wrong)
    policy = make_policy("adaptive-trust")
    plan = work_list_of(
        planned_route(problem, policy, start_hole=NOWHERE, seed=0),
        names_of(problem),
        session="made",
        policy="adaptive-trust",
        prediction="res50",
        threshold_angstrom=6.0,
    )
    p_good = problem.mixture_belief().p_good()
    holes = [int(visit.hole[-4:-1]) for visit in plan.visits]
    assert [visit.p_good for visit in plan.visits] == pytest.approx(p_good[holes].tolist())
    assert plan.expected_good == pytest.approx(p_good[holes].sum())
    assert plan.expected_good != pytest.approx(problem.belief().p_good()[holes].sum(), abs=0.1)
    assert plan.interval_80[0] < plan.expected_good < plan.interval_80[1]


def test_a_list_of_several_shots_says_that_p_is_of_one_exposure(two_grids):
    plan = listed(replace(two_grids, shots=3), [0, 2])
    assert plan.to_json()["shots"] == 3
    assert plan.expected_good == pytest.approx(3 * sum(visit.p_good for visit in plan.visits))
    said = "probability that one exposure is good; every hole gets 3"
    assert said in plan.to_html()
    assert said not in listed(two_grids, [0, 2]).to_html()
