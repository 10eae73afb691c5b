"""The loop: it learns, can be stopped anywhere and goes on to the same result, and says what is wrong."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from perception_samples import TINY, partly_labelled, textures

from cryoscout.core import precision
from cryoscout.core.array_file import read_arrays
from cryoscout.core.errors import InputError
from cryoscout.perception import Classifier, fit
from cryoscout.perception.fitting import CLASSIFIER_FILE
from cryoscout.perception.methods.base import Method, Outcome, Seen
from cryoscout.perception.methods.regression import Regression
from cryoscout.perception.methods.softmatch import SoftMatch
from cryoscout.perception.prepare import drawn_held_out
from cryoscout.perception.resnet import ResNet, seeded_resnet
from cryoscout.perception.settings import METHODS, FitSettings
from cryoscout.perception.training import (
    CHECKPOINT_FILE,
    METRICS_FILE,
    Progress,
    TrainingError,
    learning_rate_at,
    learns_in_bf16,
    optimizer_for,
    precision_of,
    stages_of,
    torch_threads,
    update_average,
)
from examples import slow_but

SHORT: dict[str, Any] = {**TINY, "steps": 4, "evaluate_every": 2}
"""Where it does not matter what is learned."""


class KilledError(Exception):
    """Stands for a power cut."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short training; copy it where a test may write into it."""
    folder = tmp_path_factory.mktemp("finished")
    images, labels, _ = partly_labelled()
    fit(images, labels, folder=folder, **SHORT)
    return folder


def told_to(method: str, truth: Any, labels: Any, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    """(labels, options): to `pseudo_label` the truth is told as guesses."""
    if method != "pseudo_label":
        return labels, {}
    weights = np.where(labels < 0, np.linspace(0.5, 1.0, len(labels)), 1.0)
    return truth, {"weights": weights, "held_out": drawn_held_out(labels, FitSettings(seed=seed))}


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("method", slow_but(["fixmatch"], METHODS))
def test_every_method_tells_two_textures_apart(method: str) -> None:
    images, labels, truth = partly_labelled()
    told, given = told_to(method, truth, labels, 1)
    steps = 100 if method == "defixmatch" else 60  # with which every seed tried learns it
    found = fit(images, told, method, seed=1, **given, **{**TINY, "steps": steps})
    new, right = textures(150, 7)
    p = found.predict_proba(new)
    assert p.shape == (150, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert (p.argmax(axis=1) == right).mean() > 0.85


@pytest.mark.parametrize(
    "method",
    slow_but(
        ["barlow_twins"],  # `test_fit_targets` kills iterative_fixmatch
        ["softmatch", "iterative_fixmatch", "barlow_twins", "pseudo_label"],
    ),
)
def test_a_killed_run_goes_on_to_the_same_result(method: str, tmp_path: Path) -> None:
    images, labels, truth = partly_labelled()
    labels, options = told_to(method, truth, labels)
    given: dict[str, Any] = {**TINY, **options, "truth": truth}
    given |= {"steps": 8, "pretrain_steps": 8, "evaluate_every": 4}
    whole = fit(images, labels, method, folder=tmp_path / "whole", **given)
    for place in (6, 11):  # in the first stage after a checkpoint, in the second before one
        count = 0

        def kill(_: Progress, place: int = place) -> None:
            nonlocal count
            count += 1
            if count == place:
                raise KilledError

        folder = tmp_path / str(place)
        stages = len(stages_of(FitSettings.model_validate({"method": method})))
        if stages == 1 and place > 8:
            continue
        with pytest.raises(KilledError):
            fit(images, labels, method, folder=folder, progress=kill, **given)
        again = fit(images, labels, method, folder=folder, resume=True, **given)
        assert metrics_of(folder) == metrics_of(tmp_path / "whole")
        assert (folder / CLASSIFIER_FILE).read_bytes() == (tmp_path / "whole" / CLASSIFIER_FILE).read_bytes()
        np.testing.assert_array_equal(again.predict_proba(images), whole.predict_proba(images))


def test_auto_goes_on_in_the_precision_that_the_run_began_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels, _ = partly_labelled()
    given: dict[str, Any] = {**TINY, "precision": "auto", "steps": 6, "evaluate_every": 3}

    def kill(now: Progress) -> None:
        if now.step == 4:
            raise KilledError

    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda device: True)
    whole = fit(images, labels, folder=tmp_path / "whole", **given)
    with pytest.raises(KilledError):
        fit(images, labels, folder=tmp_path / "killed", progress=kill, **given)
    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda device: False)  # as on another processor
    with pytest.raises(InputError, match=r"run in float32 to go on from it\. Got precision 'bfloat16'"):
        fit(images, labels, folder=tmp_path / "killed", resume=True, **{**given, "precision": "float32"})
    again = fit(images, labels, folder=tmp_path / "killed", resume=True, **given)
    assert metrics_of(tmp_path / "killed") == metrics_of(tmp_path / "whole")
    assert whole.notes["precision"] == again.notes["precision"] == "bfloat16"
    other = fit(images, labels, **given)
    assert other.notes["precision"] == "float32"
    assert not np.array_equal(other.weights["conv1.weight"], again.weights["conv1.weight"])


