"""How the squares to open next are printed below a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from cryoscout.advice.work_list import WorkList

LOOKS_SHOWN = 20
"""Squares that are listed; the others are counted, and all are in --json."""


_GIVEN_UP = ("80 % of it", "look at", "x, y µm", "80 % of good", "grid", "min")
"""What goes first where the terminal is narrow; squares never do."""


def print_looks(work_list: WorkList, out: Console) -> None:
    """The table of squares to open; nothing where there are none."""
    if not work_list.looks:
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from cryoscout.cli.plan_table import columns_that_fit

    first = "Then open" if work_list.visits else "Squares to open"
    cells = _cells(work_list)
    kept = columns_that_fit(cells, out.width, _GIVEN_UP)
    table = Table(
        title=f"{first}, the best first", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for heading in kept:
        table.add_column(heading, justify="right", overflow="fold", no_wrap=heading != "square")
    for row in zip(*(cells[heading] for heading in kept), strict=True):
        table.add_row(*row)
    out.print(table)
    left_out = [heading for heading in cells if heading not in kept]
    if left_out:
        out.print(f"Left out in {out.width} columns: {', '.join(left_out)}; --json has all.")
    if len(work_list.looks) > LOOKS_SHOWN:
        out.print(
            f"and {len(work_list.looks) - LOOKS_SHOWN} more, in --json; further squares are ranked as these are opened"
        )
    if not all(look.in_plan for look in work_list.looks[:LOOKS_SHOWN]):
        out.print("* beyond what the minutes are planned to reach")


def _cells(work_list: WorkList) -> dict[str, list[str]]:
    shown = work_list.looks[:LOOKS_SHOWN]
    places = [
        f"{look.x_um:.0f}, {look.y_um:.0f}" if look.x_um is not None and look.y_um is not None else ""
        for look in shown
    ]
    return {
        "": [f"{look.order}{'' if look.in_plan else ' *'}" for look in shown],
        "grid": [look.grid for look in shown],
        "square": [look.square for look in shown],
        "look at": ["square" if look.patch is None else look.patch for look in shown],
        "good": [f"{look.expected_good:.1f}" for look in shown],
        "80 % of good": [f"{look.good_80[0]:.0f} to {look.good_80[1]:.0f}" for look in shown],
        "min": [f"{look.minutes:.0f}" for look in shown],
        "good per min": [f"{look.rate:.2f}" for look in shown],
        "80 % of it": [f"{look.rate_80[0]:.2f} to {look.rate_80[1]:.2f}" for look in shown],
        "x, y µm": places,
    }
