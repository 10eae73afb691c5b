"""The files in data/relion are real; every other table here is made by hand in the shape RELION writes."""

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.formats.ctf.relion import (
    detect,
    read_source,
    validate,
    write_good_micrographs,
    write_micrographs,
)
from cryoscout.formats.ctf.star import read_star

REAL = Path(__file__).parents[1] / "data" / "relion"
OPTICS = """
# version 30001

data_optics

loop_ 
_rlnOpticsGroupName #1 
_rlnOpticsGroup #2 
_rlnVoltage #3 
opticsGroup1            1   200.000000 
 

"""  # noqa: W291, W293
LABELS = """
loop_ 
_rlnMicrographName #1 
_rlnOpticsGroup #2 
_rlnDefocusU #3 
_rlnDefocusV #4 
_rlnCtfAstigmatism #5 
_rlnDefocusAngle #6 
_rlnCtfFigureOfMerit #7 
_rlnCtfMaxResolution #8 
"""  # noqa: W291
EPU = "FoilHole_1_Data_2_3_20240105_115150"
ROWS = (
    f"MotionCorr/job002/Movies/{EPU}_Fractions.mrc 1 10865.0 10571.0 294.0 79.13 0.132045 4.841686 \n"
    "MotionCorr/job002/Movies/b.mrc 1 9839.16 9586.39 252.8 70.59 0.168128 25.000000 \n"
    "MotionCorr/job002/Movies/c.mrc 1 9839.16 9586.39 252.8 70.59 0.001 999.000000 \n"
)


def written(tmp_path, text, name="micrographs_ctf.star"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.fixture
def table(tmp_path):
    return written(tmp_path, OPTICS + "# version 30001\n\ndata_micrographs\n" + LABELS + ROWS + " \n")


def test_a_table_of_relion_3_1_gives_results_in_our_units(table):
    assert detect(table)
    records = read_source(table)
    assert records.ctf["name"].tolist() == [EPU, "b", "c"]
    assert records.ctf["ctf_max_res_angstrom"].tolist() == [4.841686, 25.0, 999.0]
    assert records.ctf["line"].tolist() == [26, 27, 28]
    assert records.ctf["defocus_u_um"].iloc[0] == pytest.approx(1.0865)
    assert records.ctf["astigmatism_um"].iloc[0] == pytest.approx(0.0294)
    assert records.ctf["defocus_angle_deg"].iloc[0] == 79.13
    assert records.ctf["rlnOpticsGroup"].tolist() == ["1", "1", "1"]
    assert records.extra["optics group 1"]["rlnVoltage"] == "200.000000"
    assert validate(table) == []


def test_the_cap_of_25_is_a_value_and_is_noted(table):
    notes = read_source(table).notes
    assert "1 of 3 resolutions are 25 angstrom, RELION's cap: the fit may have failed" in notes
    assert "1 of 3 fits failed (inf, nan or at least 100 angstrom)" in notes


def test_a_table_of_relion_3_0_is_one_nameless_block(tmp_path):
    records = read_source(written(tmp_path, "\ndata_\n" + LABELS + ROWS))
    assert records.ctf["name"].tolist() == [EPU, "b", "c"]
    assert any("RELION 3.0" in note for note in records.notes)


def test_a_column_that_relion_4_added_is_read_and_an_unknown_one_kept(tmp_path):
    labels = LABELS + "_rlnCtfIceRingDensity #9 \n_rlnSiteNote #10 \n"
    text = "data_micrographs\n" + labels + 'a.mrc 1 1 1 1 1 1 4.5 1.484760 "good ice"\n'
    ctf = read_source(written(tmp_path, text)).ctf
    assert ctf["ice_ring_density"].tolist() == [1.48476]
    assert ctf["rlnSiteNote"].tolist() == ["good ice"]


def test_a_table_without_ctf_says_so(tmp_path):
    path = written(
        tmp_path, "data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\na.mrc 1\n"
    )
    message = (
        "a table of CTF results must have rlnCtfMaxResolution. Got rlnMicrographName, rlnOpticsGroup instead: a "
        "table without CTF results. Remedy: give the table that the CTF estimation wrote (micrographs_ctf.star)."
    )
    for permissive in (False, True):
        with pytest.raises(FileFormatError) as error:
            read_source(path, permissive)
        assert (error.value.line, error.value.detail) == (3, message)
    assert [each.message for each in validate(path)] == [message]


def test_real_tables_of_particles_are_no_results_of_micrographs():
    with pytest.raises(
        FileFormatError, match=r"one row per micrograph\. Got particles \(rlnCoordinateX, rlnImageName"
    ):
        read_source(REAL / "starfile_one_loop.star")
    with pytest.raises(FileFormatError, match=r"Got particles .* Remedy: give micrographs_ctf\.star"):
        read_source(REAL / "starfile_rln31.star")
    assert detect(REAL / "starfile_one_loop.star")


def test_a_star_file_without_micrographs_and_one_with_two_tables_are_refused(tmp_path):
    with pytest.raises(FileFormatError, match=r"Got data_optics without it instead: no table of micrographs"):
        read_source(written(tmp_path, OPTICS))
    twice = "data_a\n" + LABELS + ROWS + "\ndata_b\n" + LABELS + ROWS
    with pytest.raises(FileFormatError, match=r"must have one table of micrographs\. Got 2 instead"):
        read_source(written(tmp_path, twice))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("d.mrc 1 inf 1 1 1 1 4", "rlnDefocusU must be a finite number. Got 'inf' instead."),
        ("d.mrc 1 1 1 1 1 1 good", "the CTF resolution must be a number. Got 'good' instead."),
        ("d.mrc 1 1 1 1 1 1 0", "the CTF resolution must be above 0 angstrom. Got '0' instead."),
        ("d.mrc 1 1 1 1 1 1 -1", "the CTF resolution must be above 0 angstrom. Got '-1' instead."),
        ("d.mrc 1 1 1 1 1 1", "a row must have 8 values, one for each label. Got 7 instead."),
        ("d.mrc 1 deep 1 1 1 1 4", "rlnDefocusU must be a finite number. Got 'deep' instead."),
        ('"" 1 1 1 1 1 1 4', "a micrograph must have a name. Got none instead."),
        (
            "x/Movies/b_DW.mrc 1 1 1 1 1 1 4",
            "an exposure must stand once. Got 'b' again instead (first on line 13).",
        ),
    ],
)
def test_a_row_that_deviates_is_named_and_permissively_left_out(tmp_path, row, message):
    path = written(tmp_path, "data_micrographs\n" + LABELS + ROWS + row + "\n")
    with pytest.raises(FileFormatError) as error:
        read_source(path)
    assert (error.value.line, error.value.detail) == (15, message)
    records = read_source(path, permissive=True)
    assert len(records.ctf) == 3
    assert [(each.line, each.message) for each in records.deviations] == [(15, message)]
    assert list(records.deviations) == validate(path)


