"""What lies in a folder beside its session is counted and named, and a packed file says what it needs."""

from __future__ import annotations

import gzip
import shutil
import tarfile
from pathlib import Path

import pytest
from reader_samples import SAMPLES

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.ctf.relion import write_micrographs
from cryoscout.formats.own.columns import ColumnMap
from cryoscout.formats.registry import format_of
from cryoscout.intake import not_read
from cryoscout.intake.read import read_sources

DATA = Path(__file__).parents[1] / "formats" / "data"
STAR = DATA / "relion" / "starfile_rln31.star"
NAV = DATA / "serialem" / "made_by_hand_two_squares.nav"
MDOC = DATA / "serialem" / "mdocfile_frame_set_single.mdoc"
CTFFIND = (
    "# Output from CTFFind\n# Input file: m_0001.mrc ; Number of micrographs: 1\n# Columns: #1 - a; #2 - b\n"
    "1.0 10295.9 10012.2 -38.8 0.0 0.03 5.2\n"
)


def notes_of(folder, *beside):
    read = read_sources([folder, *beside])
    return [note for each in read.records for note in each.notes if note.startswith("not read")]


@pytest.fixture
def epu(tmp_path):
    return Path(shutil.copytree(DATA / "epu" / "harvest_session", tmp_path / "epu"))


def test_an_epu_folder_alone_has_nothing_to_say(epu):
    assert notes_of(epu) == []


