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
def nav(once) -> str:
    return once(f"import {NAV} -o sem.session")


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
    assert "1 line has no p_good" in told["notes"]
    assert "38 holes have no value: the mean of the others, 0.40, is taken" in told["notes"]
    assert json.loads(cli(f"plan {nav} {QUICK}").out)["prediction"] == "mine"


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        (
            "12,1.2",
            "p_good",
            "line 2: p_good must be between 0 and 1. Got '1.2' instead. Remedy: for a score",
        ),
        pytest.param(
            "12,x",
            "p_good",
            "line 2: p_good must be a finite number. Got 'x' instead.",
            marks=pytest.mark.slow,
        ),
        (
            "12,12%",
            "p_good",
            "line 2: p_good must be a finite number. Got '12%' instead. Remedy: write a share between 0 and 1, for "
            "example 0.12.",
        ),
        (
            "12,0.5\n12,0.6",
            "p_good",
            "line 3: a name must stand once in its square and grid. Got '12' again instead (first on line 2).",
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


FOUR = "grid,square,hole,stage x um,stage y um\ng,A,1,0,0\ng,A,2,2,0\ng,B,1,100,0\ng,B,2,102,0\n"
NO_SUCH = "the square or grid that they say has no such hole"
SEVERAL = "holes of several squares or grids have the name: say which in columns grid and square"


def own_of(place, holes=4) -> dict[str, float]:
    """Of the newest model, the p_good of holes that the table gave one."""
    with SessionStore.open(place) as store:
        rows = store.load().predictions.iloc[-holes:]
    rows = (
        rows[rows["p_good"] != rows["p_good"].mode().iloc[0]] if rows["p_good"].duplicated().any() else rows
    )
    return dict(zip(rows["hole_id"], rows["p_good"], strict=True))


@pytest.fixture
def four(once, tmp_path) -> str:
    """Numbers of holes that begin anew in each square: 1, 2, B/1, B/2."""
    (tmp_path / "h4.csv").write_text(FOUR)
    return once("import h4.csv -o four.session")


@pytest.mark.parametrize(
    ("table", "given", "why"),
    [
        pytest.param(
            "grid,square,hole,p\ng,A,2,0.5\ng,B,1,0.95\n",
            {"2": 0.5, "B/1": 0.95},
            None,
            marks=pytest.mark.slow,
        ),
        (
            "grid,square,hole,p\ng,A,1,0.1\ng,A,2,0.2\ng,B,1,0.8\ng,B,2,0.9\n",
            {"1": 0.1, "2": 0.2, "B/1": 0.8, "B/2": 0.9},
            None,
        ),
        pytest.param(
            "square,hole,p\nA,1,0.1\nB,B/2,0.9\n", {"1": 0.1, "B/2": 0.9}, None, marks=pytest.mark.slow
        ),
        pytest.param("hole,p\n1,0.1\nB/1,0.9\n", {"1": 0.1, "B/1": 0.9}, None, marks=pytest.mark.slow),
        ("square,hole,p\nA,2,0.1\nA,B/1,0.5\nC,1,0.7\nB,2,0.9\n", {"2": 0.1, "B/2": 0.9}, NO_SUCH),
        ("hole,square,p\n1,B,0.9\n2,A,0.1\n2,,0.5\n", {"2": 0.1, "B/1": 0.9}, SEVERAL),
        pytest.param(
            "grid,hole,p\nmine,1,0.1\nmine,B/1,0.9\n", {"1": 0.1, "B/1": 0.9}, None, marks=pytest.mark.slow
        ),
    ],
)
def test_probabilities_go_to_the_hole_of_the_square_that_the_table_says(
    cli, four, tmp_path, table, given, why
):
    (tmp_path / "mine.csv").write_text(table)
    told = json.loads(cli(f"import mine.csv -o {four} --update --column p_good=p --json").out)
    assert own_of(tmp_path / four) == pytest.approx(given)
    join = told["joins"][0]
    assert (join["joined"], join["why"]) == (len(given), why or "")
    ignored = (
        "no grid of the session has a name of the column grid of mine.csv (first: mine; the session has g)"
    )
    assert any(ignored in note for note in told["notes"]) == ("mine" in table)


def test_a_full_table_of_places_may_have_the_probabilities_too(cli, tmp_path):
    lines = FOUR.strip().split("\n")
    with_p = [f"{lines[0]},p", *(f"{line},0.{number}" for number, line in enumerate(lines[1:], 1))]
    (tmp_path / "all.csv").write_text("\n".join(with_p) + "\n")
    assert cli("import all.csv -o all.session --column p_good=p").code == 0
    assert own_of(tmp_path / "all.session") == {"1": 0.1, "2": 0.2, "B/1": 0.3, "B/2": 0.4}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("square,hole,p\nB,1,0.1\nB,B/1,0.9\n", "line 3: a name must stand once. Got 'B/1' again instead"),
        ("square,hole,p\nB,1,0.1\nB,1,0.9\n", "line 3: a name must stand once in its square and grid"),
        ("grid,hole,p\nx,1,0.1\ny,1,0.9\n", SEVERAL),
        ("hole,p\n1,0.9\n", SEVERAL),
        ("square,hole,p\nA,7,0.1\nB,B/7,0.9\n", "must be holes or exposures of session"),
    ],
)
def test_tables_that_contradict_themselves_or_tell_nothing_apart_are_refused(
    cli, four, tmp_path, table, message
):
    (tmp_path / "mine.csv").write_text(table)
    answer = cli(f"import mine.csv -o {four} --update --column p_good=p")
    assert answer.code == 2
    assert message in answer.err


