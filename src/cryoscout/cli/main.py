"""The entry point `cryoscout`: a table of commands whose modules are imported only when they are called.

Help must appear at once and a plan must not wait for libraries it does not use, so this module imports
nothing of
the package but its errors; the one-line help of every command stands in the table.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any, NamedTuple

import typer
from typer.main import get_command

import cryoscout
from cryoscout.core.errors import CryoscoutError, UnknownNameError, interruptions_as_such
from cryoscout.core.names import visible_lines

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a command began is cleaned up as after Ctrl-C."""


class LazyCommand(NamedTuple):
    """Where a command lives and the line that says what it does."""

    module: str
    function: str
    summary: str


COMMANDS: dict[str, LazyCommand] = {
    "demo": LazyCommand("demo", "demo", "Real Y1 session: import, plan, replay, report, in under a minute."),
    "import": LazyCommand(
        "import_", "import_", "Read vendor files into a session; say what joined and what did not."
    ),
    "validate": LazyCommand("validate", "validate", "List every deviation of a vendor file from its format."),
    "plan": LazyCommand(
        "plan", "plan", "Which holes to image, in which order, in the minutes that are left."
    ),
    "replay": LazyCommand(
        "replay", "replay", "What policies would have found on holes that were really imaged."
    ),
    "learn": LazyCommand("learn", "learn", "Train a route policy on sessions whose outcomes are known."),
    "train": LazyCommand("train", "train", "Train a classifier of hole images from few labels."),
    "predict": LazyCommand(
        "predict", "predict", "Add a classifier's probability of a good micrograph to every hole."
    ),
    "couple": LazyCommand(
        "couple",
        "couple",
        "Classifier and routes teach each other (SSL2-RL): few labels, better predictions.",
    ),
    "find-holes": LazyCommand(
        "find_holes", "find_holes", "Where the holes of square and patch images are, without a parameter."
    ),
    "simulate": LazyCommand("simulate", "simulate", "Make a session with known truth."),
    "serve": LazyCommand(
        "serve", "serve", "Follow a running session and hand its advice to people and software."
    ),
    "log": LazyCommand("log", "log", "What was advised and why, what was done, and who said what."),
    "practice": LazyCommand("practice", "practice", "Pick holes yourself and be compared with the planners."),
    "report": LazyCommand(
        "report", "report", "One self-contained page about a session: route, curves, figures."
    ),
    "study": LazyCommand("study", "study", "Make a table or figure of the papers."),
}

_EPILOG = "Example: cryoscout plan y1 --budget-min 480"


def build_app(called: str | None) -> typer.Typer:
    """The command line with only the called command imported; the others stand there with their summary.

    called : a key of COMMANDS, or None for the overview
    """
    app = typer.Typer(
        name="cryoscout",
        help="Which holes of a cryo-EM grid to image next, with honest probabilities and plans.",
        epilog=_EPILOG,
        add_completion=False,
        no_args_is_help=True,
        # Plain text: rich's help boxes cost more start-up time than the rest of the help together.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options_of_cryoscout)
    for name, command in COMMANDS.items():
        app.command(name, short_help=command.summary)(
            _function_of(command) if name == called else _not_called
        )
    return app


@cache
def _command(called: str | None) -> Any:
    """`build_app` as typer runs it: made once by a program that calls `main` again and again."""
    return get_command(build_app(called))


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code: 0 done, 1 deviations, 2 bad input, 130 interrupted, 143
    terminated.

    Every CryoscoutError becomes its message alone on stderr; any other exception is a defect and is not caught.
    """
    try:
        called = next((word for word in arguments if not word.startswith("-")), None)
        if called is not None and called not in COMMANDS:
            raise UnknownNameError("The command", called, COMMANDS)
        with interruptions_as_such():
            _command(called).main(args=list(arguments), prog_name="cryoscout")
    except SystemExit as leaving:
        # typer and rich have quietened a reader that went away; they leave with 1.
        code = leaving.code if isinstance(leaving.code, int) else EXIT_BAD_INPUT
        return EXIT_TERMINATED if code == EXIT_INTERRUPTED and _terminated else code
    except CryoscoutError as error:
        print(visible_lines(str(error)), file=sys.stderr)  # noqa: T201
        return EXIT_BAD_INPUT
    except OSError as error:
        # A file that cannot be read or written is the user's or the disk's, not a defect of cryoscout.
        print(visible_lines(_message_of(error)), file=sys.stderr)  # noqa: T201
        return EXIT_BAD_INPUT
    except MemoryError as error:
        print(visible_lines(_message_of_memory(error)), file=sys.stderr)  # noqa: T201
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_TERMINATED if _terminated else EXIT_INTERRUPTED
    return 0


_terminated: list[int] = []
"""SIGTERM, when it came: typer knows an interruption only."""


def _terminate(number: int, _frame: object) -> None:
    _terminated.append(number)
    raise Terminated


def run() -> None:
    """Console script `cryoscout`."""
    # Read when numpy is imported, which is later, and by the workers of a study. The matrices of a trained policy are
    # small: on a busy machine two threads for one of them are many times slower than one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.stdout is None:  # closed by the caller (>&-); what would go there has nowhere to go
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main(sys.argv[1:]))


def _function_of(command: LazyCommand) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(
        importlib.import_module(f"cryoscout.cli.{command.module}"), command.function
    )
    return function


def _not_called() -> None:
    """Stands for a command that was not called: the overview shows its name and summary only."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cryoscout {cryoscout.__version__}")
        raise typer.Exit


def _options_of_cryoscout(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and leave.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    """Options before the command."""


def _message_of_memory(error: MemoryError) -> str:
    what = f" ({error})" if str(error) else ""
    return (
        f"What a command is asked must fit in the memory of this computer. Got more than that instead{what}. "
        "Remedy: ask for fewer holes, starts or draws at once, or use a computer with more memory."
    )


def _message_of(error: OSError) -> str:
    subject = f"{error.filename}" if error.filename else "The file or disk"
    return (
        f"{subject} must be readable and writable. Got {error.strerror or error!s} instead. "
        "Remedy: check the path, its permissions and the space left."
    )
