"""Routes as a Gymnasium environment: for agents of other libraries, by the rules that the own agents are trained by.

Importing this module registers `cryoscout/Route-v0`:

    import gymnasium
    import cryoscout.learning.route_env
    env = gymnasium.make("cryoscout/Route-v0", session="y1", split="train")

`gymnasium.make("cryoscout.learning.route_env:cryoscout/Route-v0", ...)` imports and makes it in one step.
"""

from __future__ import annotations

from typing import Any, SupportsInt, cast

import numpy as np
from numpy.typing import NDArray

try:
    import gymnasium
    from gymnasium import spaces
except ModuleNotFoundError as error:
    if error.name != "gymnasium":
        raise
    raise ModuleNotFoundError(
        "Routes as an environment must have gymnasium. Got none installed instead. "
        'Remedy: pip install "cryoscout[learn]".',
        name="gymnasium",
    ) from None

from cryoscout.core.errors import InputError
from cryoscout.learning.batch_env import BatchedRoutes, TrainingSession, session_to_learn_from
from cryoscout.learning.from_session import load_to_learn_from, training_session
from cryoscout.learning.settings import N_INPUTS, Candidates, History, Labels, ViewSettings
from cryoscout.learning.states import NO_HOLE
from cryoscout.routing.elimination import BETA_TRAINING

ENV_ID = "cryoscout/Route-v0"

BUDGET_MIN = 240.0
"""Budget of a session that is named, where no other is given (the published training budget)."""

Seen = dict[str, NDArray[Any]]

_VIEW = ViewSettings()


