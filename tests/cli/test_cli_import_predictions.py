"""Own probabilities and scores come into a session of any format, and plans take them as they are."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cryoscout.core.errors import DataError
from cryoscout.session.store import SessionStore

DATA = Path(__file__).parents[1] / "formats" / "data"
NAV = DATA / "serialem" / "made_by_hand_two_squares.nav"
QUICK = "--policy expected --budget-min 60 --json"


@pytest.fixture
def nav(cli) -> str:
    assert cli("import", NAV, "-o", "sem.session").code == 0
    return "sem.session"


def holes_of(place) -> list[str]:
    with SessionStore.open(place) as store:
        return store.load().holes["hole_id"].tolist()


def written(path: Path, names, values, header="hole,prob") -> None:
    path.write_text(
        header + "\n" + "".join(f"{name},{value}\n" for name, value in zip(names, values, strict=True))
    )


def test_a_table_of_probabilities_is_what_the_plan_takes(cli, nav, tmp_path):
    holes = holes_of(nav)
    p = {name: 0.9 if name in ("30", "31", "32") else 0.1 for name in holes}
    written(tmp_path / "mine.csv", list(p), p.values())
    told = json.loads(
        cli(f"import mine.csv -o {nav} --update --column p_good=prob --model-id ice --json").out
    )
    assert told["models"] == ["ice"]
    assert told["added"] == {"predictions": 40}
    assert told["joins"][0]["joined"] == 40
    plan = json.loads(cli(f"plan {nav} {QUICK} --also-unchosen").out)
    assert plan["prediction"] == "ice"
    by_hole = {hole["hole"]: hole["p_good"] for hole in plan["holes"]}
    assert {"30", "31", "32"} <= set(by_hole)
    assert by_hole["30"] == pytest.approx(0.9)
    assert any("'ice' is the model's own, not calibrated" in note for note in plan["notes"])


def test_the_newest_probabilities_count_and_the_file_names_the_model(cli, nav, tmp_path):
    holes = holes_of(nav)
    for value in (0.2, 0.7):
        written(tmp_path / "mine.csv", holes, [value] * 40)
        assert cli(f"import mine.csv -o {nav} --update --column p_good=prob").code == 0
    with SessionStore.open(tmp_path / nav) as store:
        session = store.load()
    assert session.models() == ["mine"]
    assert session.prediction("mine", 6.0).tolist() == [0.7] * 40
    own = session.provenance[session.provenance["table"] == "predictions"]
    assert own[["field", "file", "reader"]].to_numpy().tolist() == [["mine", "mine.csv", "own p_good"]]


def test_holes_without_a_value_get_the_mean_and_are_counted(cli, nav, tmp_path):
    holes = holes_of(nav)
    written(tmp_path / "mine.csv", [*holes[:2], "not-there", holes[2]], [0.2, 0.6, 0.9, "nan"])
    told = json.loads(cli(f"import mine.csv -o {nav} --update --column p_good=prob --json").out)
    assert (
        told["joins"][0] | {"joined": 2, "not_joined": 1, "first_not_joined": ["not-there"]}
        == told["joins"][0]
    )
    assert "1 lines have no p_good" in told["notes"]
    assert "38 holes have no value and get the mean of the others, 0.40" in told["notes"]
    assert json.loads(cli(f"plan {nav} {QUICK}").out)["prediction"] == "mine"


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        (
            "12,1.2",
            "p_good",
            "line 2: p_good must be between 0 and 1. Got '1.2' instead. Remedy: for a score",
        ),
        ("12,x", "p_good", "line 2: p_good must be a finite number. Got 'x' instead."),
        (
            "12,0.5\n12,0.6",
            "p_good",
            "line 3: a name must stand once. Got '12' again instead (first on line 2).",
        ),
        (",0.5", "p_good", "line 2: a line must name its hole or exposure. Got nothing instead."),
        (
            "nobody,0.5",
            "p_good",
            "The names of mine.csv must be holes or exposures of session sem. Got nobody",
        ),
        (
            "12,55",
            "score",
            "Raw scores must have at least 10 results of both kinds to become probabilities. Got 0",
        ),
    ],
)
def test_wrong_tables_are_refused(cli, nav, tmp_path, row, column, message):
    (tmp_path / "mine.csv").write_text(f"hole,prob\n{row}\n")
    answer = cli(f"import mine.csv -o {nav} --update --column {column}=prob")
    assert answer.code == 2
    assert message in answer.err
    with SessionStore.open(tmp_path / nav) as store:
        assert store.load().models() == []


def test_raw_scores_of_an_epu_session_become_probabilities_through_its_results(cli, tmp_path):
    square = tmp_path / "GridSquare_4590776.dm"
    square.write_bytes(gzip.decompress((DATA / "epu" / "GridSquare_4590776.dm.gz").read_bytes()))
    assert cli("import", square, "-o", "epu.session").code == 0
    with SessionStore.open(tmp_path / "epu.session") as store:
        session = store.load()
    rng = np.random.default_rng(3)
    nm = pd.Series(rng.uniform(10, 90, session.n_holes), index=session.holes["hole_id"])
    good = nm[session.exposures["hole_id"]].to_numpy() < 45
    ctf = pd.DataFrame({"name": session.exposures["exposure_id"], "ctf": np.where(good, 3.5, 9.0)})
    ctf.to_csv(tmp_path / "ctf.csv", index=False)
    assert cli("import ctf.csv -o epu.session --update").code == 0
    # As a program writes them: names of the holes' images.
    names = [f"FoilHole_{hole}_20230919_142541.jpg" for hole in nm.index]
    written(tmp_path / "thickness.csv", names, nm.round(2), "image,nm")
    told = json.loads(cli("import thickness.csv -o epu.session --update --column score=nm --json").out)
    assert told["joins"][0]["joined"] == 570
    said = "scores became probabilities through 868 results: lower scores are better"
    assert any(note.startswith(said) for note in told["notes"])
    with SessionStore.open(tmp_path / "epu.session") as store:
        p_good = store.load().prediction("thickness", 6.0)
    assert p_good[nm.to_numpy() < 35].min() > 0.7
    assert p_good[nm.to_numpy() > 55].max() < 0.3
    plan = json.loads(cli("plan epu.session --policy expected --budget-min 15 --json").out)
    assert plan["prediction"] == "thickness"
    assert any("was fitted to the results that the session had" in note for note in plan["notes"])
    assert nm[[hole["hole"] for hole in plan["holes"]]].max() < 60


def test_a_new_session_takes_places_and_probabilities_from_one_table(cli, tmp_path):
    rows = "".join(f"h{n},sq,{n},0,{n / 10}\n" for n in range(8))
    (tmp_path / "holes.csv").write_text(f"hole,square,x_um,y_um,prob\n{rows}")
    told = json.loads(cli("import holes.csv -o mine.session --column p_good=prob --json").out)
    assert (told["holes"], told["models"]) == (8, ["holes"])
    with SessionStore.open(tmp_path / "mine.session") as store:
        assert store.load().prediction("holes", 6.0).tolist() == [n / 10 for n in range(8)]


def test_predictions_are_added_alone(cli, nav, tmp_path):
    written(tmp_path / "mine.csv", ["12"], [0.5])
    answer = cli(f"import mine.csv {NAV} -o {nav} --update --column p_good=prob")
    assert answer.code == 2
    assert "Predictions must be added alone. Got" in answer.err


def test_python_adds_predictions_with_the_columns_that_are_needed(nav, tmp_path):
    holes = holes_of(tmp_path / nav)
    with SessionStore.open(tmp_path / nav) as store:
        store.add_predictions(pd.DataFrame({"hole_id": holes, "model_id": "mine", "p_good": 0.25}))
        assert store.load().prediction("mine", 6.0).tolist() == [0.25] * 40
        store.add_predictions(
            pd.DataFrame({"hole_id": holes, "model_id": "res", "ctf_predicted_angstrom": 4.0})
        )
        assert store.load().prediction("res", 6.0).tolist() == [1.0] * 40
        with pytest.raises(DataError, match="missing: model_id"):
            store.add_predictions(pd.DataFrame({"hole_id": holes, "p_good": 0.25}))
