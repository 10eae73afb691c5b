"""How the squares to open next are printed below a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from cryoscout.advice.work_list import WorkList

LOOKS_SHOWN = 20
"""Squares that are listed; the others are counted, and all are in --json."""


def print_looks(work_list: WorkList, out: Console) -> None:
    """The table of squares to open; nothing where there are none."""
    if not work_list.looks:
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    first = "Then open" if work_list.visits else "Squares to open"
    table = Table(
        title=f"{first}, the best first", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for heading in (
        "",
        "grid",
        "square",
        "look at",
        "good expected",
        "80 %",
        "min",
        "good per min",
        "80 %",
        "x, y µm",
    ):
        table.add_column(heading, justify="right", overflow="fold")
    for look in work_list.looks[:LOOKS_SHOWN]:
        known = look.x_um is not None and look.y_um is not None
        table.add_row(
            f"{look.order}{'' if look.in_plan else ' *'}",
            look.grid,
            look.square,
            "square" if look.patch is None else look.patch,
            f"{look.expected_good:.1f}",
            f"{look.good_80[0]:.0f} to {look.good_80[1]:.0f}",
            f"{look.minutes:.0f}",
            f"{look.rate:.2f}",
            f"{look.rate_80[0]:.2f} to {look.rate_80[1]:.2f}",
            f"{look.x_um:.0f}, {look.y_um:.0f}" if known else "",
        )
    out.print(table)
    if len(work_list.looks) > LOOKS_SHOWN:
        out.print(
            f"and {len(work_list.looks) - LOOKS_SHOWN} more, in --json; further squares are ranked as these are opened"
        )
    if not all(look.in_plan for look in work_list.looks[:LOOKS_SHOWN]):
        out.print("* beyond what the minutes are planned to reach")
