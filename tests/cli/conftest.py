"""How the tests of the command line call it: in this process, as the console script does."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from import_samples import EXPOSURES, SMARTEM

from cryoscout.cli.main import main
from cryoscout.formats.ctf.relion import write_micrographs


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call `cli("plan y1 --seed", 3)` in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(line: str, *more: object) -> Answer:
        code = main([*shlex.split(line), *(str(argument) for argument in more)])
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return call


Kept = dict[tuple[str, frozenset[tuple[str, bytes]]], Path]


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Kept]:
    """Where folders lie that one test has made, and which line has made which of which files."""
    return tmp_path_factory.mktemp("kept"), {}


@pytest.fixture
def once(cli: Cli, tmp_path: Path, kept: tuple[Path, Kept]) -> Callable[..., str]:
    """Call `once("import x.nav -o a.session")`: it is run for the first test alone, the others get a copy.

    Another line is run anew, and so is one beside other files. Gives the name, which must stand last. The sources that
    a copied session names are those of the first test, which may be gone.
    """
    folder, made = kept

    def make(line: str) -> str:
        name = shlex.split(line)[-1]
        files = frozenset(
            (str(path.relative_to(tmp_path)), path.read_bytes())
            for path in tmp_path.rglob("*")
            if path.is_file()
        )
        if (line, files) not in made:
            assert cli(line).code == 0
            made[line, files] = shutil.copytree(tmp_path / name, folder / str(len(made)))
        else:
            shutil.copytree(made[line, files], tmp_path / name)
        return name

    return make


@pytest.fixture
def sim(once: Callable[..., str]) -> str:
    """The name of a stored session of 300 simulated holes, all imaged."""
    return once("simulate --preset small --holes 300 --seed 1 -o sim.session")


@pytest.fixture
def epu(tmp_path: Path) -> Path:
    """A copy of the real session, so that a test may take files away."""
    shutil.copytree(SMARTEM, tmp_path / "epu")
    return tmp_path / "epu"


@pytest.fixture
def star(tmp_path: Path) -> Path:
    """Results of the four images of that session, as RELION writes them."""
    names = [f"MotionCorr/job002/Movies/{name}_Fractions.mrc" for name in EXPOSURES]
    write_micrographs(tmp_path / "micrographs_ctf.star", names, [3.0, 25.0, 999.0, 4.0])
    return tmp_path / "micrographs_ctf.star"
