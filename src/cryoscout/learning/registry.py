"""Policies by name, by file or as a class of the user's own: what `plan`, `replay`, `report` and studies take."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from cryoscout.core.errors import DataError, InputError, UnknownNameError
from cryoscout.learning.own_policy import OWN_SUFFIX, means_own_policy, own_policy
from cryoscout.learning.weights import POLICY_FILE, read_policy
from cryoscout.routing.policies import POLICIES, make_policy
from cryoscout.routing.policies.base import Policy

SHIPPED: dict[str, str] = {"dqn-y1": "dqn-y1.safetensors"}
"""Learned policies that come with the package: name -> file in `learning/data`."""

_SUFFIX = ".safetensors"


def policy_names() -> tuple[str, ...]:
    """Every name that `policy_named` knows: planners and baselines, then learned policies."""
    return (*POLICIES, *SHIPPED)


def policy_named(name_or_path: str, **settings: object) -> Policy:
    """A new policy.

    name_or_path : a registered name, a trained policy (its file, or the folder of its training), or a class of your
    own, `module:Class` or `file.py:Class`
    settings : fields of the settings of a planner; the others have none
    Files of trained policies are read as safetensors: nothing in them is ever run. Needs no torch.
    Raises UnknownNameError with the nearest of all names, InputError for settings a policy does not take, for a
    file that is not a trained policy and for a class that is none.
    """
    if name_or_path in POLICIES:
        return make_policy(name_or_path, **settings)
    if settings:
        raise InputError(
            f"Policy {name_or_path!r} must be made without settings. Got {', '.join(settings)} instead."
        )
    if name_or_path in SHIPPED:
        return _shipped(name_or_path)
    if means_own_policy(name_or_path):
        return own_policy(name_or_path)
    if not _means_a_path(name_or_path):
        raise UnknownNameError("The policy", name_or_path, policy_names())
    path = Path(name_or_path)
    if path.suffix == OWN_SUFFIX:
        raise InputError(
            f"A policy of your own must be named with its class. Got {name_or_path} alone instead. Remedy: "
            f"{name_or_path}:NameOfTheClass."
        )
    return _learned(name_or_path, path / POLICY_FILE if path.is_dir() else path)


def policy_and_prediction(spec: str) -> tuple[str, str | None]:
    """(policy, prediction or None) of `policy` or `policy@prediction`.

    The prediction of a name stands after its first @, that of a path after its last one: paths may hold an @.
    Raises InputError when nothing stands before or after the @.
    """
    name, at, named = spec.partition("@")
    before, last_at, after = spec.rpartition("@")
    if name not in policy_names() and (_means_a_path(spec) or (last_at and _means_a_path(before))):
        is_part_of_path = Path(spec).exists() or "/" in after or os.sep in after or after.endswith(_SUFFIX)
        name, at, named = (spec, "", "") if is_part_of_path else (before, last_at, after)
    if not name or (at and not named):
        raise InputError(f"A policy must be written policy or policy@prediction. Got {spec!r} instead.")
    return name, named or None


def _means_a_path(text: str) -> bool:
    """Whether a name that is not registered is meant as a file or folder."""
    return text.endswith(_SUFFIX) or "/" in text or os.sep in text or (text != "" and Path(text).exists())


def _shipped(name: str) -> Policy:
    source = resources.files("cryoscout.learning").joinpath("data", SHIPPED[name])
    with resources.as_file(source) as path:
        if not path.is_file():
            raise DataError(
                f"The shipped policy {name!r} must lie in the package as {SHIPPED[name]}. Got none instead. Remedy: "
                "install cryoscout again, or make it with scripts/train_shipped_policy.py in a checkout."
            )
        return _learned(name, path)


def _learned(name: str, path: Path) -> Policy:
    # Imported here: a planner must not wait for the compiled steps of the learned ones.
    from cryoscout.learning.policy import LearnedPolicy

    return LearnedPolicy(name, read_policy(path))
