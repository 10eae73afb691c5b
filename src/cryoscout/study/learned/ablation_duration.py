"""Study `cryorl-ablation-duration`: how long a training route should be (CryoRL, section 5.3)."""

from __future__ import annotations

from cryoscout.study.learned.ablation import Ablation

DURATIONS_MIN = (120, 240, 480)
DEFAULT_MIN = 240

STUDY = Ablation(
    "cryorl-ablation-duration",
    "CryoRL, section 5.3: the minutes of a training route",
    {
        f"dqn-trained-{minutes}-min": {} if minutes == DEFAULT_MIN else {"budget_min": float(minutes)}
        for minutes in DURATIONS_MIN
    },
    f"dqn-trained-{DEFAULT_MIN}-min",
    f"Routes of {', '.join(map(str, DURATIONS_MIN))} minutes in training; action elimination keeps fewer patches for "
    "shorter ones. The paper prints no figures and says that 120 minutes gave inferior performance.",
).study()
