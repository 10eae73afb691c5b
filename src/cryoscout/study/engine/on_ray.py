"""Trials on Ray: the machines of a cluster, or an embedded Ray on this one.

Ray is the extra `scale`. It pickles between its own processes, the one place where this project does; no file is
pickled. Its usage statistics and its dashboard are off.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from cryoscout.core.errors import InputError
from cryoscout.study.engine.runner import Json, Trial, TrialRow, timed

LOCAL = "local"
PATIENCE_S = 5.0
"""How long an address may take to answer."""


def rows_on_ray(
    trials: Sequence[Trial], run_one: Callable[[Trial], Json], address: str, workers: int
) -> Iterator[TrialRow]:
    """Rows in the order they finish; a trial that raises is a row with its error.

    address : HOST:PORT or ray://HOST:PORT of a Ray that runs, or LOCAL: one is started here, with `workers` processes,
        and ended with the study
    Raises InputError with the remedy where Ray is not installed, or does not answer.
    """
    # Read when Ray is imported.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = _ray()
    if not trials:
        return
    _connect(ray, address, workers)
    try:
        run = ray.remote(num_cpus=1)(timed)
        function = ray.put(run_one)
        open_trials = {run.remote(function, trial): trial for trial in trials}
        while open_trials:
            done, _ = ray.wait(list(open_trials), num_returns=1)
            yield _row(ray, open_trials.pop(done[0]), done[0])
    finally:
        ray.shutdown()


def check_ready(address: str) -> None:
    """Raise InputError where Ray is not installed, or nothing listens at the address; nothing is started."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    _ray()
    check_address(address)


def check_address(address: str) -> str:
    """The address, if something listens there. Raises InputError otherwise."""
    if address == LOCAL:
        return address
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port or parts.scheme not in ("", "ray"):
        raise _refused(address, "another form")
    try:
        socket.create_connection((host, port), timeout=PATIENCE_S).close()
    except OSError as error:
        raise _refused(address, f"no answer ({error.strerror or error})") from None
    return address


def _refused(address: str, got: str) -> InputError:
    return InputError(
        "--ray must be the address of a Ray that runs, HOST:PORT or ray://HOST:PORT, or local. Got "
        f"{address!r}, {got}, instead. Remedy: ray start --head prints the address; --ray local needs none."
    )


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError(
            '--ray must have Ray. Got none installed instead. Remedy: pip install "cryoscout[scale]", or --workers N.'
        ) from None
    return ray


def _connect(ray: Any, address: str, workers: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        ray.init(address=LOCAL, num_cpus=workers, include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=check_address(address), **quiet)
    except (ConnectionError, RuntimeError) as error:
        raise _refused(address, str(error).splitlines()[0]) from None


def _row(ray: Any, trial: Trial, reference: Any) -> TrialRow:
    try:
        seconds, result = ray.get(reference)
    except Exception as error:  # noqa: BLE001  whatever a trial does, the others still run
        # Ray wraps what the trial raised; it is told as if it had been raised here.
        cause = getattr(error, "cause", None) or error
        return TrialRow(trial, 0.0, None, f"{type(cause).__name__}: {cause}")
    return TrialRow(trial, seconds, result, None)
