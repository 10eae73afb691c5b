"""Whole folders: the real sessions, and those that the generator writes."""

import gzip
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from epu_samples import ATLAS, DATA, SQUARE, formats_data, short_atlas, short_square
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.formats.epu import file_reader
from cryoscout.formats.epu import session as epu
from cryoscout.formats.epu.dm import read_atlas
from cryoscout.formats.epu.images import read_image
from cryoscout.formats.epu.session import detect, read_source, validate
from cryoscout.formats.records import EXPOSURE_COLUMNS, HOLE_COLUMNS, LOOK_COLUMNS, SQUARE_COLUMNS
from cryoscout.formats.text.findings import Findings
from cryoscout.session.vendor_fields import VendorFields
from examples import share

DISC = Path("Images-Disc1/GridSquare_8999138")
EXPOSURE = "FoilHole_9015883_Data_9017347_6_20250108_154915"


@pytest.fixture
def session(tmp_path):
    shutil.copytree(DATA / "smartem_example", tmp_path / "session")
    return tmp_path / "session"


@pytest.fixture
def written(tmp_path):
    truth = formats_data.write_epu_session(tmp_path / "made", 120, shots=3, holes_along_square=6, seed=1)
    return tmp_path / "made", truth


@pytest.fixture
def waits(monkeypatch):
    """Seconds waited, without waiting."""
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


def test_a_real_session_is_read(session):
    source = read_source(session)
    assert (source.format, source.session_name) == ("epu", "Supervisor_20250108_101446_62_cm40593-1_EPU")
    assert (source.shots, source.cluster_radius_um) == (6, pytest.approx(12.0))
    assert source.deviations == ()
    assert tuple(source.squares) == (*SQUARE_COLUMNS, *LOOK_COLUMNS)
    assert source.squares["looked"].sum() == 2  # of 228; the two with images
    assert source.squares["looked_at"].notna().sum() == 2
    assert tuple(source.holes) == HOLE_COLUMNS
    assert tuple(source.exposures) == EXPOSURE_COLUMNS
    assert len(source.squares) == 228
    square = source.squares.set_index("square_id").loc["8999138"]
    assert (square["x_um"], square["y_um"]) == pytest.approx((-98.8056647, -164.71620800))
    exposure = source.exposures.set_index("exposure_id").loc[EXPOSURE]
    assert exposure["hole_id"] == "9015883"
    assert exposure["shot_key"] == "9017347"
    assert exposure["started_at"] == pd.Timestamp("2025-01-08 15:49:18.115828800")
    assert (exposure["stage_x_um"], exposure["stage_y_um"]) == pytest.approx((-97.152028, -152.721848))
    assert source.extra[EXPOSURE]["applied_defocus_um"] == "-2.7"
    assert source.extra["9017347"]["shift_x_px"] == "-152.286942"
    patches = source.holes.set_index("hole_id")["patch_id"]
    assert patches["9015883"] == "8999138_run_9015883"
    assert patches["9015889"] == "8999138_cluster_9015889"


def test_the_newest_image_of_a_hole_gives_its_position_and_the_older_is_noted(session):
    source = read_source(session)
    hole = source.holes.set_index("hole_id").loc["9015889"]
    assert (hole["x_um"], hole["y_um"]) == pytest.approx((-97.1461882, -152.721848))
    assert (
        "left out: 2 older images of a hole imaged again, such as "
        f"{DISC.as_posix()}/FoilHoles/FoilHole_9015889_20250108_154715.xml" in source.notes
    )


def test_the_frames_xml_is_left_out_and_noted(session):
    folder = session / DISC / "Data"
    shutil.copy(folder / f"{EXPOSURE}.xml", folder / f"{EXPOSURE}_Fractions.xml")
    source = read_source(session)
    assert len(source.exposures) == 4
    assert (
        f"left out: 1 XML files of frames (_Fractions, _EER), such as {DISC.as_posix()}/Data/{EXPOSURE}_Fractions.xml"
        in source.notes
    )


