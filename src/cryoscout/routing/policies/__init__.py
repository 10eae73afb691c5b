"""Every way of choosing the next hole that needs no torch, in one registry that imports what is asked for.

The registry holds import paths, not classes, so that `cryoscout --help` never pays for numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from pydantic import ValidationError

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.routing.policies.base import Policy

POLICIES: dict[str, str] = {
    "random": "cryoscout.routing.policies.random_visits:RandomVisits",
    "greedy": "cryoscout.routing.policies.greedy:Greedy",
    "genetic": "cryoscout.routing.policies.patch_orders:Genetic",
    "annealing": "cryoscout.routing.policies.patch_orders:Annealing",
    "offline": "cryoscout.routing.policies.offline:Offline",
    "expected": "cryoscout.routing.policies.expected:Expected",
    "index": "cryoscout.routing.policies.index:RateIndex",
    "adaptive": "cryoscout.routing.policies.adaptive:Adaptive",
    "adaptive-trust": "cryoscout.routing.policies.adaptive:AdaptiveTrust",
    "look-first": "cryoscout.routing.policies.look_first:LookFirst",
    "look-share": "cryoscout.routing.policies.look_first:LookShare",
    "look-greedy": "cryoscout.routing.policies.look_greedy:LookGreedy",
    "explore": "cryoscout.routing.policies.explore:Explore",
}
"""Name -> "module:class". A class is made without arguments, or with one instance of its `settings_type`."""


def policy_type(name: str) -> type[Policy]:
    """The class registered under that name. Raises UnknownNameError with the nearest name."""
    try:
        module, _, attribute = POLICIES[name].partition(":")
    except KeyError:
        raise UnknownNameError("The policy", name, POLICIES) from None
    return cast("type[Policy]", getattr(import_module(module), attribute))


def make_policy(name: str, **settings: object) -> Policy:
    """A new policy of that name.

    settings : fields of the class's `settings_type`; the others keep their defaults
    Raises UnknownNameError with the nearest name; InputError when the policy has no such settings.
    """
    made_by = policy_type(name)
    if not settings:
        return made_by()
    settings_type = getattr(made_by, "settings_type", None)
    if settings_type is None:
        raise InputError(f"Policy {name!r} must be made without settings. Got {', '.join(settings)} instead.")
    try:
        checked = settings_type(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "settings"
        raise InputError(
            f"Setting {field!r} of policy {name!r} must be allowed by its settings ({first['msg']}). "
            f"Got {first['input']!r} instead. Remedy: choose among {', '.join(settings_type.model_fields)}."
        ) from None
    return made_by(checked)  # type: ignore[call-arg]  # a class with a settings_type takes one of them
