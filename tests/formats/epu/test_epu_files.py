"""Which files of a folder count: .dm files under names that EPU does not give."""

from __future__ import annotations

import gzip
import shutil

import pytest
from epu_samples import DATA

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.epu.files import find_files, is_entered

SESSION = DATA / "harvest_session" / "EpuSession.dm"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def unpacked(name, target):
    target.write_bytes(gzip.decompress((DATA / f"{name}.gz").read_bytes()))


def test_the_only_dm_file_of_its_kind_counts_under_any_name(folder):
    unpacked("GridSquare_4590776.dm", folder / "foo.dm")
    shutil.copy(SESSION, folder / "bar.dm")
    unpacked("Atlas.dm", folder / "baz.dm")
    found = find_files(folder)
    assert [file.key for file in found.square_metadata] == ["foo.dm"]
    assert (found.session.key, found.atlas.key) == ("bar.dm", "baz.dm")
    assert found.notes == []


def test_beside_a_file_under_its_own_name_another_is_a_copy(folder):
    unpacked("GridSquare_4590776.dm", folder / "GridSquare_4590776.dm")
    shutil.copy(SESSION, folder / "EpuSession.dm")
    for name, source in (("foo.dm", "GridSquare_4590776.dm"), ("bar.dm", "EpuSession.dm")):
        shutil.copy(folder / source, folder / name)
    found = find_files(folder)
    assert [file.key for file in found.square_metadata] == ["GridSquare_4590776.dm"]
    assert found.session.key == "EpuSession.dm"
    assert found.notes == ["left out: 2 .dm files with names that EPU does not give, such as bar.dm"]


def test_of_several_squares_under_other_names_none_is_taken_and_the_error_says_why(folder):
    for name in ("foo.dm", "bar.dm"):
        unpacked("GridSquare_4590776.dm", folder / name)
    with pytest.raises(
        FileFormatError,
        match=r"instead \(left out: 2 \.dm files with names that EPU does not give, such as bar\.dm\)\. Remedy",
    ):
        find_files(folder)


def test_of_several_atlases_the_one_with_the_usual_name_counts(folder):
    for name in ("A copy.dm", "Atlas.dm", "Atlas_old.dm"):
        unpacked("Atlas.dm", folder / name)
    found = find_files(folder)
    assert found.atlas.key == "Atlas.dm"
    assert found.notes == ["left out: 2 .dm files with names that EPU does not give, such as A copy.dm"]


def test_a_dm_file_of_another_program_is_left_out_and_said(folder):
    unpacked("GridSquare_4590776.dm", folder / "foo.dm")
    (folder / "other.dm").write_text("<Other/>")
    found = find_files(folder)
    assert [file.key for file in found.square_metadata] == ["foo.dm"]
    assert found.notes == ["left out: 1 .dm files with names that EPU does not give, such as other.dm"]


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [("Data", True), ("Images-Disc2", True), ("GridSquare_12", True), ("Atlas", False), ("data", False)],
)
def test_folders_with_names_that_epu_gives_are_entered(name, is_ours):
    assert is_entered(name) == is_ours
