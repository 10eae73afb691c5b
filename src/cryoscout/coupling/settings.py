"""Settings of the loop in which a perception model and a policy teach each other, and the defaults of each teacher."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field, ValidationError

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.settings import Settings

Teacher = Literal["belief", "route", "ranks", "values", "own", "exact"]
"""Who labels what has no label. `route`: the policy, as in SSL2-RL: what it visits first is positive. `ranks`: the
place in the same routes; `values`: what a visit is worth to an agent that was trained, the paper's own open question
(its section 6); both are made probabilities by the held-out labels. `belief`: what the labels around say, a
probability. Controls: `own`: the perception model itself; `exact`: the true probability, where it is known."""
TEACHERS: tuple[Teacher, ...] = get_args(Teacher)
BY_POLICY = ("route", "ranks", "values")

Selection = Literal["held-out", "accuracy", "last"]
"""Which round is kept. `held-out`: the one with the best return of its policy on held-out labels; `accuracy`: the one
that is right most often on them; `last`: the last."""

Form = Literal["hard", "soft"]
Count = Annotated[int, Field(ge=1)]

LEAST_CHANGE_OF_BELIEF = 0.001
"""A second round of `belief` is only worth its time while guesses still change."""
ROUNDS_OF_PLANNERS, ROUNDS_OF_AGENTS, ROUNDS_OF_OTHERS = 2, 5, 1
LATER_EPOCHS = 2
"""Predictions change less from round to round than from nothing to the first."""


class CoupleSettings(Settings):
    """One run of the loop. What the paper leaves open (its appendices are not public) is a choice, and says so."""

    model_config = ConfigDict(allow_inf_nan=False)

    teacher: Teacher = "belief"
    driver: str = "index"
    """Policy whose routes label (`route`), and whose return chooses the round."""
    rounds: Count = 1
    """K, at most."""
    least_change: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """From the second round on: the loop ends where a smaller share of the guesses than this changed sides."""
    starts: int = 5
    """M, routes from random starts that vote, or that ranks are means over. Our choice."""
    n_positive: int | None = None
    """N_C, states that a route labels positive; None: the sum of the pseudo-rewards. Our choice: it matters most."""
    form: Form = "soft"
    """Labels of all teachers but `route`: the probability itself, or the likelier side with weight |2p - 1|. `route`
    always gives hard ones, weighed by the share of the routes that agree."""
    weights_in_sampling: bool = True
    weights_in_loss: bool = True
    """How confidence counts in fine-tuning: in the draw of a batch, in the loss, in both (the paper), in none."""
    unsupervised_weight: Annotated[float, Field(ge=0.0)] = 0.0
    """lambda of FixMatch's loss while fine-tuning."""
    whole_batches: bool = True
    """Without lambda: a step of fine-tuning has as many taught states as one of the pretraining has states in all;
    False: as many as its labelled part."""
    keep: Literal["best", "last"] = "last"
    """Weights of a round: the last averaged ones, or the best on held-out labels."""
    selection: Selection = "held-out"
    minutes: Annotated[float, Field(gt=0.0)] = 480.0
    """Of a training episode of an agent, or of a window of a planner that plans again and again; `ranks` are means over
    this window and shorter ones."""
    movement_cost: bool = True
    """False: the policy is told that every move costs alike (the paper's Figure 5 b)."""
    pseudo_rewards: bool = True
    """False: an agent is trained on labelled states alone (the paper's Figure 5 a)."""
    features: Form = "soft"
    """What a prediction is to an agent: the probability, or the likelier side."""
    epochs: Count = 8
    """Of an agent, in a round that trains it from new weights."""
    later_epochs: Count | None = None
    """Of an agent, in every round after the first, which goes on from the policy of the round before; None: every round
    trains from new weights, as published."""
    held_out: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Share of the parts with labels whose labels only judge: neither perception nor policy is told them."""
    belief_knows_held_out: bool = True
    """Whether `belief` is told held-out labels too. No score repeats them, so that they alone say how far scores can be
    trusted where whole parts are labelled. They choose nothing in one round but the temperature; but what is right of
    them flatters a network that learned from the belief's guesses around them. With several rounds, of which they
    choose one, the default is not to tell them; a belief that a policy goes by is never told them."""
    on_belief: bool = False
    """Of `route`, `ranks` and `values`: the policy is told what the belief says of states without a label, in the place
    of what perception says. Such a belief is never told held-out labels, because no policy is."""
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def by_policy(self) -> bool:
        """Whether a policy labels."""
        return self.teacher in BY_POLICY

    @property
    def by_held_out(self) -> bool:
        """Whether held-out labels make the teacher's numbers probabilities."""
        return self.teacher in ("ranks", "values")

    @property
    def needs_belief(self) -> bool:
        """Whether the belief must be handed to the loop."""
        return self.teacher == "belief" or self.on_belief