def test_files_of_other_programs_in_an_epu_folder_are_counted_and_named(epu):
    (epu / "ctf").mkdir()
    write_micrographs(epu / "ctf" / "micrographs_ctf.star", ["m_0001.mrc"], [4.0])
    (epu / "ctf" / "m_0001.txt").write_text(CTFFIND)
    shutil.copy(MDOC, epu / "a.mdoc")
    shutil.copy(NAV, epu / "grid1.nav")
    (epu / "notes.txt").write_text("good ice below\n")
    (epu / "m.csv").write_text("micrograph,ctf\nm1,4\n")
    (epu / "more.star.gz").write_bytes(gzip.compress(STAR.read_bytes()))
    (epu / "old.tgz").write_bytes(gzip.compress(STAR.read_bytes()))
    with tarfile.open(epu / "older.tar", "w") as tar:
        tar.add(STAR, "micrographs_ctf.star")
    (epu / "oldest.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(26))
    assert notes_of(epu) == [
        "not read in the folder: 2 SerialEM .nav or .mdoc (a.mdoc, grid1.nav), 1 table with a header that names "
        "exposures (m.csv), 1 CTFFIND (ctf/m_0001.txt), 1 RELION star (ctf/micrographs_ctf.star), 1 of no known format "
        "(notes.txt), 4 packed (more.star.gz, old.tgz, older.tar, oldest.7z; unzip them to have them read); what "
        "belongs to the session is read when it is named beside the folder"
    ]
    # What is named too is read.
    of_epu, of_ctf = notes_of(epu, epu / "ctf")
    assert "ctf/" not in of_epu
    assert of_ctf.startswith("not read in the folder: 1 CTFFIND (m_0001.txt)")


def test_results_beside_a_navigator_are_named_and_its_images_are_its_own(tmp_path):
    shutil.copy(NAV, tmp_path / "grid1.nav")
    shutil.copy(MDOC, tmp_path / "m.mdoc")
    shutil.copy(STAR, tmp_path / "micrographs_ctf.star")
    assert format_of(tmp_path).name == "serialem"
    assert notes_of(tmp_path) == [
        "not read in the folder: 1 RELION star (micrographs_ctf.star); what belongs to the session is read when it is "
        "named beside the folder"
    ]


def test_of_a_folder_with_places_and_results_the_places_are_read(tmp_path):
    image = "24jan05a_grid1_00008gr_00011sq_00002hl_00002en-a"
    (tmp_path / "ctf.csv").write_text(f"{image},1.5,-2.5,4.5,0.9\n")
    shutil.copy(STAR, tmp_path / "micrographs_ctf.star")
    assert format_of(tmp_path).name == "leginon"
    assert len(notes_of(tmp_path)) == 1


def test_of_a_job_of_relion_everything_but_its_table_is_counted_and_named(tmp_path):
    job = tmp_path / "job003"
    micrographs = job / "MotionCorr" / "job002" / "raw"
    micrographs.mkdir(parents=True)
    write_micrographs(job / "micrographs_ctf.star", ["raw/m_0001.mrc"], [4.0])
    (job / "job.star").write_text("data_job\n\n_rlnJobTypeLabel relion.ctffind\n\n")
    write_micrographs(job / "more.star", ["raw/m_0002.mrc"], [4.0])
    (job / "note.txt").write_text("hello\n")
    (micrographs / "m_0001_PS.txt").write_text(CTFFIND)
    (micrographs / "m_0001_PS_avrot.txt").write_text(CTFFIND)
    told = [
        note for each in read_sources([job]).records for note in each.notes if note.startswith("not read")
    ]
    assert told == [
        "not read in the folder: 2 RELION star (job.star, more.star), 2 CTFFIND "
        "(MotionCorr/job002/raw/m_0001_PS.txt, MotionCorr/job002/raw/m_0001_PS_avrot.txt), 1 of no known format "
        "(note.txt); what belongs to the session is read when it is named beside the folder"
    ]


def test_more_files_than_are_looked_into_are_counted(epu, monkeypatch):
    for number in range(5):
        (epu / f"n{number}.txt").write_text("x\n")
    monkeypatch.setattr(not_read, "MOST_FILES", 3)
    assert notes_of(epu) == [
        "not read in the folder: 3 of no known format (n0.txt, n1.txt, n2.txt), 2 more that were not looked into"
    ]


@pytest.mark.parametrize(
    ("start", "remedy"),
    [
        (gzip.compress(b"data_\n", mtime=0), "Got a gzip file instead. Remedy: unzip it (gunzip a.star.gz)."),
        (b"PK\x03\x04rest", "Got a zip file instead. Remedy: unzip it (unzip a.star.gz)."),
    ],
)
def test_a_packed_file_says_that_it_must_be_unpacked(tmp_path, start, remedy):
    path = tmp_path / "a.star.gz"
    path.write_bytes(start)
    with pytest.raises(FileFormatError) as error:
        format_of(path, ColumnMap())
    assert error.value.detail == f"must be unpacked before it is read. {remedy}"


def test_results_are_named_four_folders_down_and_deeper_folders_are_counted(epu):
    job = epu / "rel" / "CtfFind" / "job003"
    (job / "deep" / "deeper").mkdir(parents=True)
    write_micrographs(job / "micrographs_ctf.star", ["m_0001.mrc"], [4.0])
    (job / "deep" / "m.csv").write_text("micrograph,ctf\nm1,4\n")
    (job / "deep" / "deeper" / "m2.csv").write_text("micrograph,ctf\nm1,4\n")
    (note,) = notes_of(epu)
    assert "1 RELION star (rel/CtfFind/job003/micrographs_ctf.star)" in note
    assert "1 table with a header that names exposures (rel/CtfFind/job003/deep/m.csv)" in note
    assert "files of other programs in 1 folder not looked into (rel/CtfFind/job003/deep/deeper)" in note


def test_files_of_upper_folders_are_looked_into_first(epu, monkeypatch):
    (epu / "a" / "b").mkdir(parents=True)
    (epu / "z").mkdir()
    for number in range(5):
        (epu / "a" / "b" / f"n{number}.txt").write_text("x\n")
    write_micrographs(epu / "z" / "m.star", ["m_0001.mrc"], [4.0])
    monkeypatch.setattr(not_read, "MOST_FILES", 1)
    (note,) = notes_of(epu)
    assert note.startswith(
        "not read in the folder: 1 RELION star (z/m.star), 5 more that were not looked into"
    )


def test_more_folders_than_are_listed_are_counted(epu, monkeypatch):
    (epu / "z").mkdir()
    above = [path.name for path in sorted(epu.iterdir()) if path.is_dir()]
    monkeypatch.setattr(not_read, "MOST_FOLDERS", len(above))
    (note,) = notes_of(epu)
    assert "files of other programs in " in note
    assert "folders not looked into (z" in note


def test_a_ctf_download_in_a_folder_of_another_session_is_named(epu):
    (epu / "ctfdata-session00123.dat").write_bytes(SAMPLES["leginon download"].data)
    (note,) = notes_of(epu)
    assert note.startswith("not read in the folder: 1 Leginon or Appion export (ctfdata-session00123.dat)")
