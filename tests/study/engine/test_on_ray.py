"""Trials on Ray: what a missing Ray and a wrong address say, and that rows are those of any other way."""

from __future__ import annotations

import builtins
import importlib.util
import os
import socket
import sys

import pytest

from cryoscout.core.errors import InputError
from cryoscout.study.engine.on_ray import check_address
from cryoscout.study.engine.runner import Trial, TrialStore, run_trials

HAS_RAY = importlib.util.find_spec("ray") is not None


def square_of(trial: Trial) -> dict[str, object]:
    number = trial.parameters["number"]
    if number == 3:
        raise ValueError("three is refused")
    return {"square": number * number}


def trials(count: int) -> list[Trial]:
    return [Trial(f"number {number}", {"number": number}, seed=5) for number in range(count)]


class WrappedError(Exception):
    def __init__(self, cause: Exception) -> None:
        super().__init__("a long remote traceback")
        self.cause = cause


class FakeRay:
    """As much of Ray as is used; trials run when their result is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    def init(self, **options):
        self.calls.append(("init", options))

    def shutdown(self):
        self.calls.append(("shutdown", None))

    def put(self, thing):
        return thing

    def remote(self, **options):
        def wrap(function):
            class Remote:
                @staticmethod
                def remote(*arguments):
                    return (function, *arguments)

            return Remote

        return wrap

    def wait(self, references, num_returns):
        return references[:num_returns], references[num_returns:]

    def get(self, reference):
        function, *arguments = reference
        try:
            return function(*arguments)
        except ValueError as error:
            raise WrappedError(error) from None


@pytest.fixture
def fake(monkeypatch):
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    return ray


def test_rows_are_those_of_one_process_and_errors_are_the_trials_own(tmp_path, fake, monkeypatch):
    monkeypatch.setattr(Trial, "__hash__", lambda self: hash(self.key))
    rows = run_trials(trials(5), square_of, TrialStore(tmp_path / "ray"), ray="local", workers=2)
    alone = run_trials(trials(5), square_of, TrialStore(tmp_path / "one"))
    assert [(row.result, row.error) for row in rows] == [(row.result, row.error) for row in alone]
    assert rows[3].error == "ValueError: three is refused"
    init = fake.calls[0][1]
    assert init["num_cpus"] == 2
    assert init["include_dashboard"] is False
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert [name for name, _ in fake.calls] == ["init", "shutdown"] * 2  # the failed one is tried once more


def test_without_ray_the_extra_is_named_and_no_row_is_forgotten(tmp_path, monkeypatch):
    store = TrialStore(tmp_path)
    run_trials(trials(2), square_of, store)
    real = builtins.__import__

    def no_ray(name, *rest):
        if name == "ray":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_ray)
    with pytest.raises(InputError, match=r"cryoscout\[scale\]"):
        run_trials(trials(2), square_of, store, ray="local")
    assert len(store.finished()) == 2


@pytest.mark.parametrize("address", ["nowhere", "http://a:1", "a:b", "", "ray://", "host:99999999"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match="another form"):
        check_address(address)


def test_an_address_where_nobody_listens_is_refused_and_no_row_is_forgotten(tmp_path, fake):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    store = TrialStore(tmp_path)
    run_trials(trials(2), square_of, store)
    with pytest.raises(InputError, match="no answer"):
        run_trials(trials(2), square_of, store, ray=f"127.0.0.1:{port}")
    assert len(store.finished()) == 2
    assert fake.calls == []


def test_what_listens_but_is_no_ray_is_refused_and_no_row_is_forgotten(tmp_path, fake, monkeypatch):
    store = TrialStore(tmp_path)
    run_trials(trials(2), square_of, store)

    def not_ray(**options):
        raise ConnectionError("no gRPC there\nmore")

    monkeypatch.setattr(fake, "init", not_ray)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(InputError, match="no gRPC there, instead"):
            run_trials(trials(2), square_of, store, ray=f"127.0.0.1:{other.getsockname()[1]}")
    assert len(store.finished()) == 2


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="the extra scale is not installed")
def test_an_embedded_ray_gives_the_rows_of_one_process(tmp_path):
    # Workers import what they run: a function of the package.
    from cryoscout.study.coupling import localization

    some = [*localization.trials("quick")[:3], Trial("none", {"example": "none", "cost_per_length": 0.0}, 0)]
    rows = run_trials(some, localization.run_one, TrialStore(tmp_path / "ray"), ray="local", workers=2)
    alone = run_trials(some, localization.run_one, TrialStore(tmp_path / "one"))
    assert [(row.result, row.error) for row in rows] == [(row.result, row.error) for row in alone]
    assert rows[3].error == "KeyError: 'none'"
