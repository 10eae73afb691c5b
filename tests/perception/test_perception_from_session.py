"""What a session gives to a training: crops, labels, a test part; and every way in which it gives too little."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import DataError, InputError
from cryoscout.perception import fit, fit_ctf
from cryoscout.perception.from_session import (
    SessionCrops,
    held_out_crops,
    label_crops,
    median_ctf_by_hole,
    rows_trained_on,
    session_crops,
    training_rows,
    write_set_aside,
)
from cryoscout.session.model import Session
from cryoscout.session.store import SessionStore
from examples import slow_but
from session_with_images import TINY, bright, hole_id, images_of, stored, tiny_session, truth


def crops_of(tmp_path: Path, session: Session | None = None, images=None) -> SessionCrops:
    with SessionStore.open(stored(tmp_path / "tiny.session", session, images)) as store:
        return session_crops(store)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SessionCrops:
    return crops_of(tmp_path_factory.mktemp("whole"))


def test_crops_come_in_the_order_of_the_holes(whole: SessionCrops) -> None:
    assert whole.hole.tolist() == list(range(120))
    np.testing.assert_array_equal(whole.images, bright(truth()))
    assert (whole.hole_ids[13], whole.patch_ids[13]) == (hole_id(1, 1), "p1")
    assert not whole.without_image().any()
    assert whole.set_aside == ()


def test_holes_without_image_are_left_out_and_their_results_named(tmp_path: Path) -> None:
    imaged = np.ones(120, dtype=bool)
    imaged[[0, 1, 11]] = False
    crops = crops_of(tmp_path, tiny_session(imaged=imaged))
    assert len(crops.hole) == 117
    assert crops.without_image().nonzero()[0].tolist() == [0, 1, 11]
    labels = label_crops(crops, threshold_angstrom=6.0)
    assert labels.results_without_image == (hole_id(0, 0), hole_id(0, 1))  # hole 11 has no result
    assert (labels.labels >= 0).sum() == 78


def test_labels_follow_the_threshold_and_the_share(whole: SessionCrops) -> None:
    labels = label_crops(whole, threshold_angstrom=6.0)
    has_result = np.tile(np.arange(12) < 8, 10)
    np.testing.assert_array_equal(labels.labels, np.where(has_result, truth(), -1))
    np.testing.assert_array_equal(labels.truth, labels.labels)
    few = label_crops(whole, threshold_angstrom=6.0, fraction=0.2, seed=3)
    assert (few.labels >= 0).sum() == 16
    assert (few.truth >= 0).sum() == 80
    assert np.isfinite(few.ctf_angstrom).sum() == 16
    again = label_crops(whole, threshold_angstrom=6.0, fraction=0.2, seed=3)
    np.testing.assert_array_equal(few.labels, again.labels)
    other = label_crops(whole, threshold_angstrom=6.0, fraction=0.2, seed=4)
    assert (other.labels != few.labels).any()


@given(small=st.floats(0.1, 1.0), large=st.floats(0.1, 1.0), seed=st.integers(0, 50))
def test_fewer_labels_are_among_the_more(whole: SessionCrops, small: float, large: float, seed: int) -> None:
    small, large = sorted((small, large))
    few, many = (
        label_crops(whole, threshold_angstrom=6.0, fraction=each, seed=seed, both_classes=False).labels
        for each in (small, large)
    )
    assert (many[few >= 0] == few[few >= 0]).all()


@pytest.mark.parametrize("level", ["patch", "square"])
def test_a_test_part_holds_whole_patches_or_squares_and_no_label(whole: SessionCrops, level) -> None:
    labels = label_crops(whole, threshold_angstrom=6.0, test_level=level, seed=1)
    patch = np.array(whole.patch_ids)
    member = patch if level == "patch" else np.array([f"s{int(each[1:]) // 2}" for each in patch])
    chosen = np.unique(member[labels.test])
    assert len(chosen) == (2 if level == "patch" else 1)
    np.testing.assert_array_equal(labels.test, np.isin(member, chosen))
    assert (labels.labels[labels.test] == -1).all()
    assert (labels.truth[labels.test] >= 0).any()
    np.testing.assert_array_equal(training_rows(labels), np.flatnonzero(~labels.test))


def test_several_shots_are_good_by_majority_and_a_failed_fit_is_100(tmp_path: Path) -> None:
    ctf = np.where(np.arange(120) % 3 == 0, np.inf, 5.0)
    session = tiny_session(ctf=ctf, shots=2)
    rows = session.exposures["shot"] == 2
    second = session.exposures["ctf_max_res_angstrom"].where(~rows, 8.0)
    exposures = session.exposures.assign(
        outcome=session.exposures["outcome"].where(~rows, "measured"), ctf_max_res_angstrom=second
    )
    session = replace(session, exposures=exposures)
    median = median_ctf_by_hole(session)
    assert median[:4].tolist() == [8.0, 5.0, 5.0, 8.0]
    assert np.isnan(median[11])
    good = session.good_by_majority(6.0)
    assert good[:4].tolist() == [0.0, 1.0, 1.0, 0.0]
    assert np.isnan(good[11])
    assert median_ctf_by_hole(tiny_session(ctf=ctf))[0] == 100.0


def test_no_images_at_all_say_how_to_import_them(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"must have hole images. Got none instead. Remedy: import it with --images"
    ):
        crops_of(tmp_path, tiny_session(imaged=np.zeros(120, dtype=bool)), {})


def npy_header(shape: tuple[int, ...]) -> bytes:
    """An array file that says it holds an array of this shape, and holds three bytes."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"abc"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 half an archive",
        npy_header((10**13,)),
        npy_header((10**9, 10**9)),
        npy_header((-1, 4, 4)),
    ],
    ids=["empty", "archive", "more than a disk holds", "overflow", "negative"],
)
def test_an_image_file_that_lies_about_itself_sets_its_holes_aside(content: bytes, tmp_path: Path) -> None:
    folder = stored(tmp_path / "tiny.session")
    (folder / "images" / "p1.npy").write_bytes(content)
    with SessionStore.open(folder) as store:
        crops = session_crops(store)
    assert {each.patch_id for each in crops.set_aside} == {"p1"}
    assert all("cannot be read" in each.why for each in crops.set_aside)


