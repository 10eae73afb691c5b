"""Bodies of any kind against the described API: never a 500, always JSON or a problem, and nothing half-written."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=60),
    st.lists(st.text(max_size=10), max_size=3), st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)  # fmt: skip
WRITES = ("outcome", "override", "undo", "note", "what-if", "mode")


def fields_of(description, what):
    schema = description["paths"][f"/api/v1/{what}"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    return sorted(description["components"]["schemas"][schema["$ref"].split("/")[-1]]["properties"])


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_body_is_too_much_for_a_write(client, data):
    if not hasattr(client, "described"):
        client.described = client.get("openapi.json")
    what = data.draw(st.sampled_from(WRITES))
    names = fields_of(client.described, what)
    body = data.draw(st.dictionaries(st.sampled_from([*names, "x"]), VALUES, max_size=6))
    kinds = ["pin", "ban", "skip", "order", "pause", "resume", "budget", "threshold", "target", "undo"]
    if data.draw(st.booleans()):
        body |= {"author": "fuzz", "revision": 2**40}
    if what == "override" and data.draw(st.booleans()):
        body["kind"] = data.draw(st.sampled_from(kinds))
    text = json.dumps(body)
    answer = client.ask("POST", f"/api/v1/{what}", content=text, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400, 404, 412, 422), (what, body, answer.text)
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_query_is_too_much_for_a_read(client, data):
    if not hasattr(client, "described"):
        client.described = client.get("openapi.json")
    reads = [path for path, verbs in client.described["paths"].items() if "get" in verbs]
    path = data.draw(st.sampled_from(reads))
    for part in ("{place}", "{what}"):
        path = path.replace(part, data.draw(st.text("abc.%/\\é ", max_size=8)) or "x")
    query = data.draw(
        st.dictionaries(
            st.sampled_from(["session", "as_of", "cursor", "limit", "after", "kind", "fields"]),
            st.one_of(st.text(max_size=20), st.integers(-5, 2**60).map(str)),
            max_size=3,
        )
    )
    answer = client.ask("GET", path, params=query)
    assert answer.status_code in (200, 307, 400, 404, 405, 422), (path, query, answer.text)
