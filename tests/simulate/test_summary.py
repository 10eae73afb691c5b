from __future__ import annotations

import numpy as np
import pytest

from cryoscout.core.errors import DataError
from cryoscout.simulate.scene import simulate_scene
from cryoscout.simulate.scene_settings import SceneSettings
from cryoscout.simulate.session import scene_to_session
from cryoscout.simulate.summary import (
    intra_class_correlation,
    summary_of_scene,
    summary_of_session,
    y1_in_split,
)
from hidden_outcomes import with_outcomes_hidden

TINY = SceneSettings(holes=240, patches=12, squares=5, grids=3)


def correlation_by_loop(value: np.ndarray, group: np.ndarray) -> float:
    """One-way analysis of variance, groups of unequal size; a plain loop over groups."""
    groups = [value[group == one] for one in np.unique(group)]
    sizes = np.array([len(members) for members in groups])
    n, k = len(value), len(groups)
    between = sum(len(members) * (members.mean() - value.mean()) ** 2 for members in groups) / (k - 1)
    within = sum(((members - members.mean()) ** 2).sum() for members in groups) / (n - k)
    usual_size = (n - (sizes**2).sum() / n) / (k - 1)
    return float((between - within) / (between + (usual_size - 1) * within))


def test_the_correlation_is_that_of_the_plain_loop_and_recovers_a_known_one() -> None:
    rng = np.random.default_rng(0)
    group = np.sort(rng.choice([0, 1, 4, 7, 9], 300)).astype(np.int32)
    value = rng.normal(size=300) + rng.normal(size=10)[group]
    assert intra_class_correlation(value, group) == pytest.approx(
        correlation_by_loop(value, group), rel=1e-12
    )
    many = np.repeat(np.arange(4000, dtype=np.int32), 5)
    value = 0.6**0.5 * rng.normal(size=4000)[many] + 0.4**0.5 * rng.normal(size=20_000)
    assert intra_class_correlation(value, many) == pytest.approx(0.6, abs=0.02)


def test_the_correlation_is_one_in_like_groups_and_not_a_number_without_groups() -> None:
    group = np.array([0, 0, 1, 1], dtype=np.int32)
    assert intra_class_correlation(np.array([1.0, 1, 0, 0]), group) == pytest.approx(1)
    assert np.isnan(intra_class_correlation(np.ones(3), np.zeros(3, dtype=np.int32)))
    assert np.isnan(intra_class_correlation(np.arange(3.0), np.arange(3, dtype=np.int32)))
    assert np.isnan(intra_class_correlation(np.ones(4), group))


def test_y1_has_the_figures_that_are_published_and_known_of_it() -> None:
    session = y1_in_split()
    assert [len(getattr(session, table)) for table in ("grids", "squares", "patches", "holes")] == [
        16,
        25,
        173,
        3538,
    ]
    y1 = summary_of_session(session)
    assert y1.ctf_quantiles == pytest.approx([3.4, 4.5, 7.7, 10.8, 19.4], abs=0.05)
    assert y1.share_good == pytest.approx(0.379, abs=0.0005)
    correlations = (y1.correlation_in_patch, y1.correlation_in_square, y1.correlation_in_grid)
    assert correlations == pytest.approx((0.39, 0.26, 0.21), abs=0.005)
    assert y1.share_failed == pytest.approx(0.0147, abs=5e-5)
    assert y1.holes_per_patch[0] == pytest.approx(3538 / 173)


@pytest.mark.parametrize("exposed", [1.0, 0.4])
def test_a_scene_and_its_session_have_the_same_summary(exposed: float) -> None:
    settings = TINY.model_copy(update={"exposed_share": exposed, "failed_share": 0.1, "shots": 2})
    scene = simulate_scene(settings, 3)
    summary = summary_of_scene(scene)
    assert summary == summary_of_session(scene_to_session(scene, "a"))
    good = (scene.ctf_max_res_angstrom[scene.exposed, 0] <= 6).astype(float)
    assert summary.correlation_in_patch == intra_class_correlation(good, scene.patch_of_hole[scene.exposed])
    assert max(summary.ctf_quantiles) == 30.0, "a tenth of the fits failed"
    named = summary.by_name()
    assert named["share of good"] == summary.share_good
    assert len(named) == 5 + 3 + 3 + 3 + 8


def test_a_session_without_results_is_refused() -> None:
    session = with_outcomes_hidden(scene_to_session(simulate_scene(TINY, 3), "a"))
    with pytest.raises(DataError, match="Remedy"):
        summary_of_session(session)
