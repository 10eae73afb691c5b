"""The loop on a stored session with hole images: what it is told, and the classifier that comes of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import DataError
from cryoscout.core.telling import SILENT, Telling
from cryoscout.coupling.hole_routes import HoleRoutes, check_driver
from cryoscout.coupling.holes import BeliefTeacher, HolePerception
from cryoscout.coupling.lesson import UNLABELLED, Told, cut_of
from cryoscout.coupling.loop import Coupled, Loop
from cryoscout.coupling.ranks import check_held_out
from cryoscout.coupling.settings import CoupleSettings
from cryoscout.perception.from_session import CropLabels, SessionCrops, crop_digests
from cryoscout.perception.teaching import Places
from cryoscout.routing.time_model import PRESETS, TimeModel
from cryoscout.session.splits import HELD_OUT_STREAM, hold_out

if TYPE_CHECKING:
    from cryoscout.perception.classifier import Classifier


@dataclass(frozen=True)
class SessionCoupling:
    """What is coupled.

    labels : of the crops, those that are told     profile, changes, device : of the network's trainings
    without_image : (n,) labels of holes without a usable image, which belief and routes know all the same; -1 where
        there is none; None: none at all
    """

    crops: SessionCrops
    labels: CropLabels
    threshold_angstrom: float
    settings: CoupleSettings
    without_image: NDArray[np.int64] | None = None
    profile: str = "quick"
    changes: dict[str, Any] | None = None
    time_model: TimeModel = PRESETS["cryorl"]
    device: str | None = None

    def told(self) -> Told:
        """Labels of all holes, and those that are held out, of whole patches where that is possible."""
        labels = np.full(self.crops.session.n_holes, UNLABELLED, dtype=np.int64)
        labels[self.crops.hole] = self.labels.labels
        if self.without_image is not None:
            labels = np.where(self.without_image != UNLABELLED, self.without_image, labels)
        rng = np.random.default_rng([self.settings.seed, HELD_OUT_STREAM])
        patches = self.crops.session.holes["patch_id"].to_numpy()
        return Told(labels, hold_out(labels, patches, self.settings.held_out, rng))

    def check(self) -> Told:
        """What is told, after a look at everything that the loop would refuse before anything is trained or written.

        Raises InputError and DataError.
        """
        check_driver(self.settings.driver)
        if self.settings.teacher == "exact":
            raise DataError(
                "The teacher exact must know the true probability of every hole. Got a session, which holds results "
                "alone, instead. Remedy: --teacher belief; exact is for simulated studies."
            )
        told = self.told()
        told.check()
        if self.settings.n_positive is not None:
            cut_of(self.settings.n_positive, np.zeros(len(told.labels)))
        if self.settings.by_held_out:
            check_held_out(told)
        if self.settings.by_policy:
            self._driver(SILENT).check_windows()
        return told

    def _driver(self, telling: Telling) -> HoleRoutes:
        session = self.crops.session
        return HoleRoutes(
            session.tree(), self.settings, self.time_model, session.info.shots, {}, self.device, telling
        )

    def run(self, folder: Path, *, resume: bool = False, telling: Telling = SILENT) -> Coupled[Classifier]:
        """The loop in a folder; the classifier says which holes it was fitted to.

        Raises InputError and DataError for what the loop, the trainings and the session refuse.
        """
        session, told = self.crops.session, self.check()
        perception = HolePerception(
            self.crops.images, self.settings, self.threshold_angstrom, self.crops.hole, session.n_holes,
            self.profile, self.changes or {}, None, self.device, telling,
        )  # fmt: skip
        driver = self._driver(telling)
        tree = driver.tree
        x_um, y_um = (session.holes[name].to_numpy(dtype=np.float64) for name in ("x_um", "y_um"))
        places = Places(tree.patch_of_hole, tree, x_um, y_um)
        teacher = (
            BeliefTeacher(told, places, self.settings.belief_knows_held_out)
            if self.settings.needs_belief
            else None
        )
        truth = np.full(session.n_holes, UNLABELLED, dtype=np.int64)
        truth[self.crops.hole] = self.labels.truth
        loop = Loop(
            told,
            perception,
            driver,
            self.settings,
            folder,
            self._digest(perception.digest(told), places),
            teacher,
            truth,
            None,
            telling,
        )
        found = loop.run(resume=resume)
        return replace(found, model=self._with_notes(found.model, told))

    def _digest(self, learned_from: str, places: Places) -> str:
        """Of all that a run goes by: what the network learns from, where the holes are, what moves cost a route."""
        tree = places.tree
        digest = hashlib.sha256(learned_from.encode())
        if self.settings.by_policy:
            # Minutes that are fitted move with every exposure; other teachers label without them.
            shots = self.crops.session.info.shots
            minutes = self.time_model.tiers_min(shots).tolist()
            digest.update(f"{shots} {' '.join(f'{tier:.4g}' for tier in minutes)}".encode())
        for array in (
            tree.patch_of_hole, tree.square_of_patch, tree.grid_of_square, places.x_um, places.y_um
        ):  # fmt: skip
            digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:32]

    def _with_notes(self, classifier: Classifier, told: Told) -> Classifier:
        """The classifier that says what it learned from: `predict` must not learn from those results again."""
        shown = (told.shown != UNLABELLED)[self.crops.hole] & ~self.crops.shows_nothing
        hole_ids, digests = self.crops.hole_ids, crop_digests(self.crops)
        trained = {hole_ids[row]: digests[row] for row in np.flatnonzero(shown)}
        about = {
            "session": self.crops.session.name, "trained_holes": trained,
            "coupling": self.settings.model_dump(mode="json"),
        }  # fmt: skip
        return replace(classifier, notes={**classifier.notes, **about})


def labels_without_image(crops: SessionCrops, threshold_angstrom: float) -> NDArray[np.int64]:
    """(n,) 1 good, 0 not, of holes with a result and without an image that can be learned from; -1 of all others."""
    good = crops.session.good_by_majority(threshold_angstrom)
    unusable = crops.without_image()
    unusable[crops.hole[crops.shows_nothing]] = True
    return np.where(unusable & ~np.isnan(good), good == 1.0, UNLABELLED).astype(np.int64)
