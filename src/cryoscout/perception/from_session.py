"""From a stored session to what a training takes, and back: crops, labels, a test part, the rows trained on. No torch.

A hole's label is its micrographs' CTF result at a threshold. Nothing is lost in silence: holes whose image cannot be
used are listed with the reason, and so are results of holes without an image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.counting import counted
from cryoscout.core.errors import DataError, InputError
from cryoscout.core.names import as_cell
from cryoscout.core.new_files import write_whole
from cryoscout.core.telling import Progress, no_progress
from cryoscout.core.units import FAILED_FIT_ANGSTROM
from cryoscout.perception.predictor import HELD_OUT_GIVEN, Predictor
from cryoscout.perception.prepare import UNLABELLED, drawn_held_out, unusable
from cryoscout.perception.scaling import scale_crops
from cryoscout.session.model import Session
from cryoscout.session.splits import HELD_OUT_STREAM, hold_out, label_fraction, split_by
from cryoscout.session.store import SessionStore

Level = Literal["patch", "square"]

TEST_SHARE = 0.2
SHOWS_NOTHING = "all its pixels are the same"
_LABELS_STREAM, _TEST_STREAM = 2, 3


@dataclass(frozen=True)
class SetAside:
    """A hole whose image is there and cannot be used."""

    hole_id: str
    patch_id: str
    why: str


@dataclass(frozen=True)
class SessionCrops:
    """The hole images of a session, m of n holes, in the order of the holes."""

    session: Session
    hole: NDArray[np.int64]
    """(m,) row in `session.holes`"""
    images: NDArray[np.uint8]
    """(m, h, w)"""
    shows_nothing: NDArray[np.bool_]
    """(m,) crops that a training leaves out; they are in `set_aside` too"""
    set_aside: tuple[SetAside, ...]
    n_scaled: int
    """Crops of another size than most, scaled to it"""

    @property
    def hole_ids(self) -> list[str]:
        """(m,) ids of the holes."""
        return list(self.session.holes["hole_id"].iloc[self.hole])

    @property
    def patch_ids(self) -> list[str]:
        """(m,) ids of their patches."""
        return list(self.session.holes["patch_id"].iloc[self.hole])

    def without_image(self) -> NDArray[np.bool_]:
        """(n,) holes of the session that have no crop here."""
        without = np.ones(self.session.n_holes, dtype=np.bool_)
        without[self.hole] = False
        return without


def session_crops(store: SessionStore, progress: Progress = no_progress) -> SessionCrops:
    """Every hole image of a session that can be read.

    Crops of patches that differ in size are scaled to the commonest size, made square. An image that is damaged or
    not as its table says sets its holes aside. Raises DataError, with the remedy, where none is left.
    """
    session = store.load(progress)
    rows = session.holes["image_row"]
    parts: list[tuple[NDArray[np.int64], NDArray[np.uint8]]] = []
    aside: list[SetAside] = []
    has_row = np.flatnonzero(rows.notna().to_numpy())
    if not len(has_row):
        raise _no_images(session, "none")
    hole_ids, patch_ids = session.holes["hole_id"].to_numpy(), session.holes["patch_id"].to_numpy()
    by_patch = np.split(has_row, np.flatnonzero(patch_ids[has_row][1:] != patch_ids[has_row][:-1]) + 1)
    with progress("reading hole images", len(by_patch)) as step:
        for holes in by_patch:
            patch = str(patch_ids[holes[0]])
            array = _patch_array(store, patch)
            wanted = rows.iloc[holes].to_numpy(dtype=np.int64)
            why = array if isinstance(array, str) else "its patch has fewer images than the holes say"
            there = np.zeros(len(holes), dtype=np.bool_)
            if not isinstance(array, str):
                there = (wanted >= 0) & (wanted < len(array))
                parts.append((holes[there], array[wanted[there]]))
            aside += [SetAside(str(hole_ids[hole]), patch, why) for hole in holes[~there]]
            step()
    parts = [part for part in parts if len(part[0])]
    if not parts:
        raise _no_images(session, f"{len(aside)} that cannot be read ({aside[0].hole_id}: {aside[0].why})")
    hole = np.concatenate([holes for holes, _ in parts])
    images, n_scaled = _of_one_size([images for _, images in parts])
    nothing = unusable(images)
    aside += [
        SetAside(str(hole_ids[row]), str(patch_ids[row]), SHOWS_NOTHING) for row in hole[nothing]
    ]  # fmt: skip
    return SessionCrops(session, hole, images, nothing, tuple(aside), n_scaled)


def _no_images(session: Session, got: str) -> DataError:
    return DataError(
        f"Session {session.name} must have hole images. Got {got} instead. Remedy: import it with --images FOLDER."
    )


def _patch_array(store: SessionStore, patch_id: str) -> NDArray[np.uint8] | str:
    """The images of a patch, or why they cannot be used."""
    try:
        array = store.images(patch_id)
    except (ValueError, OSError):
        return "the images of its patch cannot be read"
    if array is None:
        return "the images of its patch are missing"
    if array.dtype != np.uint8 or array.ndim != 3 or min(array.shape[1:]) < 1:
        return f"the images of its patch are {array.dtype} {array.shape}"
    return array


def _of_one_size(parts: list[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], int]:
    """(all crops in one array, how many were scaled)."""
    sizes: dict[tuple[int, ...], int] = {}
    for part in parts:
        sizes[part.shape[1:]] = sizes.get(part.shape[1:], 0) + len(part)
    if len(sizes) == 1:
        return np.concatenate(parts), 0
    commonest = max(sizes, key=lambda size: sizes[size])
    side = max(commonest)
    kept = sizes[commonest] if commonest == (side, side) else 0
    return np.concatenate([scale_crops(part, side) for part in parts]), sum(sizes.values()) - kept


@dataclass(frozen=True)
class CropLabels:
    """What is known of the m crops of a session, and what of it is told to a training."""

    labels: NDArray[np.int64]
    """(m,) 1 good, 0 not, -1 not told"""
    truth: NDArray[np.int64]
    """(m,) the same of every crop with a result; for metrics alone"""
    ctf_angstrom: NDArray[np.float64]
    """(m,) CTF resolution where a label is told, else NaN"""
    test: NDArray[np.bool_]
    """(m,) crops of the test part: a training sees neither image nor label"""
    results_without_image: tuple[str, ...]
    """Holes with a result that has no image to go with, so that it cannot be learned from"""


def label_crops(
    crops: SessionCrops,
    *,
    threshold_angstrom: float,
    fraction: float = 1.0,
    seed: int = 0,
    test_level: Level | None = None,
    both_classes: bool = True,
) -> CropLabels:
    """Labels of a random share of the holes with a result.

    fraction : above 0, up to 1; with one seed, fewer labels are among the more
    test_level : set a fifth of the patches or squares aside, with all their holes; None: no test part
    both_classes : good and other holes must be among the labels; a regression needs no class
    Raises InputError for another fraction; DataError where no usable crop has a result, or all labels are of a kind.
    """
    if not 0.0 < fraction <= 1.0:
        raise InputError(
            f"The share of labels must be above 0 and at most 1. Got {fraction:g} instead. Remedy: --labels 0.1 is a "
            "tenth of the holes with results."
        )
    session = crops.session
    if crops.shows_nothing.all():
        raise DataError(
            f"Hole images must show something. Got {len(crops.hole)} of one grey level each instead. Remedy: import "
            "the session again with other --images."
        )
    good, ctf = session.good_by_majority(threshold_angstrom), median_ctf_by_hole(session)
    has_result = ~np.isnan(good)
    n_images = f"{counted(len(crops.hole), 'holes')} with an image"
    if not has_result[crops.hole].any():
        raise DataError(
            f"Session {session.name} must have results on holes with images. Got none on {n_images}"
            f"{_on_others(int(has_result.sum()))} instead. Remedy: import CTF results of imaged holes first."
        )
    test = _test_part(crops, test_level, seed)
    candidates = has_result[crops.hole] & ~test & ~crops.shows_nothing
    told = label_fraction(candidates, fraction, np.random.default_rng([seed, _LABELS_STREAM]))
    truth = np.where(has_result[crops.hole], good[crops.hole] == 1.0, UNLABELLED).astype(np.int64)
    labels = np.where(told, truth, UNLABELLED)
    n_good, n = int((labels == 1).sum()), int(told.sum())
    if n == 0 or (both_classes and n_good in (0, n)):
        all_of_them = (
            "no label" if n == 0 else f"{counted(n, 'labels')}, all {'good' if n_good else 'not good'}"
        )
        raise DataError(
            f"Labels must hold both good and other holes at {threshold_angstrom:g} Å. Got {all_of_them}, instead. "
            "Remedy: a larger --labels, more results, or another --threshold-angstrom."
        )
    without = np.flatnonzero(has_result & crops.without_image())
    return CropLabels(
        labels, truth, np.where(told, ctf[crops.hole], np.nan), test,
        tuple(session.holes["hole_id"].iloc[without]),
    )  # fmt: skip


def _on_others(n: int) -> str:
    return f", and {n} on holes without," if n else ""


def _test_part(crops: SessionCrops, level: Level | None, seed: int) -> NDArray[np.bool_]:
    if level is None:
        return np.zeros(len(crops.hole), dtype=np.bool_)
    patches = crops.session.patches.set_index("patch_id")["square_id"]
    members = crops.patch_ids if level == "patch" else patches.loc[crops.patch_ids].tolist()
    if len(set(members)) < 2:
        raise DataError(
            f"A split by {level} must have at least two with images. Got {len(set(members))} instead. Remedy: leave "
            "--split out."
        )
    return split_by(members, TEST_SHARE, np.random.default_rng([seed, _TEST_STREAM]))


def median_ctf_by_hole(session: Session) -> NDArray[np.float64]:
    """(n,) CTF resolution, angstrom; of several results the median, the better of two in the middle; NaN without any.

    A failed fit is a result, 100 Å: from there on fits count as failed.
    """
    exposures = session.exposures[session.exposures["outcome"].isin(("measured", "failed"))]
    ctf = exposures["ctf_max_res_angstrom"].fillna(FAILED_FIT_ANGSTROM)
    median = ctf.groupby(exposures["hole_id"]).quantile(0.5, interpolation="lower")
    return median.reindex(session.holes["hole_id"]).to_numpy(dtype=np.float64)


def held_out_crops(crops: SessionCrops, labels: CropLabels, share: float, seed: int) -> NDArray[np.bool_]:
    """(m,) told labels that a training keeps out, to choose the weights and the temperature: those of whole patches.

    share : of the patches with labels, 0 up to below 1     As `session.splits.hold_out` draws them.
    """
    told = np.where(crops.shows_nothing, UNLABELLED, labels.labels)
    return hold_out(told, crops.patch_ids, share, np.random.default_rng([seed, HELD_OUT_STREAM]))


def rows_trained_on(
    classifier: Predictor, labels: CropLabels, held_out: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(m,) crops whose label the weights were fitted to: told, usable and not held out.

    classifier : what `fit` or `fit_ctf` made of `training_rows`     held_out : (m,) of `held_out_crops`
    """
    rows = training_rows(labels)
    classes = np.where(labels.labels == UNLABELLED, np.nan, labels.labels)
    known = labels.ctf_angstrom if classifier.edges_angstrom else classes
    trained = np.zeros(len(labels.labels), dtype=np.bool_)
    trained[rows] = learned_from(classifier, known[rows], held_out[rows])
    return trained


