"""The one message for a step that needs torch where it is not installed."""

from __future__ import annotations

from cryoscout.core.errors import InputError


def need_torch() -> None:
    """Raise InputError with the remedy when torch cannot be imported."""
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(
            'Learning must have torch. Got none installed instead. Remedy: pip install "cryoscout[learn]".'
        ) from None
