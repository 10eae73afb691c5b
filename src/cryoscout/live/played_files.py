"""The vendor's own files of a session that is played: each image's with its exposure, all others at the beginning.

Only files that were read are played, so that no movie is copied. What was written when all was over is made as it was
at the beginning: EPU's file of a square without the images that were taken, SerialEM's navigator with its marks. The
source's folder is read and never written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.new_files import write_whole
from cryoscout.core.telling import Say
from cryoscout.formats.serialem.mdoc import read_mdoc
from cryoscout.formats.serialem.nav import label_of_item, read_nav
from cryoscout.formats.serialem.nav_writer import nav_before
from cryoscout.session.model import Session
from cryoscout.session.store import SessionStore
from cryoscout.session.store_database import is_url

_PLAYED: dict[str, Callable[[str], bool]] = {
    "epu": lambda file: True,
    "serialem": lambda file: file.lower().endswith((".nav", ".mdoc")),
}
"""Formats of which each exposure has files of its own, called as it is, and which files of a folder were read."""

_TAKEN = re.compile(rb"<(\w+:KeyValuePairOfintParticleAcquisitionData\w*)>.*?</\1>", re.DOTALL)
"""An image that was taken, in EPU's file of a square."""


@dataclass(frozen=True)
class PlayedFiles:
    """Files of one vendor folder."""

    source: Path
    first: tuple[str, ...]
    """Below the source: those of no exposure."""
    of_exposure: Mapping[str, tuple[str, ...]]
    navigators: Mapping[str, bytes]
    """Of the first ones those of SerialEM, as they were before the first exposure."""

    def begin(self, folder: Path) -> None:
        """Make the folder as it was before the first exposure."""
        folder.mkdir()
        for file in self.first:
            content = self.navigators.get(file)
            if content is None:
                content = (self.source / file).read_bytes()
                content = _TAKEN.sub(b"", content) if file.endswith(".dm") else content
            _write(folder / file, content)

    def write(self, exposure_id: str, folder: Path, half_for: Callable[[], None] | None) -> None:
        """Write the files of an exposure as a microscope does.

        half_for : waits while half of a file stands there; None: it is whole at once
        """
        for file in self.of_exposure[exposure_id]:
            content = (self.source / file).read_bytes()
            if half_for is not None:
                _write(folder / file, content[: len(content) // 2])
                half_for()
            _write(folder / file, content)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)


def played_files(location: str, session: Session, say: Say) -> PlayedFiles | None:
    """The files of a stored session, None where it has none that can be played one by one.

    location : of the session, as it was named     say : told which folder is there and cannot be played, and why
    """
    is_played = _PLAYED.get(session.info.format)
    if is_played is None or is_url(location) or not Path(location).is_dir():
        return None
    with SessionStore.open_for_reading(location) as store:
        sources = [(Path(key), files) for key, files in store.files().items() if Path(key).is_dir()]
    known = session.exposures.loc[session.exposures["outcome"] != "none", "exposure_id"].tolist()
    for source, files in sources:
        inside = source.resolve()
        # A session that somebody else made may name anything: nothing beside the folder is read or written.
        there = [
            file
            for file in files
            if is_played(file)
            and (source / file).is_file()
            and (source / file).resolve().is_relative_to(inside)
        ]
        of_exposure: dict[str, list[str]] = {name: [] for name in known}
        first: list[str] = []
        for file in there:
            of_exposure.get(_exposure_of(file, of_exposure), first).append(file)
        if known and all(of_exposure.values()):
            try:
                navigators = _navigators(source, first, of_exposure)
            except (InputError, FileFormatError) as error:
                say(f"The files of {source} cannot be played as they were, a table is: {error}")
                continue
            return PlayedFiles(
                source, tuple(first), {name: tuple(some) for name, some in of_exposure.items()}, navigators
            )
    return None


def _navigators(
    source: Path, first: Collection[str], of_exposure: Mapping[str, Collection[str]]
) -> dict[str, bytes]:
    """SerialEM's navigators, with the marks of the items at which the images were taken.

    Raises InputError or FileFormatError for files that are damaged.
    """
    navigators = [file for file in first if file.lower().endswith(".nav")]
    if not navigators:
        return {}
    images = [file for some in of_exposure.values() for file in some]
    read = [read_mdoc(source / file, permissive=True) for file in images]
    labels = {label_of_item(section.navigator_label) for file in read for section in file.sections} - {""}
    return {file: nav_before(read_nav(source / file, permissive=True), labels) for file in navigators}


def _exposure_of(file: str, known: Collection[str]) -> str:
    """The exposure that a file is called as, its endings aside: a name may have dots, as SerialEM's dated ones."""
    name = Path(file).name
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return name
