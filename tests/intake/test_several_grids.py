"""Several sessions of one grid each: grids keep their names, and the time between the sessions is no tier."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cryoscout.cli.main import main
from cryoscout.routing.times import fitted_times, time_model_for
from cryoscout.session.store import SessionStore

DATA = Path(__file__).parents[1] / "formats" / "data" / "epu"
SQUARE = """<GridSquareXml xmlns="http://schemas.datacontract.org/2004/07/Applications.Epu.Persistence">
<AtlasNodeId>{square}</AtlasNodeId><TargetLocations><TargetLocationsEfficient><m_serializationArray>{holes}
</m_serializationArray></TargetLocationsEfficient></TargetLocations></GridSquareXml>"""
HOLE = """<KeyValuePairOfintTargetLocation><key>{hole}</key><value><StagePosition><X>{x}E-6</X><Y>0</Y></StagePosition>
<PixelCenter><x>1</x><y>1</y></PixelCenter><Selected>true</Selected>{made}</value></KeyValuePairOfintTargetLocation>"""
MADE = """<ParticleAcquisitions><KeyValuePairs><KeyValuePairOfintParticleAcquisitionData><key>1</key><value><Image>
<BaseFileName>FoilHole_{hole}_Data_7_8_{date}_1000{second:02d}</BaseFileName></Image></value>
</KeyValuePairOfintParticleAcquisitionData></KeyValuePairs></ParticleAcquisitions>"""


def epu_folder(place: Path, square: int, date: str) -> Path:
    """A session of one square with six holes, the first four imaged 8 s apart."""
    holes = "".join(
        HOLE.format(
            hole=(hole := square * 10 + n),
            x=n,
            made=MADE.format(hole=hole, date=date, second=8 * n) if n < 4 else "",
        )
        for n in range(6)
    )
    (place / "Metadata").mkdir(parents=True)
    (place / "Metadata" / f"GridSquare_{square}.dm").write_text(SQUARE.format(square=square, holes=holes))
    return place


@pytest.fixture
def two(tmp_path, capfd):
    """Two EPU folders, more than a year apart, in one session."""
    folders = [
        epu_folder(tmp_path / "first", 111, "20240105"),
        epu_folder(tmp_path / "second", 222, "20250503"),
    ]
    place = tmp_path / "both.session"
    assert main(["import", *map(str, folders), "-o", str(place), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    with SessionStore.open(place) as store:
        return store.load(), told, place, folders


def test_two_epu_folders_are_two_grids_with_their_own_names(two):
    session, told, *_ = two
    assert session.grids["grid_id"].tolist() == ["first", "second"]
    assert told["grids"] == 2
    grid_of = dict(zip(session.squares["square_id"], session.squares["grid_id"], strict=True))
    assert grid_of == {"111": "first", "222": "second"}


def test_the_time_between_the_sessions_is_no_tier(two):
    session, told, *_ = two
    fit = fitted_times(session)
    assert fit.events.tolist() == [6, 0, 0, 0]
    assert fit.seconds.tolist() == [8.0, 20.0, 40.0, 80.0]
    assert fit.between_sessions == 1
    assert any("The time between sessions of different grids (1 time)" in warning for warning in fit.warnings)
    assert told["time_model_s"]["new_grid"] == 80.0
    assert time_model_for(session, None)[0].new_grid_min <= 20


def test_a_later_import_of_the_same_folders_changes_no_grid(two, capfd):
    *_, place, folders = two
    (folders[1] / "Metadata" / "GridSquare_222.dm").touch()
    assert main(["import", *map(str, folders), "-o", str(place), "--update", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["grids"] == 2
    assert not any(told["added"].values())


def test_folders_of_one_name_are_told_apart(tmp_path, capfd):
    folders = [
        epu_folder(tmp_path / part / "supervisor", square, "20240105")
        for part, square in (("a", 1), ("b", 2))
    ]
    place = tmp_path / "both.session"
    assert main(["import", *map(str, folders), "-o", str(place), "--json"]) == 0
    with SessionStore.open(place) as store:
        assert store.load().grids["grid_id"].tolist() == ["supervisor", "supervisor_2"]


def test_real_sessions_keep_the_samples_they_name(tmp_path, capfd):
    for name in ("harvest_session", "smartem_example"):
        shutil.copytree(DATA / name, tmp_path / name)
    place = tmp_path / "both.session"
    code = main(
        [
            "import",
            *(str(tmp_path / name) for name in ("harvest_session", "smartem_example")),
            "-o",
            str(place),
        ]
    )
    assert code == 0, capfd.readouterr().err
    with SessionStore.open(place) as store:
        session = store.load()
    assert len(session.grids) == 2
    assert "19503066" in session.grids["grid_id"].tolist()


def test_sessions_of_other_exposures_per_hole_are_told(tmp_path, capfd):
    folders = [epu_folder(tmp_path / "one", 111, "20240105"), epu_folder(tmp_path / "two", 222, "20240106")]
    file = folders[1] / "Metadata" / "GridSquare_222.dm"
    shot = "<KeyValuePairOfintParticleAcquisitionData><key>1</key>"
    text = file.read_text()
    begin = text.index(shot)
    end = text.index("</KeyValuePairs>", begin)
    again = text[begin:end].replace("<key>1</key>", "<key>2</key>").replace("_Data_7_8_", "_Data_9_8_")
    file.write_text(text[:end] + again + text[end:])
    assert main(["import", *map(str, folders), "-o", str(tmp_path / "both.session"), "--json"]) == 0
    notes = json.loads(capfd.readouterr().out)["notes"]
    assert any(
        note.startswith("exposures per hole differ (one 1, two 2): a session has one number")
        for note in notes
    )


def test_tables_of_one_grid_that_hold_other_numbers_of_exposures_are_one_session(tmp_path, capfd):
    (tmp_path / "a.csv").write_text("grid,square,hole,exposure\ng,s,h1,e1\ng,s,h1,e2\n")
    (tmp_path / "b.csv").write_text("grid,square,hole,exposure\ng,s,h2,e3\n")
    files = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    assert main(["import", *files, "-o", str(tmp_path / "own.session"), "--json"]) == 0
    assert not [note for note in json.loads(capfd.readouterr().out)["notes"] if "differ" in note]