OF_ROUTE: dict[str, object] = {"unsupervised_weight": 1.0, "form": "hard", "keep": "best"}
"""As published: l_sup + lambda l_U; lambda 1 is our choice."""


def couple_settings(teacher: str = "belief", driver: str = "index", **changes: object) -> CoupleSettings:
    """Settings of a teacher and a driver: the defaults that the documentation explains, and what differs.

    changes : fields of CoupleSettings, None for the default
    Raises UnknownNameError for another teacher; InputError naming the field that is wrong.
    """
    if teacher not in TEACHERS:
        raise UnknownNameError("The teacher", teacher, TEACHERS)
    if teacher not in ("route", "values") and is_agent(driver):
        raise InputError(
            f"An agent must label by its routes or its values. Got the driver {driver} with the teacher {teacher}, "
            "which trains none, instead. Remedy: the teacher route or values, or a planner as driver, such as index."
        )
    if teacher == "values" and not is_agent(driver):
        raise InputError(
            f"Learned values must be those of an agent. Got the driver {driver}, which learns none, instead. Remedy: "
            "an agent as driver, such as double; or the teacher ranks."
        )
    rounds = ROUNDS_OF_OTHERS
    if teacher == "route":
        rounds = ROUNDS_OF_AGENTS if is_agent(driver) else ROUNDS_OF_PLANNERS
    defaults = {"rounds": rounds, **(OF_ROUTE if teacher == "route" else {})}
    if is_agent(driver):
        first = changes.get("epochs")
        # Not more than the first round has, which is trained from new weights.
        defaults["later_epochs"] = (
            max(1, min(LATER_EPOCHS, first)) if isinstance(first, int) else LATER_EPOCHS
        )
    given = {name: value for name, value in changes.items() if value is not None or name == "later_epochs"}
    if teacher == "belief":
        defaults["least_change"] = LEAST_CHANGE_OF_BELIEF
    if given.get("rounds", rounds) != 1 or given.get("on_belief", False):
        defaults["belief_knows_held_out"] = False
    try:
        settings = CoupleSettings.model_validate({**defaults, "teacher": teacher, "driver": driver, **given})
    except ValidationError as error:
        wrong = error.errors()[0]
        field = ".".join(map(str, wrong["loc"]))
        raise InputError(
            f"Settings of the loop must be allowed ones. Got {field} {wrong['input']!r} instead: {wrong['msg']}. "
            "Remedy: a value like that, or none, for the default."
        ) from None
    if settings.on_belief and not settings.by_policy:
        raise InputError(
            f"Only a policy can go by the belief. Got on_belief with the teacher {teacher} instead. Remedy: the "
            "teacher route or ranks."
        )
    if settings.on_belief and settings.belief_knows_held_out:
        raise InputError(
            "A belief that a policy goes by must not know held-out labels, which judge the policy. Got "
            "belief_knows_held_out with on_belief instead. Remedy: leave belief_knows_held_out out."
        )
    if settings.starts < 1:
        raise InputError(
            f"The routes that vote, M, must be 1 or more. Got {settings.starts} instead. Remedy: 5, the default."
        )
    return settings


BEFORE_THERE_WAS_A_CHOICE: dict[str, object] = {"whole_batches": False, "belief_knows_held_out": False}
"""What a run did that was begun before it could be asked for, where that is not today's default."""


def is_agent(driver: str) -> bool:
    """Whether a driver is trained, in place of planning."""
    from cryoscout.learning.settings import AGENTS

    return driver in AGENTS