def test_a_nan_beside_a_resolution_is_missing_and_in_its_place_a_failed_fit(tmp_path):
    more = "d.mrc 1 nan 1 1 1 1 25\ne.mrc 1 1 1 1 1 1 nan\n"
    ctf = read_source(written(tmp_path, "data_micrographs\n" + LABELS + ROWS + more)).ctf.set_index("name")
    assert (ctf.loc["d", "ctf_max_res_angstrom"], ctf.loc["e", "ctf_max_res_angstrom"]) == (25, math.inf)
    assert ctf["defocus_u_um"].isna().tolist() == [False, False, False, True, False]


def test_a_file_cut_anywhere_never_gives_a_wrong_value(table, tmp_path):
    whole = table.read_text()
    right = read_source(table).ctf.set_index("name")["ctf_max_res_angstrom"]
    refused = 0
    for end in range(len(whole.rstrip())):
        path = written(tmp_path, whole[:end], "cut.star")
        try:
            found = read_source(path).ctf.set_index("name")["ctf_max_res_angstrom"]
        except FileFormatError:
            refused += 1
            continue
        assert found.to_dict() == right.loc[found.index].to_dict()
    assert refused > 0


def test_the_good_micrographs_keep_all_columns_and_the_optics(table, tmp_path):
    target = tmp_path / "good.star"
    report = write_good_micrographs(table, target, [f"{EPU}_Fractions.tiff", "c", "elsewhere"])
    assert (report.found, report.joined, report.first_not_joined) == (3, 2, ("elsewhere",))
    before, after = read_star(table).tables, read_star(target).tables
    assert after[0] == before[0]
    assert after[1].rows == [before[1].rows[0], before[1].rows[2]]
    assert read_source(target).ctf["name"].tolist() == [EPU, "c"]


def test_the_good_micrographs_need_another_file_and_a_name_that_is_there(table, tmp_path):
    with pytest.raises(InputError, match=r"must be another file than the source"):
        write_good_micrographs(table, table, ["b"])
    with pytest.raises(InputError, match=r"must be in .* Got 1 names that are not in it instead"):
        write_good_micrographs(table, tmp_path / "good.star", ["elsewhere"])


@given(
    st.lists(
        st.tuples(st.from_regex(r"[a-z]{1,6}[0-9]{1,3}", fullmatch=True), st.floats(0.5, 90)),
        unique_by=lambda row: row[0],
        min_size=1,
        max_size=6,
    )
)
def test_a_written_table_reads_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("relion") / "good.star"
    names, resolutions = [name for name, _ in rows], [value for _, value in rows]
    write_micrographs(path, names, resolutions)
    ctf = read_source(path).ctf
    assert ctf["name"].tolist() == names
    assert ctf["ctf_max_res_angstrom"].tolist() == pytest.approx(resolutions, abs=1e-6)