def test_settings_that_were_stored_before_are_read() -> None:
    stored = FitSettings().model_dump(exclude={"precision"})
    assert FitSettings.model_validate({**stored, "bf16": True}).precision == "bfloat16"
    assert FitSettings.model_validate_json('{"bf16": false}').precision == "float32"
    assert FitSettings().precision == "auto"


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    images, labels, _ = partly_labelled()
    one = fit(images, labels, "supervised", folder=tmp_path, **SHORT)
    steps: list[Progress] = []
    same = fit(images, labels, "supervised", folder=tmp_path, resume=True, progress=steps.append, **SHORT)
    assert steps == []
    np.testing.assert_array_equal(one.predict_proba(images), same.predict_proba(images))


def test_same_seed_same_network_and_another_seed_another() -> None:
    images, labels, _ = partly_labelled()
    one, same, other = (fit(images, labels, seed=seed, **SHORT).raw_proba(images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_truth_is_written_down_and_never_learned_from(tmp_path: Path) -> None:
    images, labels, truth = partly_labelled()
    settings = {**TINY, "tau": 0.5, "steps": 10, "evaluate_every": 5}
    right = fit(images, labels, truth=truth, folder=tmp_path / "right", **settings)
    wrong = fit(images, labels, truth=1 - truth, folder=tmp_path / "wrong", **settings)
    np.testing.assert_array_equal(right.raw_proba(images), wrong.raw_proba(images))
    pairs = zip(metrics_of(tmp_path / "right"), metrics_of(tmp_path / "wrong"), strict=True)
    for one, other in pairs:
        assert one["mask_rate"] == 1.0
        assert one["pseudo_label_accuracy"] + other["pseudo_label_accuracy"] == pytest.approx(1.0)
    assert metrics_of(tmp_path / "right")[-1]["step"] == 10


def test_held_out_crops_are_not_trained_on(tmp_path: Path) -> None:
    images, labels, _ = partly_labelled()
    folders = [tmp_path / name for name in ("one", "other")]
    given = SHORT
    fit(images, labels, folder=folders[0], **given)
    held = np.flatnonzero(drawn_held_out(labels, FitSettings(seed=0)))
    changed = images.copy()
    changed[held] = 255 - changed[held]
    fit(changed, labels, folder=folders[1], **given)
    networks = [
        {name: array for name, array in read_arrays(folder / CHECKPOINT_FILE, "perception checkpoint")[0].items()
         if name.startswith("network.")}
        for folder in folders
    ]  # fmt: skip
    assert len(held) == 12
    for name, array in networks[0].items():
        np.testing.assert_array_equal(array, networks[1][name])


def test_the_best_on_held_out_labels_is_kept(tmp_path: Path) -> None:
    images, labels, _ = partly_labelled()
    found = fit(images, labels, "supervised", folder=tmp_path, **{**TINY, "steps": 20, "evaluate_every": 5})
    lines = metrics_of(tmp_path)
    best = max(lines, key=lambda line: (line["held_out_accuracy"], -line["held_out_loss"]))
    assert lines[-1]["best_step"] == best["step"]
    assert found.notes["held_out_accuracy"] == pytest.approx(best["held_out_accuracy"])


def test_a_network_that_gets_worse_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels, _ = partly_labelled()
    losses = iter([1.0, 0.1, 0.5, 0.7])
    monkeypatch.setattr(Regression, "held_out_loss", lambda *_: next(losses))
    found = fit(images, labels, "regression", folder=tmp_path, **{**SHORT, "steps": 8})
    assert [line["best_step"] for line in metrics_of(tmp_path)] == [2, 4, 4, 4]
    assert int(found.weights["bn1.num_batches_tracked"]) == 4


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels, _ = partly_labelled()
    honest = Method.supervised
    given = {**TINY, "steps": 12, "evaluate_every": 4}

    def broken(self: Method, seen: Seen) -> torch.Tensor:
        return honest(self, seen) * (math.nan if seen.step == 9 else 1.0)

    monkeypatch.setattr(Method, "supervised", broken)
    with pytest.raises(TrainingError, match=r"nan in step 10 .* is kept.*learning_rate"):
        fit(images, labels, folder=tmp_path, **given)
    _, header = read_arrays(tmp_path / CHECKPOINT_FILE, "perception checkpoint")
    assert header["step"] == 8
    monkeypatch.setattr(Method, "supervised", honest)
    fit(images, labels, folder=tmp_path, resume=True, **given)
    assert metrics_of(tmp_path)[-1]["step"] == 12


def test_an_exploding_run_says_so() -> None:
    images, labels, _ = partly_labelled()
    with pytest.raises(TrainingError, match="nothing was kept"):
        fit(images, labels, "supervised", **{**TINY, "learning_rate": 99.0, "momentum": 0.99, "steps": 300})


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"width": 9}, "width"),
        ({"tau": 0.5}, "tau"),
        ({"seed": 4}, "seed"),
        ({"augmentation": "square"}, "augmentation"),
    ],
)
def test_going_on_with_other_settings_is_refused(
    change: dict[str, Any], name: str, finished: Path, tmp_path: Path
) -> None:
    images, labels, _ = partly_labelled()
    given = SHORT
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    with pytest.raises(InputError, match=f"Got {name} "):
        fit(images, labels, folder=tmp_path, resume=True, **{**given, **change})