class RouteEnv(gymnasium.Env[Seen, SupportsInt]):
    """One route at a time through one session.

    Action: the index of a queue, `Discrete(N)`; a queue is a set of holes that look alike to the agent (with
    candidates "holes" each hole is one), and the visit takes its surest hole. N is the number of queues, or
    `max_candidates`, so that an agent trained on one session fits another: the queues beyond are never allowed.
    Seen: {"obs": (N, 68) float32 in 0..1, the input of each queue's next hole, zeros where none is left;
    "mask": (N,) int8, 1 where a hole is left}; the mask is `info["action_mask"]` and `action_masks()` too.
    Reward: that of the visit. `terminated`: nothing is left. `truncated`: the budget is used; the visit that
    crosses it counts. A route starts at a random hole, imaged and not counted.
    `info`: `action_mask`; `minutes` used; `hole`, the index of the last visited hole; `good`, its micrographs
    (0 for the start).
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  declared so by gymnasium

    def __init__(
        self,
        session: str | TrainingSession = "y1",
        *,
        split: str | None = None,
        prediction: str | None = None,
        time_model: str | None = None,
        draws: bool = False,
        budget_min: float | None = None,
        elimination: bool = True,
        candidates: Candidates = _VIEW.candidates,
        labels: Labels = _VIEW.labels,
        history: History = _VIEW.history,
        reward: str = "cryorl",
        max_candidates: int | None = None,
        render_mode: None = None,
    ) -> None:
        """Make the environment; call `reset` before the first step.

        session : built-in name, folder NAME.session, or a TrainingSession
        split, prediction, time_model, draws : how a named session is read, see from_session.py
        budget_min : minutes of a route; None takes a TrainingSession's own, 240 of a named one
        elimination : leave holes out by action elimination, as in training
        candidates, labels, history : what an agent sees, see settings.py     reward : name in routing/reward.py
        max_candidates : length N of the actions and of what is seen; None takes the session's own number of queues
        Raises InputError for a budget that holds no visit, for fewer than two holes, for fewer candidates than the
        session has queues, and for the reading of a named session given with a TrainingSession; the errors of
        from_session.py.
        """
        if isinstance(session, TrainingSession):
            if (split, prediction, time_model, draws) != (None, None, None, False):
                raise InputError(
                    "split, prediction, time_model and draws must be left out with a TrainingSession, which has its "
                    f"own. Got {split!r}, {prediction!r}, {time_model!r}, {draws!r} instead."
                )
            budget_min = session.problem.budget_min if budget_min is None else budget_min
        else:
            budget_min = BUDGET_MIN if budget_min is None else budget_min
            (loaded,) = load_to_learn_from([session], split)
            session, _, _ = training_session(
                loaded, budget_min=budget_min, prediction=prediction, time_model=time_model, draws=draws
            )
        reduced = session_to_learn_from(session, budget_min, BETA_TRAINING if elimination else None)
        view = ViewSettings(candidates=candidates, labels=labels, history=history)
        self.render_mode = render_mode
        self.routes = BatchedRoutes([reduced], view, 1, self.np_random, reward=reward)
        queues = len(self.routes.tables.patch_of_queue)
        n = queues if max_candidates is None else max_candidates
        if n < queues:
            raise InputError(
                f"max_candidates must be at least the {queues} queues of this session. Got {n} instead. Remedy: the "
                "largest number of all sessions that the agent is to see."
            )
        self.action_space = spaces.Discrete(n)
        seen = spaces.Dict(
            {"obs": spaces.Box(0.0, 1.0, (n, N_INPUTS), np.float32), "mask": spaces.MultiBinary(n)}
        )
        self.observation_space = cast("spaces.Space[Seen]", seen)
        self._next_hole = np.full(n, NO_HOLE, dtype=np.int64)  # of each queue; NO_HOLE where none is left
        self._over = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """Start a route.

        seed : makes start and draws repeat     options : {"start_hole": index} starts at that hole
        Raises InputError for another option or no such hole.
        """
        super().reset(seed=seed)
        # A generator of its own: with the same seed, an action space draws the same numbers as `np_random`, and its
        # first random action would be the start hole.
        self.routes.rng = np.random.default_rng(int(self.np_random.integers(2**63)))
        chosen = dict(options or {})
        start = chosen.pop("start_hole", None)
        n = self.routes.sessions[0].problem.n_holes
        if chosen or not (start is None or 0 <= start < n):
            raise InputError(
                f"Options of a reset must be nothing or a start_hole, a hole index below {n}. Got {options} instead."
            )
        self.routes.reset(0, session=0, start_hole=start)
        self._over = False
        return self._seen(int(self.routes.start_hole[0]), 0.0)

    def step(self, action: SupportsInt) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """Visit the next hole of a queue.

        Raises InputError when the queue has none left, or the route is over.
        """
        if self._over:
            raise InputError(
                "A step must be made on a running route. Got a route that is over instead. Remedy: reset."
            )
        queue = int(action)
        if not 0 <= queue < len(self._next_hole) or self._next_hole[queue] == NO_HOLE:
            raise InputError(
                f"An action must be a queue below {len(self._next_hole)} with a hole left, where the mask is 1. Got "
                f"{queue} instead. Remedy: choose by info['action_mask']."
            )
        hole = self._next_hole[queue]
        step = self.routes.step(np.array([hole]))
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        self._over = terminated or truncated
        seen, info = self._seen(int(hole), float(step.good[0]))
        return seen, float(step.reward[0]), terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """(N,) the actions that are allowed now, by the name that sb3-contrib's maskable agents ask for."""
        return np.not_equal(self._next_hole, NO_HOLE)

    def _seen(self, hole: int, good: float) -> tuple[Seen, dict[str, Any]]:
        """The observation after visiting this hole, and the info."""
        look = self.routes.look()
        queues = self.routes.tables.queue_of_hole[look.holes]
        self._next_hole[:] = NO_HOLE
        self._next_hole[queues] = look.holes
        inputs = np.zeros((len(self._next_hole), N_INPUTS), dtype=np.float32)
        inputs[queues] = np.clip(look.rows, 0.0, 1.0)  # sums of soft labels miss 0 by a rounding
        mask = self.action_masks().astype(np.int8)
        info = {
            "action_mask": mask.copy(),
            "minutes": float(self.routes.minutes[0]),
            "hole": hole,
            "good": good,
        }
        return {"obs": inputs, "mask": mask}, info


if ENV_ID not in gymnasium.registry:
    gymnasium.register(id=ENV_ID, entry_point="cryoscout.learning.route_env:RouteEnv")
