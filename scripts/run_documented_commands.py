"""Runs the commands that README.md and the pages of docs show, so that no reader meets one that fails.

Every fenced block in `console` or `bash` says, in an HTML comment on the line before it, what happens to it:

    <!-- run -->                    its commands are run; in `console` they are the lines after `$ `
    <!-- not run: the reason -->    they are not
    <!-- expect: some text -->      after the block: its output must contain the text (any number of these)

The blocks of one page run in order in one temporary folder, so a later one can use what an earlier one wrote. The
variable CRYOSCOUT_CHECKOUT is the path of the checkout: pages take their sample files from there.
Commands that begin with `make` are listed and left out: `make check` runs this script, and a make inside it
would build another environment; the README's two make commands are run as they stand on every change.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND_LIMIT_S = 600

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w-]*)")
_RUN = re.compile(r"^\s*<!-- run -->\s*$")
_NOT_RUN = re.compile(r"^\s*<!-- not run: \S.*-->\s*$")
_EXPECT = re.compile(r"^\s*<!-- expect: (?P<text>.+?) -->\s*$")


class DocumentError(Exception):
    """A page is not written as this script needs it, or a command does not do what the page says."""


@dataclass(frozen=True)
class Block:
    """One marked block: where it stands, its commands, what their output must contain."""

    path: Path
    line: int  # 1-based line of the opening fence
    commands: tuple[str, ...]
    expected: tuple[str, ...]


def blocks_to_run(path: Path) -> list[Block]:
    """The blocks of the page marked `<!-- run -->`, in order.

    Raises DocumentError for a console or bash block without a mark, a fence that never closes, a block to run
    that holds no command.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    found = []
    for opening, closing, language in _fences(path, lines):
        if language not in ("console", "bash"):
            continue
        mark = lines[opening - 1] if opening > 0 else ""
        where = f"{path}, line {opening + 1}"
        if _NOT_RUN.match(mark):
            continue
        if not _RUN.match(mark):
            raise DocumentError(
                f"{where}: A {language} block must follow `<!-- run -->` or `<!-- not run: reason -->`. "
                f"Got {mark!r} instead. Remedy: write the mark on the line before the fence."
            )
        commands = _commands(lines[opening + 1 : closing], language)
        if not commands:
            raise DocumentError(
                f"{where}: A block to run must hold a command. Got none instead. "
                "Remedy: in a console block a command starts with `$ `."
            )
        found.append(Block(path, opening + 1, commands, tuple(_expectations(lines[closing + 1 :]))))
    return found


def _fences(path: Path, lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """(opening, closing, language) of each fenced block; 0-based lines."""
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            number += 1
            continue
        opening = number
        while True:
            number += 1
            if number == len(lines):
                raise DocumentError(
                    f"{path}, line {opening + 1}: A fenced block must be closed. Got the page's end instead."
                )
            if lines[number].strip() == fence["ticks"]:
                break
        yield opening, number, fence["language"]
        number += 1


def _commands(lines: list[str], language: str) -> tuple[str, ...]:
    commands: list[str] = []
    continued = False
    for raw in lines:
        line = raw.strip()
        if continued:
            commands[-1] += "\n" + line
        elif language == "console" and line.startswith("$ "):
            commands.append(line[2:])
        elif language == "bash" and line and not line.startswith("#"):
            commands.append(line)
        else:
            continue
        continued = line.endswith("\\")
    return tuple(commands)


def _expectations(lines: list[str]) -> Iterator[str]:
    for line in lines:
        expect = _EXPECT.match(line)
        if expect is not None:
            yield expect["text"]
        elif line.strip():
            return


def run_block(block: Block, folder: Path) -> None:
    """Run the block's commands in the folder, printing each one.

    Raises DocumentError when one exits non-zero or takes too long, or their output lacks what is expected.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = dict(os.environ, PATH=path, CRYOSCOUT_CHECKOUT=str(ROOT))
    where = f"{block.path}, line {block.line}"
    output = ""
    for command in block.commands:
        if command.split()[0] == "make":
            print(f"{where}: $ {command}   (left out: this runs inside make)", flush=True)
            continue
        print(f"{where}: $ {command}", flush=True)
        try:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DocumentError(
                f"{where}: `{command}` must end within {COMMAND_LIMIT_S} s. Got no end instead."
            ) from None
        text = done.stdout.decode("utf-8", errors="replace")
        if done.returncode != 0:
            raise DocumentError(f"{where}: `{command}` must exit 0. Got {done.returncode} instead.\n{text}")
        output += text
    for expected in block.expected:
        if expected not in output:
            raise DocumentError(f"{where}: The output must contain {expected!r}. Got this instead:\n{output}")


def run_pages(paths: list[Path]) -> int:
    """Run every marked block of the pages; the number of blocks that were run. Raises DocumentError."""
    count = 0
    for path in paths:
        blocks = blocks_to_run(path)
        with tempfile.TemporaryDirectory(prefix="documented-") as folder:
            for block in blocks:
                run_block(block, Path(folder))
                count += 1
    return count


def documented_pages() -> list[Path]:
    """README.md, docs/*.md and docs/how-to/*.md; the pages of results are written by commands of their own."""
    docs = ROOT / "docs"
    return [ROOT / "README.md", *sorted(docs.glob("*.md")), *sorted((docs / "how-to").glob("*.md"))]


def main(arguments: list[str] | None = None) -> int:
    """Run the given pages, or README.md and the pages of docs and docs/how-to; 1 when a page does not hold."""
    parser = argparse.ArgumentParser(description="Run the commands that the documentation shows.")
    parser.add_argument("pages", nargs="*", type=Path, help="default: README.md and the pages of docs")
    pages: list[Path] = parser.parse_args(arguments).pages
    try:
        count = run_pages(pages or documented_pages())
    except DocumentError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{count} documented blocks ran as written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