def test_an_xml_with_another_name_is_noted(session):
    shutil.copy(session / DISC / "Data" / f"{EXPOSURE}.xml", session / DISC / "Data" / "copy.xml")
    assert (
        f"left out: 1 XML files with names that EPU does not give, such as {DISC.as_posix()}/Data/copy.xml"
        in read_source(session).notes
    )


def test_second_files_of_squares_are_counted_in_one_note(session):
    folder = session / "Metadata"
    folder.mkdir(exist_ok=True)
    for number in range(3):
        for name in (f"GridSquare_{number}", f"GridSquare_{number}9"):
            text = short_square(2).replace("4590776", str(4590770 + number))
            (folder / f"{name}.dm").write_text(text)
    [note] = [note for note in read_source(session).notes if "another file" in note]
    assert note == (
        "left out: 3 GridSquare files of a square that another file is of too (first: Metadata/GridSquare_09.dm)"
    )


def test_several_discs_are_one_session(session):
    (session / "Images-Disc2").mkdir()
    shutil.move(session / "Images-Disc1" / "GridSquare_8999186", session / "Images-Disc2")
    shutil.copytree(session / "Images-Disc1", session / "Images-Disc2", dirs_exist_ok=True)
    source = read_source(session)
    assert source.exposures["exposure_id"].is_unique
    assert len(source.exposures) == 4
    assert any(
        note.startswith("left out: 2 copies of an exposure in another folder") for note in source.notes
    )


def test_a_square_file_gives_holes_px_and_the_size_of_its_image(session):
    (session / "Metadata").mkdir()
    text = short_square(2).replace("4590776", "8999138").replace("5665438", "9015883")
    (session / "Metadata" / "GridSquare_8999138.dm").write_text(text)
    source = read_source(session)
    hole = source.holes.set_index("hole_id").loc["9015883"]
    assert (hole["x_um"], hole["y_um"]) == pytest.approx((-42.565477, -559.457645))
    assert (hole["x_px"], hole["y_px"]) == (1396.0, 972.0)
    assert bool(hole["chosen"]) is True
    assert hole["patch_id"] == "8999138_run_9015883"
    extra = source.extra["8999138"]
    assert (extra["image_width_px"], extra["image_height_px"]) == ("2880", "2046")
    assert source.extra["9015883"]["PrimaryId"] == "9015883"
    # Named by the square file, without an XML of their own.
    named = source.exposures[source.exposures["stage_x_um"].isna()]
    assert len(named) == 8
    assert named["started_at"].min() == pd.Timestamp("2024-04-06 10:25:27")
    assert any("8 exposures stand in GridSquare files without an XML" in note for note in source.notes)


def fields_in(path):
    """Every text of the file by its path, as the reader of one file gives it."""
    return read_image(path).fields


def test_every_field_of_an_image_is_in_a_table_or_in_extra(session):
    source = read_source(session)
    in_tables = {"microscopeData/stage/Position/X", "microscopeData/stage/Position/Y"}
    images = sorted((session / DISC / "Data").glob("FoilHole_*.xml"))
    assert len(images) > 1
    for path in images:
        extra, texts = source.extra[path.stem], fields_in(path)
        # Known fields stand under a name of ours, the others under their own.
        assert len(texts.keys() - in_tables) == len(extra.keys() - {"setting_id"})
        unknown = texts.keys() & extra.keys()
        assert {name: extra[name] for name in unknown} == {name: texts[name] for name in unknown}
        assert extra["microscopeData/gun/ExtractorVoltage"] == texts["microscopeData/gun/ExtractorVoltage"]
        assert extra["microscopeData/acquisition/acquisitionDateTime"].endswith("+00:00")
        assert not extra.keys() & in_tables
    assert len({source.extra[path.stem]["unique_id"] for path in images}) == len(images)


