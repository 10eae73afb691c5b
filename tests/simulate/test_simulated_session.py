from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cryoscout.routing.time_fit import fit_time_model
from cryoscout.simulate.frames import hole_centres_px, patch_frame
from cryoscout.simulate.image_settings import ImageSettings
from cryoscout.simulate.scene import Scene, simulate_scene
from cryoscout.simulate.scene_settings import SceneSettings
from cryoscout.simulate.session import (
    PATCH_PIXEL_UM,
    SESSION_START,
    SIMULATED_MODEL,
    scene_to_session,
    to_session,
)
from cryoscout.simulate.settings import SimulationSettings
from cryoscout.simulate.tables import SimulatedTables, simulate_tables


@pytest.fixture(params=[1, 2], ids=["one shot", "two shots"])
def tables(request: pytest.FixtureRequest) -> SimulatedTables:
    wanted = SimulationSettings(
        holes=1200, holes_per_patch=10, shots=request.param, failed_fit_share=0.1, share_good=0.4
    )
    return simulate_tables(wanted, 3)


def test_the_session_has_the_tree_the_truth_and_the_scores_of_the_tables(tables: SimulatedTables) -> None:
    session = to_session(tables, "simulated-1200")
    made = session.tree()
    for ours, theirs in zip(
        (made.patch_of_hole, made.square_of_patch, made.grid_of_square),
        (tables.patch_of_hole, tables.square_of_patch, tables.grid_of_square),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert session.holes["hole_id"].is_monotonic_increasing
    assert session.patches["patch_id"].is_monotonic_increasing
    np.testing.assert_array_equal(session.good_by_hole(6.0), tables.good)
    np.testing.assert_array_equal(session.prediction(SIMULATED_MODEL, 6.0), tables.score)
    assert session.models() == ["simulated"]
    assert session.info.shots == tables.settings.shots
    assert session.info.format == "simulated"
    assert session.info.default_time_model == "cryorl"
    assert session.measured_by_hole().all()


def test_exposures_keep_outcomes_and_times(tables: SimulatedTables) -> None:
    exposures = to_session(tables, "simulated-1200").exposures
    ctf = tables.ctf_max_res_angstrom.ravel()
    np.testing.assert_array_equal((exposures["outcome"] == "failed").to_numpy(), np.isinf(ctf))
    np.testing.assert_array_equal(exposures["ctf_max_res_angstrom"].dropna(), ctf[np.isfinite(ctf)])
    seconds = (exposures["started_at"] - SESSION_START) / pd.Timedelta(seconds=1)
    np.testing.assert_allclose(seconds, tables.started_s.ravel(), atol=1e-6)


def test_holes_lie_in_their_patch_image_around_its_middle(tables: SimulatedTables) -> None:
    holes = to_session(tables, "simulated-1200").holes
    in_patch = holes.groupby("patch_id")[["x_px", "y_px"]]
    np.testing.assert_allclose(in_patch.min() + in_patch.max(), 0, atol=1e-6)
    apart_px = np.hypot(*np.diff(holes[["x_px", "y_px"]].to_numpy()[:2], axis=0)[0])
    assert apart_px == pytest.approx(2.0 / PATCH_PIXEL_UM)
    down_px = np.diff(holes["y_px"].to_numpy())
    same_patch = np.diff(tables.patch_of_hole) == 0
    np.testing.assert_allclose(
        down_px[same_patch] * PATCH_PIXEL_UM, -np.diff(tables.y_um)[same_patch], atol=1e-6
    )


def test_the_time_model_of_the_tables_can_be_fitted_to_the_session() -> None:
    tables = simulate_tables(SimulationSettings(holes=6000, holes_per_patch=6, squares_per_grid=2), 4)
    session = to_session(tables, "simulated-6000")
    rows = session.exposures.merge(session.holes, on="hole_id").merge(session.patches, on="patch_id")
    rows = rows.merge(session.squares, on="square_id")
    seconds = ((rows["started_at"] - SESSION_START) / pd.Timedelta(seconds=1)).to_numpy()
    columns = ("patch_id", "square_id", "grid_id", "hole_id")
    fit = fit_time_model(seconds, *(rows[column].to_numpy() for column in columns))
    np.testing.assert_allclose(fit.time_model.tiers_min(), [2, 5, 10, 20], rtol=0.05)


def test_the_same_tables_give_the_same_session(tables: SimulatedTables) -> None:
    first, again = to_session(tables, "a"), to_session(tables, "a")
    pd.testing.assert_frame_equal(first.exposures, again.exposures)
    pd.testing.assert_frame_equal(first.predictions, again.predictions)


@pytest.fixture
def scene() -> Scene:
    settings = SceneSettings(
        holes=240, patches=12, squares=5, grids=3, shots=2, failed_share=0.2, exposed_share=0.4
    )
    return simulate_scene(settings, 5)


def test_the_session_of_a_scene_has_its_tree_results_and_times_and_no_predictions(scene: Scene) -> None:
    session = scene_to_session(scene, "specimen")
    tree = (scene.patch_of_hole, scene.square_of_patch, scene.grid_of_square)
    made = session.tree()
    ours_of_tree = (made.patch_of_hole, made.square_of_patch, made.grid_of_square)
    for ours, theirs in zip(ours_of_tree, tree, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert session.models() == []
    np.testing.assert_array_equal(session.imaged_by_hole(), scene.exposed)
    good = session.good_by_hole(6.0)
    np.testing.assert_array_equal(np.isnan(good), ~scene.exposed)
    truth = (scene.ctf_max_res_angstrom <= 6).sum(axis=1)
    np.testing.assert_array_equal(good[scene.exposed], truth[scene.exposed])
    outcomes = session.exposures["outcome"].to_numpy().reshape(240, 2)
    assert set(outcomes[~scene.exposed].ravel()) == {"none"}
    np.testing.assert_array_equal(
        outcomes[scene.exposed] == "failed", np.isinf(scene.ctf_max_res_angstrom[scene.exposed])
    )
    seconds = ((session.exposures["started_at"] - SESSION_START) / pd.Timedelta(seconds=1)).to_numpy()
    np.testing.assert_allclose(seconds, scene.started_s.ravel(), atol=1e-6)


def test_places_of_a_scene_are_kept_on_the_stage_and_in_the_patch_image(scene: Scene) -> None:
    optics = ImageSettings(pixel_nm=9.0)
    session = scene_to_session(scene, "specimen", images=optics)
    np.testing.assert_array_equal(session.holes["x_um"], scene.x_um)
    np.testing.assert_array_equal(session.squares["y_um"], scene.square_y_um)
    for patch in (0, 11):
        holes = session.holes[scene.patch_of_hole == patch]
        row_column = hole_centres_px(scene, patch, optics)
        middle = (patch_frame(scene, patch, optics).side_px - 1) / 2
        np.testing.assert_allclose(holes["x_px"], row_column[:, 1] - middle, atol=1e-6)
        np.testing.assert_allclose(holes["y_px"], row_column[:, 0] - middle, atol=1e-6)
        np.testing.assert_array_equal(holes["image_row"], np.arange(len(holes)))


def test_without_images_no_hole_of_a_scene_has_a_row(scene: Scene) -> None:
    assert scene_to_session(scene, "specimen").holes["image_row"].isna().all()


def test_the_same_scene_gives_the_same_session(scene: Scene) -> None:
    first, again = (scene_to_session(simulate_scene(scene.settings, 5), "a") for _ in range(2))
    pd.testing.assert_frame_equal(first.exposures, again.exposures)
    pd.testing.assert_frame_equal(first.holes, again.holes)