def darkened(images: torch.Tensor, strength: str, generator: torch.Generator) -> torch.Tensor:
    """An own augmentation."""
    shades = torch.rand((len(images), 1, 1, 1), generator=generator)
    return images * (1.0 - 0.3 * shades) if strength == "strong" else images


def brightened(images: torch.Tensor, strength: str, generator: torch.Generator) -> torch.Tensor:
    """Another."""
    return (images * 1.1).clamp(max=1.0)


def test_an_own_augmentation_is_kept_by_its_name_and_goes_on(tmp_path: Path) -> None:
    images, labels, _ = partly_labelled()
    given = {**TINY, "steps": 6, "evaluate_every": 3}
    whole = fit(images, labels, augmentation=darkened, **given)
    assert whole.settings.augmentation == f"own:{__name__}.darkened"

    def kill(now: Progress) -> None:
        if now.step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        fit(images, labels, augmentation=darkened, folder=tmp_path, progress=kill, **given)
    with pytest.raises(InputError, match=f"Got augmentation 'own:{__name__}.darkened' there"):
        fit(images, labels, augmentation=brightened, folder=tmp_path, resume=True, **given)
    went_on = fit(images, labels, augmentation=darkened, folder=tmp_path, resume=True, **given)
    for name, weight in whole.weights.items():
        np.testing.assert_array_equal(went_on.weights[name], weight)
    assert Classifier.load(tmp_path / CLASSIFIER_FILE).settings.augmentation == whole.settings.augmentation


def test_each_augmentation_makes_another_network() -> None:
    images, labels, _ = partly_labelled()
    made = [
        fit(images, labels, augmentation=name, **{**TINY, "steps": 1}).weights["conv1.weight"]
        for name in ("hole", "square", "plain", "hole-without-contrast")
    ]
    default = fit(images, labels, **{**TINY, "steps": 1}).weights["conv1.weight"]
    np.testing.assert_array_equal(made[0], default)
    assert len({weight.tobytes() for weight in made}) == len(made)


def test_going_on_with_other_images_is_refused(finished: Path, tmp_path: Path) -> None:
    images, labels, _ = partly_labelled()
    given = SHORT
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    changed = images.copy()
    changed[0, 0, 0] ^= 1
    with pytest.raises(InputError, match="same images and labels"):
        fit(changed, labels, folder=tmp_path, resume=True, **given)


def test_start_from_begins_with_those_weights() -> None:
    images, labels, _ = partly_labelled()
    first = fit(images, labels, "supervised", **SHORT)
    second = fit(
        images, labels, "supervised", start_from=first, **{**TINY, "steps": 1, "learning_rate": 1e-9}
    )
    np.testing.assert_allclose(
        second.weights["conv1.weight"], np.asarray(first.weights["conv1.weight"]), atol=1e-6
    )
    with pytest.raises(InputError, match="width 9"):
        fit(images, labels, "supervised", start_from=first, **{**TINY, "width": 9})


def test_threads_are_those_of_the_settings_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", calls.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    with torch_threads(3):
        assert calls == [3]
    assert calls == [3, 7]
    calls.clear()
    images, labels, _ = partly_labelled()
    fit(images, labels, "supervised", **{**TINY, "steps": 2, "threads": 5})
    assert calls == [5, 7] * 2  # training, then the held-out predictions


@pytest.mark.parametrize("method", ["supervised", "fixmatch"])
def test_bfloat16_trains_every_weight(method: str) -> None:
    images, labels, _ = partly_labelled()
    found = fit(images, labels, method, **{**TINY, "precision": "bfloat16", "steps": 3, "weight_decay": 0.0})
    first = seeded_resnet(0, 18, classes=2, width=8, stem_stride=2).state_dict()
    for name, tensor in first.items():
        if "num_batches" not in name:
            assert not np.array_equal(tensor.numpy(), found.weights[name]), name


