"""The holes of a session as the loop's problem: a network of hole images as perception, the belief as teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.telling import SILENT, Telling
from cryoscout.coupling.lesson import UNLABELLED, Lesson, Told
from cryoscout.coupling.settings import CoupleSettings
from cryoscout.perception.settings import settings_for
from cryoscout.perception.teaching import Places, believed

if TYPE_CHECKING:
    from cryoscout.belief.in_session import InSessionKind
    from cryoscout.perception.classifier import Classifier
    from cryoscout.perception.training import Progress


@dataclass(frozen=True)
class HolePerception:
    """A ResNet of hole images. n holes, of which m have an image.

    images : (m, h, w) uint8     hole : (m,) which of the n_holes each shows; None: all of them, in order
    changes : fields of FitSettings, of the pretraining and of every fine-tuning
    start_from : a pretrained classifier that takes the place of the pretraining
    """

    images: NDArray[np.uint8]
    settings: CoupleSettings
    threshold_angstrom: float
    hole: NDArray[np.int64] | None = None
    n_holes: int = 0
    profile: str = "quick"
    changes: Mapping[str, Any] = field(default_factory=dict)
    start_from: Classifier | None = None
    device: str | None = None
    telling: Telling = SILENT

    def pretrained(self, told: Told, folder: Path) -> Classifier:
        """FixMatch on labelled and unlabelled crops; the held-out labels choose step and temperature."""
        from cryoscout.perception import fit

        if self.start_from is not None:
            return self.start_from
        labels = self._of_crops(told.labels)
        return self._fit(
            "pretraining", folder, lambda **given: fit(
                self.images, labels, "fixmatch", self.profile, self.settings.seed, **given
            ), told, {},
        )  # fmt: skip

    def fine_tuned(
        self, model: Classifier, lesson: Lesson, told: Told, seed: int, folder: Path
    ) -> Classifier:
        """Go on with measured labels and guesses together: l_sup + lambda l_U."""
        from cryoscout.perception import fit

        shown = self._of_crops(told.labels)
        guess, weight = self._of_crops(lesson.p_positive), self._of_crops(lesson.weight)
        measured = shown != UNLABELLED
        good = np.where(measured, shown, np.nan_to_num(guess))
        weights = np.where(measured, 1.0, weight)
        labels: NDArray[Any] = (
            good.astype(np.int64) if lesson.is_hard else np.stack([1.0 - good, good], axis=1)
        )
        settings = self.settings
        # Without l_U the consistency of unlabelled crops would be computed for nothing.
        method = "pseudo_label" if settings.unsupervised_weight > 0.0 else "supervised"
        of_loop: dict[str, Any] = {
            "keep": settings.keep, "unsupervised_weight": settings.unsupervised_weight,
            "weights_in_loss": settings.weights_in_loss, "weights_in_sampling": settings.weights_in_sampling,
        }  # fmt: skip
        if method == "supervised" and settings.whole_batches:
            of_network = settings_for("fixmatch", self.profile, **self.changes)
            of_loop["batch_size"] = of_network.batch_size * (1 + of_network.unlabelled_ratio)
        return self._fit(
            f"fine-tuning, {folder.name}", folder, lambda **given: fit(
                self.images, labels, method, self.profile, seed, weights=weights, start_from=model, **given
            ), told, of_loop,
        )  # fmt: skip

    def _fit(
        self,
        what: str,
        folder: Path,
        train: Callable[..., Classifier],
        told: Told,
        of_loop: Mapping[str, Any],
    ) -> Classifier:
        from cryoscout.perception.training import CHECKPOINT_FILE

        given = {**self.changes, **of_loop}
        steps = settings_for("fixmatch", self.profile, **self.changes).steps
        with self.telling.progress(what, steps) as advance:

            def step(now: Progress) -> None:
                advance()

            return train(
                held_out=self._of_crops(told.held_out), threshold_angstrom=self.threshold_angstrom, folder=folder,
                resume=(folder / CHECKPOINT_FILE).is_file(), progress=step, device=self.device, **given,
            )  # fmt: skip

    def p_positive(self, model: Classifier) -> NDArray[np.float64]:
        """(n,) p_good; of a hole without an image the share of good ones among the labels."""
        p = model.p_good(self.images, self.threshold_angstrom)
        if self.hole is None:
            return p
        unseen = model.p_good_unseen(self.threshold_angstrom)
        return self._to_holes(p, unseen)

    def save(self, model: Classifier, path: Path) -> None:
        """As `Classifier.save`."""
        model.save(path)

    def load(self, path: Path) -> Classifier:
        """As `Classifier.load`."""
        from cryoscout.perception import Classifier

        return Classifier.load(path)

    def digest(self, told: Told) -> str:
        """Of everything that is learned from."""
        digest = hashlib.sha256(
            repr((self.profile, sorted(self.changes.items()), self.threshold_angstrom)).encode()
        )
        for array in (self.images, told.labels, told.held_out):
            digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        if self.start_from is not None:
            for name in sorted(self.start_from.weights):
                digest.update(np.ascontiguousarray(self.start_from.weights[name]).tobytes())
        return digest.hexdigest()[:32]

    def _of_crops(self, of_holes: NDArray[Any]) -> NDArray[Any]:
        return of_holes if self.hole is None else of_holes[self.hole]

    def _to_holes(self, of_crops: NDArray[np.float64], without: float) -> NDArray[np.float64]:
        p = np.full(self.n_holes, without)
        p[self.hole] = of_crops
        return p


@dataclass(frozen=True)
class BeliefTeacher:
    """What the measured labels around say of every hole: effects of patch, square and grid, a field over the stage."""

    told: Told
    places: Places
    knows_held_out: bool = True
    """See `CoupleSettings.belief_knows_held_out`."""

    def __call__(self, p_positive: NDArray[np.float64], number: int, folder: Path) -> NDArray[np.float64]:
        """(n,) p_good given the labels. The scores of holes that the classifier was fitted to are not used."""
        del number, folder
        shown = self.told.shown
        labels = self.told.labels if self.knows_held_out else shown
        kind: InSessionKind = "effects" if np.isnan(self.places.x_um).all() else "effects+stage"
        return believed(p_positive, labels, shown != UNLABELLED, self.places, kind)
