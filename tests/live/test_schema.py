"""schemathesis against the OpenAPI that the server gives: no server error, only documented answers and their types.

Each operation is asked with bodies and queries that the description allows, and with ones that it does not.
"""

from __future__ import annotations

import contextlib
import time

import pytest

pytest.importorskip("uvicorn", reason="the extra live is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, openapi
from schemathesis.checks import CHECKS
from test_serve import running

SECONDS_FAST, SECONDS_SLOW = 8.0, 300.0
AT_ONCE = 8
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def asked(server, seconds):
    """(requests, operations) that were made in so many seconds; raises what is found."""
    schema = openapi.from_url(f"{server.base}/api/v1/openapi.json", headers=server.headers)
    operations = [each.ok() for each in schema.get_all_operations()]
    checks = [CHECKS.get_one(name) for name in CHECKED]
    ends, number, requests = time.monotonic() + seconds, 0, 0
    while time.monotonic() < ends:
        operation = operations[number // 2 % len(operations)]
        mode = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)[number % 2]

        @seed(number)
        @settings(
            max_examples=AT_ONCE,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            nonlocal requests
            if time.monotonic() < ends:
                requests += 1
                case.call_and_validate(headers=server.headers, checks=checks, timeout=60)

        with contextlib.suppress(Unsatisfiable):  # where nothing can be given, nothing can be given wrongly
            ask()
        number += 1
    return requests, min(number // 2, len(operations))


@pytest.mark.slow
def test_a_few_seconds_of_anything_find_nothing(stored):
    with running(stored) as server:
        requests, operations = asked(server, SECONDS_FAST)
    assert requests
    assert operations


@pytest.mark.slow
def test_five_minutes_of_anything_find_nothing(stored):
    with running(stored) as server:
        requests, operations = asked(server, SECONDS_SLOW)
        assert server.get("advice")["verdict"]["verb"]
    print(f"{requests} requests to {operations} operations")  # noqa: T201
    assert operations >= 20