def test_the_image_of_a_hole_and_of_a_square_is_told_apart_from_the_hole_and_square(session):
    source = read_source(session)
    hole_image = max((session / DISC / "FoilHoles").glob("FoilHole_9015889_*.xml"))
    square_image = max((session / DISC).glob("GridSquare_*.xml"))
    for record_id, path in (("9015889", hole_image), ("8999138", square_image)):
        texts = fields_in(path)
        extra = source.extra[record_id]
        of_image = {name.removeprefix("image_") for name in extra if name.startswith("image_")}
        assert len(of_image) == len(texts)
        for name in texts.keys() & of_image:
            assert extra[f"image_{name}"] == texts[name]
    assert source.extra["9015889"]["image_CustomData/FindFoilHoleCenterResults/Center/x"] == "1414.76611"


def test_what_images_of_a_square_share_is_held_once(session):
    source = read_source(session)
    images = [source.extra[path.stem] for path in (session / DISC / "Data").glob("FoilHole_*.xml")]
    assert all(isinstance(fields, VendorFields) for fields in images)
    assert len({id(fields.shared) for fields in images}) == 1
    assert max(len(fields.own) for fields in images) < 40 < min(len(fields) for fields in images)


def test_the_real_square_file_alone_is_read_whatever_its_name(tmp_path):
    path = tmp_path / "a file.bin"
    path.write_text(SQUARE)
    assert detect(path)
    source = read_source(path, cluster_radius_um=12.0)
    assert len(source.holes) == 570
    assert source.holes["chosen"].sum() == 276
    assert len(source.exposures) == 868
    assert 20 < source.holes["patch_id"].nunique() < 60
    assert set(read_source(path).holes["patch_id"]) == {""}


def test_the_session_and_the_atlas_file_alone_are_read(tmp_path):
    assert len(read_source(DATA / "harvest_session" / "EpuSession.dm").squares) == 272
    path = tmp_path / "Atlas.dm"
    path.write_text(ATLAS)
    source = read_source(path)
    assert len(source.squares) == 272
    assert source.squares["x_um"].notna().all()
    assert set(source.squares["grid_id"]) == {"19493178"}


def test_the_atlas_places_squares_that_were_not_visited(tmp_path):
    path = tmp_path / "Atlas.dm"
    path.write_text(ATLAS)
    source = read_source(DATA / "harvest_session", atlas=path)
    squares = source.squares.set_index("square_id")
    assert squares["x_um"].notna().all()
    assert squares.loc["19493759", "x_um"] == pytest.approx(278.0814011)
    with pytest.raises(FileFormatError, match=r"must be an Atlas\.dm file"):
        read_source(DATA / "harvest_session", atlas=DATA / "harvest_session" / "EpuSession.dm")


@pytest.mark.parametrize("folder", [DISC, DISC / "Data", Path("Images-Disc1")])
def test_a_folder_of_a_session_is_enough(session, folder):
    source = read_source(session / folder)
    assert EXPOSURE in set(source.exposures["exposure_id"])
    assert set(source.exposures["square_id"]) <= {"8999138", "8999186"}
    assert source.session_name is None


def test_a_folder_with_exposures_alone_has_runs_but_no_squares(session, tmp_path):
    folder = tmp_path / "flat"
    shutil.copytree(session / DISC / "Data", folder)
    assert detect(folder)
    source = read_source(folder)
    assert set(source.exposures["square_id"]) == {""}
    assert set(source.holes["patch_id"]) == {"_run_9015883"}
    assert len(source.squares) == 0


def test_one_exposure_is_enough(session):
    source = read_source(session / DISC / "Data" / f"{EXPOSURE}.xml")
    assert source.exposures["square_id"].tolist() == ["8999138"]


def test_a_half_written_file_is_read_again_after_a_wait(session, monkeypatch):
    path = session / DISC / "Data" / f"{EXPOSURE}.xml"
    whole = path.read_bytes()
    path.write_bytes(whole[:4000])
    waited = []

    def finish_writing(seconds):
        waited.append(seconds)
        path.write_bytes(whole)

    monkeypatch.setattr(time, "sleep", finish_writing)
    assert len(read_source(session, retry_wait_s=0.25).exposures) == 4
    assert waited == [0.25]


