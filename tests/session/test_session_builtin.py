import numpy as np
import pytest

from cryoscout.core.errors import DataError, UnknownNameError
from cryoscout.session.builtin import load_builtin


def accuracies(session, model_id):
    """Share right of the good, of the bad, of all, by the larger softmax value; per cent, one decimal."""
    good = session.good_by_hole(6.0) > 0
    right = (session.prediction(model_id, 6.0) > 0.5) == good
    return [round(100 * float(part.mean()), 1) for part in (right[good], right[~good], right)]


def test_y1_has_the_papers_sizes():
    validation = load_builtin("y1")
    counts = validation.counts()
    assert [counts[level] for level in ("grids", "squares", "patches", "holes")] == [14, 22, 52, 1074]
    assert np.nansum(validation.good_by_hole(6.0)) == 404
    train = load_builtin("y1", "train")
    assert train.n_holes == 2464
    both = np.concatenate([validation.good_by_hole(6.0), train.good_by_hole(6.0)])
    assert round(100 * np.nanmean(both), 1) == 37.9


def test_the_papers_classifiers_are_right_as_published():
    validation = load_builtin("y1", "val")
    assert accuracies(validation, "res50") == [83.9, 91.2, 88.5]
    assert accuracies(validation, "res18") == [90.1, 87.5, 88.5]
    train = load_builtin("y1", "train")
    assert accuracies(train, "res50") == [100.0, 100.0, 100.0]
    assert accuracies(train, "res18")[2] == 90.9


def test_the_whole_session_keeps_every_exposure_with_its_time():
    whole = load_builtin("y1", "all")
    assert whole.counts()["outcomes"] == {"measured": 3494, "failed": 52, "pending": 471, "none": 0}
    assert whole.exposures["started_at"].notna().all()


def test_consecutive_exposures_of_the_whole_session_fall_into_the_known_tiers():
    whole = load_builtin("y1", "all")
    tree = whole.tree()
    in_time = np.argsort(whole.exposures["started_at"].to_numpy(), kind="stable")
    patch, square, grid = (
        each[in_time] for each in (tree.patch_of_hole, tree.square_of_hole, tree.grid_of_hole)
    )
    tier = np.select(
        [patch[1:] == patch[:-1], square[1:] == square[:-1], grid[1:] == grid[:-1]], [0, 1, 2], 3
    )
    assert np.bincount(tier).tolist() == [3817, 171, 6, 22]


def test_holes_outside_the_split_have_no_prediction():
    with pytest.raises(DataError, match="Got none for 479 of 4017 holes"):
        load_builtin("y1", "all").prediction("res18", 6.0)


def test_the_later_split_has_its_own_sizes_and_model():
    train, validation = load_builtin("y1-2022", "train"), load_builtin("y1-2022")
    assert (train.n_holes, validation.n_holes) == (1197, 2341)
    assert validation.models() == ["regress50-2022"]
    assert set(np.unique(validation.prediction("regress50-2022", 4.0))) == {0.0, 1.0}


def test_models_of_one_split_never_serve_the_other():
    y1, later = load_builtin("y1"), load_builtin("y1-2022")
    with pytest.raises(UnknownNameError, match="must be one of res18, res50"):
        y1.prediction("regress50-2022", 6.0)
    with pytest.raises(
        DataError, match=r"dataset 'y1'\. Got model 'regress50-2022'.*which holds validation holes"
    ):
        y1.with_predictions(later.predictions)
    with pytest.raises(DataError, match=r"dataset 'y1-2022'\. Got model 'res18'"):
        later.with_predictions(y1.predictions)


def test_built_in_sessions_say_where_they_come_from():
    for name in ("y1", "y1-2022"):
        info = load_builtin(name).info
        assert info.built_in
        assert info.default_time_model == "cryorl"
        assert info.licence == "Apache-2.0"
        assert "CryoRL-pytorch" in info.origin


def test_an_unknown_name_or_split_offers_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'y1'"):
        load_builtin("y2")
    with pytest.raises(UnknownNameError, match="Did you mean 'val'"):
        load_builtin("y1", "vall")


def test_what_a_caller_writes_into_a_session_is_in_no_session_that_is_loaded_later():
    first = load_builtin("y1")
    before = first.predictions["p_good"].to_numpy(copy=True)
    first.predictions.loc[:, "p_good"] = 0.5
    first.info.refused_models.clear()

    assert np.array_equal(load_builtin("y1").predictions["p_good"].to_numpy(), before)
    assert "regress50-2022" in load_builtin("y1").info.refused_models