@pytest.mark.parametrize("numbers", [(0, 3), pytest.param((1, 2, 4), marks=pytest.mark.slow)])
def test_scores_of_two_navigators_go_to_the_grid_that_the_table_says(cli, tmp_path, numbers):
    for name, x_um in (("gridA", 0), ("gridB", 500)):
        navigator = ["AdocVersion = 2.00", ""]
        for label in (11, 12):
            navigator += [
                f"[Item = {label}]", "Color = 0", f"StageXYZ = {x_um + label} 20 0", "NumPts = 1", "Regis = 1",
                "Type = 0", f"MapID = {x_um + label}", "Acquire = 1", f"PtsX = {x_um + label}", "PtsY = 20", "",
            ]  # fmt: skip
        folder = tmp_path / name[-1]
        folder.mkdir()
        (folder / f"{name}.nav").write_text("\n".join(navigator))
        (folder / "b_0001.tif.mdoc").write_text(
            f"[FrameSet = 0]\nStagePosition = {x_um + 11} 20\nSubFramePath = b_0001.tif\nNavigatorLabel = 11\n"
        )
    assert cli("import A B -o two.session").code == 0
    tables = {
        "grid,hole,p\ngridA,12,0.1\ngridB,11,0.9\n": {"12": 0.1, "gridB/11": 0.9},
        "grid,hole,p\ngridA,11,0.1\ngridB,11,0.9\n": {"11": 0.1, "gridB/11": 0.9},
        "grid,image,p\ngridA,b_0001,0.2\ngridB,b_0001,0.8\n": {"11": 0.2, "gridB/11": 0.8},
        "image,hole,p\nB/b_0001.mrc,gridB/11,0.8\nb_0001.mrc,12,0.3\n": {"12": 0.3, "gridB/11": 0.8},
        "image,p\nraw/B/b_0001.mrc,0.8\nraw/C/b_0001.mrc,0.3\n": {"gridB/11": 0.8},
    }
    for number in numbers:
        table, given = list(tables.items())[number]
        (tmp_path / f"t{number}.csv").write_text(table)
        told = json.loads(cli(f"import t{number}.csv -o two.session --update --column p_good=p --json").out)
        assert told["joins"][0]["joined"] == len(given)
        if len(given) > 1:
            assert own_of(tmp_path / "two.session") == pytest.approx(given)


def test_columns_that_no_table_has_are_refused(cli, tmp_path):
    (tmp_path / "ctf.star").write_text(
        "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCtfMaxResolution #2\na.mrc 4\n"
    )
    answer = cli("import ctf.star -o a.session --column p_good=bar")
    assert answer.code == 2
    assert "must be said of a table of your own. Got ctf.star (relion) instead" in " ".join(
        answer.err.split()
    )


def test_a_table_of_scores_without_its_column_is_refused_with_the_way_to_name_it(cli, tmp_path):
    (tmp_path / "ice.csv").write_text("hole,ice\n1,0.1\n")
    (tmp_path / "empty.csv").write_text("")
    answer = cli("import ice.csv -o a.session")
    assert answer.code == 2
    assert "--column p_good=NAME for probabilities of holes" in " ".join(answer.err.split())
    assert "Got an empty file instead" in " ".join(cli("import empty.csv -o a.session").err.split())