@pytest.mark.parametrize("cut", [0, 1, 4000, -2])
def test_a_file_that_stays_half_written_is_a_deviation_that_names_it(session, waits, cut):
    path = session / DISC / "Data" / f"{EXPOSURE}.xml"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(
        FileFormatError, match=r"must be one whole XML document\. Got .* instead\. Remedy: read"
    ) as caught:
        read_source(session)
    assert caught.value.path == path
    assert waits == [0.5, 0.5]
    source = read_source(session, permissive=True, retries=0)
    assert len(source.exposures) == 3
    key = f"{DISC.as_posix()}/Data/{EXPOSURE}.xml"
    assert [found.element for found in source.deviations] == [key]
    assert key not in source.stamps
    assert [found.element for found in validate(session)] == [key]


def test_many_half_written_files_share_the_wait(session, waits):
    for path in session.rglob("*.xml"):
        path.write_bytes(path.read_bytes()[:-3])
    source = read_source(session, permissive=True, retries=1)
    assert len(source.deviations) == 8
    # Square images, hole images and exposures are three rounds.
    assert len(waits) == 3


def test_a_deviation_leaves_out_its_field_alone(session):
    path = session / DISC / "Data" / f"{EXPOSURE}.xml"
    path.write_text(path.read_text().replace("<Z>8.5710844035200026E-05", "<Z>high"))
    with pytest.raises(FileFormatError, match=r"Position/Z: must be a finite number\. Got 'high' instead"):
        read_source(session)
    deviations = validate(session)
    assert [(found.element, found.message) for found in deviations] == [
        (
            f"{DISC.as_posix()}/Data/{EXPOSURE}.xml: microscopeData/stage/Position/Z",
            "must be a finite number. Got 'high' instead.",
        )
    ]
    source = read_source(session, permissive=True)
    assert len(source.exposures) == 4
    assert "stage_z_um" not in source.extra[EXPOSURE]
    assert source.extra[EXPOSURE]["microscopeData/stage/Position/Z"] == "high"


def test_a_time_that_is_missing_is_taken_from_the_name(session):
    path = session / DISC / "Data" / f"{EXPOSURE}.xml"
    path.write_text(path.read_text().replace("acquisitionDateTime", "otherDateTime"))
    source = read_source(session, permissive=True)
    started = source.exposures.set_index("exposure_id").loc[EXPOSURE, "started_at"]
    assert started == pd.Timestamp("2025-01-08 15:49:15")
    assert "1 exposure has no time but that in the name" in source.notes


def test_a_change_of_the_clock_does_not_break_the_order(session):
    path = session / DISC / "Data" / "FoilHole_9015883_Data_9017354_6_20250108_154918.xml"
    path.write_text(
        path.read_text().replace("2025-01-08T15:49:21.1049704+00:00", "2025-01-08T16:49:21.1049704+01:00")
    )
    source = read_source(session)
    assert source.exposures["started_at"].tolist()[1] == pd.Timestamp("2025-01-08 15:49:21.104970400")
    assert "1 exposure has another time zone; all times are given in that of the rest" in source.notes


def test_a_look_at_a_square_is_of_the_clock_of_the_exposures(session):
    before = read_source(session).squares["looked_at"]
    for path in session.rglob("GridSquare_*.xml"):
        text, time = path.read_text(), r"(<acquisitionDateTime>[0-9-]+T)(\d\d)([^<]*)\+00:00<"
        path.write_text(
            re.sub(time, lambda found: f"{found[1]}{int(found[2]) + 1:02}{found[3]}+01:00<", text)
        )
    assert "+01:00" in path.read_text()
    assert read_source(session).squares["looked_at"].equals(before)


def test_an_image_with_another_root_is_refused(session):
    path = session / DISC / "Data" / f"{EXPOSURE}.xml"
    path.write_text("<Other/>")
    with pytest.raises(
        FileFormatError, match=r"must have the root element MicroscopeImage\. Got 'Other' instead"
    ):
        read_source(session)