def test_an_archive_named_as_an_array_sets_its_holes_aside(tmp_path: Path) -> None:
    folder = stored(tmp_path / "tiny.session")
    with (folder / "images" / "p1.npy").open("wb") as file:
        np.savez(file, images=bright(truth())[:12])
    with SessionStore.open(folder) as store:
        assert {each.patch_id for each in session_crops(store).set_aside} == {"p1"}


def test_damaged_image_files_set_their_holes_aside_by_name(tmp_path: Path) -> None:
    folder = stored(tmp_path / "tiny.session")
    with closing(sqlite3.connect(folder / "session.db")) as database, database:
        database.execute("DELETE FROM image_sums")  # as in a store from before they were kept
    images = folder / "images"
    (images / "p0.npy").write_bytes((images / "p0.npy").read_bytes()[:-500])
    (images / "p1.npy").write_bytes(b"no array")
    (images / "p2.npy").unlink()
    np.save(images / "p3.npy", np.zeros((12, 16), dtype=np.uint8))
    np.save(images / "p4.npy", bright(truth())[:3])
    with SessionStore.open(folder) as store:
        crops = session_crops(store)
    assert set(crops.patch_ids) == {"p4", *(f"p{k}" for k in range(5, 10))}
    why = {each.hole_id: each.why for each in crops.set_aside}
    assert len(why) == 4 * 12 + 9
    assert "cannot be read" in why[hole_id(0, 3)]
    assert "cannot be read" in why[hole_id(1, 0)]
    assert "missing" in why[hole_id(2, 0)]
    assert "uint8 (12, 16)" in why[hole_id(3, 0)]
    assert "fewer images" in why[hole_id(4, 3)]
    write_set_aside(crops.set_aside, tmp_path / "aside.csv")
    lines = (tmp_path / "aside.csv").read_text().splitlines()
    assert lines[0] == "hole_id,patch_id,why"
    assert len(lines) == 58
    for each in images.iterdir():
        each.unlink()
    with (
        SessionStore.open(folder) as store,
        pytest.raises(DataError, match=r"Got 120 that cannot be read \(p0h00"),
    ):
        session_crops(store)


def test_crops_of_several_sizes_become_one_size(tmp_path: Path) -> None:
    images = images_of(tiny_session())
    images["p3"] = np.repeat(np.repeat(images["p3"], 2, axis=1), 2, axis=2)
    crops = crops_of(tmp_path, images=images)
    assert crops.images.shape == (120, 16, 16)
    assert crops.n_scaled == 12
    inner = crops.images[36:48].astype(float).mean(axis=(1, 2)) - bright(truth())[36:48].mean(axis=(1, 2))
    assert np.abs(inner).max() < 1.0


