"""Trains sb3-contrib's MaskablePPO on the training split of y1 and replays it on the validation split, beside ours.

Needs: pip install "cryoscout[learn]" sb3-contrib
Prints one line for each policy: good micrographs found in 240 minutes, mean over the same random starts.
"""

import argparse

import gymnasium
import numpy as np
from sb3_contrib import MaskablePPO

from cryoscout.advice.compare import ReplayRequest, replay_session
from cryoscout.routing.from_session import truth_from_session
from cryoscout.routing.replay import random_starts
from cryoscout.session.named import load_session

BUDGET_MIN = 240.0
MAX_CANDIDATES = 128
"""More than the patches of either split, so that both have one space."""


def environment(split: str, *, elimination: bool) -> gymnasium.Env:
    """Routes of a split; predictions of ResNet-18 in training, as our own agents."""
    return gymnasium.make(
        "cryoscout.learning.route_env:cryoscout/Route-v0",  # imports the module, which registers it
        session="y1",
        split=split,
        prediction="res18" if split == "train" else "res50",
        budget_min=BUDGET_MIN,
        elimination=elimination,
        max_candidates=MAX_CANDIDATES,
    )


def good_found(agent: MaskablePPO, env: gymnasium.Env, start_hole: int) -> float:
    """Good micrographs on one route, the start not counted; the visit that crosses the budget counts."""
    seen, info = env.reset(options={"start_hole": start_hole})
    good, is_over = 0.0, False
    while not is_over:
        action, _ = agent.predict(seen, action_masks=info["action_mask"].astype(bool), deterministic=True)
        seen, _, terminated, truncated, info = env.step(int(action))
        good += info["good"]
        is_over = terminated or truncated
    return good


def main() -> None:
    """Train, replay, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visits", type=int, default=50_000, help="visits to train on")
    parser.add_argument("--starts", type=int, default=50, help="random starts on the validation split")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()

    agent = MaskablePPO(
        "MultiInputPolicy",
        environment("train", elimination=True),
        n_steps=min(1024, asked.visits),
        batch_size=128,
        gamma=0.9,
        seed=asked.seed,
        device="cpu",
    )
    agent.learn(asked.visits)

    session = load_session("y1", "val")
    truth = truth_from_session(session, session.info.threshold_angstrom)
    starts = random_starts(truth.measured, asked.starts, np.random.default_rng(asked.seed))
    env = environment("val", elimination=False)
    found = [good_found(agent, env, start) for start in starts.tolist()]
    print(f"{'MaskablePPO@res50':22} {np.mean(found):6.1f} ± {np.std(found):.1f}")

    ours = replay_session(
        session,
        ReplayRequest(
            budgets_min=(BUDGET_MIN,),
            policies=("random", "greedy", "dqn-y1", "adaptive@res50"),
            starts=asked.starts,
            time_model="cryorl",
            seed=asked.seed,
        ),
    )
    for name, row in ours.rows.items():
        print(f"{name:22} {row.good_mean[0]:6.1f} ± {row.good_std[0]:.1f}")
    print(f"{'exact bound':22} {ours.bound_mean[0]:6.1f}")


if __name__ == "__main__":
    main()
