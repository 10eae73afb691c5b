"""Every format is known by its content, and what is of no format is said once, with what was tried."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from reader_samples import SAMPLES

from cryoscout.core import telling
from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.formats import registry
from cryoscout.formats.ctf.relion import write_micrographs
from cryoscout.formats.own import cells
from cryoscout.formats.own.columns import ColumnMap
from cryoscout.formats.registry import FORMATS, format_of
from cryoscout.formats.smartscope.selection import write_selection
from cryoscout.formats.text.findings import UnreadableError

DATA = Path(__file__).parent / "data"
CTFFIND = (
    "# Output from CTFFind version 4.1.14, run on 2020-01-01 10:00:00\n"
    "# Input file: m1.mrc ; Number of micrographs: 1\n"
    "# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]\n"
    "1.000000 10295.926758 10012.275391 -38.856349 0.000000 0.030650 5.279412\n"
)
GCTF = (
    "   Defocus_U   Defocus_V       Angle         CCC\n"
    "    24401.23    21649.58       34.52    0.180863  Final Values\n"
    "Resolution limit estimated by EPA: 3.464\n"
)
CONTENT = {
    "ctffind": CTFFIND,
    "gctf": GCTF,
    "generic": "micrograph,ctf\nm1.mrc,3.5\n",
    "leginon": "21jan01a_00001gr_00002sq_00003hl_00001en-a,1.0,2.0,3.5,0.9\n",
    "leginon-export": "ChildImageId\tTargetId_TargetNumber\tCtf_Resolution_Ang\tMean_Defocus_um\n1\t2_3\t4.5\t1.0\n",
}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("epu/smartem_example", "epu"),
        ("epu/smartem_example/EpuSession.dm", "epu"),
        ("epu/harvest_session/Images-Disc1", "epu"),
        ("serialem", "serialem"),
        ("serialem/semmatch_newNav.nav", "serialem"),
        ("serialem/mdocfile_frame_set_single.mdoc", "serialem"),
        ("smartscope/made_by_hand_grid.yaml", "smartscope"),
    ],
)
def test_the_real_samples_are_recognised(file, name):
    assert format_of(DATA / file).name == name


@pytest.mark.parametrize("name", CONTENT)
def test_a_file_is_known_by_its_content_and_not_by_its_name(tmp_path, name):
    file = tmp_path / "results.dat"
    file.write_text(CONTENT[name])
    assert format_of(file).name == name


def test_tables_of_relion_and_cryosparc_are_told_from_each_other(tmp_path):
    write_micrographs(tmp_path / "a", ["m1.mrc"], [3.5])
    np.save(tmp_path / "b.npy", np.zeros(1, dtype=[("uid", "u8"), ("ctf/ctf_fit_to_A", "f4")]))
    assert format_of(tmp_path / "a").name == "relion"
    assert format_of(tmp_path / "b.npy").name == "cryosparc"


def test_a_table_of_squares_is_told_from_one_of_holes(tmp_path):
    for header, name in (
        ("square,brightness", "generic-squares"),
        ("grid;square;x_um;y_um", "generic-squares"),
        ("grid,square,hole,x_um,y_um", "generic"),
        ("square,micrograph", "generic"),
    ):
        (tmp_path / "table.csv").write_text(f"{header}\n")
        assert format_of(tmp_path / "table.csv").name == name


def test_a_single_dm_file_under_another_name_is_epu(tmp_path):
    file = tmp_path / "square.xml"
    file.write_bytes(gzip.decompress((DATA / "epu" / "GridSquare_4590776.dm.gz").read_bytes()))
    assert format_of(file).name == "epu"


def test_what_is_of_no_format_names_everything_that_was_tried(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("nothing of the kind\n")
    with pytest.raises(FileFormatError) as caught:
        format_of(file)
    assert str(caught.value) == (
        f"{file}: must be a file of a known format. Got none of these instead: EPU session, SerialEM .nav or .mdoc, "
        "Athena decision records, SmartScope selection, Leginon order of visit, SmartScope export, cryoSPARC .cs, "
        "Gctf, RELION star, CTFFIND, Leginon or Appion export, Leginon table, table with a header that names "
        "squares, table with a header that names exposures. Remedy: give the folder of the session, the table of "
        "results itself, or say what the columns of your own table mean (--column ctf=NAME "
        "for results, --column p_good=NAME for probabilities of holes)."
    )
    with pytest.raises(FileFormatError, match="must be a folder of a known format"):
        format_of(tmp_path)
    with pytest.raises(FileFormatError, match=r"gone: must be a readable file\. Got nothing there instead\."):
        format_of(tmp_path / "gone")
    assert format_of(file, ColumnMap()).name == "generic"


def test_a_folder_of_files_that_are_read_by_themselves_is_refused_with_their_names(tmp_path, monkeypatch):
    folder = tmp_path / "my results"
    folder.mkdir()
    (folder / "a.csv").write_text("micrograph,ctf\nm1.mrc,3.5\n")
    (folder / "notes.txt").write_text("nothing of the kind\n")
    with pytest.raises(FileFormatError) as caught:
        format_of(folder)
    assert caught.value.detail == (
        "must be the folder of a session. Got a folder with a file that is read by itself instead: a.csv (table with "
        f"a header that names exposures). Remedy: name those that belong to the session, all in one command: "
        f"'{folder}/a.csv'"
    )
    for name in ("passthrough_exposures.cs", "exposures_accepted.cs"):
        with (folder / name).open("wb") as file:
            np.save(file, np.zeros(1, dtype=[("uid", "u8"), ("ctf/ctf_fit_to_A", "f4")]))
    with pytest.raises(FileFormatError) as caught:
        format_of(folder)
    assert "with 3 files that are read one by one instead: a.csv (table with a header" in caught.value.detail
    assert "exposures_accepted.cs (cryoSPARC .cs), passthrough_exposures.cs (" in caught.value.detail
    assert registry.validate(folder)[1][0].message == caught.value.detail
    for number in range(9):
        (folder / f"b{number}.csv").write_text("micrograph,ctf\nm1.mrc,3.5\n")
    with pytest.raises(FileFormatError, match=r"b3\.csv \([a-z ]+\) and 7 more\. Remedy.*/b3\.csv' \.\.\.$"):
        format_of(folder)
    monkeypatch.setattr(registry, "_MOST_FILES_ASKED", 5)
    with pytest.raises(FileFormatError, match="Got a folder with 5 or more files"):
        format_of(folder)


def test_lists_of_targets_in_a_folder_are_not_offered_as_a_session(tmp_path):
    write_selection(tmp_path / "selection.json", [["h1"]])
    assert format_of(tmp_path / "selection.json").name == "smartscope-selection"
    with pytest.raises(FileFormatError, match="must be a folder of a known format"):
        format_of(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff\xfe\x00", b"a" * 100_000, b"<a>\n" * 1000])
def test_odd_bytes_are_of_no_format_and_nothing_else_is_raised(tmp_path, content):
    file = tmp_path / "odd"
    file.write_bytes(content)
    with pytest.raises(FileFormatError, match="known format"):
        format_of(file)


def test_every_format_offers_the_same_three_functions_under_its_own_name(tmp_path):
    for each in FORMATS:
        module = each.load()
        assert all(callable(getattr(module, name)) for name in ("detect", "read_source", "validate"))
        assert module.detect(tmp_path) is False
        assert module.detect(tmp_path / "gone") is False
    assert len({each.name for each in FORMATS}) == len(FORMATS)


def test_a_source_says_the_name_of_its_format(tmp_path):
    for name, content in CONTENT.items():
        file = tmp_path / f"{name}.txt"
        file.write_text(content)
        assert format_of(file).load().read_source(file).format == name


def test_validating_lists_deviations_of_any_format(tmp_path):
    for name, content in CONTENT.items():
        file = tmp_path / "file.txt"
        file.write_text(content)
        found, deviations = registry.validate(file)
        assert (found.name, deviations) == (name, [])
        broken = content.replace("3.5", "soft").replace("4.5", "soft").replace(" 5.279412", "")
        file.write_text(broken.replace("3.464", "soft"))
        found, deviations = registry.validate(file)
        assert found.name == name
        assert [bool(each.message) for each in deviations] == [True]


IN_LINES_OR_RECORDS = (
    *("relion", "gctf table", "csv", "squares", "leginon ctf", "leginon download", "leginon targets"),
    *("nav", "mdoc", "cryosparc numpy", "cryosparc csdat", "smartscope"),
)


@pytest.mark.parametrize(
    ("name", "in_folder"),
    [
        *((name, False) for name in IN_LINES_OR_RECORDS),
        *((name, True) for name in ("leginon ctf", "nav", "mdoc")),
    ],
)
def test_validating_a_large_file_says_how_much_of_it_is_read(tmp_path, monkeypatch, name, in_folder):
    sample = SAMPLES[name]
    file = tmp_path / sample.file
    file.write_bytes(sample.data)
    monkeypatch.setattr(telling, "ITEMS_AT_ONCE", 1)
    monkeypatch.setattr(cells, "ITEMS_AT_ONCE", 1)
    asked: list[tuple[str, int]] = []
    told: list[float] = []

    @contextlib.contextmanager
    def progress(what, total):
        asked.append((what, total))
        yield lambda share=1.0: told.append(share)

    registry.validate(tmp_path if in_folder else file, progress=progress)
    ((what, total),) = asked
    assert (what.startswith("checking"), total) == (True, 1)
    assert len(told) > 1
    assert sum(told) == pytest.approx(1.0)
    assert max(told) < 0.75


def test_a_folder_of_leginon_tables_is_validated_file_by_file(tmp_path):
    (tmp_path / "ctf.csv").write_text(CONTENT["leginon"].replace("3.5", "soft"))
    (tmp_path / "notes.txt").write_text("nothing of the kind\n")
    found, deviations = registry.validate(tmp_path)
    assert found.name == "leginon"
    assert [(each.element, each.line) for each in deviations] == [("ctf.csv", 1)]


def test_a_file_of_no_format_and_one_that_nothing_can_be_read_of_deviate_like_any_other(tmp_path):
    file = tmp_path / "odd"
    file.write_text("nothing of the kind\n")
    found, (deviation,) = registry.validate(file)
    assert (found, deviation.line, deviation.element) == (None, None, "the whole file")
    assert deviation.message.startswith("must be a file of a known format. Got none of these instead:")
    (tmp_path / "empty").mkdir()
    found, (deviation,) = registry.validate(tmp_path / "empty")
    assert (found, deviation.element) == (None, "the whole folder")
    file.write_text('[{"decisionType": 1}')
    found, (deviation,) = registry.validate(file)
    assert (found.name, deviation.line) == ("athena", 1)
    assert deviation.message.startswith("must be JSON.")


def test_a_reference_to_a_file_that_is_not_there_is_a_deviation_of_the_file_that_names_it(tmp_path):
    group = tmp_path / "job.csg"
    group.write_text("group:\n  type: exposure\nresults:\n  ctf:\n    metafile: '>gone.cs'\n")
    found, (deviation,) = registry.validate(group)
    assert (found.name, deviation.element) == ("cryosparc", "gone.cs")
    assert deviation.message == "must be a file. Got something else, or nothing, instead."


def test_what_cannot_be_read_is_no_deviation(tmp_path, monkeypatch):
    with pytest.raises(UnreadableError):
        registry.validate(tmp_path / "gone")
    file = tmp_path / "site.csv"
    file.write_text(CONTENT["generic"])

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("io.open", refuse)
    with pytest.raises(
        UnreadableError, match=r"site\.csv: must be a readable file\. Got Permission denied instead"
    ):
        registry.validate(file)


def test_a_table_is_validated_by_what_its_columns_are_said_to_mean(tmp_path):
    file = tmp_path / "site.csv"
    file.write_text("Image,Rings\nm1.mrc,soft\n")
    assert registry.validate(file)[0] is None
    found, (deviation,) = registry.validate(file, ColumnMap({"ctf": "Rings"}))
    assert (found.name, deviation.line) == ("generic", 2)
    file.write_text("A,Rings\nm1.mrc,soft\n")
    found, deviations = registry.validate(file, ColumnMap({"exposure": "A"}))
    assert (found.name, deviations) == ("generic", [])
    with pytest.raises(
        InputError, match=r"The column for ctf must be one of A, Rings\. Got 'Fit' for site\.csv"
    ):
        registry.validate(file, ColumnMap({"exposure": "A", "ctf": "Fit"}))


def test_a_copied_epu_folder_is_known_wherever_it_lies(tmp_path):
    shutil.copytree(DATA / "epu" / "harvest_session", tmp_path / "copy of session.dir")
    assert format_of(tmp_path / "copy of session.dir").name == "epu"


def test_formats_are_imported_only_when_they_are_asked():
    code = (
        "import sys, cryoscout.formats.registry; "
        "print([m for m in sys.modules if m.startswith('cryoscout.formats.')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert sorted(eval(out)) == [  # noqa: S307
        "cryoscout.formats.records",
        "cryoscout.formats.registry",
        "cryoscout.formats.text",
        "cryoscout.formats.text.findings",
    ]
