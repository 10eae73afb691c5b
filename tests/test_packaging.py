"""What is shipped and what importing it costs; gates over the whole checkout, each shown able to fail."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import cryoscout
from cryoscout.learning.registry import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "ray", "fastapi", "matplotlib", "pandas", "scipy", "numba", "pydantic", "sqlalchemy")

# Written in two pieces each, so that this file is not its own first finding.
FORBIDDEN = re.compile(
    "|".join(
        [
            r"(?<![\w.:/-])/(?:wor" + r"k|roo" + r"t|hom" + r"e|User" + r"s|op" + r"t)/",
            re.escape("../" + "shared"),
            "libraries" + r"\.md",
            r"\bseeds/" + r"0",
        ]
    )
)
READ_BY_PEOPLE = {
    ".py",
    ".md",
    ".toml",
    ".yml",
    ".yaml",
    ".html",
    ".js",
    ".css",
    ".txt",
    ".j2",
    ".cfg",
    ".sh",
}
OWN_FOLDERS = ("src", "docs", "tests", "scripts", "benchmarks")


def forbidden_mentions(root: Path) -> list[str]:
    """`file:line: text` of each mention, in the texts of the project's own folders and at its top."""
    files = [path for path in root.iterdir() if path.is_file()]
    for folder in OWN_FOLDERS:
        files += (root / folder).rglob("*")
    found = []
    for path in sorted(files):
        if path.suffix not in READ_BY_PEOPLE and path.name not in ("Makefile", "NOTICE"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if FORBIDDEN.search(line):
                found.append(f"{path.relative_to(root)}:{number}: {line.strip()}")
    return found


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    """The import contract, checked over the copy of the package in that folder."""
    program = (
        "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports_command as c; c()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache", "--no-logo"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path in (ROOT / "src").rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return tmp_path


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import sys, cryoscout; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in done.stdout.splitlines()}
    assert "cryoscout" in imported
    assert imported.isdisjoint(HEAVY)


def test_a_shipped_learned_policy_plans_and_replays_without_what_learning_needs(tmp_path: Path) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    runtime = {re.split(r"[<>=\[]", each)[0] for each in settings["project"]["dependencies"]}
    extra = {re.split(r"[<>=\[]", each)[0] for each in settings["project"]["optional-dependencies"]["learn"]}
    assert "safetensors" in runtime
    assert {"torch", "gymnasium"} <= extra - runtime
    program = (
        "import sys\n"
        f"for name in {sorted(each.replace('scikit-learn', 'sklearn') for each in extra)!r}: sys.modules[name] = None\n"
        "from cryoscout.cli.main import main\n"
        "replay = 'replay y1 --policy dqn-y1 --starts-from eliminated --starts 2 --budget-min 60 --json'\n"
        "plan = 'plan y1 --budget-min 60 --policy dqn-y1 --json'\n"
        "sys.exit(main(replay.split()) or main(plan.split()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    replayed, planned = (json.loads(line) for line in done.stdout.splitlines())
    row = replayed["policies"]["dqn-y1"]
    assert (row["kind"], row["prediction"]) == ("learned", "res50")
    assert 0 < row["good_mean"][0] <= row["bound_mean"][0]
    assert planned["policy"] == "dqn-y1"
    assert planned["minutes_used"] <= 60


def test_the_version_is_stated_once_and_the_same_everywhere() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in settings["project"]["dynamic"]
    assert settings["tool"]["hatch"]["version"]["path"] == "src/cryoscout/__init__.py"
    assert importlib.metadata.version("cryoscout") == cryoscout.__version__
    assert f"## {cryoscout.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_constraints_hold_exact_versions_and_no_place() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", pin) for pin in pins)
    pinned = {re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() for pin in pins}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = settings["project"]["dependencies"] + settings["dependency-groups"]["dev"]
    for requirement in wanted + settings["project"]["optional-dependencies"]["learn"]:
        name = re.sub(r"[-_.]+", "-", re.split(r"[<>=\[]", requirement)[0]).lower()
        assert name in pinned, requirement


def test_no_text_of_the_project_names_a_place_outside_it() -> None:
    assert forbidden_mentions(ROOT) == []


@pytest.mark.parametrize(
    "line",
    ["read /wor" + "k/main/data", "see ../" + "shared/design.md", "'/roo" + "t/x'", "(seeds/" + "001.txt)"],
)
def test_a_named_place_outside_the_project_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text(f"first\n{line}\n")
    assert forbidden_mentions(tmp_path) == [f"docs/page.md:2: {line}"]


def test_the_licence_and_the_origin_of_the_shipped_data_are_there() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert "IBM/CryoRL-pytorch" in notice
    assert "21mar02c" in notice


def test_an_upward_import_breaks_the_contract(tree: Path) -> None:
    assert lint_imports(tree).returncode == 0
    units = tree / "src" / "cryoscout" / "core" / "units.py"
    units.write_text(units.read_text(encoding="utf-8") + "\nimport cryoscout.cli\n", encoding="utf-8")
    done = lint_imports(tree)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "cryoscout.core is not allowed to import cryoscout.cli" in done.stdout


def test_a_package_without_a_place_in_the_layers_breaks_the_contract(tree: Path) -> None:
    (tree / "src" / "cryoscout" / "elsewhere").mkdir()
    (tree / "src" / "cryoscout" / "elsewhere" / "__init__.py").write_text('"""Nowhere."""\n')
    done = lint_imports(tree)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "elsewhere" in done.stdout


def test_the_wheel_holds_the_types_the_licence_and_every_file_of_the_package(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("cryoscout-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "cryoscout/py.typed" in names
    assert {f"cryoscout/learning/data/{file}" for file in SHIPPED.values()} <= names
    licences = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}
    for path in (ROOT / "src" / "cryoscout").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT / "src").as_posix() in names
