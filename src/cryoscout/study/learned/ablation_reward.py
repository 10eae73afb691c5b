"""Study `cryorl-ablation-reward`: twice the reward for entering squares and grids (CryoRL, section 5.3)."""

from __future__ import annotations

from cryoscout.study.learned.ablation import Ablation

STUDY = Ablation(
    "cryorl-ablation-reward",
    "CryoRL, section 5.3: the reward of switching",
    {
        "dqn": {},
        "dqn-square-x2": {"reward_square_factor": 2.0},
        "dqn-grid-x2": {"reward_grid_factor": 2.0},
        "dqn-both-x2": {"reward_square_factor": 2.0, "reward_grid_factor": 2.0},
    },
    "dqn",
    "The reward of a good hole that a new square, a new grid, or either was entered for is doubled in training. The "
    "paper prints no figures; it says that the schemes perform comparably, and the doubled square slightly better.",
).study()
