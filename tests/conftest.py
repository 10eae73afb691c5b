"""What every test shares: one thread, no display, and the three hypothesis profiles."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before numpy, numba or matplotlib is imported: they read these once.
for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
}.items():
    os.environ.setdefault(_name, _value)

import pandas as pd  # noqa: E402

# In memory where there is room: the tests make thousands of small stores, each of which waits for its disk otherwise.
_MEMORY = Path("/dev/shm")  # noqa: S108
if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 4 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# `default`: the same examples every time, so a red test is red for everyone. No deadline: the first call of a
# numba function compiles it. `thorough` (make test-slow): four times as many of the same. `fuzz` (make fuzz, which
# repeats the tests until its time is over and watches for what hangs): new examples every time; what it finds it
# prints.
settings.register_profile("default", derandomize=True, deadline=None, max_examples=25)
settings.register_profile("thorough", derandomize=True, deadline=None, max_examples=100)
settings.register_profile(
    "fuzz",
    derandomize=False,
    deadline=None,
    max_examples=25,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
PROFILE = os.environ.get("CRYOSCOUT_HYPOTHESIS_PROFILE", "default")
settings.load_profile(PROFILE)

# As in a plain installation. pandas keeps texts in pyarrow where that is installed, which is slower for the small
# tables of tests, and which only they need; `make test-slow` has it so.
if not os.environ.get("CRYOSCOUT_TEXTS_IN_PYARROW"):
    pd.set_option("mode.string_storage", "python")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where CRYOSCOUT_TESTS_MUST_RUN is set, a test that was skipped because something is not installed is no pass."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CRYOSCOUT_TESTS_MUST_RUN") or reporter is None:
        return
    lacking = [
        str(each.longrepr) for each in reporter.stats.get("skipped", []) if "installed" in str(each.longrepr)
    ]
    if lacking:
        reporter.write_line(f"{len(lacking)} tests did not run for want of a program: {lacking[0]}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