def learned_from(
    classifier: Predictor, known: NDArray[np.float64], held_out: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """(n,) which of the crops that `fit` or `fit_ctf` was given the weights were fitted to: labelled, not held out.

    known : (n,) class, of a regression CTF resolution in angstrom; NaN where unlabelled
    held_out : (n,) as `fit` got it
    Raises InputError where the training got `held_out` and it is not given here: the seed does not tell it.
    """
    classes = known.astype(np.float64)
    # Crops set aside have no label to a training, and leaving them out changes no draw.
    classes[np.asarray(classifier.set_aside, dtype=np.int64)] = np.nan
    if classifier.edges_angstrom:
        edges = np.asarray(classifier.edges_angstrom)
        bins = np.clip(np.searchsorted(edges, classes, side="left") - 1, 0, len(edges) - 2)
        classes = np.where(np.isnan(classes), np.nan, bins)
    labels = np.where(np.isnan(classes), UNLABELLED, classes).astype(np.int64)
    if held_out is None:
        if classifier.notes.get(HELD_OUT_GIVEN):
            raise InputError(
                "What a classifier learned from must be told with the crops that were held out of its training. Got "
                "none instead. Remedy: give the held_out that fit got."
            )
        held_out = drawn_held_out(labels, classifier.settings)
    trained: NDArray[np.bool_] = labels != UNLABELLED
    return trained & ~held_out


def crop_digests(crops: SessionCrops) -> list[str]:
    """(m,) a digest of each crop."""
    return [hashlib.blake2b(crop.tobytes(), digest_size=8).hexdigest() for crop in crops.images]


def fitted_holes(classifier: Predictor, crops: SessionCrops) -> NDArray[np.bool_]:
    """(n,) holes of the session that the classifier was fitted to: those of that id and that very image.

    Ids alone do not tell: holes that are numbered have the same ones in every session.
    """
    known = classifier.notes.get("trained_holes", {})
    fitted = np.zeros(crops.session.n_holes, dtype=np.bool_)
    if isinstance(known, Mapping):
        same = [
            known.get(hole) == digest
            for hole, digest in zip(crops.hole_ids, crop_digests(crops), strict=True)
        ]
        fitted[crops.hole] = same
    return fitted


def training_rows(labels: CropLabels) -> NDArray[np.int64]:
    """Rows of the crops that a training gets: all but the test part."""
    return np.flatnonzero(~labels.test)


def write_set_aside(set_aside: tuple[SetAside, ...], path: Path) -> None:
    """One line per hole: hole_id,patch_id,why; the header alone where there is none."""
    import pandas as pd

    columns = ("hole_id", "patch_id", "why")
    rows = [[as_cell(getattr(each, name)) for name in columns] for each in set_aside]
    table = pd.DataFrame(rows, columns=columns)
    write_whole(path, table.to_csv(index=False))
