"""Every loss against the same written out by hand in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cryoscout.perception.methods import STAGES, base
from cryoscout.perception.methods.align import Align
from cryoscout.perception.methods.barlow_twins import BarlowTwins, redundancy
from cryoscout.perception.methods.base import Outcome, Seen
from cryoscout.perception.methods.defixmatch import DeFixMatch
from cryoscout.perception.methods.fixmatch import FixMatch
from cryoscout.perception.methods.iterative_fixmatch import own_guesses
from cryoscout.perception.methods.regression import ordinal_loss
from cryoscout.perception.methods.softmatch import SoftMatch
from cryoscout.perception.methods.supervised import Supervised
from cryoscout.perception.settings import METHODS, FitSettings

B, MU, K = 6, 3, 3
PRIOR = torch.tensor([0.2, 0.3, 0.5])
VIEWS: tuple[base.View, ...] = ("labelled_weak", "labelled_strong", "weak", "strong", "strong_again")
Numbers = NDArray[np.float64]


def seen(seed: int = 0, step: int = 5) -> Seen:
    rng = np.random.default_rng(seed)
    outputs = {
        view: torch.tensor(2.5 * rng.standard_normal((B if "labelled" in view else MU * B, K)))
        for view in VIEWS
    }
    weights = torch.tensor(rng.uniform(0.1, 1.0, B))
    return Seen(outputs, torch.tensor(rng.integers(0, K, B)), weights, step)


def softmax(logits: torch.Tensor) -> Numbers:
    whole = np.exp(logits.numpy())
    return np.asarray(whole / whole.sum(axis=1, keepdims=True))


def supervised_by_hand(batch: Seen) -> float:
    p = softmax(batch.outputs["labelled_weak"])
    labels, weights = batch.labels.numpy(), batch.weights.numpy()
    return sum(-weights[i] * np.log(p[i, labels[i]]) for i in range(B)) / B


def consistency_by_hand(target: Numbers, strong: Numbers, counted: Numbers, kind: str) -> float:
    total = 0.0
    for q, p, c in zip(target, strong, counted, strict=True):
        total += c * (-np.log(p[q.argmax()]) if kind == "hard" else -(q * np.log(p)).sum())
    return total / len(target)


def check(outcome: Outcome, supervised: float, unsupervised: float) -> None:
    assert float(outcome.supervised) == pytest.approx(supervised, rel=1e-6)
    assert float(outcome.unsupervised) == pytest.approx(unsupervised, rel=1e-6)
    assert float(outcome.loss) == pytest.approx(supervised + unsupervised, rel=1e-6)


def test_supervised_is_weighted_cross_entropy_over_the_batch() -> None:
    batch = seen()
    check(Supervised(FitSettings(), PRIOR).loss(batch), supervised_by_hand(batch), 0.0)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_fixmatch_divides_by_all_unlabelled_crops(kind: str) -> None:
    batch = seen()
    settings = FitSettings.model_validate({"target": kind, "tau": 0.8, "unsupervised_weight": 0.5})
    q, p = softmax(batch.outputs["weak"]), softmax(batch.outputs["strong"])
    counted = (q.max(axis=1) >= 0.8).astype(float)
    assert 0 < counted.sum() < MU * B
    outcome = FixMatch(settings, PRIOR).loss(batch)
    check(outcome, supervised_by_hand(batch), 0.5 * consistency_by_hand(q, p, counted, kind))
    np.testing.assert_array_equal(outcome.counted.numpy(), counted)
    np.testing.assert_array_equal(outcome.guess.numpy(), q.argmax(axis=1))


@pytest.mark.parametrize("name", [name for name in STAGES if "weak" in STAGES[name].views])
def test_no_gradient_flows_into_the_target(name: str) -> None:
    batch = seen()
    for output in batch.outputs.values():
        output.requires_grad_()
    STAGES[name](FitSettings(tau=0.5), PRIOR).loss(batch).loss.backward()
    assert batch.outputs["weak"].grad is None
    assert batch.outputs["strong"].grad is not None


def test_defixmatch_takes_off_the_same_on_labelled_crops() -> None:
    batch = seen()
    settings = FitSettings(tau=0.6, unsupervised_weight=2.0)
    parts = []
    for weak, strong in (("weak", "strong"), ("labelled_weak", "labelled_strong")):
        q, p = softmax(batch.outputs[weak]), softmax(batch.outputs[strong])
        parts.append(consistency_by_hand(q, p, (q.max(axis=1) >= 0.6).astype(float), "hard"))
    assert parts[1] > 0.0
    check(DeFixMatch(settings, PRIOR).loss(batch), supervised_by_hand(batch), 2.0 * (parts[0] - parts[1]))


def test_softmatch_weighs_by_a_truncated_gaussian() -> None:
    batch = seen(step=0)
    method = SoftMatch(FitSettings(), PRIOR.double())
    q, p = softmax(batch.outputs["weak"]), softmax(batch.outputs["strong"])
    decay = 1 / 10
    predicted = decay / K + (1 - decay) * q.mean(axis=0)
    aligned = q / K / predicted
    c = (aligned / aligned.sum(axis=1, keepdims=True)).max(axis=1)
    mean = decay / K + (1 - decay) * c.mean()
    variance = decay * 1.0 + (1 - decay) * c.var(ddof=1)
    counted = np.where(c < mean, np.exp(-((c - mean) ** 2) / (2 * variance / 4)), 1.0)
    outcome = method.loss(batch)
    assert 0 < (counted < 0.9).sum() < MU * B
    np.testing.assert_allclose(outcome.counted.numpy(), counted, rtol=1e-6)
    check(outcome, supervised_by_hand(batch), consistency_by_hand(q, p, counted, "hard"))
    assert float(method.state()["mean"]) == pytest.approx(mean)


def test_align_gives_targets_the_shares_of_the_labels() -> None:
    batch = seen(step=0)
    method = Align(FitSettings(tau=0.7), PRIOR.double())
    q, p = softmax(batch.outputs["weak"]), softmax(batch.outputs["strong"])
    predicted = 0.1 / K + 0.9 * q.mean(axis=0)
    target = q * PRIOR.double().numpy() / predicted
    target /= target.sum(axis=1, keepdims=True)
    counted = (target.max(axis=1) >= 0.7).astype(float)
    check(method.loss(batch), supervised_by_hand(batch), consistency_by_hand(target, p, counted, "hard"))


def test_align_corrects_predictions_of_one_class_too_often() -> None:
    method = Align(FitSettings(), torch.tensor([0.5, 0.5]))
    often = torch.tensor([[0.9, 0.1], [0.7, 0.3]])
    for step in range(200):
        target = method.target(often, step)
    assert target.argmax(dim=1).tolist() == [0, 1]


def test_barlow_twins_is_the_correlation_against_the_identity() -> None:
    batch = seen()
    one, other = (batch.outputs[view].numpy() for view in ("strong", "strong_again"))
    total = 0.0
    for i in range(K):
        for j in range(K):
            c = np.corrcoef(one[:, i], other[:, j])[0, 1]
            total += (1 - c) ** 2 if i == j else 0.1 * c**2
    found = BarlowTwins(FitSettings(redundancy_weight=0.1), PRIOR).loss(batch)
    assert float(found.loss) == pytest.approx(total / K, rel=1e-4)
    assert float(redundancy(torch.eye(4), torch.eye(4), 0.0)) == pytest.approx(0.0, abs=1e-6)


def test_ordinal_loss_is_the_cross_entropy_of_every_edge() -> None:
    batch = seen()
    p, labels = softmax(batch.outputs["labelled_weak"]), batch.labels.numpy()
    by_hand = np.zeros(B)
    for i in range(B):
        for k in range(K - 1):
            up_to = p[i, : k + 1].sum()
            by_hand[i] -= np.log(up_to if labels[i] <= k else 1 - up_to) / (K - 1)
    found = ordinal_loss(batch.outputs["labelled_weak"], batch.labels)
    np.testing.assert_allclose(found.numpy(), by_hand, rtol=1e-6)
    outcome = STAGES["regression"](FitSettings(), PRIOR).loss(batch)
    assert float(outcome.loss) == pytest.approx((by_hand * batch.weights.numpy()).mean())


def test_own_guesses_leave_measured_labels_alone() -> None:
    p = np.array([[0.9, 0.1], [0.3, 0.7], [0.4, 0.6]])
    found = own_guesses(p, np.array([True, False, False]))
    assert found.labels.tolist() == [-1, 1, 1]
    assert found.confidence[1:].tolist() == [0.7, 0.6]


def test_warm_decay_and_moving_average() -> None:
    assert [base.warm_decay(0.999, t) for t in (0, 8, 10**6)] == [0.1, 0.5, 0.999]
    average = torch.tensor([1.0])
    base.move_average(average, torch.tensor([3.0]), 0.75)
    assert average.item() == 1.5


def test_every_named_method_has_a_stage() -> None:
    assert set(METHODS) - set(STAGES) == {"iterative_fixmatch"}