def test_a_table_of_names_must_fit_together(tmp_path):
    with pytest.raises(InputError, match=r"must have one CTF resolution\. Got 1 for 2 instead"):
        write_micrographs(tmp_path / "a.star", ["a", "b"], [4.0])
    with pytest.raises(InputError, match=r"A micrograph must stand once"):
        write_micrographs(tmp_path / "a.star", ["a", "a"], [4.0, 5.0])


def test_gctf_tables_and_other_text_are_not_relions(tmp_path):
    assert not detect(written(tmp_path, "data_\nloop_\n_rlnMicrographName #1\n_rlnFinalResolution #2\na 4\n"))
    assert not detect(written(tmp_path, "data_\nloop_\n_other #1\na\n"))
    assert not detect(tmp_path)


def test_an_empty_table_has_the_columns(tmp_path):
    ctf = read_source(written(tmp_path, "data_micrographs\n" + LABELS)).ctf
    assert isinstance(ctf, pd.DataFrame)
    assert ctf.columns.tolist()[:3] == ["name", "ctf_max_res_angstrom", "line"]


DATED = "2025-01-02_10.11.12_g1_0001"
"""As SerialEM names movies; RELION's motion correction writes underscores for the dots."""


def test_the_movie_is_the_surer_key_and_the_micrograph_a_second_one(tmp_path):
    labels = LABELS.replace("_rlnCtfMaxResolution #8", "_rlnCtfMaxResolution #8 \n_rlnMicrographMovieName #9")
    row = f"MotionCorr/job002/renamed_0001.mrc 1 10865.0 10571.0 294.0 79.13 0.13 4.84 raw/{DATED}.tif \n"
    path = written(tmp_path, OPTICS + "\ndata_micrographs\n" + labels + row)
    records = read_source(path)
    assert records.ctf[["name", "image_id"]].iloc[0].tolist() == [DATED, "renamed_0001"]
    report = write_good_micrographs(path, tmp_path / "good.star", [DATED])
    assert report.joined == 1


def test_good_micrographs_are_found_under_the_names_that_motion_correction_gave_them(tmp_path):
    name = DATED.replace(".", "_")
    row = f"MotionCorr/job002/raw/{name}.mrc 1 10865.0 10571.0 294.0 79.13 0.13 4.84 \n"
    path = written(tmp_path, OPTICS + "\ndata_micrographs\n" + LABELS + row)
    assert write_good_micrographs(path, tmp_path / "good.star", [DATED]).joined == 1
    assert read_star(tmp_path / "good.star").tables[1].column("rlnMicrographName") == [
        f"MotionCorr/job002/raw/{name}.mrc"
    ]


def test_good_micrographs_whose_names_differ_in_dots_alone_are_told_apart(tmp_path):
    row = "MotionCorr/job002/{}.mrc 1 10865.0 10571.0 294.0 79.13 0.13 4.84 \n"
    rows = row.format("a.b_0001") + row.format("a_b_0001")
    path = written(tmp_path, OPTICS + "\ndata_micrographs\n" + LABELS + rows)
    for good in ("a.b_0001", "a_b_0001"):
        assert write_good_micrographs(path, tmp_path / "good.star", [good]).joined == 1
        assert read_star(tmp_path / "good.star").tables[1].column("rlnMicrographName") == [
            f"MotionCorr/job002/{good}.mrc"
        ]


def test_the_folder_of_a_job_gives_its_table(tmp_path):
    job = tmp_path / "job003"
    job.mkdir()
    (job / "job.star").write_text("data_job\n\n_rlnJobTypeLabel relion.ctffind.ctffind4\n")
    assert not detect(job)
    written(job, OPTICS + "\ndata_micrographs\n" + LABELS + ROWS)
    assert detect(job)
    assert len(read_source(job).ctf) == 3
    assert read_source(job).notes[0] == "the table of the job in job003"
    assert validate(job) == []


def test_good_micrographs_of_one_name_in_two_folders_are_told_apart(tmp_path):
    table = tmp_path / "micrographs_ctf.star"
    write_micrographs(table, ["job2/A/b_1.mrc", "job2/B/b_1.mrc", "job2/B/b_2.mrc"], [4.0, 5.0, 6.0])
    report = write_good_micrographs(table, tmp_path / "good.star", ["B/b_1", "b_2", "b_1"])
    assert (report.found, report.joined, report.first_not_joined) == (3, 2, ("b_1",))
    kept = (tmp_path / "good.star").read_text()
    assert "B/b_1.mrc" in kept
    assert "A/b_1.mrc" not in kept
