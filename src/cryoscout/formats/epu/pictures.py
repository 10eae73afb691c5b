"""The pictures of squares in an EPU session's folder: the newest of each square, wherever the discs stand.

    SESSION/Images-Disc1/GridSquare_19493759/GridSquare_20230919_140816.jpg

EPU may image a square several times; the newest one is that which the holes of its file are on. Its name has the time
and the folder the square, so that no picture needs another name. Witness: two real sessions; the tests
have the XML files that stand beside the pictures.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from cryoscout.formats.epu import names as epu_names

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".mrc")
"""In the order in which they are preferred at one time."""
_PICTURE = re.compile(r"(GridSquare_[0-9]{8}_[0-9]{4}(?:[0-9]{2})?)(\.[A-Za-z]+)")


def square_pictures(folder: Path) -> dict[str, Path]:
    """Square id -> its newest picture, sorted by id.

    folder : of the session, of a disc, or of a square. Empty for what is none of these or cannot be listed.
    """
    newest: dict[str, tuple[str, int, Path]] = {}
    for square_id, place in _square_folders(folder):
        for path in _entries(place):
            found = _PICTURE.fullmatch(path.name)
            if found is None or found[2].lower() not in SUFFIXES:
                continue
            at = epu_names.square_image(f"{found[1]}.xml") or ""
            rank = (at, -SUFFIXES.index(found[2].lower()), path)
            newest[square_id] = max(newest.get(square_id, rank), rank)
    return {
        square_id: newest[square_id][2] for square_id in sorted(newest, key=lambda each: (len(each), each))
    }


def square_of_picture(path: Path) -> str | None:
    """The square of a picture in EPU's folders; None for another one."""
    is_named = _PICTURE.fullmatch(path.name) is not None
    return epu_names.square_folder(path.resolve().parent.name) if is_named else None


def _square_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    own = epu_names.square_folder(folder.resolve().name)
    if own is not None:
        yield own, folder
        return
    for path in _entries(folder):
        square_id = epu_names.square_folder(path.name)
        if square_id is not None:
            yield square_id, path
        elif epu_names.is_disc_folder(path.name):
            for inner in _entries(path):
                if (inner_id := epu_names.square_folder(inner.name)) is not None:
                    yield inner_id, inner


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder))]  # noqa: PTH208
    except OSError:
        return []
