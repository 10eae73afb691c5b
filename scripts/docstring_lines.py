"""Docstrings in the reference keep their lines: a line that names a parameter is one line there too."""

from __future__ import annotations

from typing import Any

import griffe


class DocstringLines(griffe.Extension):
    """Ends each line of a docstring that Markdown would run into the next one with a line break."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: D102  named by griffe
        if obj.docstring is None:
            return
        lines = obj.docstring.value.split("\n")
        kept = [
            f"{line}  " if line.strip() and follows.strip() and _begins_one(follows) else line
            for line, follows in zip(lines, [*lines[1:], ""], strict=True)
        ]
        obj.docstring.value = "\n".join(kept)


def _begins_one(line: str) -> bool:
    """Whether a line starts something of its own: a parameter, or what it raises."""
    first = line.strip().split(" : ")[0]
    return line.strip().startswith(("Raises ", "Returns ")) or (
        " : " in line and all(part.strip().isidentifier() for part in first.split(","))
    )
