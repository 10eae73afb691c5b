"""A process that is killed: it serves a session without a network, and acknowledges each result once it is stored.

Takes the place of the session; reads `HOLE ANGSTROM` line by line, answers `ok EVENT`. An empty line ends it.
"""

from __future__ import annotations

import sys

from cryoscout.live.advisor import Advisor
from cryoscout.live.settings import LiveSettings


def answer(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    advisor = Advisor("killed", sys.argv[1], LiveSettings(clock_scale=0.0), "child")
    advisor.start()
    answer("ready")
    for line in sys.stdin:
        hole, _, angstrom = line.strip().partition(" ")
        if not hole:
            break

        def record(store, hole=hole, angstrom=angstrom):
            store.record_outcome(store.record_imaged(hole), float(angstrom))
            return store.newest_event()

        number = advisor.writing(record)
        answer(f"ok {number}")
    advisor.close()


if __name__ == "__main__":
    main()
