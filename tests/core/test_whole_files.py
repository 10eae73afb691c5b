"""A file is there whole or not at all, whatever ends the writing; and nothing in the package writes in another way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import cryoscout
from cryoscout.core.new_files import prefix_of_partial, whole_file, write_whole

PACKAGE = Path(cryoscout.__file__).parent

WRITES = re.compile(
    r"\.write_text\(|\.write_bytes\(|\.to_csv\((?!index=False\)|\))|\bopen\([^)\n]*[\"'](?:[wxa]b?|[ar]b?\+)[\"']"
    r"|savefig\((?!\s*$|\n|file|buffer)|np\.save\(|mrcfile\.new\("
)
ALLOWED = {
    # What `whole_file` gives, and files that only ever grow, whose last line may be cut and is then not read.
    "core/new_files.py": 2,
    "cli/main.py": 1,  # os.devnull
    "live/tokens.py": 1,
    "perception/classifier.py": 1,
    "simulate/image_files.py": 1,
    "study/images/cases.py": 1,
    "study/engine/runner.py": 1,
    "learning/training.py": 1,
    "perception/training.py": 1,
    # Inside a folder that is put in its place when all is in it, or that is gone with the block.
    "session/replacing.py": 1,
    "session/stored_images.py": 1,
    "intake/followed_results.py": 1,
    "intake/whole_lines.py": 1,
}


def test_one_function_writes_every_file() -> None:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        count = len(WRITES.findall(path.read_text(encoding="utf-8")))
        if count:
            found[path.relative_to(PACKAGE).as_posix()] = count
    assert found == ALLOWED


def test_an_error_on_the_way_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_whole(path, "good")

    def fail() -> None:
        with whole_file(path) as unfinished:
            unfinished.write_text("ha")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "good"
    assert list(tmp_path.iterdir()) == [path]


def test_killed_at_any_moment_of_writing_the_file_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_whole(path, "old" * 200_000)
    script = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from cryoscout.core.new_files import whole_file
        with whole_file(Path(sys.argv[1])) as unfinished:
            with unfinished.open("wb") as file:
                for piece in range(20):
                    file.write(b"new" * 10_000)
                    file.flush()
                    if piece == int(sys.argv[2]):
                        os.kill(os.getpid(), 9)
        """
    )
    for moment in (0, 10, 19):
        subprocess.run([sys.executable, "-c", script, str(path), str(moment)], check=False)
        assert path.read_text() == "old" * 200_000
    assert len(list(tmp_path.iterdir())) == 2
    write_whole(path, "next")
    assert path.read_text() == "next"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_stay_and_a_link_is_followed(tmp_path: Path) -> None:
    path, link = tmp_path / "a.csv", tmp_path / "link.csv"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o640)
    write_whole(tmp_path / "fresh.csv", "x")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "fresh.csv").stat().st_mode & 0o777 == 0o666 & ~mask


def test_what_another_running_program_writes_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    mine = tmp_path / f"{prefix_of_partial(path)}abc.csv"
    others = tmp_path / mine.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-")
    for each in (mine, others):
        each.write_text("half")
    write_whole(path, "whole")
    assert mine.exists()
    assert others.exists()


def test_a_device_is_written_as_it_is() -> None:
    write_whole(Path("/dev/null"), "gone")
    assert not Path("/dev/null").is_file()
