"""The map from beam shift to um. Sessions here are made up: no public EPU session has enough exposures of known holes.

What real exposures there are (four, of two holes) check the model: one linear map, zero at the stage position.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from epu_samples import DATA
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import DataError
from cryoscout.formats.epu.beam_shift import BeamShift, fit_beam_shift, placed_by_beam_shift
from cryoscout.formats.epu.dm import read_epu_session
from cryoscout.formats.epu.images import read_image

MIRRORED = np.array([[-23.0, -12.0], [-12.0, 23.0]])
SPACING_UM = 2.65


@dataclass
class Made:
    """A made-up session and its truth."""

    exposures: pd.DataFrame
    holes: pd.DataFrame
    runs: np.ndarray
    shifts: dict
    targets: dict
    true_shift_um: np.ndarray

    def fit(self):
        shift = np.array([(each.x, each.y) for each in self.shifts.values()])
        hole_um = np.array([self.targets.get(hole, (np.nan, np.nan)) for hole in self.exposures["hole_id"]])
        stage_um = self.exposures[["stage_x_um", "stage_y_um"]].to_numpy()
        area, hole = (self.exposures[name].to_numpy(dtype=object) for name in ("shot_key", "hole_id"))
        return fit_beam_shift(shift, hole_um - stage_um, self.runs, area, hole)

    def place(self):
        return placed_by_beam_shift(self.exposures, self.holes, self.runs, self.shifts, self.targets)


def made(
    matrix=MIRRORED,
    n_runs=3,
    along=4,
    shots=3,
    noise_um=0.0,
    drift_um=0.0,
    targeting_um=1.0,
    rows=None,
    unknown=(),
    preset="magnification 165000, NanoProbe",
    seed=0,
):
    """`n_runs` clusters of `along` x `rows` holes; targets are off by `targeting_um` a run and `noise_um` a hole."""
    rng = np.random.default_rng(seed)
    rows = along if rows is None else rows
    shots_um = rng.normal(scale=0.4, size=(shots, 2))
    inverse = np.linalg.inv(matrix)
    table, runs, shifts, targets, true_um = [], [], {}, {}, []
    for run in range(n_runs):
        centre_um = np.array([100.0 * run, -40.0])
        off_um = rng.normal(scale=targeting_um, size=2)
        for k, (i, j) in enumerate(np.ndindex(rows, along)):
            hole = f"{run}{k:03d}"
            hole_um = SPACING_UM * np.array([j - (along - 1) / 2, i - (rows - 1) / 2])
            targets[hole] = tuple(
                (centre_um + hole_um + off_um + rng.normal(scale=noise_um, size=2)).tolist()
            )
            for shot in range(shots):
                stage_um = centre_um + drift_um * k / (rows * along)
                shift_um = centre_um + hole_um + shots_um[shot] - stage_um
                exposure = f"e{len(table):04d}"
                shifts[exposure] = BeamShift(*(inverse @ shift_um).tolist(), preset)
                place = (*stage_um.tolist(), np.nan, np.nan)
                table.append((exposure, hole, "s", "g", f"area{shot}", np.datetime64("NaT", "ns"), *place))
                runs.append(f"run{run}")
                true_um.append(shift_um)
    columns = ["exposure_id", "hole_id", "square_id", "grid_id", "shot_key", "started_at"]
    columns += ["stage_x_um", "stage_y_um", "shift_x_um", "shift_y_um"]
    unknown = {list(targets)[index] for index in unknown}
    own = {hole: place for hole, place in targets.items() if hole not in unknown}
    x_um, y_um = np.array([own.get(hole, (np.nan, np.nan)) for hole in targets]).T
    holes = pd.DataFrame({"hole_id": list(targets), "x_um": x_um, "y_um": y_um})
    return Made(
        pd.DataFrame(table, columns=columns), holes, np.array(runs, dtype=object), shifts, own, np.array(true_um)
    )  # fmt: skip


angles = st.floats(0, 2 * np.pi)


@given(
    angles, angles, st.floats(1e-3, 1e3), st.floats(0.3, 1.0), st.booleans(),
    st.floats(0.0, 0.15), st.floats(-0.4, 0.4), st.integers(0, 99),
)  # fmt: skip
def test_any_invertible_map_is_recovered_from_noisy_targets(
    first, second, scale, ratio, mirrored, noise_um, drift_um, seed
):
    def turn(angle):
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    matrix = scale * turn(first) @ np.diag([1.0, -ratio if mirrored else ratio]) @ turn(second)
    session = made(matrix, noise_um=noise_um, drift_um=drift_um, seed=seed)
    found = session.fit()
    # 48 holes over +- 4 um: the error of the matrix is about noise / (3 um * sqrt(48)), here with a margin of five.
    assert np.abs(found.matrix_um - matrix).max() <= scale * (0.25 * noise_um + 1e-6)
    assert found.residual_um == pytest.approx(noise_um * np.sqrt(2), rel=0.5, abs=1e-6)
    assert (found.n_holes, found.um_per_unit) == (48, pytest.approx(scale * np.sqrt(ratio), rel=0.1))
    placed = session.place()
    np.testing.assert_allclose(
        placed.exposures[["shift_x_um", "shift_y_um"]], session.true_shift_um, atol=2.5 * noise_um + 1e-5
    )


def test_exposures_of_wrong_holes_count_nothing():
    session = made(noise_um=0.05)
    right = session.fit()
    holes = session.exposures["hole_id"].to_numpy(dtype=object, copy=True)
    wrong = np.random.default_rng(1).permutation(len(holes))[: len(holes) // 8]
    holes[wrong] = np.roll(holes[wrong], 1)
    session.exposures = session.exposures.assign(hole_id=holes)
    found = session.fit()
    assert np.abs(found.matrix_um - MIRRORED).max() < 0.5
    assert found.residual_um == pytest.approx(right.residual_um, rel=0.25)
    assert 0.5 * len(wrong) < found.n_outliers <= len(wrong)


@pytest.mark.parametrize("seed", range(10))
def test_a_third_of_the_targets_off_to_one_side_does_not_turn_the_map(seed):
    session = made(noise_um=0.05, seed=seed)
    rng = np.random.default_rng(seed)
    holes = list(session.targets)
    for hole in rng.permutation(holes)[: int(0.35 * len(holes))]:
        x_um, y_um = session.targets[hole]
        session.targets[hole] = (x_um + 2 * SPACING_UM, y_um - SPACING_UM * rng.integers(0, 2))
    assert np.abs(session.fit().matrix_um - MIRRORED).max() < 1.0


def test_a_stage_that_drifts_within_a_run_changes_nothing():
    still, drifting = made(noise_um=0.0), made(noise_um=0.0, drift_um=0.45)
    np.testing.assert_allclose(drifting.fit().matrix_um, still.fit().matrix_um, atol=1e-6)
    placed = drifting.place()
    stage_um = drifting.exposures[["stage_x_um", "stage_y_um"]].to_numpy()
    shift_um = placed.exposures[["shift_x_um", "shift_y_um"]].to_numpy()
    where_um = made(noise_um=0.0)
    expected = where_um.exposures[["stage_x_um", "stage_y_um"]].to_numpy() + where_um.true_shift_um
    np.testing.assert_allclose(stage_um + shift_um, expected, atol=1e-6)


def test_holes_without_a_position_come_to_where_their_targets_were():
    truth, session = made(noise_um=0.02), made(noise_um=0.02, unknown=(1, 20, 47))
    placed = session.place()
    np.testing.assert_allclose(placed.holes[["x_um", "y_um"]], truth.holes[["x_um", "y_um"]], atol=0.08)
    known = session.holes["x_um"].notna()
    pd.testing.assert_frame_equal(placed.holes[known], session.holes[known])
    assert placed.notes[1:] == ["3 holes without an own position were placed by the beam shift"]
    assert placed.notes[0].startswith(
        "beam shift (magnification 165000, NanoProbe): 25.9 um per unit by 45 holes of known position, residual 0.0"
    )
    assert session.holes["x_um"].isna().sum() == 3


def test_a_run_without_known_holes_has_the_usual_offset():
    truth, session = made(targeting_um=0.0), made(targeting_um=0.0, unknown=range(32, 48))
    np.testing.assert_allclose(
        session.place().holes[["x_um", "y_um"]], truth.holes[["x_um", "y_um"]], atol=1e-6
    )


def test_without_known_holes_nothing_is_placed_and_the_note_says_why():
    session = made(unknown=range(48))
    placed = session.place()
    assert placed.exposures["shift_x_um"].isna().all()
    assert placed.holes["x_um"].isna().all()
    assert placed.notes == [
        "beam shift (magnification 165000, NanoProbe) of 144 exposures has no length here, so that they are not placed "
        "inside their patches: A fit must have 6 holes of known position beside others at one stage position. "
        "Got 0 instead.",
        "48 holes without an own position are not placed inside the patch",
    ]


def test_exposures_without_beam_shift_or_with_none_of_it_need_no_fit():
    session = made(n_runs=1, along=1, shots=2)
    session.shifts = {"e0000": BeamShift(0.0, 0.0, "p")}
    placed = session.place()
    assert placed.notes == []
    assert placed.exposures["shift_x_um"].tolist()[0] == 0.0
    assert np.isnan(placed.exposures["shift_x_um"].tolist()[1])
    nothing = placed_by_beam_shift(
        session.exposures.iloc[:0], session.holes.iloc[:0], np.array([], dtype=object), {}, {}
    )
    assert (len(nothing.exposures), nothing.notes) == (0, [])


def test_every_preset_has_its_own_map():
    one, other = made(), made(matrix=3 * MIRRORED, preset="magnification 81000, NanoProbe", seed=1)
    holes = other.exposures["hole_id"] + "x"
    names = ["f" + each[1:] for each in other.exposures["exposure_id"]]
    both = Made(
        pd.concat(
            [one.exposures, other.exposures.assign(hole_id=holes, exposure_id=names)], ignore_index=True
        ),
        one.holes,
        np.concatenate([one.runs, other.runs + "x"]),
        one.shifts | dict(zip(names, other.shifts.values(), strict=True)),
        one.targets | {f"{hole}x": place for hole, place in other.targets.items()},
        np.concatenate([one.true_shift_um, other.true_shift_um]),
    )
    placed = both.place()
    np.testing.assert_allclose(placed.exposures[["shift_x_um", "shift_y_um"]], both.true_shift_um, atol=1e-6)
    assert [note.partition(" by ")[0] for note in placed.notes] == [
        "beam shift (magnification 165000, NanoProbe): 25.9 um per unit",
        "beam shift (magnification 81000, NanoProbe): 77.8 um per unit",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_runs": 1, "along": 6, "rows": 1}, r"Got 5 instead"),
        ({"n_runs": 40, "along": 1}, r"Got 0 instead"),
        ({"along": 8, "rows": 1}, r"must vary along two directions\. Got .* under 0\.05, instead"),
        ({"noise_um": 1.5}, r"must find the holes within 0\.5 um\. Got [12](\.\d)? um instead"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_reason(arguments, message):
    with pytest.raises(DataError, match=message):
        made(**arguments).fit()


@given(
    st.lists(st.sampled_from([0.0, -0.1, 1e-300, 1e300, -1e308, np.nan, np.inf]), max_size=12),
    st.integers(0, 5),
)
def test_beam_shifts_that_are_none_neither_crash_nor_count(values, seed):
    session = made(noise_um=0.02, seed=seed)
    expected = session.fit().matrix_um
    names = list(session.shifts)[:: 144 // 12]
    for name, value in zip(names, values, strict=False):
        session.shifts[name] = BeamShift(value, value, session.shifts[name].preset)
    np.testing.assert_allclose(session.fit().matrix_um, expected, atol=0.5)


def test_the_real_exposures_lie_on_a_lattice_around_the_stage_position():
    """Two shots of one hole and the template give a mirrored rotation; both holes must then be lattice points."""
    folder = DATA / "smartem_example"
    areas = {area.area_id: area for area in read_epu_session(folder / "EpuSession.dm").areas}
    shot_px = {
        name: np.array([areas[name].shift_x_px, areas[name].shift_y_px]) for name in ("9017347", "9017354")
    }
    image = read_image(next(folder.rglob("FoilHole_9015889_20250108_154725.xml")))
    axes = np.array(
        [[float(image.fields[f"ReferenceTransformation/matrix/_m{i}{j}"]) for j in (1, 2)] for i in (1, 2)]
    )
    # The matrix has the pixels of the detector at half size, so that only its direction is taken.
    px_um = axes / np.sqrt(abs(np.linalg.det(axes))) * image.numbers["pixel_size_angstrom"] * 1e-4
    beam = {}
    for hole in ("9015883", "9028219"):
        for area in shot_px:
            numbers = read_image(next(folder.rglob(f"FoilHole_{hole}_Data_{area}*.xml"))).numbers
            beam[hole, area] = np.array([numbers["beam_shift_x"], numbers["beam_shift_y"]])
    first, second = (beam[hole, "9017354"] - beam[hole, "9017347"] for hole in ("9015883", "9028219"))
    np.testing.assert_allclose(first, second, atol=1e-7)
    along = complex(*(px_um @ (shot_px["9017354"] - shot_px["9017347"]))) / complex(*first).conjugate()
    assert abs(along) == pytest.approx(25.94, abs=0.01)
    hole_um = {
        hole: along * complex(*beam[hole, "9017347"]).conjugate() - complex(*(px_um @ shot_px["9017347"]))
        for hole in ("9015883", "9028219")
    }
    assert [abs(each) for each in hole_um.values()] == pytest.approx([3.78, 10.93], abs=0.01)
    spacing_um = float(read_epu_session(folder / "EpuSession.dm").extra["hole_spacing_um"])
    # Nearest sites of a square lattice whose direction alone is free, the same in both squares.
    site = {"9015883": spacing_um * (1 - 1j), "9028219": spacing_um * (-1 + 4j)}
    turn = sum(hole_um[hole] * site[hole].conjugate() for hole in site)
    left_um = [abs(hole_um[hole] - turn / abs(turn) * site[hole]) for hole in site]
    assert max(left_um) < 0.1
