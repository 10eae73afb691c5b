"""New files: whole or not at all, never over one that is there unasked, and numbers that JSON has words for."""

from __future__ import annotations

import glob
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryoscout.core.errors import InputError

REPLACED = ".replaced"
"""How the name of a session ends that a forced import has set aside for the moment of the exchange."""


def finite(value: Any) -> Any:
    """The value with every float that is not finite replaced by None, in mappings and sequences too."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(part) for part in value]
    return value


def check_new_file(path: Path, force: bool) -> None:
    """Refuse an output that exists, unless forced, and one whose folder does not exist.

    Raises InputError. Called before the work starts, so that nothing is computed in vain.
    """
    if not path.parent.is_dir():
        raise InputError(
            f"The output's folder must exist. Got {path.parent} instead. Remedy: make it, or give another "
            "-o FILE."
        )
    if path.is_dir():
        raise InputError(
            f"The output must be a file. Got the folder {path} instead. Remedy: give another -o FILE."
        )
    if path.exists() and not force:
        raise InputError(
            f"The output must be a new file. Got {path}, which exists, instead. Remedy: add --force to "
            "overwrite it."
        )


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that, whenever the computer or the program stops, the old one or the new one stands there.

    content : text is written as UTF-8, its line ends as they are
    Raises OSError where it cannot be written; what stood there is then as it was.
    """
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file beside `path`, to be filled in the block, that takes its place when the block ends without an error.

    It has the suffix of `path`. Leftovers of killed runs beside it are removed. A link is followed: what it leads to
    is replaced, and the link stays.
    """
    target = path.resolve() if path.is_symlink() else path
    if (
        target.exists() and not target.is_file()
    ):  # a pipe or a device, such as /dev/stdout, is written as it is
        yield target
        return
    remove_leftovers(target)
    handle, name = tempfile.mkstemp(target.suffix, prefix_of_partial(target), target.parent)
    os.close(handle)
    unfinished = Path(name)
    try:
        unfinished.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def prefix_of_partial(target: Path) -> str:
    """How names of unfinished files and folders of this process begin, beside what they are to become."""
    return f".{target.name}.partial-{os.getpid()}-"


def remove_leftovers(target: Path) -> None:
    """Remove what killed runs left unfinished for this place: its process is gone, and nobody else's is touched.

    A session that was set aside half-way (`.replaced`) is no leftover: it may be the only one.
    """
    for left in target.parent.glob(f".{glob.escape(target.name)}.partial-*"):
        if left.name.endswith(REPLACED) or not is_abandoned(left):
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def is_abandoned(left: Path) -> bool:
    """Whether the process that made an unfinished file or folder (`prefix_of_partial`) is gone."""
    pid = re.match(r"([0-9]+)-", left.name.split(".partial-", 1)[-1])
    return pid is not None and not _is_running(int(pid[1]))


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # there a signal of 0 is one that ends programs
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