def test_weight_decay_spares_biases_and_batch_normalisation() -> None:
    network = ResNet(18, classes=2, width=8)
    optimizer = optimizer_for(network, FitSettings())
    spared = {id(p) for group in optimizer.param_groups if not group["weight_decay"] for p in group["params"]}
    names = {name for name, p in network.named_parameters() if id(p) in spared}
    assert names == {
        name
        for name, _ in network.named_parameters()
        if name.endswith("bias") or "bn" in name or "downsample.1" in name
    }
    assert all(group["nesterov"] for group in optimizer.param_groups)


def test_learning_rate_is_fixmatchs_cosine() -> None:
    settings = FitSettings()
    assert learning_rate_at(settings, 0, 100) == 0.03
    assert learning_rate_at(settings, 100, 100) == pytest.approx(0.03 * math.cos(7 * math.pi / 16))


def test_average_moves_parameters_and_copies_statistics() -> None:
    average, network = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.running_mean.fill_(5.0)
    update_average(average, network, 0.75)
    assert average.weight.item() == 1.5
    assert average.running_mean.item() == 5.0


def test_pseudo_labels_are_drawn_and_weighed_by_their_confidence(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels, truth = partly_labelled()
    confidence = np.where(np.arange(len(labels)) % 2 == 0, 0.25, 0.0)
    drawn: list[float] = []
    honest = Method.supervised

    def watched(self: Method, seen: Seen) -> torch.Tensor:
        drawn.extend(seen.weights.tolist())
        return honest(self, seen)

    monkeypatch.setattr(Method, "supervised", watched)
    weights = np.where(labels < 0, confidence, 1.0)
    held_out = drawn_held_out(labels, FitSettings())
    few = {"steps": 10, "batch_size": 80, "unlabelled_ratio": 1}
    fit(images, truth, "pseudo_label", weights=weights, held_out=held_out, **{**TINY, **few})
    # 48 labelled crops of weight 1 and 50 of weight 1/4: 12.5 / 60.5 of the draws.
    assert set(drawn) == {1.0, 0.25}
    assert np.mean(np.array(drawn) == 0.25) == pytest.approx(12.5 / 60.5, abs=0.05)


def test_softmatch_counts_every_crop_a_little() -> None:
    method = SoftMatch(FitSettings(), torch.tensor([0.5, 0.5]))
    outputs = {view: torch.randn(8, 2, generator=torch.Generator().manual_seed(0)) for view in method.views}
    outcome: Outcome = method.loss(Seen(outputs, torch.zeros(8, dtype=torch.int64), torch.ones(8), 3))
    assert 0.0 < float(outcome.counted.min()) < float(outcome.counted.max()) == 1.0


def test_classifier_file_beside_the_checkpoint_is_the_one_returned(tmp_path: Path) -> None:
    images, labels, _ = partly_labelled()
    found = fit(images, labels, "supervised", folder=tmp_path, **SHORT)
    loaded = Classifier.load(tmp_path / CLASSIFIER_FILE)
    np.testing.assert_array_equal(loaded.predict_proba(images), found.predict_proba(images))


@pytest.mark.parametrize(
    ("size_px", "stem_stride", "expected"),
    [(16, 4, False), (17, 4, True), (8, 2, False), (16, 2, True), (8, 1, True)],
)
def test_a_last_stage_of_one_pixel_is_not_learned_in_bf16(size_px, stem_stride, expected):
    settings = FitSettings(size_px=size_px, stem_stride=stem_stride)
    assert learns_in_bf16(settings) is expected
    rough = FitSettings(size_px=size_px, stem_stride=stem_stride, precision="bfloat16")
    assert precision_of(rough, "cpu") == ("bfloat16" if expected else "float32")
    network = seeded_resnet(0, 18, classes=2, width=8, stem_stride=stem_stride).eval()
    x = network.maxpool(network.conv1(torch.zeros(1, 1, size_px, size_px)))
    for stage in (1, 2, 3):
        x = network.get_submodule(f"layer{stage}")(x)
    assert (x.shape[-1] > 1) is expected


def test_small_crops_are_learned_whatever_the_memory_held():
    images, labels, _ = partly_labelled()
    for seed in range(4):
        for _ in range(3):
            torch.full((4_000_000,), 1e30)  # freed at once: what is not written holds this
        fit(
            images,
            labels,
            seed=seed,
            **{**TINY, "stem_stride": 4, "steps": 4, "evaluate_every": 2, "precision": "bfloat16"},
        )
