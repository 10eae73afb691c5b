"""Where an agent finds less than the published one is said by budget, with what was varied."""

from __future__ import annotations

from cryoscout.study.engine.published import TABLE2
from cryoscout.study.engine.shortfall import shortfall


def test_only_means_below_the_published_ones_are_named():
    said = shortfall("dqn", [("anywhere", TABLE2["dqn"], (45.0, 81.7, None, 164.3))], "What was varied.")
    assert said == (
        "`dqn` stays below the published means: routes that start anywhere find 81.7 against 86.6 at 240 min, "
        "164.3 against 171.4 at 480 min. What was varied."
    )


def test_an_agent_that_is_nowhere_below_is_said_to_be_so_once_nothing_is_missing():
    above = (99.0, 99.0, 199.0, 199.0)
    assert shortfall("dqn", [("anywhere", TABLE2["dqn"], above)]) == (
        "`dqn` is below the published means nowhere."
    )
    assert shortfall("dqn", [("anywhere", TABLE2["dqn"], (*above[:3], None))]) == ""