def test_poisoned_crops_are_set_aside_or_learned_from_without_a_crash(tmp_path: Path) -> None:
    pixels = bright(truth())
    pixels[3] = 0  # black, labelled
    pixels[10] = 255  # white, unlabelled
    pixels[11] = np.random.default_rng(0).integers(0, 256, (16, 16))  # noise
    pixels[9, 8:] = 0  # cut off
    crops = crops_of(tmp_path, images=images_of(tiny_session(), pixels))
    assert [each.hole_id for each in crops.set_aside] == [hole_id(0, 3), hole_id(0, 10)]
    labels = label_crops(crops, threshold_angstrom=6.0)
    assert labels.labels[3] == -1
    classifier = fit(crops.images, labels.labels, "fixmatch", threshold_angstrom=6.0, **TINY)
    assert classifier.set_aside == (3, 10)
    p = classifier.p_good(crops.images, 6.0)
    assert np.isfinite(p).all()
    assert p[3] == p[10] == classifier.p_good_unseen(6.0)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (
            {"results": np.zeros(120, dtype=bool)},
            {},
            "must have results on holes with images. Got none on 120",
        ),
        (
            {"ctf": np.full(120, 9.0)},
            {},
            r"good and other holes at 6 Å. Got 80 labels, all not good, instead",
        ),
        ({"ctf": np.full(120, 4.0)}, {}, "Got 80 labels, all good"),
        ({}, {"fraction": 0.0}, "above 0 and at most 1. Got 0 instead"),
        ({}, {"fraction": 1.5}, "Got 1.5 instead"),
        ({}, {"fraction": float("nan")}, "Got nan instead"),
        ({}, {"fraction": 0.0001}, "Got 1 label, all"),
    ],
)
def test_too_little_to_learn_from_is_refused(tmp_path: Path, make, options, message) -> None:
    crops = crops_of(tmp_path, tiny_session(**make))
    with pytest.raises((DataError, InputError), match=message):
        label_crops(crops, threshold_angstrom=6.0, **options)


def test_labels_on_holes_without_images_alone_are_no_labels(tmp_path: Path) -> None:
    results = np.tile(np.arange(12) < 8, 10)
    crops = crops_of(tmp_path, tiny_session(results=results, imaged=~results))
    with pytest.raises(
        DataError, match="Got none on 40 holes with an image, and 80 on holes without, instead"
    ):
        label_crops(crops, threshold_angstrom=6.0)


def test_black_crops_alone_are_refused(tmp_path: Path) -> None:
    crops = crops_of(tmp_path, images=images_of(tiny_session(), np.zeros((120, 16, 16), dtype=np.uint8)))
    with pytest.raises(DataError, match=r"must show something\. Got 120"):
        label_crops(crops, threshold_angstrom=6.0)


def test_one_patch_cannot_be_split(tmp_path: Path) -> None:
    imaged = np.arange(120) < 12
    crops = crops_of(tmp_path, tiny_session(imaged=imaged))
    with pytest.raises(DataError, match=r"at least two with images\. Got 1"):
        label_crops(crops, threshold_angstrom=6.0, test_level="patch")


@pytest.mark.parametrize("seed", range(5))
def test_a_training_holds_out_whole_patches(tmp_path: Path, seed: int) -> None:
    crops = crops_of(tmp_path, tiny_session())
    labels = label_crops(crops, threshold_angstrom=6.0, fraction=0.5)
    held = held_out_crops(crops, labels, 0.25, seed)
    told, patches = labels.labels >= 0, np.asarray(crops.patch_ids)
    assert held.any()
    assert not (held & ~told).any()
    assert not set(patches[held]) & set(patches[told & ~held])


def test_where_one_patch_alone_has_labels_single_holes_are_held_out_class_by_class(tmp_path: Path) -> None:
    crops = crops_of(tmp_path, tiny_session())
    labels = label_crops(crops, threshold_angstrom=6.0)
    patches, counts = np.unique(np.asarray(crops.patch_ids), return_counts=True)
    in_one = np.asarray(crops.patch_ids) == patches[counts.argmax()]
    labels = replace(labels, labels=np.where(in_one, labels.labels, -1))
    held = held_out_crops(crops, labels, 0.5, seed=0)
    kept = in_one & ~held
    assert held.any()
    assert set(labels.labels[kept]) == set(labels.labels[in_one])


@pytest.mark.parametrize("method", slow_but(["supervised"], ["supervised", "regression"]))
def test_rows_trained_on_are_those_that_were_not_held_out(tmp_path: Path, method: str) -> None:
    pixels = bright(truth())
    pixels[40] = 7
    rng = np.random.default_rng(0)
    session = tiny_session(ctf=np.where(truth(), 4.0, 9.0) + rng.normal(0.0, 0.5, 120))
    crops = crops_of(tmp_path, session, images_of(session, pixels))
    labels = label_crops(crops, threshold_angstrom=6.0, fraction=0.7, test_level="patch")
    rows = training_rows(labels)
    held_out = held_out_crops(crops, labels, 0.25, seed=0)
    tiny = {**TINY, "held_out": held_out[rows]}
    if method == "regression":
        classifier = fit_ctf(crops.images[rows], labels.ctf_angstrom[rows], **tiny)
    else:
        classifier = fit(crops.images[rows], labels.labels[rows], method, threshold_angstrom=6.0, **tiny)
    trained = rows_trained_on(classifier, labels, held_out)
    told = labels.labels >= 0
    assert not (trained & ~told).any()
    held = told & ~trained
    np.testing.assert_array_equal(held, held_out)
    assert held.sum() == classifier.notes["held_out_labels"]
    if method == "supervised":
        raw = classifier.raw_proba(crops.images[held]).argmax(axis=1)
        assert (raw == labels.labels[held]).mean() == pytest.approx(classifier.notes["held_out_accuracy"])