def test_nothing_inside_a_file_is_opened(session, monkeypatch):
    """The square image's path in a GridSquare file points at a file that must stay unread."""
    (session / "Metadata").mkdir()
    secret = session.parent / "secret.xml"
    secret.write_text("<MicroscopeImage/>")
    text = short_square(1).replace("Images-Disc1</ImageFolderName>", "../../</ImageFolderName>")
    text = text.replace("GridSquare_20240406_102420", "..\\..\\secret").replace(
        "FoilHole_5665438_Data", str(secret)
    )
    (session / "Metadata" / "GridSquare_4590776.dm").write_text(text)
    opened = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: opened.append(self) or read_bytes(self))
    source = read_source(session)
    assert all(session in path.parents for path in opened)
    assert any(
        "acquisitions in GridSquare files with names that EPU does not give" in note for note in source.notes
    )


def test_folders_with_other_names_are_not_entered(session):
    shutil.move(session / "Images-Disc1", session / "Images")
    assert len(read_source(session).exposures) == 0
    (session / "Images-Disc1").symlink_to(session)
    assert len(read_source(session).exposures) == 0


@pytest.mark.parametrize("name", ["", "missing", "a.txt"])
def test_what_is_not_epu_is_refused(tmp_path, name):
    (tmp_path / "a.txt").write_text("text")
    path = tmp_path / name
    assert not detect(path)
    with pytest.raises(FileFormatError, match=r"must be (an EPU session|a folder or a file)"):
        read_source(path)


def test_detection_is_by_content(session, tmp_path):
    assert detect(session)
    assert detect(session / "Images-Disc1")
    assert detect(session / "EpuSession.dm")
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "EpuSession.dm").write_text("<Other/>")
    (folder / f"{EXPOSURE}.xml").write_text("<Other/>")
    assert not detect(folder)
    assert not detect(folder / f"{EXPOSURE}.xml")


@pytest.mark.parametrize(("retries", "wait_s"), [(-1, 0.1), (0, -1.0), (0, float("nan")), (0, 1e9)])
def test_retries_and_waits_have_limits(session, retries, wait_s):
    with pytest.raises(InputError, match=r"retries must be >= 0 and retry_wait_s between 0 and 60"):
        read_source(session, retries=retries, retry_wait_s=wait_s)


def test_a_written_session_is_read_back(written):
    folder, truth = written
    source = read_source(folder)
    assert (source.deviations, source.shots) == ((), 3)
    _assert_exposures(source.exposures, truth)
    holes = source.holes.set_index("hole_id")
    assert len(holes) == 72
    first = truth.drop_duplicates("hole_id").set_index("hole_id")
    imaged = holes.loc[first.index]
    # Holes share a patch if and only if they share the stage position.
    stage = first[["stage_x_um", "stage_y_um"]].round(3).apply(tuple, axis=1)
    assert pd.factorize(imaged["patch_id"])[0].tolist() == pd.factorize(stage)[0].tolist()
    assert imaged["patch_id"].str.contains("_run_").all()
    assert holes.drop(first.index)["patch_id"].str.contains("_cluster_").all()


def _assert_exposures(read, truth):
    rows = truth.merge(read, on="exposure_id", suffixes=("", "_read"), validate="1:1")
    assert len(rows) == len(truth) == len(read)
    for column in ("hole_id", "square_id", "started_at"):
        assert rows[column].tolist() == rows[f"{column}_read"].tolist()
    for column in ("stage_x_um", "stage_y_um"):
        np.testing.assert_allclose(rows[column], rows[f"{column}_read"], atol=2.1e-3)


@settings(max_examples=share(5), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.integers(1, 7), st.integers(2, 6), st.integers(0, 5))
def test_any_written_session_is_read_back(tmp_path_factory, exposures, shots, along, seed):
    folder = tmp_path_factory.mktemp("made")
    truth = formats_data.write_epu_session(
        folder, exposures, shots=shots, holes_along_square=along, seed=seed
    )
    source = read_source(folder)
    _assert_exposures(source.exposures, truth)
    assert source.shots == shots


