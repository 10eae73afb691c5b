"""A policy that somebody else wrote: `module:Class`, or `file.py:Class`.

The code is the user's own and is run as he named it, as Python runs any module.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import cast

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.routing.policies.base import Policy, missing_of_a_policy

_OWN = re.compile(r"^(?P<where>.+):(?P<name>[^\W\d]\w*)$")
OWN_SUFFIX = ".py"


def means_own_policy(text: str) -> bool:
    """Whether a policy is named as `module:Class` or `file.py:Class`."""
    return _OWN.match(text) is not None


def own_policy(spec: str) -> Policy:
    """A new policy of the class that is named; the class, or the function that makes one, is called without arguments.

    spec : `module:Class`, found from the working folder first, or `path/to/file.py:Class`
    Raises InputError where there is no such module or file, where it stops with an error, and for what is no policy,
    naming what it lacks; UnknownNameError for a name that the module does not have.
    """
    found = _OWN.match(spec)
    if found is None:
        raise InputError(
            f"An own policy must be written module:Class or file.py:Class. Got {spec!r} instead."
        )
    where, name = found["where"], found["name"]
    module = _module_of_file(spec, Path(where)) if where.endswith(OWN_SUFFIX) else _module_named(spec, where)
    public = [each for each in vars(module) if not each.startswith("_")]
    if not hasattr(module, name):
        raise UnknownNameError(f"The policy of {where}", name, public)
    made_by = getattr(module, name)
    if not callable(made_by):
        raise InputError(f"The policy {spec!r} must be a class. Got {type(made_by).__name__} instead.")
    try:
        policy = made_by()
    except Exception as error:
        raise InputError(
            f"The policy {spec!r} must be made without arguments. Got {type(error).__name__}: {error} instead."
        ) from error
    if missing := missing_of_a_policy(policy):
        raise InputError(
            f"The policy {spec!r} must have the attributes and methods of a policy. Missing: {', '.join(missing)}. "
            "Remedy: inherit from cryoscout.routing.policies.base.OwnPolicy, which brings all but next_hole."
        )
    return cast("Policy", policy)


def _module_named(spec: str, name: str) -> ModuleType:
    with _found_from(Path.cwd()):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise _stopped(spec, error) from error
            raise InputError(
                f"The policy {spec!r} must be in a module that Python finds. Got no module {error.name!r} in the "
                f"working folder {Path.cwd()} or among the installed packages instead. Remedy: run the command where "
                "the module lies, or name its file: path/to/file.py:Class."
            ) from error
        except Exception as error:
            raise _stopped(spec, error) from error


def _module_of_file(spec: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"The policy {spec!r} must be in a file. Got no file {path} instead.")
    # A name of its own for each file, so that it hides no module; registered, because dataclasses look it up.
    name = f"cryoscout_own_policy_{path.stem}_{abs(hash(path.resolve())):x}"
    made = importlib.util.spec_from_file_location(name, path)
    if made is None or made.loader is None:
        raise InputError(f"The policy {spec!r} must be in a Python file. Got {path} instead.")
    module = importlib.util.module_from_spec(made)
    sys.modules[name] = module
    with _found_from(path.resolve().parent):
        try:
            made.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise _stopped(spec, error) from error
    return module


def _stopped(spec: str, error: Exception) -> InputError:
    line, frame = "", error.__traceback__
    while frame is not None:
        line, frame = f" (line {frame.tb_lineno} of {frame.tb_frame.f_code.co_filename})", frame.tb_next
    if isinstance(error, SyntaxError):
        line = f" (line {error.lineno} of {error.filename})"
    return InputError(
        f"The module of policy {spec!r} must be imported without an error. "
        f"Got {type(error).__name__}: {error}{line} instead."
    )


@contextmanager
def _found_from(folder: Path) -> Iterator[None]:
    """Modules in this folder are found too, first of all, while the user's code is imported."""
    place = str(folder)
    sys.path.insert(0, place)
    try:
        yield
    finally:
        if place in sys.path:  # the user's code may have changed the path
            sys.path.remove(place)
