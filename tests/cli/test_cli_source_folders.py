"""`cryoscout import` writes nothing where the session that it reads lies."""

from __future__ import annotations

import builtins
import io
import os
import shutil

import pytest
from import_samples import DATA, NAV, content


@pytest.mark.slow
def test_a_source_folder_is_read_only_read_by_updates_and_replacements_too(
    cli, epu, star, tmp_path, monkeypatch
):
    read_only_read(
        cli, epu, star, tmp_path, monkeypatch, ("--json", "--update --json", "--force --permissive")
    )


def test_a_source_folder_is_read_only_read(cli, epu, star, tmp_path, monkeypatch):
    read_only_read(cli, epu, star, tmp_path, monkeypatch, ("--json",))


def read_only_read(cli, epu, star, tmp_path, monkeypatch, ways):
    """Import sources of every format in each of the ways, from a folder that does not bear to be written to."""
    source = tmp_path / "source"
    source.mkdir()
    shutil.move(epu, source / "epu")
    shutil.move(star, source / "ctf.star")
    (source / "sem").mkdir()
    shutil.copy(NAV, source / "sem" / "grid1.nav")
    shutil.copytree(DATA / "leginon", source / "leginon")
    shutil.copy(DATA / "smartscope" / "made_by_hand_grid.yaml", source / "grid.yaml")
    shutil.copy(DATA / "generic" / "made_by_hand_holes.csv", source / "holes.csv")
    for path in [source, *source.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = content(source)
    refused = refuse_writing_below(source, monkeypatch)
    try:
        with pytest.raises(PermissionError):
            (source / "proof").write_text("the guard works")
        refused.clear()
        for number, names in enumerate(("epu", "epu ctf.star", "sem", "leginon", "grid.yaml", "holes.csv")):
            paths = " ".join(f"source/{name}" for name in names.split())
            for way in ways if number else (*ways, "--update"):
                line = f"import {paths} -o run{number}.session {way}"
                assert cli(line).code == 0, line
            assert cli(f"validate source/{names.split()[0]}").code == 0
        assert refused == []
        assert content(source) == before
    finally:
        monkeypatch.undo()
        for path in [source, *source.rglob("*")]:
            path.chmod(0o755)


def refuse_writing_below(folder, monkeypatch):
    """Let nothing below a folder be opened for writing, made, moved or taken away, whoever asks; what was refused.

    Permissions alone do not hold back the user root.
    """
    refused: list[str] = []
    below = os.path.realpath(folder)

    def check(path):
        place = os.path.realpath(os.fsdecode(path)) if not isinstance(path, int) else ""
        if place == below or place.startswith(below + os.sep):
            refused.append(place)
            raise PermissionError(13, "refused by the test", place)

    def guarded(original, which):
        def call(*arguments, **named):
            for path in which(arguments, named):
                check(path)
            return original(*arguments, **named)

        return call

    def opened(arguments, named):
        mode = named.get("mode", arguments[1] if len(arguments) > 1 else "r")
        return [arguments[0]] if set("wax+") & set(str(mode)) else []

    def opened_low(arguments, _):
        return [arguments[0]] if arguments[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else []

    for module in (builtins, io):
        monkeypatch.setattr(module, "open", guarded(module.open, opened))
    monkeypatch.setattr(os, "open", guarded(os.open, opened_low))
    for name in ("mkdir", "remove", "unlink", "rmdir", "chmod", "utime", "truncate"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name), lambda arguments, _: arguments[:1]))
    for name in ("rename", "replace", "link", "symlink"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name), lambda arguments, _: arguments[:2]))
    return refused


def test_nothing_is_written_anywhere_inside_a_source_folder_unasked(cli, epu, monkeypatch):
    monkeypatch.chdir(epu / "Images-Disc1")
    before = content(epu)
    answer = cli("import", epu)
    assert answer.code == 2
    assert answer.err.startswith("A session must not be written beside the files it is read from unasked.")
    assert content(epu) == before
