"""Decision records: what is written is read back, and what the published schema does not allow is named."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.formats.epu.athena import (
    LABEL,
    LARGEST_AREA_ID,
    ORDER,
    SELECTION,
    SquarePlan,
    decisions_of,
    detect,
    read_decisions,
    read_source,
    validate,
    write_decisions,
)

SESSION = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
SQUARES = [
    SquarePlan("8999138", {"9015883": 2, "9015889": 1}, ["9015890"]),
    SquarePlan("8999186", {"9028219": 3}, []),
]

ids = st.integers(1, LARGEST_AREA_ID).map(str)


@st.composite
def plans(draw):
    """Squares with distinct holes, and the places of the planned ones."""
    holes = draw(st.lists(ids, min_size=1, max_size=20, unique=True))
    squares = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    parts = {square: ({}, []) for square in squares}
    place = 0
    for number, hole in enumerate(holes):
        planned, left_out = parts[draw(st.sampled_from(squares))]
        if number == 0 or draw(st.booleans()):
            place += 1
            planned[hole] = place
        else:
            left_out.append(hole)
    return [SquarePlan(square, planned, left_out) for square, (planned, left_out) in parts.items()]


@given(plans(), st.uuids(), st.text(max_size=20), st.text(max_size=20))
def test_records_are_read_back_equal(tmp_path_factory, squares, session, decided_by, details):
    path = tmp_path_factory.mktemp("athena") / "decisions.json"
    records = decisions_of(str(session), squares, decided_by, details)
    write_decisions(path, records)
    assert detect(path)
    assert validate(path) == []
    assert read_decisions(path) == records


def test_a_plan_becomes_the_records_that_the_service_publishes(tmp_path):
    path = tmp_path / "decisions.json"
    write_decisions(path, decisions_of(SESSION, SQUARES, "cryoscout", "plan of a"))
    written = json.loads(path.read_text())
    assert [set(record) for record in written] == [
        {"sessionId", "areaId", "decisionType", "pluginType", "decisionValue", "decidedBy", "details"}
    ] * 4
    assert [(record["areaId"], record["decisionType"]) for record in written] == [
        (8999138, SELECTION),
        (8999138, ORDER),
        (8999186, SELECTION),
        (8999186, ORDER),
    ]
    assert json.loads(written[0]["decisionValue"]) == [
        {"areaId": 9015889, "result": "true"},
        {"areaId": 9015883, "result": "true"},
        {"areaId": 9015890, "result": "false"},
    ]
    assert json.loads(written[1]["decisionValue"]) == [
        {"areaId": 9015889, "result": "1"},
        {"areaId": 9015883, "result": "2"},
    ]
    assert {record["details"] for record in written} == {f"{LABEL}; plan of a"}
    assert LABEL == "written to the published schema, not tested on an EPU"


def test_a_source_says_which_holes_are_chosen_and_in_which_order(tmp_path):
    path = tmp_path / "decisions.json"
    write_decisions(path, decisions_of(SESSION, SQUARES, "cryoscout"))
    source = read_source(path)
    assert source.squares["square_id"].tolist() == ["8999138", "8999186"]
    chosen = dict(zip(source.holes["hole_id"], source.holes["chosen"], strict=True))
    assert chosen == {"9015883": True, "9015889": True, "9015890": False, "9028219": True}
    assert source.extra["9028219"] == {"acquisition_order": "3"}


@pytest.mark.parametrize(
    ("session", "squares", "message"),
    [
        (
            "19503064",
            SQUARES,
            "The session of the Athena Decision Service must be a uuid such as 3fa85f64-5717-4562-b3fc-2c963f66afa6. "
            "Got '19503064' instead. Remedy: take it from the service, /api/v1/Sessions; EPU's own session number is "
            "another one.",
        ),
        (
            SESSION,
            [],
            "A plan must have at least one hole. Got none instead. Remedy: plan with more minutes.",
        ),
        (
            SESSION,
            [SquarePlan("1", {"sq_hl": 1}, [])],
            "An area id of EPU must be a whole number from 1 to 2147483647. Got 'sq_hl' instead. "
            "Remedy: plan a session that was read from EPU's files.",
        ),
        (
            SESSION,
            [SquarePlan("2147483648", {"1": 1}, [])],
            "An area id of EPU must be a whole number from 1 to 2147483647. Got '2147483648' instead. "
            "Remedy: plan a session that was read from EPU's files.",
        ),
        (
            SESSION,
            [SquarePlan("1", {"5": 1}, ["5"])],
            "A hole must be decided on once. Got '5' again instead.",
        ),
    ],
)
def test_a_plan_that_is_none_of_epu_is_refused(session, squares, message):
    with pytest.raises(InputError) as error:
        decisions_of(session, squares, "cryoscout")
    assert str(error.value) == message


def record(**changes):
    fields = {
        "sessionId": SESSION,
        "areaId": 12,
        "decisionType": SELECTION,
        "pluginType": "custom",
        "decisionValue": '[{"areaId": 100, "result": "true"}]',
    }
    return {key: value for key, value in {**fields, **changes}.items() if value != "left out"}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (5, "a record must be an object. Got '5' instead."),
        (record(areaId="left out"), "a record must have areaId. Got none instead."),
        (record(areaId=True), "areaId must be a whole number. Got 'True' instead."),
        (record(details=3), "details must be a text. Got '3' instead."),
        (record(pluginType="own"), "pluginType must be one of default, custom, dummy. Got 'own' instead."),
        (
            record(decisionValue="[{"),
            "decisionValue must be JSON. Got text that is not (Expecting property name enclosed in double quotes) "
            "instead.",
        ),
        (
            record(decisionValue='[{"areaId": 1}]'),
            "a decision must be an object with areaId and result. Got an object with areaId instead.",
        ),
        (
            record(decisionValue='[{"areaId": 1, "result": "yes"}]'),
            "the result of a selection must be 'true' or 'false'. Got 'yes' instead.",
        ),
        (
            record(decisionType=ORDER, decisionValue='[{"areaId": 1, "result": "0"}]'),
            "the result of an order must be a place from '1' on. Got '0' instead.",
        ),
        (
            record(decisionValue='[{"areaId": 1, "result": "true"}, {"areaId": 1, "result": "true"}]'),
            "a hole must be decided on once in a record. Got 1 again instead.",
        ),
        (
            record(colour="red"),
            "a record must have no field that the schema does not have. Got 'colour' instead.",
        ),
    ],
)
def test_a_deviation_is_named_and_collected_permissively(tmp_path, item, message):
    path = tmp_path / "decisions.json"
    path.write_text(json.dumps([record(), item]))
    with pytest.raises(FileFormatError) as error:
        read_decisions(path)
    assert message in str(error.value)
    (found,) = validate(path)
    assert found.message == message
    assert found.element is not None
    assert found.element.startswith("record 2")
    assert read_decisions(path, permissive=True)[0].square_id == 12


def test_fields_of_the_service_and_unknown_ones_are_kept(tmp_path):
    path = tmp_path / "decisions.json"
    path.write_text(
        json.dumps(record(id=str(uuid.UUID(int=1)), timestamp="2025-01-08T15:00:00Z", colour=[1]))
    )
    (found,) = read_decisions(path, permissive=True)
    assert found.further == {
        "id": str(uuid.UUID(int=1)),
        "timestamp": "2025-01-08T15:00:00Z",
        "colour": "[1]",
    }
    path.write_text(json.dumps(record(decisionType="focus", decisionValue="2.5")))
    assert read_decisions(path)[0].further == {"decisionValue": "2.5"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "line 1: brackets must be at most 64 deep. Got deeper ones instead."),
        ("[1" + "0" * 5000 + "]", "a number must have at most 40 characters. Got 5001 instead."),
        ("[NaN]", "a number must be finite. Got NaN instead."),
        ('{"a": 1, "a": 2}', "a key must stand once in an object. Got 'a' again instead."),
        (
            '["' + "x" * 1_000_000,
            "line 1: must be JSON. Got text that is not (Unterminated string starting at)",
        ),
        ('"' * 200_001, "line 1: must be JSON."),
        ("\0", "line 1: must be text. Got a NUL byte instead."),
    ],
)
def test_hostile_json_is_refused_at_once(tmp_path, text, message):
    path = tmp_path / "decisions.json"
    path.write_text(text)
    with pytest.raises(FileFormatError) as error:
        read_decisions(path)
    assert message in str(error.value)


def test_other_files_are_not_detected(tmp_path):
    for text in ("", "[]", "decisionType", '{"a": 1}'):
        path = tmp_path / "a.json"
        path.write_text(text)
        assert not detect(path)
    assert not detect(tmp_path)
