"""What has changed below some paths: told by the system on local disks, looked for on network file systems.

inotify sees no remote writes, and a whole scan of 100,000 files each second would take a core. So on a network the
times of folders are looked at, and of the few files that still live (recently changed, waited for, or of a kind that
grows: session files, stars, tables); everything is looked at every ten minutes, on local disks too.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryoscout.session.file_systems import is_on_network

WHOLE_SCAN_S = 600.0
POLL_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Between two attempts to be told by the system."""
LIVING_S = 120.0
"""A file that changed so lately is looked at each time."""
GROWING = frozenset(
    (".dm", ".star", ".mdoc", ".csv", ".tsv", ".txt", ".nav", ".cs", ".csg", ".yaml", ".yml", ".json")
)
MOST_GROWING = 2000
"""More files of these kinds are logs, one for each image: they are found by their folders."""
Stamp = tuple[int, int]


class Changes(Protocol):
    """Where changed paths come from."""

    def take(self) -> set[Path]:
        """What has changed since the last time."""
        ...

    def keep_looking_at(self, paths: Collection[Path]) -> None:
        """Files that are not whole yet."""
        ...

    def close(self) -> None:
        """End it."""
        ...


@dataclass
class Poller:
    """Looks at folders' times, at living files, and now and then at everything."""

    roots: tuple[Path, ...]
    clock: Callable[[], float] = time.monotonic
    _folders: dict[str, int] = field(default_factory=dict)
    _files: dict[str, Stamp] = field(default_factory=dict)
    _files_in: dict[str, set[str]] = field(default_factory=dict)
    _living: dict[str, float] = field(default_factory=dict)
    _growing: set[str] = field(default_factory=set)
    _named: set[str] = field(default_factory=set)
    """Files among the roots."""
    _again: set[str] = field(default_factory=set)
    """Folders that are looked at once more although their time may be the same."""
    _unfinished: set[str] = field(default_factory=set)
    _scanned_s: float | None = None

    def take(self) -> set[Path]:
        """What has changed since the last time; at first nothing, because all was read then."""
        now_s = self.clock()
        if self._scanned_s is None:
            self._scan()
            self._scanned_s = now_s
            return set()
        if now_s - self._scanned_s >= WHOLE_SCAN_S:
            self._scanned_s = now_s
            return {Path(each) for each in self._scan()}
        changed = set(self._in_changed_folders())
        self._living = {file: until_s for file, until_s in self._living.items() if until_s > now_s}
        few = self._growing if len(self._growing) <= MOST_GROWING else self._named
        for file in {*self._living, *few, *self._unfinished}:
            stamp = _stamp(file)
            if stamp != self._files.get(file):
                changed.add(file)
                self._note(file, stamp)
        for file in changed:
            self._living[file] = now_s + LIVING_S
        return {Path(each) for each in changed}

    def keep_looking_at(self, paths: Collection[Path]) -> None:
        """Files that are not whole yet are looked at each time."""
        self._unfinished = {str(path) for path in paths}

    def close(self) -> None:
        """Nothing is held."""

    def _scan(self) -> set[str]:
        """Look at everything; what is new, changed or gone since."""
        before = dict(self._files)
        self._folders.clear()
        self._files_in.clear()
        found: dict[str, Stamp] = {}
        for root in self.roots:
            if _is_folder(root):
                for folder, files in _walk(str(root)):
                    self._folders[folder] = _folder_time(folder)
                    self._files_in[folder] = set(files)
                    found.update(files)
            else:
                stamp = _stamp(str(root))
                if stamp is not None:
                    found[str(root)] = stamp
                self._growing.add(str(root))
                self._named.add(str(root))
        self._files = found
        self._growing |= {file for file in found if Path(file).suffix.lower() in GROWING}
        gone = set(before) - set(found)
        return {file for file, stamp in found.items() if before.get(file) != stamp} | gone

    def _in_changed_folders(self) -> Iterator[str]:
        changed = [folder for folder, at in self._folders.items() if _folder_time(folder) != at]
        pending = [*changed, *self._again.difference(changed)]
        self._again = set()
        while pending:
            folder = pending.pop()
            # The time is taken first: what comes while the folder is listed is found the next time.
            at = _folder_time(folder)
            # Of a disk that counts seconds: what comes in the same one does not change the time.
            if at != self._folders.get(folder) and at % 10**9 == 0:
                self._again.add(folder)
            self._folders[folder] = at
            known = self._files_in.get(folder, set())
            files, folders = _listed(folder)
            for each in folders:
                if each not in self._folders:
                    pending.append(each)
            for file, stamp in files.items():
                if self._files.get(file) != stamp:
                    self._note(file, stamp)
                    yield file
            for file in known - set(files):
                self._files.pop(file, None)
                yield file
            self._files_in[folder] = set(files)

    def _note(self, file: str, stamp: Stamp | None) -> None:
        if stamp is None:
            self._files.pop(file, None)
            return
        self._files[file] = stamp
        if Path(file).suffix.lower() in GROWING:
            self._growing.add(file)


