"""What every test shares: one thread, no display, and the three hypothesis profiles."""

from __future__ import annotations

import os

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
settings.load_profile(os.environ.get("CRYOSCOUT_HYPOTHESIS_PROFILE", "default"))
