"""Settings of training a route policy; the defaults are those of the release of CryoRL unless a field says so."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from cryoscout.core.precision import AskedPrecision, with_precision
from cryoscout.core.settings import Settings
from cryoscout.routing.elimination import BETA_TRAINING

Candidates = Literal["holes", "classes", "dominant"]
"""What is scored before each visit. `holes`: every unvisited hole, as published. `classes`: one per patch and
predicted class, the same scores since the holes of a class look alike; soft predictions are binned by tenths.
`dominant`: one per patch, its unvisited hole with the highest p_good."""

Labels = Literal["hard", "soft"]
"""What a prediction is to an agent. `hard`: 1 where p_good >= 0.5, as published. `soft`: p_good itself, and the
expected number where hard labels are counted."""

History = Literal["visited", "candidate"]
"""The k - 1 feature vectors beside the candidate's own. `visited`: those of the last three visited holes (the paper's
text). `candidate`: the candidate's own at the last three steps (the release)."""

AGENTS: tuple[str, ...] = (
    "dqn",
    "double",
    "dueling",
    "prioritized",
    "nstep",
    "c51",
    "noisy",
    "rainbow",
    "a2c",
)
AgentName = Literal["dqn", "double", "dueling", "prioritized", "nstep", "c51", "noisy", "rainbow", "a2c"]

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

N_FEATURES = 17
N_FRAMES = 4
N_INPUTS = N_FEATURES * N_FRAMES


class _FiniteSettings(Settings):
    """No number in them is infinite."""

    model_config = ConfigDict(allow_inf_nan=False)


class ViewSettings(Settings):
    """What an agent sees of a state; a trained policy is of use with the view it was trained with only."""

    candidates: Candidates = "dominant"
    labels: Labels = "soft"
    """`dominant` is the cheapest; neither differs from the published `classes` and `hard` by more than three splits of
    the training patches tell (docs/results/learned-selection.md)."""
    history: History = "visited"


class NetworkSettings(_FiniteSettings):
    """The scoring network, shared by all candidates; its input is N_INPUTS numbers."""

    hidden: tuple[Count, ...] = (128, 256, 128)
    dueling: bool = False
    atoms: Count = 1
    """Points of the return's distribution (C51); 1 scores by the mean alone."""
    value_min: float = 0.0
    value_max: float = 10.0
    """Range of the distribution's support: returns lie in 0 .. 1 / (1 - gamma) with one shot and the default reward;
    a training whose returns may lie outside is refused."""
    noisy: bool = False
    noise: Annotated[float, Field(gt=0.0, le=2.0)] = 0.5
    """Initial standard deviation of noisy layers times the square root of their inputs (Fortunato et al. 2018)."""
    critic: bool = False
    """Whether a value of the state is learned beside the candidates' scores (A2C)."""

    @model_validator(mode="after")
    def _check_outputs(self) -> Self:
        if self.atoms > 1 and not self.value_min < self.value_max:
            raise ValueError(
                f"value_min must be below value_max. Got {self.value_min:g} and {self.value_max:g} instead."
            )
        if self.critic and (self.dueling or self.atoms > 1):
            raise ValueError(
                "a network with a critic must have neither dueling nor atoms. Got "
                f"dueling {self.dueling} and {self.atoms} atoms instead."
            )
        return self


class AgentSettings(_FiniteSettings):
    """Targets and losses; `agent_settings` gives those of each named agent."""

    name: AgentName = "dqn"
    double: bool = False
    prioritized: bool = False
    priority_exponent: Fraction = 0.6
    importance_exponent: Fraction = 0.4
    """Start of the correction for non-uniform sampling; it rises to 1 over the training."""
    n_step: Annotated[int, Field(ge=1, le=20)] = 1
    gamma: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9
    entropy_weight: Annotated[float, Field(ge=0.0)] = 0.01
    value_weight: Annotated[float, Field(ge=0.0)] = 0.5
    """A2C: weights of the entropy and of the critic's loss."""
    rollout_steps: Count = 8
    """A2C: visits of every environment between two updates."""
    bootstrap_at_budget: bool = True
    """Whether a route cut off by its budget has a future: features do not say how much time is left, so by
    default it has; the release gives it none."""


class LearnSettings(_FiniteSettings):
    """One training run."""

    agent: AgentSettings = AgentSettings()
    network: NetworkSettings = NetworkSettings()
    view: ViewSettings = ViewSettings()
    reward: str = "cryorl"
    """Name of the reward (routing/reward.py)."""
    reward_square_factor: Annotated[float, Field(gt=0.0)] = 1.0
    reward_grid_factor: Annotated[float, Field(gt=0.0)] = 1.0
    """Factors of the reward of a visit that enters a square or a grid (the paper's section 5.3)."""
    elimination: bool = True
    beta_training: Annotated[float, Field(gt=0.0)] = BETA_TRAINING
    budget_min: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 240.0
    epochs: Count = 20
    steps_per_epoch: Count = 2_500
    environments: Count = 10
    batch_size: Count = 128
    buffer_size: Count = 20_000
    learning_rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.001
    """Of Adam; the release has 0.01."""
    target_every: Count = 320
    """Updates between two copies of the network to its target."""
    updates_per_step: Annotated[float, Field(gt=0.0)] = 0.1
    random_first: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    random_last: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """Share of visits chosen at random, first and last; it falls linearly over the training."""
    largest_gradient: Annotated[float, Field(gt=0.0)] = 10.0
    held_out: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.25
    """Share of the training patches that only choose the epoch."""
    parts: Annotated[int, Field(ge=0, le=1000)] = 32
    """Random parts of every session, each a random choice of its patches, that stand in its place: an agent that
    meets one session again and again learns its patches by heart. 0 trains on the whole session, as published."""
    precision: AskedPrecision = "auto"
    """Of forward passes without a gradient; in bfloat16 scores have about three digits."""
    threads: Count = 1
    seed: int = 0

    _with_precision = model_validator(mode="before")(with_precision)

    @model_validator(mode="after")
    def _check_agent(self) -> Self:
        if self.network.critic != (self.agent.name == "a2c"):
            raise ValueError(
                "the network must have a critic with agent a2c, and with no other. Got "
                f"critic {self.network.critic} with agent {self.agent.name} instead."
            )
        return self

    @model_validator(mode="after")
    def _check_buffer(self) -> Self:
        if self.buffer_size < self.batch_size:
            raise ValueError(
                f"buffer_size must be at least batch_size. Got {self.buffer_size} and {self.batch_size} instead."
            )
        return self


def settings_of(agent: str, /, **changes: object) -> LearnSettings:
    """The settings of a named agent.

    agent : one of AGENTS     changes : fields of LearnSettings that differ
    Raises UnknownNameError with the nearest name.
    """
    from cryoscout.core.errors import UnknownNameError

    if agent not in AGENTS:
        raise UnknownNameError("The agent", agent, AGENTS)
    rainbow = agent == "rainbow"
    agents = AgentSettings.model_validate(
        {
            "name": agent,
            "double": agent == "double" or rainbow,
            "prioritized": agent == "prioritized" or rainbow,
            "n_step": 3 if agent == "nstep" or rainbow else 1,
        }
    )
    network = NetworkSettings(
        dueling=agent == "dueling" or rainbow,
        atoms=51 if agent == "c51" or rainbow else 1,
        noisy=agent == "noisy" or rainbow,
        critic=agent == "a2c",
    )
    return LearnSettings.model_validate({"agent": agents, "network": network, **changes})
