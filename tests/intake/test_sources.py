"""What belongs together is read together, and what is unchanged is not read again."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from epu_samples import formats_data
from hypothesis import given, settings
from hypothesis import strategies as st
from reader_samples import SAMPLES

from cryoscout.core import telling
from cryoscout.core.errors import CryoscoutError, FileFormatError, InputError
from cryoscout.formats.ctf import relion
from cryoscout.formats.own import cells
from cryoscout.formats.own import table as generic_table
from cryoscout.formats.own.columns import ColumnMap
from cryoscout.intake import read as sources
from cryoscout.intake.assemble import assemble, earlier_exposures
from cryoscout.intake.read import NothingLeftError, ReadOptions, read_sources, source_key, stamps_of
from cryoscout.session.store_update import changes_between
from examples import share

DATA = Path(__file__).parents[1] / "formats" / "data"
NAV = DATA / "serialem" / "made_by_hand_two_squares.nav"


def movie(folder, label, number):
    """Metadata of one movie at a hole of NAV."""
    file = folder / f"m_{number:04d}.tif.mdoc"
    file.write_text(
        "T = SerialEM: K3        08-Oct-2021  07:38:24\r\n\r\n[FrameSet = 0]\r\nStagePosition = -230.1 358.6\r\n"
        f"SubFramePath = X:\\frames\\m_{number:04d}.tif\r\nDateTime = 08-Oct-2021  07:39:{number:02d}\r\n"
        f"LowDoseConSet = 4\r\nNavigatorLabel = {label}\r\n",
        newline="",
    )
    return file


@pytest.fixture
def epu(tmp_path):
    formats_data.write_epu_session(tmp_path / "epu", 24, shots=2, holes_along_square=5)
    return tmp_path / "epu"


@pytest.fixture
def star(tmp_path, epu):
    names = sorted(file.stem for file in epu.rglob("FoilHole_*_Data_*.xml"))
    relion.write_micrographs(
        tmp_path / "ctf.star", [f"Movies/{name}.mrc" for name in names], [4.0] * len(names)
    )
    return tmp_path / "ctf.star"


def known_after(read):
    return {source: dict(stamps) for source, stamps in read.files.items()}


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_navigator_and_its_image_metadata_are_one_source(tmp_path, as_folder):
    frames = tmp_path / "frames"
    frames.mkdir()
    mdocs = [movie(frames, label, number) for number, label in enumerate(("7", "8", "999"), 1)]
    read = read_sources([NAV, frames] if as_folder else [mdocs[0], NAV, *mdocs[1:]])
    assert len(read.records) == 1
    assert read.records[0].exposures["hole_id"].tolist() == ["7", "8", ""]
    made = assemble(read.records)
    assert made.session.counts()["exposures"] == 2
    assert made.reports[0].first_not_joined == ("m_0003",)


def test_image_metadata_beside_two_navigators_go_to_the_item_that_they_were_taken_at(tmp_path):
    shutil.copy(NAV, tmp_path / "grid2.nav")
    read = read_sources([NAV, tmp_path / "grid2.nav", movie(tmp_path, "7", 1)])
    assert [len(records.exposures) for records in read.records] == [1, 0]


def test_image_metadata_alone_has_holes_by_their_labels(tmp_path):
    read = read_sources([movie(tmp_path, "7", 1), movie(tmp_path, "8", 2)])
    assert assemble(read.records).session.holes["hole_id"].tolist() == ["7", "8"]


def test_an_atlas_beside_a_session_places_its_squares(tmp_path):
    atlas = tmp_path / "Atlas.dm"
    atlas.write_bytes(gzip.decompress((DATA / "epu" / "Atlas.dm.gz").read_bytes()))
    read = read_sources([DATA / "epu" / "harvest_session", atlas])
    assert len(read.records) == 1
    assert read.records[0].squares["x_um"].notna().sum() > 200


def test_a_folder_that_holds_the_atlas_alone_places_the_squares_too(tmp_path):
    (tmp_path / "Atlas").mkdir()
    (tmp_path / "Atlas" / "Atlas.dm").write_bytes(
        gzip.decompress((DATA / "epu" / "Atlas.dm.gz").read_bytes())
    )
    before = read_sources([DATA / "epu" / "harvest_session"])
    for paths in (
        [DATA / "epu" / "harvest_session", tmp_path / "Atlas"],
        [tmp_path / "Atlas", DATA / "epu" / "harvest_session"],
    ):
        read = read_sources(paths)
        assert len(read.records) == 1
        assert read.records[0].path == DATA / "epu" / "harvest_session"
        assert (
            read.records[0].squares["x_um"].notna().sum()
            > 200
            > before.records[0].squares["x_um"].notna().sum()
        )


def test_a_folder_above_sessions_is_none_and_names_them(tmp_path, epu):
    with pytest.raises(
        FileFormatError, match=r"Got a folder above one session instead: epu\. Remedy: .*/epu\."
    ):
        read_sources([tmp_path])
    (tmp_path / "one" / "two" / "three").mkdir(parents=True)
    shutil.move(epu, tmp_path / "one" / "two" / "three" / "epu")
    with pytest.raises(FileFormatError, match=r"must be a folder of a known format"):
        read_sources([tmp_path])
    with pytest.raises(FileFormatError, match=r"one session instead: three/epu\."):
        read_sources([tmp_path / "one" / "two"])


def test_looking_for_sessions_ends_and_follows_no_links(tmp_path, epu, monkeypatch):
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "link").symlink_to(epu)
    with pytest.raises(FileFormatError, match="known format"):
        read_sources([folder])
    for number in range(4):
        (folder / f"{number}").mkdir()
    shutil.move(epu, folder / "9")
    with pytest.raises(FileFormatError, match="one session instead: 9"):
        read_sources([folder])
    monkeypatch.setattr(sources, "MOST_FOLDERS", 4)
    with pytest.raises(FileFormatError, match="known format"):
        read_sources([folder])


def test_leginon_tables_of_which_nothing_is_left_say_what_was_left_out(tmp_path):
    (tmp_path / "ctf.csv").write_text("21jan01a_00001gr_00002sq_00003hl_00001en-a,1.0,-5.0,soft,0.9\n")
    with pytest.raises(NothingLeftError) as error:
        read_sources([tmp_path], ReadOptions(permissive=True))
    (line,) = error.value.left_out
    assert line.startswith(f"{tmp_path / 'ctf.csv'}, line 1: the CTF resolution must be a number.")


def test_a_single_dm_file_is_a_session_of_its_holes(tmp_path):
    file = tmp_path / "GridSquare_4590776.dm"
    file.write_bytes(gzip.decompress((DATA / "epu" / "GridSquare_4590776.dm.gz").read_bytes()))
    session = assemble(read_sources([file]).records, cluster_radius_um=12.0).session
    assert session.n_holes == 570
    assert session.squares["x_um"].notna().all()
    assert 1 < len(session.patches) < 100


def test_an_unchanged_session_is_not_read_again_and_nothing_is_written_to_it(epu, star):
    before = {file: file.stat().st_mtime_ns for file in sorted(epu.rglob("*"))}
    first = read_sources([epu, star])
    assert {records.format for records in first.records} == {"epu", "relion"}
    again = read_sources([epu, star], known=known_after(first))
    assert (again.records, again.files) == ([], {})
    assert again.unchanged == [epu, star]
    assert {file: file.stat().st_mtime_ns for file in sorted(epu.rglob("*"))} == before


def test_what_has_changed_is_read_and_the_rest_of_the_session_is_not(tmp_path, epu, star):
    late = sorted(epu.rglob("FoilHole_*_Data_*.xml"))[-1]
    content = late.read_bytes()
    late.unlink()
    first = read_sources([epu, star])
    session = assemble(first.records).session
    late.write_bytes(content)
    again = read_sources([epu, star], known=known_after(first), earlier=earlier_exposures(session))
    assert [(records.format, len(records.ctf)) for records in again.records] == [("epu", 0), ("relion", 24)]
    assert set(again.files) == {source_key(epu)}
    assert late.name in {Path(file).name for file in again.files[source_key(epu)]}
    extended = assemble(again.records, session).session
    whole = assemble(read_sources([epu, star]).records).session
    assert extended.counts() == whole.counts()
    # The late file was known before by its name alone, to the second.
    assert extended.exposures.drop(columns="started_at").equals(whole.exposures.drop(columns="started_at"))
    difference = (extended.exposures["started_at"] - whole.exposures["started_at"]).abs()
    assert difference.max() < pd.Timedelta(seconds=1)
    patches = [one.holes.sort_values("hole_id")["patch_id"].tolist() for one in (extended, whole)]
    assert patches[0] == patches[1]


def test_a_changed_table_is_read_beside_an_unchanged_session(epu, star):
    first = read_sources([epu, star])
    os.utime(star, ns=(1, 1))
    again = read_sources([epu, star], known=known_after(first))
    assert [records.format for records in again.records] == ["relion"]
    assert again.unchanged == [epu]


def test_columns_of_a_sites_own_table_are_as_the_user_says(tmp_path):
    table = tmp_path / "site.csv"
    table.write_text("Spot;Thon rings to\nm1.mrc;3.5\n")
    with pytest.raises(FileFormatError, match="known format"):
        read_sources([table])
    columns = {"exposure": "Spot", "ctf": "Thon rings to"}
    read = read_sources([table], ReadOptions(column_map=ColumnMap(columns)))
    assert read.records[0].ctf["ctf_max_res_angstrom"].tolist() == [3.5]
    mapping = tmp_path / "map.toml"
    mapping.write_text("[columns]\nexposure = 'Spot'\nctf = 'Thon rings to'\n")
    assert read_sources([table], ReadOptions(column_map=mapping)).records[0].ctf.equals(read.records[0].ctf)
    with pytest.raises(InputError, match="must be one of"):
        read_sources([table], ReadOptions(column_map=ColumnMap({"ctf": "gone"})))


def test_a_deviation_stops_the_reading_or_is_listed(tmp_path):
    table = tmp_path / "site.csv"
    table.write_text("name,ctf\nm1,soft\nm2,3.5\n")
    with pytest.raises(FileFormatError, match="line 2"):
        read_sources([table])
    read = read_sources([table], ReadOptions(permissive=True))
    assert [each.line for each in read.records[0].deviations] == [2]
    assert generic_table.validate(table) == list(read.records[0].deviations)


def test_stamps_name_every_file_below_a_folder_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("12")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert {file: size for file, (size, _) in stamps_of(tmp_path).items() if file != "loop"} == {"a/x.txt": 2}


def test_the_same_path_twice_is_read_once(star):
    assert len(read_sources([star, star]).records) == 1


CELLS = {
    "grid": ["", "g1", "g2"],
    "square": ["", "s1", "s2", "a/b"],
    "patch": ["", "p1", "p2"],
    "hole": ["h1", "h2", "h3", "é\u0301", ""],
    "micrograph": [*(f"m{i}" for i in range(9)), "m1_EER", "FoilHole_1_Data_2_3_20240101_100000", "nan"],
    "stage x um": ["", "0", "-1.5", "1e300", "1e400", "soft"],
    "stage y um": ["", "0", "2.5"],
    "time": ["", "2024-01-01 10:00:00", "2024-01-01 10:01:00", "2199-12-31 23:59:59", "3.5"],
    "ctf": ["", "3.5", "25", "inf", "100000", "-1"],
}
ROWS = st.lists(st.tuples(*(st.sampled_from(cells) for cells in CELLS.values())), max_size=8)


@settings(max_examples=share(32, otherwise=60))
@given(st.lists(ROWS, min_size=1, max_size=2), st.sampled_from([None, 5.0]))
def test_any_table_becomes_a_session_or_an_error_of_ours(tmp_path_factory, tables, radius_um):
    folder = tmp_path_factory.mktemp("tables")
    paths = [folder / f"{number}.csv" for number in range(len(tables))]
    for path, rows in zip(paths, tables, strict=True):
        path.write_text("\n".join(map(",".join, [list(CELLS), *rows])) + "\n", encoding="utf-8")
    options = ReadOptions(permissive=True, cluster_radius_um=radius_um)
    try:
        records = read_sources(paths, options).records
        session = assemble(records, cluster_radius_um=radius_um).session
    except CryoscoutError:
        return
    again = assemble(records, session, cluster_radius_um=radius_um).session
    assert changes_between(session, again) == []


@settings(max_examples=share(24, otherwise=40))
@given(
    st.sampled_from([NAV, NAV.with_name("mdocfile_frame_set_multiple.mdoc"), DATA / "relion/starfile_rln31.star"]),
    st.integers(0, 10_000), st.binary(max_size=8), st.integers(0, 40),
)  # fmt: skip
def test_damaged_files_are_errors_of_ours_or_sessions(tmp_path_factory, source, place, inserted, removed):
    content = source.read_bytes()
    place %= len(content)
    file = tmp_path_factory.mktemp("damaged") / "file"
    file.write_bytes(content[:place] + inserted + content[place + removed :])
    with contextlib.suppress(CryoscoutError):
        assemble(read_sources([file], ReadOptions(permissive=True)).records)


@pytest.mark.parametrize(
    "name",
    [
        *("relion", "gctf table", "csv", "squares", "leginon ctf", "leginon download", "leginon targets"),
        *("nav", "mdoc", "cryosparc numpy", "cryosparc csdat"),
    ],
)
def test_a_large_file_says_how_much_of_it_is_read(tmp_path, monkeypatch, name):
    sample = SAMPLES[name]
    file = tmp_path / sample.file
    file.write_bytes(sample.data)
    monkeypatch.setattr(telling, "ITEMS_AT_ONCE", 1)
    monkeypatch.setattr(cells, "ITEMS_AT_ONCE", 1)
    told: list[float] = []

    @contextlib.contextmanager
    def progress(what, total):
        assert what.startswith("reading")
        assert total == 1
        yield lambda share=1.0: told.append(share)

    read = read_sources([file], progress=progress)
    assert len(read.records) == 1
    assert len(told) > 2
    assert sum(told) == pytest.approx(1.0)
    assert max(told) < 0.75
