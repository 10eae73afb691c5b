"""The runner of documented commands must itself be able to fail."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "run_documented_commands.py"


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_documented_commands", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def page(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_marked_block_that_works_is_run_and_printed(
    runner: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = page(tmp_path, "<!-- run -->\n```console\n$ echo one\none\n```\n<!-- expect: one -->\n")
    assert runner.main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "line 2: $ echo one" in printed
    assert "1 documented blocks ran" in printed


def test_a_command_that_exits_non_zero_fails_and_shows_its_output(
    runner: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = page(tmp_path, "<!-- run -->\n```bash\necho before; exit 3\n```\n")
    assert runner.main([str(path)]) == 1
    assert "must exit 0. Got 3 instead.\nbefore" in capsys.readouterr().err


def test_a_failure_inside_a_pipe_fails(runner: ModuleType, tmp_path: Path) -> None:
    assert runner.main([str(page(tmp_path, "<!-- run -->\n```bash\nfalse | cat\n```\n"))]) == 1


def test_output_without_the_expected_text_fails(
    runner: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "<!-- run -->\n```console\n$ echo one\n```\n\n<!-- expect: one -->\n<!-- expect: two -->\n"
    assert runner.main([str(page(tmp_path, text))]) == 1
    assert "must contain 'two'" in capsys.readouterr().err


def test_a_console_block_without_a_mark_fails(
    runner: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.main([str(page(tmp_path, "Text.\n```console\n$ true\n```\n"))]) == 1
    assert "line 2: A console block must follow" in capsys.readouterr().err


def test_a_block_marked_as_not_run_needs_a_reason_and_is_not_run(runner: ModuleType, tmp_path: Path) -> None:
    block = "```bash\nexit 1\n```\n"
    assert runner.blocks_to_run(page(tmp_path, "<!-- not run: needs a microscope -->\n" + block)) == []
    with pytest.raises(runner.DocumentError, match="must follow"):
        runner.blocks_to_run(page(tmp_path, "<!-- not run: -->\n" + block))


def test_blocks_of_one_page_share_a_folder_and_pages_do_not(runner: ModuleType, tmp_path: Path) -> None:
    first = tmp_path / "first.md"
    first.write_text(
        "<!-- run -->\n```bash\necho here > made.txt\n```\n<!-- run -->\n```bash\ncat made.txt\n```\n"
        "<!-- expect: here -->\n"
    )
    second = tmp_path / "second.md"
    second.write_text("<!-- run -->\n```bash\ntest ! -e made.txt\n```\n")
    assert runner.run_pages([first, second]) == 3


def test_continued_lines_are_one_command_and_comments_none(runner: ModuleType, tmp_path: Path) -> None:
    (block,) = runner.blocks_to_run(
        page(tmp_path, "<!-- run -->\n```bash\n# why\necho a \\\n  b\n\necho c\n```\n")
    )
    assert block.commands == ("echo a \\\nb", "echo c")


def test_make_lines_are_listed_but_not_run(
    runner: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.main([str(page(tmp_path, "<!-- run -->\n```bash\nmake no-such-target\n```\n"))]) == 0
    assert "left out" in capsys.readouterr().out


def test_a_command_that_never_ends_fails(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "COMMAND_LIMIT_S", 0.2)
    with pytest.raises(runner.DocumentError, match="must end within"):
        runner.run_pages([page(tmp_path, "<!-- run -->\n```bash\nsleep 20\n```\n")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- run -->\n```bash\ntrue\n", "must be closed"),
        ("<!-- run -->\n```console\ntrue\n```\n", "hold a command"),
    ],
)
def test_a_page_that_hides_its_commands_fails(
    runner: ModuleType, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(runner.DocumentError, match=message):
        runner.blocks_to_run(page(tmp_path, text))


def test_the_programs_of_this_environment_come_first(runner: ModuleType, tmp_path: Path) -> None:
    command = "python -c 'import sys; print(sys.prefix)'"
    text = f"<!-- run -->\n```console\n$ {command}\n```\n<!-- expect: {sys.prefix} -->\n"
    assert runner.run_pages([page(tmp_path, text)]) == 1


def test_pages_find_their_sample_files_in_the_checkout(runner: ModuleType, tmp_path: Path) -> None:
    command = 'test -f "$CRYOSCOUT_CHECKOUT/scripts/run_documented_commands.py"'
    assert runner.run_pages([page(tmp_path, f"<!-- run -->\n```console\n$ {command}\n```\n")]) == 1


def test_the_pages_of_docs_and_how_to_are_run(runner: ModuleType) -> None:
    names = [path.relative_to(runner.ROOT).as_posix() for path in runner.documented_pages()]
    assert {"README.md", "docs/cli.md", "docs/how-to/epu.md"} <= set(names)
    assert not any(name.startswith("docs/results/") for name in names)


def test_the_policy_that_the_page_shows_is_the_one_that_is_run(runner):
    page = (runner.ROOT / "docs" / "your-own-policy.md").read_text(encoding="utf-8")
    shown = page.split('```python title="own_policy.py"\n')[1].split("```")[0]
    assert shown == (runner.ROOT / "examples" / "own_policy.py").read_text(encoding="utf-8")
