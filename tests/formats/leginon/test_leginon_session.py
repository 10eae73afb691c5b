"""Sessions here are hand-made: a few names of an invented session, in the shape of the released tables."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cryoscout.core.errors import DataError, FileFormatError
from cryoscout.formats.leginon.session import read_session
from cryoscout.session.store import SessionStore

SQUARE = "24jan05a_grid1_00008gr_00011sq_v01"
A, B = f"{SQUARE}_00002hl_v01", f"{SQUARE}_00003hl_v01"

CTF = [
    "24jan05a_grid1_00008gr,1830,0,-1,-1",
    f"{A},10,20,-1,-1",
    f"{A}_00001fa,1,1,-1,-1",
    f"{A}_00002en,1.5,-2.5,-1,-1",
    f"{A}_00002en-a,1.5,-2.5,4.5,0.9",
    f"{A}_00003en,3,4,-1,-1",
    f"{A}_00003en-a,3,4,100000,0.1",
    f"{B}_00002en,5,6,-1,-1",
    f"{B}_00003en,7,8,-1,-1",
    f"{B}_00003en-a,7,8,-1,-1",
]
TIMES = [
    f"{A}_00002en,2024-01-05 10:00:00",
    f"{A}_00002en-a,2024-01-05 10:05:00",
    f"{A}_00003en-a,2024-01-05 10:07:00",
    f"{B}_00009en,2024-01-05 10:09:00",
]
SOFTMAX = [
    f"{A}_00002en-a 0.9 0.1",
    f"{A}_00003en-a 0.2 0.8",
    f"{B}_00002en-a 0.3 0.7",
    f"{B}_00003en-a 0.4 0.6",
]


def written(folder, name, lines):
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def tables(tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    written(folder, "ctf.csv", CTF)
    written(folder, "times.csv", TIMES)
    written(folder, "net.txt", SOFTMAX)
    return folder


def test_holes_and_outcomes_come_from_the_ctf_table(tables):
    session = read_session([tables / "ctf.csv"]).session
    assert session.name == "24jan05a"
    assert session.holes["hole_id"].tolist() == [
        f"{A}_00002en",
        f"{A}_00003en",
        f"{B}_00002en",
        f"{B}_00003en",
    ]
    assert session.exposures["exposure_id"].tolist() == [
        f"{A}_00002en-a",
        f"{A}_00003en-a",
        f"{B}_00002en",
        f"{B}_00003en-a",
    ]
    assert session.exposures["outcome"].tolist() == ["measured", "failed", "pending", "pending"]
    assert session.patches["patch_id"].tolist() == [A, B]
    assert session.squares["square_id"].tolist() == [SQUARE]
    assert session.grids["grid_id"].tolist() == ["24jan05a_grid1_00008gr"]
    assert session.holes["x_px"].tolist() == [1.5, 3, 5, 7]
    assert session.info.default_time_model == "cryorl"


def test_the_start_is_the_time_of_the_raw_image_where_there_is_one(tables):
    result = read_session([tables / "ctf.csv", tables / "times.csv"])
    started_at = result.session.exposures["started_at"]
    assert started_at[0] == pd.Timestamp("2024-01-05 10:00:00")
    assert started_at[1] == pd.Timestamp("2024-01-05 10:07:00")
    assert started_at[2:].isna().all()
    (report,) = result.reports
    assert (report.found, report.joined, report.without) == (4, 3, 2)
    assert report.first_not_joined == (f"{B}_00009en",)


def test_times_are_fitted_by_default_only_where_the_session_holds_most_timed_exposures(tables):
    part = read_session([tables / "ctf.csv", tables / "times.csv"]).session
    assert part.info.default_time_model == "cryorl"
    whole = written(tables, "times.csv", TIMES[:3])
    assert read_session([tables / "ctf.csv", whole]).session.info.default_time_model == "fitted"


def test_predictions_join_by_hole_under_the_files_name_or_the_given_one(tables):
    result = read_session([tables / "net.txt", tables / "ctf.csv"])
    assert result.session.prediction("net", 6.0).tolist() == [0.9, 0.2, 0.3, 0.4]
    named = read_session([tables / "net.txt", tables / "ctf.csv"], model_id="res18")
    assert named.session.models() == ["res18"]
    assert str(result.reports[0]) == "predictions of net.txt: 4 of 4 joined"


def test_a_whole_folder_is_read_and_other_files_are_left_alone(tables):
    (tables / "README").write_text("about these files\n")
    session = read_session([tables]).session
    assert session.models() == ["net"]
    assert session.exposures["started_at"].notna().any()
    assert set(session.provenance["file"]) == {"ctf.csv", "times.csv", "net.txt"}


def test_a_predicted_ctf_is_kept_as_such(tables):
    path = written(tables, "regress.txt", [line.split()[0] + " 5.5" for line in SOFTMAX])
    session = read_session([tables / "ctf.csv", path]).session
    assert session.prediction("regress", 6.0).tolist() == [1.0] * 4
    assert session.prediction("regress", 5.0).tolist() == [0.0] * 4


def test_the_newest_version_of_an_exposure_wins_and_the_older_is_reported(tables):
    path = written(tables, "ctf.csv", [*CTF, f"{A}_00002en-a_v01,1,2,8.0,0.9", f"{A}_00002en_v01,1,2,-1,-1"])
    result = read_session([path])
    exposure = result.session.exposures.iloc[0]
    assert (exposure["exposure_id"], exposure["ctf_max_res_angstrom"]) == (f"{A}_00002en-a_v01", 8.0)
    assert result.session.n_holes == 4
    assert (result.reports[0].found, result.reports[0].joined) == (2, 0)


def test_the_aligned_image_stands_for_the_exposure_before_the_dose_weighted_one(tables):
    path = written(tables, "ctf.csv", [f"{A}_00002en-a-DW,1,2,9.0,0.9", f"{A}_00002en-DW,1,2,9.5,0.9", *CTF])
    assert read_session([path]).session.exposures["ctf_max_res_angstrom"][0] == 4.5


def test_an_image_with_a_result_stands_for_the_exposure_before_one_without(tmp_path):
    path = written(tmp_path, "ctf.csv", [f"{A}_00002en-a,1,2,-1,-1", f"{A}_00002en-DW,1,2,9.5,0.9"])
    assert read_session([path]).session.exposures["ctf_max_res_angstrom"].tolist() == [9.5]


def test_a_grid_without_tile_names_is_session_and_label(tmp_path):
    path = written(tmp_path, "ctf.csv", ["24jan05a_grid1_00011sq_00002hl_00005en-a,1,2,4.0,0.9"])
    assert read_session([path]).session.grids["grid_id"].tolist() == ["24jan05a_grid1"]


def test_a_sites_own_exposure_preset_can_be_named(tmp_path):
    path = written(tmp_path, "ctf.csv", ["24jan05a_00001a_00011b_00002c_00005expo-a,1,2,4.0,0.9"])
    with pytest.raises(DataError, match=r"must name exposures \(presets en.*Remedy: name the site's"):
        read_session([path])
    assert read_session([path], exposure_presets=["expo"]).session.n_holes == 1


def test_images_of_other_presets_and_results_that_another_stands_for_are_counted(tables):
    lines = [*CTF, f"{A}_00002en-a-DW,1,2,9.0,0.9", f"{B}_00002ex,5,6,3.5,0.9", f"{B}_00003ex,7,8,3.75,0.9"]
    times = written(tables, "times.csv", [*TIMES, f"{A}_00001fa,2024-01-05 09:59:00"])
    result = read_session([written(tables, "ctf.csv", lines), times])
    assert result.session.n_holes == 4
    assert result.notes == (
        "5 images of other presets are no exposures: 2 ex, 1 gr, 1 hl, 1 fa; --presets says which are",
        "1 result is of further images of a shot (-a-DW); of the images of a shot an aligned one counts first",
        "1 time is of images that are no exposures (times.csv): 1 fa",
    )


def test_presets_with_hyphens_are_counted_as_they_are_written(tables):
    lines = [
        *CTF,
        f"{B}_00002ex,5,6,3.5,0.9",
        f"{B}_00003ex-e-DW,7,8,3.75,0.9",
        f"{B}_00004ex-e,7,8,3.75,0.9",
    ]
    path = written(tables, "ctf.csv", lines)
    notes = " ".join(read_session([path]).notes)
    assert "1 ex-e-DW" in notes
    assert "1 ex-e;" in notes
    again = written(tables, "ctf.csv", [*lines, f"{B}_00003ex,7,8,3.5,0.9"])
    (note,) = [
        each for each in read_session([again], exposure_presets=["en", "ex"]).notes if "further" in each
    ]
    assert note == (
        "1 result is of further images of a shot (-e-DW); of the images of a shot an aligned one counts first. If "
        "ex-e-DW is a preset of its own, name it with --presets"
    )


def test_several_presets_of_one_target_are_shots_of_one_hole(tables):
    lines = [*CTF, f"{B}_00002ex,5,6,3.5,0.9", f"{A}_00007ex,7,8,3.75,0.9"]
    session = read_session(
        [written(tables, "ctf.csv", lines), tables / "net.txt"], exposure_presets=["en", "ex"]
    ).session
    assert session.info.shots == 2
    assert session.holes["hole_id"].tolist() == [
        f"{A}_00002en", f"{A}_00003en", f"{A}_00007ex", f"{B}_00002en", f"{B}_00003en",
    ]  # fmt: skip
    of_hole = session.exposures[session.exposures["hole_id"] == f"{B}_00002en"]
    assert of_hole[["exposure_id", "shot", "outcome"]].values.tolist() == [
        [f"{B}_00002en", 1, "pending"], [f"{B}_00002ex", 2, "measured"],
    ]  # fmt: skip
    assert len(session.predictions) == 4


def test_a_preset_with_a_hyphen_is_told_from_a_suffix_by_its_name(tables):
    lines = [f"{A}_00002ex-e-DW,1,2,3.5,0.9", f"{A}_00002ex-e,1,2,-1,-1", f"{A}_00003ex-e-a_v02,1,2,4.5,0.9"]
    session = read_session([written(tables, "ctf.csv", lines)], exposure_presets=["ex", "ex-e"]).session
    assert session.exposures[["exposure_id", "hole_id"]].values.tolist() == [
        [f"{A}_00002ex-e-DW", f"{A}_00002ex-e"], [f"{A}_00003ex-e-a_v02", f"{A}_00003ex-e"],
    ]  # fmt: skip


def test_strict_reading_stops_at_the_first_deviation_and_permissive_lists_them(tables):
    path = written(tables, "ctf.csv", [*CTF, f"{B}_00007en-a,1,2,bad,0.9", "junk,1,2,3,4"])
    with pytest.raises(FileFormatError, match=r"ctf\.csv, line 11: the CTF resolution must be a number"):
        read_session([path])
    result = read_session([path], permissive=True)
    assert [deviation.line for deviation in result.deviations[path]] == [11, 12]
    assert result.session.n_holes == 4


def test_a_session_needs_a_ctf_table(tables):
    with pytest.raises(DataError, match="must have a CTF table"):
        read_session([tables / "times.csv", tables / "net.txt"])


def test_two_ctf_tables_must_agree(tables):
    rounded = written(tables, "more.csv", [f"{A}_00002en-a,1.5,-2.5,4.495,0.9"])
    assert read_session([tables / "ctf.csv", rounded]).session.n_holes == 4
    other = written(tables, "more.csv", [f"{A}_00002en-a,1.5,-2.5,5.5,0.9"])
    with pytest.raises(
        DataError, match=r"must agree on an image\. Got 5\.5 for .*more\.csv, line 1, and 4\.5"
    ):
        read_session([tables / "ctf.csv", other])


def test_one_model_predicts_a_hole_once_per_import(tables):
    copy = written(tables, "copy.txt", SOFTMAX)
    with pytest.raises(
        DataError, match=r"once per import\. Got .* again for model 'm' instead \(4 such holes\)"
    ):
        read_session([tables / "ctf.csv", tables / "net.txt", copy], model_id="m")


def test_an_unknown_file_and_an_empty_folder_are_refused_by_name(tables, tmp_path):
    unknown = written(tables, "notes.md", ["nothing of use"])
    with pytest.raises(FileFormatError, match=r"notes\.md: must be a Leginon table"):
        read_session([tables / "ctf.csv", unknown])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileFormatError, match="empty: must hold Leginon tables"):
        read_session([empty])


@pytest.fixture
def crops(tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    for name, grey in (
        (f"{A}_00002en-a", 10),
        (f"{A}_00003en", 20),
        (f"{B}_00003en-a", 30),
        ("stranger", 40),
    ):
        Image.fromarray(np.full((4, 6), grey, dtype=np.uint8)).save(folder / f"{name}_crop.png")
    return folder


def test_hole_images_join_by_name_and_go_into_the_store(tables, crops, tmp_path):
    result = read_session([tables / "ctf.csv"], images=crops)
    assert {patch: array.shape for patch, array in result.images.items()} == {A: (2, 4, 6), B: (1, 4, 6)}
    assert result.session.holes["image_row"].tolist() == [0, 1, pd.NA, 0]
    report = result.reports[-1]
    assert (report.found, report.joined, report.first_not_joined) == (4, 3, ("stranger",))
    path = tmp_path / "x.session"
    with SessionStore.create(path) as store:
        store.save_import(result.session, "tables", result.images)
        assert store.load().holes["image_row"].equals(result.session.holes["image_row"])
        np.testing.assert_array_equal(store.images(A)[:, 0, 0], [10, 20])


def test_hole_images_of_two_sizes_are_refused_by_name(tables, crops):
    Image.fromarray(np.zeros((4, 5), dtype=np.uint8)).save(crops / f"{B}_00002en_crop.png")
    with pytest.raises(
        FileFormatError, match=r"00002en_crop\.png: .*one size\. Got 5 x 4 px instead of 6 x 4"
    ):
        read_session([tables / "ctf.csv"], images=crops)


def test_two_images_of_one_hole_are_refused(tables, crops):
    Image.fromarray(np.zeros((4, 6), dtype=np.uint8)).save(crops / f"{A}_00002en_crop.png")
    with pytest.raises(FileFormatError, match=r"a hole must have one image\. Got a second of"):
        read_session([tables / "ctf.csv"], images=crops)


def test_a_deep_or_broken_picture_is_refused_by_name(tables, crops):
    path = crops / f"{B}_00002en_crop.png"
    Image.fromarray(np.zeros((4, 6), dtype=np.uint16)).save(path)
    with pytest.raises(FileFormatError, match=r"must be an 8-bit picture\. Got mode I"):
        read_session([tables / "ctf.csv"], images=crops)
    path.write_bytes(b"not a picture")
    with pytest.raises(FileFormatError, match=r"must be a (whole )?PNG picture"):
        read_session([tables / "ctf.csv"], images=crops)
    whole = (crops / f"{A}_00003en_crop.png").read_bytes()
    path.write_bytes(whole[:50])
    with pytest.raises(FileFormatError, match=r"00002en_crop\.png: must be a whole PNG picture"):
        read_session([tables / "ctf.csv"], images=crops)


def test_a_folder_without_hole_images_is_refused(tables, tmp_path):
    with pytest.raises(FileFormatError, match=r"hole images \*_crop\.png\. Got none"):
        read_session([tables / "ctf.csv"], images=tmp_path / "nowhere")
