"""Leginon image names: every image is its parent's name plus its own level, so the tree is in the names.

    21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01_00005en-a
    session  label  tile    square  ver patch   ver exposure, aligned

Preset names (gr, sq, hl, en, ...) are free text of the site, so a level is known by its place, counted from
the exposure upwards. The grid tile may be missing (an option of Leginon); the grid is then session and label.
Source: `leginon/acquisition.py`, `setImageFilename`, described in docs; doubt: a preset with a hyphen cannot be told
from a preset with a suffix unless the site says it (`with_presets`); one with an underscore is not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryoscout.core.errors import InputError

_LEVEL = re.compile(r"_(\d{5})([A-Za-z][A-Za-z0-9]*)((?:-[A-Za-z]+)*)(?:_v(\d\d))?")
_ROOT = re.compile(r"(?P<session>\d\d[a-z]{3}\d\d[a-z]*)(?:_(?P<label>.+))?")


@dataclass(frozen=True)
class LeginonLevel:
    """One level of a name."""

    number: int
    """Target number below the parent, as in the five digits."""
    preset: str
    suffix: str
    """'' for a raw image, '-a' aligned, '-DW' dose-weighted, '-a-DW' both."""
    version: int | None
    """NN of `_vNN`: the target was imaged again; None for the first time."""
    stem: str
    """Name of the raw image of this level, with its version."""
    target: str
    """Name of the target: without the version."""


@dataclass(frozen=True)
class LeginonName:
    """A parsed image name."""

    text: str
    root: str
    """Session and grid label."""
    levels: tuple[LeginonLevel, ...]
    """From the top down; at least one."""

    @property
    def session(self) -> str:
        """The session, yyMonDDx; the whole root where it does not look like one."""
        match = _ROOT.fullmatch(self.root)
        return match["session"] if match else self.root

    @property
    def own(self) -> LeginonLevel:
        """The level of the image itself."""
        return self.levels[-1]

    @property
    def stem(self) -> str:
        """Name of the raw image: without suffix."""
        return self.own.stem

    @property
    def parent(self) -> str | None:
        """Name of the image the target was chosen on; None at the top."""
        return self.levels[-2].stem if len(self.levels) > 1 else None

    @property
    def patch(self) -> str | None:
        """Name of the patch image, one level above an exposure."""
        return self._above(1)

    @property
    def square(self) -> str | None:
        """Name of the square image, two levels above an exposure."""
        return self._above(2)

    @property
    def grid(self) -> str | None:
        """Name of the grid tile, three levels above an exposure; session and label without tiles."""
        if self.square is None:
            return None
        return self._above(3) or self.root

    def _above(self, levels: int) -> str | None:
        return self.levels[-1 - levels].stem if len(self.levels) > levels else None


def parse_name(text: str) -> LeginonName:
    """Parse an image name without extension. Raises InputError for a name without levels or with a rest."""
    first = _LEVEL.search(text)
    levels: list[LeginonLevel] = []
    end = 0
    if first is not None and first.start() > 0:
        end = first.start()
        parent = text[:end]
        while match := _LEVEL.match(text, end):
            number, preset, suffix, version = match.groups()
            target = f"{parent}_{number}{preset}"
            parent = target if version is None else f"{target}_v{version}"
            shot_again = None if version is None else int(version)
            levels.append(LeginonLevel(int(number), preset, suffix, shot_again, parent, target))
            end = match.end()
    if first is None or not levels or end != len(text):
        raise InputError(
            f"A Leginon name must be a session followed by levels such as "
            f"_00008gr_00011sq_v01_00002hl_00005en-a. "
            f"Got {text!r} instead."
        )
    return LeginonName(text, text[: first.start()], tuple(levels))


def with_presets(name: LeginonName, presets: Sequence[str]) -> LeginonName:
    """The name with its own level read by presets that may have hyphens: of ex-e-DW `ex-e` is the preset.

    The longest preset that fits is taken; the name itself where none does.
    """
    own = name.own
    written = f"{own.preset}{own.suffix}"
    fitting = [each for each in presets if written == each or written.startswith(f"{each}-")]
    preset = max(fitting, key=len, default=own.preset)
    if preset == own.preset:
        return name
    target = f"{own.target.removesuffix(own.preset)}{preset}"
    stem = target if own.version is None else f"{target}_v{own.version:02d}"
    level = replace(own, preset=preset, suffix=written.removeprefix(preset), stem=stem, target=target)
    return replace(name, levels=(*name.levels[:-1], level))