def test_a_session_is_written_and_read_the_same_again(written, tmp_path):
    folder, truth = written
    again = formats_data.write_epu_session(tmp_path / "again", 120, shots=3, holes_along_square=6, seed=1)
    pd.testing.assert_frame_equal(truth, again)
    first, second = read_source(folder), read_source(tmp_path / "again")
    for table in ("squares", "holes", "exposures"):
        pd.testing.assert_frame_equal(getattr(first, table), getattr(second, table))


def test_files_that_are_known_and_unchanged_are_not_read(written, monkeypatch):
    folder, _ = written
    first = read_source(folder)
    assert len(first.stamps) == 1 + 2 + 2 + 120
    read = []
    for module in (epu, file_reader):
        monkeypatch.setattr(module, "read_image", lambda path, findings: read.append(path))
    again = read_source(folder, known=first.stamps)
    assert (len(again.squares), len(again.holes), len(again.exposures), read) == (0, 0, 0, [])
    assert (again.session_name, again.shots) == (first.session_name, first.shots)


def test_a_session_read_in_two_parts_is_the_session_read_at_once(written, tmp_path):
    folder, _ = written
    whole = read_source(folder)
    files = sorted(folder.glob("Images-Disc1/*/Data/*.xml"))
    late = [path for path in files if path.stem in set(whole.exposures["exposure_id"].iloc[80:])]
    for path in late:
        shutil.move(path, tmp_path / path.name)
    first = read_source(folder)
    named = first.exposures["stage_x_um"].isna()
    assert named.sum() == len(late) == 40
    for path in late:
        shutil.move(tmp_path / path.name, path)
    second = read_source(folder, known=first.stamps, earlier=first.exposures)
    assert len(second.exposures) == 40
    exposures = pd.concat([first.exposures[~named], second.exposures], ignore_index=True)
    shifts = ["shift_x_um", "shift_y_um"]
    pd.testing.assert_frame_equal(exposures.drop(columns=shifts), whole.exposures.drop(columns=shifts))
    # Each read calibrates the beam shift by what it reads; the stage is written to about 1 nm.
    np.testing.assert_allclose(exposures[shifts], whole.exposures[shifts], atol=2e-3)
    assert whole.exposures[shifts].notna().all(axis=None)
    patches = {
        **dict(first.holes[["hole_id", "patch_id"]].values),
        **dict(second.holes[["hole_id", "patch_id"]].values),
    }
    assert patches == dict(whole.holes[["hole_id", "patch_id"]].values)


def test_a_changed_file_is_read_again(written):
    folder, _ = written
    first = read_source(folder)
    path = next(iter(sorted(folder.glob("Images-Disc1/*/Data/*.xml"))))
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    again = read_source(folder, known=first.stamps)
    assert again.exposures["exposure_id"].tolist() == [path.stem]
    # Its square's holes come with it, so that none of them loses its position.
    assert len(again.holes) == 36
    assert again.holes["x_um"].notna().all()
    assert len(again.squares) == 1


def test_the_samples_are_whole():
    for path in sorted(DATA.rglob("*.gz")):
        assert gzip.decompress(path.read_bytes()).rstrip().endswith(b">")
    assert validate(DATA / "harvest_session") == validate(DATA / "smartem_example") == []


def test_an_atlas_says_how_large_its_squares_are(tmp_path):
    path = tmp_path / "Atlas.dm"
    path.write_text(ATLAS, encoding="utf-8")
    source = read_source(path)
    squares = source.squares.set_index("square_id")
    assert squares.loc["19493600", "area_um2"] == pytest.approx(25.702735 * 25.2018817)
    assert squares["area_um2"].notna().all()
    assert squares["brightness"].isna().all()
    assert any("no picture Atlas_19493264.jpg lies beside Atlas.dm" in note for note in source.notes)