class Told:
    """watchfiles tells; a whole scan now and then finds what it missed.

    While it does not tell yet, or cannot because the system has no watch left for so many folders, they are polled.
    """

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = tuple(roots)
        self._changed: set[Path] = set()
        self._added: set[Path] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._untold = set(self._roots)
        """Of which nothing is told now."""
        self._is_behind = False
        """Whether what came before the first word is still to be looked for."""
        self._scan = Poller(self._roots)
        self._scan.take()
        self._scanned_s = self._polled_s = time.monotonic()
        self._threads = [
            threading.Thread(target=self._watch, args=(root,), daemon=True) for root in self._roots
        ]
        for thread in self._threads:
            thread.start()

    def _watch(self, root: Path) -> None:
        import watchfiles

        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            is_folder = _is_folder(root)
            place = root if is_folder else root.parent
            if not _is_folder(place):
                self._stop.wait(FIRST_PAUSE_S)
                continue
            try:
                for changes in watchfiles.watch(
                    place,
                    watch_filter=None,
                    debounce=200,
                    step=50,
                    stop_event=self._stop,
                    rust_timeout=1000,
                    yield_on_timeout=True,
                    recursive=is_folder,
                    raise_interrupt=False,
                ):
                    with self._lock:
                        self._is_behind |= root in self._untold
                        self._untold.discard(root)
                        self._changed |= {Path(path) for _, path in changes}
                        self._added |= {
                            Path(path) for kind, path in changes if kind is watchfiles.Change.added
                        }
                    pause_s = FIRST_PAUSE_S
                    if not _is_folder(place):
                        break
            except (RuntimeError, OSError):
                pass  # it went away, or there is no watch left
            with self._lock:
                self._untold.add(root)
            self._stop.wait(pause_s)
            pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)

    def take(self) -> set[Path]:
        """What has changed since the last time."""
        with self._lock:
            changed, self._changed = self._changed, set()
            added, self._added = self._added, set()
            polls = bool(self._untold) and time.monotonic() - self._polled_s >= POLL_S
            polls, self._is_behind = polls or self._is_behind, False
        # What stood in a new folder before the system watched it is not told.
        for folder in (path for path in added if _is_folder(path)):
            changed |= {Path(file) for _, files in _walk(str(folder)) for file in files}
        if polls:
            self._polled_s = time.monotonic()
            changed |= self._scan.take()
        if time.monotonic() - self._scanned_s >= WHOLE_SCAN_S:
            self._scanned_s = time.monotonic()
            changed |= {Path(each) for each in self._scan._scan()}
        return {path for path in changed if self._is_below(path)}

    def _is_below(self, path: Path) -> bool:
        return any(path == root or path.is_relative_to(root) for root in self._roots)

    def keep_looking_at(self, paths: Collection[Path]) -> None:
        """The system tells of these too."""
        self._scan.keep_looking_at(paths)

    def close(self) -> None:
        """End the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5.0)


def changes_below(roots: Iterable[Path]) -> Changes:
    """Told by the system where all paths are local, else polled."""
    roots = tuple(roots)
    return Poller(roots) if any(is_on_network(root) for root in roots) else Told(roots)


def _is_folder(path: Path) -> bool:
    """Whether it is one that can be seen: a share whose server is away answers with errors of its own."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _stamp(file: str) -> Stamp | None:
    try:
        status = os.stat(file)  # noqa: PTH116  a Path for each of 100,000 files costs more than the look
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _folder_time(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116
    except OSError:
        return 0


def _listed(folder: str) -> tuple[dict[str, Stamp], list[str]]:
    files: dict[str, Stamp] = {}
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir():
                        folders.append(entry.path)
                    else:
                        status = entry.stat()
                        files[entry.path] = status.st_size, status.st_mtime_ns
                except OSError:
                    continue  # it went away meanwhile
    except OSError:
        pass  # unmounted, or gone: its files are told as gone
    return files, folders


def _walk(root: str) -> Iterator[tuple[str, dict[str, Stamp]]]:
    pending = [root]
    while pending:
        folder = pending.pop()
        files, folders = _listed(folder)
        yield folder, files
        pending += folders
