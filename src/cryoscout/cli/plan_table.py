"""The work list in a terminal: a line for each stay in a patch, the names of the holes at any width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from cryoscout.advice.work_list import PatchStay, WorkList

_WRAPPED = "holes"
"""The column that goes on in the next line; all else that is kept has the room that it needs."""
_HOLES_WIDE = 30
"""Characters that the names of a stay's holes may ask for before other columns go; in fewer, and in a longer list,
they go on in the next line."""

_NUMBERS = frozenset({"visits", "p", "min", "used"})
_GIVEN_UP = ("why", "switch", "min", "grid", "used", "patch", "square", "p")
"""What goes first where the terminal is narrow; visits and holes never do."""

_EDGE, _GAP = 1, 2
"""Characters before the first column, and behind each, as SIMPLE_HEAD and the padding draw them."""


def print_plan(work_list: WorkList, out: Console) -> None:
    """Print the list: the table, what it comes to, and the notes."""
    if work_list.visits:
        _print_stays(work_list, out)
    for line in _summary(work_list):
        out.print(line)
    for note in work_list.notes:
        out.print(f"Note: {note}")


def _print_stays(work_list: WorkList, out: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    stays = work_list.stays()
    cells = {heading: [of(stay) for stay in stays] for heading, of in _columns().items()}
    kept = columns_that_fit(cells, out.width, _GIVEN_UP)
    # Ids are folded, never cut: an operator must be able to find the hole.
    table = Table(
        title=f"Work list of {work_list.session}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for heading in kept:
        table.add_column(
            heading,
            justify="right" if heading in _NUMBERS else "left",
            overflow="fold",
            no_wrap=heading != _WRAPPED,
        )
    for row in zip(*(cells[heading] for heading in kept), strict=True):
        table.add_row(*row)
    out.print(table)
    left_out = [heading for heading in cells if heading not in kept]
    if left_out:
        out.print(f"Left out in {out.width} columns: {', '.join(left_out)}; --export html or csv has all.")


def _columns() -> dict[str, Callable[[PatchStay], str]]:
    from cryoscout.advice.work_list import name_within

    return {
        "visits": _visits_of,
        "grid": lambda stay: stay.first.grid,
        "square": lambda stay: name_within(stay.first.square, stay.first.grid),
        "patch": lambda stay: name_within(stay.first.patch, stay.first.square),
        _WRAPPED: _holes_of,
        "p": lambda stay: f"{stay.p_good_mean:.2f}",
        "min": lambda stay: f"{stay.minutes:.1f}",
        "used": lambda stay: f"{stay.visits[-1].minutes_used:.1f}",
        "switch": lambda stay: f"{stay.switch} +{stay.switch_min:.1f} min" if stay.first.tier else "",
        "why": lambda stay: stay.reason,
    }


def columns_that_fit(cells: dict[str, list[str]], width: int, given_up: Sequence[str]) -> list[str]:
    """The headings whose columns fit side by side, in order.     given_up : what goes first where they do not"""
    widths = {
        heading: max(map(_width_of_names if heading == _WRAPPED else len, (heading, *column)))
        for heading, column in cells.items()
    }
    kept = list(cells)
    for heading in given_up:
        columns = [widths[each] for each in kept]
        if _EDGE + sum(columns) + _GAP * len(columns) <= width:
            break
        kept.remove(heading)
    return kept


def _width_of_names(cell: str) -> int:
    """Characters that a list of names needs: it goes on in the next line, a name with its comma never does."""
    *others, last = cell.split(", ")
    return max(min(len(cell), _HOLES_WIDE), len(last), *(len(name) + 1 for name in others))


def _summary(work_list: WorkList) -> list[str]:
    from cryoscout.routing.predictions import LABELS_ALONE

    if not work_list.visits:
        return [
            f"Holes planned: none of {work_list.session} in {work_list.budget_min:g} minutes, by {work_list.policy} "
            f"(time model {work_list.time_model})"
        ]
    switches = work_list.switches
    labels_alone = any(LABELS_ALONE in note for note in work_list.notes)
    interval_50, interval_80 = (
        "-" if labels_alone else f"{low:.0f} to {high:.0f}"
        for low, high in (work_list.interval_50, work_list.interval_80)
    )
    shots = f", {work_list.shots} exposures per hole," if work_list.shots > 1 else ""
    lines = [
        f"Holes planned: {len(work_list.visits)}{shots} by {work_list.policy} on prediction "
        f"{work_list.prediction}; good means CTF resolution <= {work_list.threshold_angstrom:g} Å",
        f"Good micrographs expected: {work_list.expected_good:.1f} (50 %: {interval_50}, 80 %: {interval_80})",
        f"Minutes used: {work_list.minutes_used:.1f} of {work_list.budget_min:g} (time model "
        f"{work_list.time_model}){_set_aside_in_words(work_list)}",
        f"Switches: {switches['patch']} patch, {switches['square']} square, {switches['grid']} grid; "
        f"together {work_list.switch_cost_min:.1f} min",
    ]
    if work_list.shots > 1:
        lines.append(
            f"p is of one exposure; every hole gets {work_list.shots}, all of them in the number expected"
        )
    return lines


def _set_aside_in_words(work_list: WorkList) -> str:
    if not work_list.set_aside_min:
        return ""
    return f"; {work_list.set_aside_min:.1f} set aside for pauses, as many as the session had"


def _visits_of(stay: PatchStay) -> str:
    first, last = stay.first.order, stay.visits[-1].order
    return f"{first}-{last}" if last > first else f"{first}"


def _holes_of(stay: PatchStay) -> str:
    """All names, in order of visit: what is not named cannot be acted on."""
    from cryoscout.advice.work_list import name_within

    return ", ".join(name_within(visit.hole, visit.patch) for visit in stay.visits)
