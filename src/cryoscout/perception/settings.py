"""Settings of one training of a perception network, and the named profiles. Needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.precision import AskedPrecision, with_precision
from cryoscout.core.settings import Settings
from cryoscout.perception.augmentations import AUGMENTATIONS, OWN, check_augmentation

MethodName = Literal[
    "supervised",
    "fixmatch",
    "iterative_fixmatch",
    "pseudo_label",
    "defixmatch",
    "softmatch",
    "align",
    "barlow_twins",
    "regression",
]
METHODS: tuple[MethodName, ...] = get_args(MethodName)

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]

LEAST_WIDTH = 8
MOST_WIDTH = 1024
WHY_LEAST_WIDTH = (
    "torch destroys memory when it trains convolutions of fewer channels on processors without AVX-512"
)


class FitSettings(Settings):
    """One training."""

    model_config = ConfigDict(allow_inf_nan=False)

    method: MethodName = "fixmatch"
    depth: Literal[18, 50] = 18
    width: int = 64
    """Channels of the first stage, LEAST_WIDTH or more; 64 is the published ResNet."""
    stem_stride: Literal[1, 2, 4] = 4
    """See `resnet.ResNet`."""
    size_px: Annotated[int, Field(ge=8, le=1024)] = 64
    """Crops are scaled to this side."""
    augmentation: str = "hole"
    """One of AUGMENTATIONS, by what leaves the class of an image alone; `own:NAME`: a function that `fit` was given."""
    steps: Count = 1_500
    """Updates of one stage; every round of `iterative_fixmatch` has as many."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    unlabelled_ratio: Count = 7
    """Unlabelled crops per labelled one in a batch (mu)."""
    learning_rate: Annotated[float, Field(gt=0.0, lt=100.0)] = 0.03
    """Of SGD with Nesterov momentum; falls as cos(7 pi t / 16 T), as in FixMatch."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    weight_decay: Annotated[float, Field(ge=0.0)] = 5e-4
    """Not on biases and batch normalisation."""
    tau: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95
    """Least confidence of a pseudo-label that counts."""
    unsupervised_weight: Annotated[float, Field(ge=0.0)] = 1.0
    """lambda."""
    target: Literal["hard", "soft"] = "hard"
    """`hard`: the pseudo-label is the likelier class, as in FixMatch. `soft`: the distribution, as in SSL2-RL's (1)."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    """Of the averaged weights, after warm-up: min(ema_decay, (1 + t) / (10 + t))."""
    held_out: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """Share of the labels that only choose the weights and the temperature; their crops are not trained on."""
    keep: Literal["best", "last"] = "best"
    """Which averaged weights become the classifier: the best on held-out labels, or those of the last step. Held-out
    labels choose the temperature in any case."""
    weights_in_loss: bool = True
    """A label's weight multiplies its loss."""
    weights_in_sampling: bool = True
    """A labelled crop is drawn with chance proportional to its weight. With both, as in SSL2-RL, a weight counts twice;
    with neither it only says, by 0, which crops have no label."""
    evaluate_every: Count = 100
    """Steps between two looks at the held-out labels; a stopped run goes on from the last one."""
    rounds: Annotated[int, Field(ge=1, le=100)] = 3
    """Rounds of `iterative_fixmatch`; the first is FixMatch."""
    pretrain_steps: Count = 1_500
    """Of `barlow_twins`, before it is trained on the labels."""
    embedding: Annotated[int, Field(ge=2)] = 128
    redundancy_weight: Positive = 5e-3
    """Numbers and off-diagonal weight of `barlow_twins`."""
    precision: AskedPrecision = "auto"
    """Of the convolutions while training; weights and losses have 32 bits in any."""
    threads: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0

    _with_precision = model_validator(mode="before")(with_precision)

    @field_validator("width")
    @classmethod
    def _check_width(cls, width: int) -> int:
        if width < LEAST_WIDTH:
            raise ValueError(f"width must be {LEAST_WIDTH} or more, because {WHY_LEAST_WIDTH}")
        if width > MOST_WIDTH:
            raise ValueError(f"width must be at most {MOST_WIDTH}: more fills any memory")
        return width

    @field_validator("augmentation")
    @classmethod
    def _check_augmentation(cls, augmentation: str) -> str:
        if augmentation not in AUGMENTATIONS and not augmentation.startswith(OWN):
            raise ValueError(f"augmentation must be one of {', '.join(AUGMENTATIONS)} or {OWN}NAME")
        return augmentation


PROFILES: dict[str, dict[str, object]] = {
    "quick": {"width": 32, "size_px": 64, "steps": 1_500, "batch_size": 32},
    # FixMatch's own budget and batch, for a GPU, with SSL2-RL's network. The side of the crops is our choice.
    "paper": {"width": 64, "size_px": 128, "steps": 2**20, "batch_size": 64, "evaluate_every": 1024},
}


def settings_for(method: str, profile: str = "quick", **changes: object) -> FitSettings:
    """Settings of a method in a profile.

    method : one of METHODS     profile : one of PROFILES     changes : fields of FitSettings that differ
    Raises UnknownNameError with the nearest name, InputError naming the field that is wrong.
    """
    if method not in METHODS:
        raise UnknownNameError("The method", method, METHODS)
    if profile not in PROFILES:
        raise UnknownNameError("The profile", profile, PROFILES)
    if isinstance(named := changes.get("augmentation"), str):
        check_augmentation(named)
    try:
        return FitSettings.model_validate({**PROFILES[profile], "method": method, **changes})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InputError(
            f"Settings of a training must be allowed ones. Got {field} {first['input']!r} instead: {first['msg']}."
        ) from None
