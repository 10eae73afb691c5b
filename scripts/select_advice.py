"""What the settings of the advice do where they were chosen: simulated sessions of other seeds than the study `advice`.

    python scripts/select_advice.py drift [SESSIONS]
    python scripts/select_advice.py gain [SESSIONS]

`drift` prints for each limit how many sessions warn without a drift, as the study's and hard ones, and the median of
the results after which drops are told. `gain` prints what planning again found more than its plan, over what leaving
bad patches would have saved (least squares), and how often the 80 % interval of the final count holds with some shares.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from cryoscout.advice import outlook as forecast
from cryoscout.advice.drift import EVERY, FEWEST, DriftWatch
from cryoscout.study.routes import advice

FIRST_SESSION_SEED = 4_000_000
LIMITS = tuple(np.arange(3.0, 7.01, 0.25).tolist())
SHARES = (0.0, 0.4, 0.8, 1.2)


def ratios(number: int, hard: bool, drops: tuple[float, ...]) -> dict[float, NDArray[np.float64]]:
    """The log likelihood ratio after each EVERY results, by drop; 0 is none, of the others only after DRIFT_AT."""
    problem, route, good = advice.drift_session(number, hard)
    found = {}
    for drop in (0.0, *drops):
        watch, said = DriftWatch(), []
        promised = advice.promised(problem, route)
        for place, (promise, is_good) in enumerate(
            zip(promised, advice.with_drop(good, drop, number), strict=True)
        ):
            watch.take(promise, bool(is_good))
            if (place + 1) % EVERY == 0 and (drop == 0.0 or place >= advice.DRIFT_AT):
                said.append(watch.log_ratio if place + 1 >= FEWEST else 0.0)
        found[drop] = np.array(said)
    return found


def delay(after: NDArray[np.float64], limit: float) -> float:
    """Results from the drift to the warning; all that are left where there is none."""
    told = np.flatnonzero(after >= limit)
    return float(EVERY * (told[0] + 1) - 1) if len(told) else float(advice.RESULTS - advice.DRIFT_AT)


def drift(sessions: int) -> None:
    """Print a line for each limit."""
    usual = [ratios(number, False, advice.DROPS) for number in range(sessions)]
    hard = [ratios(number, True, ()) for number in range(sessions // 3)]
    before = advice.DRIFT_AT // EVERY
    for limit in LIMITS:
        warned, hard_warned = (np.mean([each[0.0].max() >= limit for each in part]) for part in (usual, hard))
        open_ = [each for each in usual if each[0.0][:before].max() < limit]
        delays = {drop: np.median([delay(each[drop], limit) for each in open_]) for drop in advice.DROPS}
        words = ", ".join(f"{100 * drop:.0f} points after {value:.0f}" for drop, value in delays.items())
        print(
            f"limit {limit:g}: {warned:.1%} of {len(usual)} warn, {hard_warned:.1%} of {len(hard)} hard; {words}"
        )


def gain(sessions: int) -> None:
    """Print the share by least squares, then a line for each of SHARES."""
    tables = {}
    for share in SHARES:
        forecast.GAIN_SHARE = share
        tables[share] = np.array([advice.stop_or_go(number)["rows"] for number in range(sessions)])
    unit = (tables[SHARES[-1]][:, :, 6] - tables[0.0][:, :, 6]) / SHARES[-1]
    lacked = tables[0.0][:, :, 5] - tables[0.0][:, :, 6]
    print(
        f"least squares: {(unit * lacked).sum() / (unit**2).sum():.2f} over {sessions} sessions, three moments each"
    )
    for share, table in tables.items():
        low, high, final = (table[:, :, column] for column in (3, 4, 5))
        held, above = ((low <= final) & (final <= high)).mean(), (final > high).mean(axis=0)
        brier = ((table[:, :, 0] - table[:, :, 2]) ** 2).mean()
        said = ", ".join(f"{each:.0%}" for each in above)
        print(f"share {share:g}: the interval holds in {held:.1%}; above it {said}; Brier {brier:.4f}")


if __name__ == "__main__":
    advice.FIRST_SESSION_SEED = FIRST_SESSION_SEED
    what, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 150
    {"drift": drift, "gain": gain}[what](count)
