"""What operators say against the plan: each form is checked, and what was said last holds."""

from __future__ import annotations

import json

import pytest
from store_examples import small_session

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.session.overrides import (
    OVERRIDE_KINDS,
    Ban,
    Budget,
    Order,
    Overrides,
    Pause,
    Pin,
    Resume,
    Skip,
    Target,
    Threshold,
    Undo,
    override_of,
)
from cryoscout.session.store import SessionStore

AT = "2024-01-01T10:00:00.000+00:00"
ONE_OF_EACH = [
    Pin(hole_id="h1", author="Ada", note="good ice"),
    Ban(square_id="s"),
    Skip(hole_id="h2"),
    Order(hole_ids=("h2", "h1")),
    Pause(note="refill"),
    Resume(),
    Budget(budget_min=90.5),
    Threshold(threshold_angstrom=4.5),
    Target(good=1200, by="2024-01-02T08:00:00"),
    Undo(of="pin", hole_id="h1"),
]


def state(*said):
    overrides = Overrides()
    for each in said:
        overrides = overrides.of(each, AT)
    return overrides


@pytest.fixture
def store(tmp_path):
    with SessionStore.create(tmp_path / "small.session") as store:
        store.save_import(small_session(), "by hand")
        yield store


def test_every_kind_comes_back_from_its_payload():
    assert [each.kind for each in ONE_OF_EACH] == list(OVERRIDE_KINDS)
    for each in ONE_OF_EACH:
        assert override_of(json.loads(json.dumps(each.payload()))) == each
        assert None not in each.payload().values()


def test_what_is_said_last_of_a_place_holds():
    assert state(Pin(hole_id="h1"), Skip(hole_id="h2"), Ban(hole_id="h1")).holes == {
        "h2": "skip",
        "h1": "ban",
    }
    assert list(state(Pin(hole_id="h1"), Pin(hole_id="h2"), Pin(hole_id="h1")).holes) == ["h2", "h1"]
    both = state(Ban(square_id="s"), Pin(hole_id="h1"))
    assert (both.squares, both.holes) == ({"s": "ban"}, {"h1": "pin"})


def test_a_pause_ends_and_the_rest_is_undone():
    assert state(Pause()).is_paused
    assert not state(Pause(), Resume()).is_paused
    said = [
        Ban(hole_id="h1"),
        Skip(square_id="s"),
        Order(square_ids=("s",)),
        Budget(end_at="2024-01-01T20:00:00"),
        Threshold(threshold_angstrom=4.0),
        Target(good=5),
    ]
    full = state(*said)
    assert full.budget == said[3]
    assert full.budget_said_at == AT
    assert (full.threshold_angstrom, full.target, full.square_order) == (4.0, said[5], ("s",))
    undone = [
        Undo(of="ban", hole_id="h1"),
        Undo(of="skip", square_id="s"),
        *(Undo(of=kind) for kind in ("order", "budget", "threshold", "target")),
    ]
    assert state(*said, *undone) == Overrides()


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"kind": "bann", "hole_id": "h1"}, r"one of ban, .*Got 'bann' instead\. Did you mean 'ban'\?"),
        ({"hole_id": "h1"}, r"must say its kind, one of pin, ban.*Got None instead"),
        ({"kind": "ban"}, r"kind ban must have fields.*either hole_id or square_id must be given"),
        ({"kind": "ban", "hole_id": "h1", "square_id": "s"}, r"either hole_id or square_id"),
        ({"kind": "ban", "hole": "h1"}, r"Got 'hole' \(Extra inputs.*Did you mean 'hole_id'\?"),
        ({"kind": "order", "hole_ids": ["h1", "h1"]}, r"each id must be given once"),
        ({"kind": "order"}, r"either hole_ids or square_ids"),
        (
            {"kind": "budget", "budget_min": -1},
            r"Got 'budget_min' \(Input should be greater than or equal to 0",
        ),
        (
            {"kind": "budget", "budget_min": 5, "end_at": "2024-01-01T20:00:00"},
            r"either budget_min or end_at",
        ),
        (
            {"kind": "budget", "end_at": "2024-01-01T20:00:00Z"},
            r"Got 'end_at' \(Input should not have timezone",
        ),
        ({"kind": "threshold", "threshold_angstrom": 0}, r"Got 'threshold_angstrom'"),
        ({"kind": "target", "good": 0}, r"Got 'good'"),
        ({"kind": "undo", "of": "ban"}, r"of pin, ban and skip either hole_id or square_id"),
        ({"kind": "undo", "of": "budget", "hole_id": "h1"}, r"of others neither"),
        ({"kind": "undo", "of": "pause"}, r"Got 'of'"),
    ],
)
def test_an_override_of_another_form_is_refused(payload, message):
    with pytest.raises(InputError, match=message):
        override_of(payload)


def test_a_store_keeps_and_folds_overrides(store):
    store.append("overridden", {"kind": "ban", "hole_id": "h2", "author": "Ada"})
    store.append("overridden", {"kind": "order", "hole_ids": ["h3", "h1"]})
    store.append("overridden", {"kind": "budget", "budget_min": 30})
    overrides = store.load().overrides
    assert (overrides.holes, overrides.hole_order) == ({"h2": "ban"}, ("h3", "h1"))
    assert overrides.budget == Budget(budget_min=30)
    (*_, last) = store.events(kind="overridden")
    assert (last.payload, last.at) == ({"kind": "budget", "budget_min": 30.0}, overrides.budget_said_at)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (
            {"kind": "pin", "hole_id": "h4"},
            r"must name holes of the session\. Got 'h4' instead\. Did you mean 'h",
        ),
        ({"kind": "ban", "square_id": "t"}, r"must name squares of the session\. Got 't'"),
        ({"kind": "order", "hole_ids": ["h1", "h9"]}, r"must name holes of the session\. Got 'h9'"),
        (
            {"kind": "undo", "of": "ban", "hole_id": "h1"},
            r"must be of an override that holds\. Got ban of 'h1'",
        ),
        ({"kind": "undo", "of": "target"}, r"Got target of 'the session', which does not"),
    ],
)
def test_an_override_that_fits_no_session_is_refused_and_not_written(store, payload, message):
    with pytest.raises(InputError, match=message):
        store.append("overridden", payload)
    assert list(store.events(kind="overridden")) == []


def test_an_unknown_kind_of_override_offers_the_nearest(store):
    with pytest.raises(UnknownNameError, match="Did you mean 'threshold'"):
        store.append("overridden", {"kind": "treshold", "threshold_angstrom": 4.0})