def test_the_picture_beside_an_atlas_says_how_bright_its_squares_are(tmp_path):
    (tmp_path / "Atlas.dm").write_text(ATLAS, encoding="utf-8")
    atlas = read_atlas(tmp_path / "Atlas.dm")
    width, height = (round(each / 4) for each in atlas.size_px)  # the .jpg is smaller than the atlas
    grey = np.full((height, width), 20, dtype=np.uint8)
    node = next(each for each in atlas.squares if each.square_id == "19493600")
    x, y = (round(each / 4) for each in node.centre_px)
    grey[y - 9 : y + 10, x - 9 : x + 10] = 200
    Image.fromarray(grey).save(tmp_path / "Atlas_19493264.png")
    squares = read_source(tmp_path / "Atlas.dm").squares.set_index("square_id")
    assert squares.loc["19493600", "brightness"] == 200.0
    assert squares["brightness"].median() == 20.0
    Image.fromarray(grey[:, : width // 2]).save(tmp_path / "Atlas_19493264.png")
    source = read_source(tmp_path / "Atlas.dm")
    assert source.squares["brightness"].isna().all()
    assert any("other proportions" in note for note in source.notes)
    (tmp_path / "Atlas_19493264.png").write_bytes(b"\x89PNG no picture")
    assert any("cannot be read" in note for note in read_source(tmp_path / "Atlas.dm").notes)


@pytest.mark.parametrize("depth", [1, 8, 16])
def test_the_picture_of_an_atlas_may_have_any_depth(tmp_path, depth):
    (tmp_path / "Atlas.dm").write_text(short_atlas(), encoding="utf-8")
    atlas = read_atlas(tmp_path / "Atlas.dm")
    width, height = (round(each / 4) for each in atlas.size_px)
    rows = np.linspace(0, 255, height)[:, None].repeat(width, axis=1)
    picture = {1: rows > 100, 8: rows.astype(np.uint8), 16: (rows * 257).astype(np.uint16)}[depth]
    Image.fromarray(picture).save(tmp_path / "Atlas_19493264.png")
    squares = read_source(tmp_path / "Atlas.dm").squares.set_index("square_id")
    node = max(
        atlas.squares, key=lambda each: each.centre_px[1] if each.centre_px[1] < atlas.size_px[1] - 200 else 0
    )
    expected = 255 * node.centre_px[1] / atlas.size_px[1]
    expected = 255.0 * (expected > 100) if depth == 1 else expected
    assert squares.loc[node.square_id, "brightness"] == pytest.approx(expected, abs=2)


@pytest.mark.parametrize(
    ("pattern", "put"),
    [
        (r"(<\w+:width>|<width>)[^<]*", "1e-320"),
        (r"(<\w+:width>|<width>)[^<]*", "0"),
        (r"(<\w+:height>|<height>)[^<]*", "-5"),
        (r"(<\w+:width>|<width>)[^<]*", "1e307"),
        (r"(<\w+:x>|<x>)[^<]*", "1e307"),
        pytest.param(
            r"(<AtlasPixelPosition[^>]*>).*?(?=</AtlasPixelPosition>)",
            "".join(
                f"<a:{name}>{put}</a:{name}>"
                for name, put in (("height", "1e-320"), ("width", "1e-320"), ("x", "0"), ("y", "0"))
            ),
            id="tiny tiles",
        ),
        pytest.param(r"(AtlasImageReference.*?BaseFileName[^>]*>)[^<]*", "a" * 5000, id="long name"),
        (r"(AtlasImageReference.*?BaseFileName[^>]*>)[^<]*", ""),
    ],
)
def test_odd_values_of_an_atlas_leave_its_squares_there(tmp_path, pattern, put):
    text = re.sub(pattern, rf"\g<1>{put}", short_atlas(), flags=re.DOTALL)
    assert text != short_atlas()
    (tmp_path / "Atlas.dm").write_text(text, encoding="utf-8")
    Image.fromarray(np.full((200, 200), 20, dtype=np.uint8)).save(tmp_path / "Atlas_19493264.png")
    source = read_source(tmp_path / "Atlas.dm", permissive=True)
    assert len(source.squares) == len(read_atlas(tmp_path / "Atlas.dm", Findings(tmp_path, True)).squares) > 0
    assert source.squares["brightness"].isna().all()
    assert any("brightness" in note for note in source.notes)
