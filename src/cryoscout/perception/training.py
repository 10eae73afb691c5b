"""The one training loop: every method differs from it in views, weights and loss only. It can go on after a kill."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoscout.core.array_file import read_arrays, write_arrays
from cryoscout.core.errors import InputError
from cryoscout.core.new_files import write_whole
from cryoscout.core.precision import Precision, precision_taken, precision_to_go_on_in
from cryoscout.perception.augment import Augmentation, augmentation_named
from cryoscout.perception.methods import STAGES
from cryoscout.perception.methods.barlow_twins import projector
from cryoscout.perception.methods.base import Method, Outcome, Seen, View, move_average, warm_decay
from cryoscout.perception.methods.iterative_fixmatch import Guesses, own_guesses
from cryoscout.perception.resnet import ResNet, seeded_resnet
from cryoscout.perception.scaling import scale_crops
from cryoscout.perception.settings import FitSettings, MethodName

CHECKPOINT_FILE = "checkpoint.safetensors"
METRICS_FILE = "metrics.jsonl"
PREDICTED_AT_ONCE = 256

Weights = dict[str, Tensor]
Score = tuple[float, float]
"""Held-out accuracy and minus the held-out loss: larger is better."""


class TrainingError(InputError):
    """Training cannot go on; the last good checkpoint is kept."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands."""

    stage: int
    stages: int
    method: str
    step: int
    steps: int
    accuracy: float  # on held-out labels when last looked at; NaN before and without any
    mask_rate: float  # mean weight of unlabelled crops in the last step; NaN where a method has none


@dataclass(frozen=True)
class Pool:
    """Crops and labels of a training, n in all."""

    images: Tensor
    """(n, 1, s, s) uint8"""
    labels: Tensor
    """(n,) int64, -1 unlabelled; or (n, classes) float32 probabilities"""
    weights: Tensor
    """(n,) float32, 0 unlabelled"""
    held_out: Tensor
    """(n,) bool; only labelled ones"""
    classes_held_out: Tensor
    """(k,) int64, of the held-out ones"""
    truth: Tensor
    """(n,) int64, -1 unknown; written to the metrics, never learned from"""
    mean: float
    spread: float
    """Grey levels 0..1 are shifted and scaled by these"""
    classes: int


@dataclass
class _Best:
    """The best weights so far."""

    score: Score = (-math.inf, -math.inf)
    weights: Weights = field(default_factory=dict)
    step: int = 0


@dataclass
class _Sums:
    """Sums over the steps since the last look."""

    steps: int = 0
    loss: float = 0.0
    supervised: float = 0.0
    unsupervised: float = 0.0
    counted: float = 0.0
    crops: int = 0
    known: float = 0.0
    right: float = 0.0

    def add(self, outcome: Outcome, loss: float, truth: Tensor) -> None:
        self.steps += 1
        self.loss += loss
        self.supervised += float(outcome.supervised.detach())
        self.unsupervised += float(outcome.unsupervised.detach())
        self.crops += len(outcome.counted)
        self.counted += float(outcome.counted.sum())
        if len(outcome.counted):
            known = outcome.counted * (truth >= 0)
            self.known += float(known.sum())
            self.right += float((known * (outcome.guess == truth)).sum())


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """That many threads inside, what it was afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def stages_of(settings: FitSettings) -> list[tuple[MethodName, int]]:
    """(method, steps) of each stage of a training."""
    if settings.method == "iterative_fixmatch":
        rounds: list[tuple[MethodName, int]] = [("pseudo_label", settings.steps)] * (settings.rounds - 1)
        return [("fixmatch", settings.steps), *rounds]
    if settings.method == "barlow_twins":
        return [("barlow_twins", settings.pretrain_steps), ("supervised", settings.steps)]
    return [(settings.method, settings.steps)]


def probabilities_of(network: ResNet, images: Tensor, mean: float, spread: float, *, bf16: bool) -> Tensor:
    """(n, classes) of uint8 crops (n, 1, s, s); the network is left in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    parts = [torch.zeros((0, _outputs(network)))]
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for part in torch.split(images, PREDICTED_AT_ONCE):
            x = ((part.to(device).float() / 255.0 - mean) / spread).to(memory_format=torch.channels_last)
            parts.append(torch.softmax(network(x).float(), dim=1).cpu())
    return torch.cat(parts)


def _outputs(network: ResNet) -> int:
    last = network.fc
    if not isinstance(last, torch.nn.Linear):
        raise TypeError("a network under pretraining predicts nothing")
    return last.out_features


def optimizer_for(network: torch.nn.Module, settings: FitSettings) -> torch.optim.SGD:
    """SGD with Nesterov momentum; no weight decay on biases and batch normalisation."""
    parameters = list(network.parameters())
    return torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0.0,
    )


def learns_in_bf16(settings: FitSettings) -> bool:
    """False where the last stage gets maps of one pixel.

    There torch 2.13 leaves weights' gradients of a strided convolution in bfloat16 on a CPU partly unwritten, and they
    hold whatever was in the memory.
    """
    side = settings.size_px
    for _ in range({1: 0, 2: 1, 4: 2}[settings.stem_stride] + 2):
        side = math.ceil(side / 2)
    return side > 1


def precision_of(settings: FitSettings, device: str) -> Precision:
    """The precision that a training begun now would have."""
    return precision_taken(settings.precision, device) if learns_in_bf16(settings) else "float32"


def learning_rate_at(settings: FitSettings, step: int, steps: int) -> float:
    """FixMatch's cosine: it ends at a fifth of the first."""
    return settings.learning_rate * math.cos(7.0 * math.pi * step / (16.0 * steps))


def update_average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """Move averaged parameters towards the network's; buffers (batch statistics) are copied."""
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        move_average(mean, value.detach(), decay)
    for kept, new in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(new)


class Training:
    """One training of one network in stages.

    folder : gets checkpoint.safetensors, what a stopped run goes on from, and metrics.jsonl, one line per look at
    the held-out labels; None writes nothing. A run that goes on gives what an uninterrupted one gives: the draws of a
    step are a function of the seed, the stage and the step.
    """

    def __init__(
        self,
        pool: Pool,
        settings: FitSettings,
        *,
        folder: Path | None,
        digest: str,
        start: Weights | None = None,
        device: str | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        """digest : of the data, compared when a run goes on     start : weights to begin with, else of the seed

        augmentation : None: the one that the settings name
        """
        self.pool, self.settings, self.folder, self.digest = pool, settings, folder, digest
        self.augmentation = augmentation or augmentation_named(settings.augmentation)
        self.device = _device(device)
        self.precision: Precision = precision_of(settings, str(self.device))
        self.stages = stages_of(settings)
        self.stage, self.step, self.lines = 0, 0, 0
        self.best, self.best_of_all = _Best(), _Best()
        self.accuracy = self.held_out_loss = self.mask_rate = math.nan
        self.saved_step = 0  # of this stage
        self.last_look: dict[str, Any] = {}  # the last line of the metrics
        self.guesses: Guesses | None = None  # of a round of iterative_fixmatch
        self.prior = _shares(pool)
        self.images = pool.images[~pool.held_out].to(self.device)
        self.truth = pool.truth[~pool.held_out].to(self.device)
        self._begin_stage(start)

    def run(
        self,
        *,
        resume: bool = False,
        progress: Callable[[Progress], None] | None = None,
        after_stage: Callable[[Weights], None] | None = None,
    ) -> Weights:
        """Train to the end; the best averaged weights by held-out accuracy, on the CPU.

        after_stage : gets the best weights of each stage when it ends; not those of stages before a run went on
        Raises TrainingError when the loss is not a number, InputError when the checkpoint is of another run.
        """
        if resume and self.folder is None:
            raise InputError("Going on with a training must have its folder. Got none instead.")
        with torch_threads(self.settings.threads):
            if self.folder is not None and resume and (self.folder / CHECKPOINT_FILE).is_file():
                self._load(self.folder / CHECKPOINT_FILE)
            elif self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
                (self.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
                write_whole(self.folder / METRICS_FILE, "")
            while True:
                self._run_stage(progress)
                if after_stage is not None:
                    after_stage(self.best.weights)
                if self.stage + 1 == len(self.stages):
                    return self.best_of_all.weights
                self._next_stage()

    def _run_stage(self, progress: Callable[[Progress], None] | None) -> None:
        steps, sums, began = self.stages[self.stage][1], _Sums(), time.monotonic()
        while self.step < steps:
            self._one_step(sums)
            if self.step % self.settings.evaluate_every == 0 or self.step == steps:
                self._judge()
                self._log(sums, time.monotonic() - began)
                self._save()
                sums, began = _Sums(), time.monotonic()
            if progress is not None:
                name = self.stages[self.stage][0]
                progress(
                    Progress(
                        self.stage, len(self.stages), name, self.step, steps, self.accuracy, self.mask_rate
                    )
                )

    def _begin_stage(self, weights: Weights | None) -> None:
        settings, name = self.settings, self.stages[self.stage][0]
        network = seeded_resnet(
            settings.seed, settings.depth,
            classes=self.pool.classes, width=settings.width, stem_stride=settings.stem_stride,
        )  # fmt: skip
        if weights is not None:
            # The head of a pretraining is not the classifier's: the new one stays as the seed has it.
            body = {key: value for key, value in weights.items() if key in network.state_dict()}
            network.load_state_dict({**network.state_dict(), **body})
        if name == "barlow_twins":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(settings.seed)
                network.fc = projector(network.n_features, settings.embedding)
        self.network: ResNet = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: ResNet = copy.deepcopy(self.network)
        self.optimizer = optimizer_for(self.network, settings)
        self.method: Method = STAGES[name](settings, self.prior.to(self.device))
        self.step, self.best = 0, _Best()
        self._set_draws(name)

    def _set_draws(self, name: str) -> None:
        """Labels, weights and chances of the supervised part; in rounds by oneself, one's own guesses too."""
        labels, weights = self.pool.labels.clone(), self.pool.weights.clone()
        if name == "pseudo_label" and self.guesses is not None:
            guessed = weights <= 0.0
            own = torch.from_numpy(self.guesses.labels)[guessed]
            labels[guessed] = own if labels.ndim == 1 else _one_hot(own, self.pool.classes)
            weights[guessed] = torch.from_numpy(self.guesses.confidence).float()[guessed]
        kept, even = ~self.pool.held_out, (weights > 0.0).float()
        in_loss = weights if self.settings.weights_in_loss else even
        in_sampling = weights if self.settings.weights_in_sampling else even
        self.labels, self.weight = labels[kept].to(self.device), in_loss[kept].to(self.device)
        self.chance = in_sampling[kept].to(self.device)

    def _next_stage(self) -> None:
        weights = self.best.weights
        if self.stages[self.stage + 1][0] == "pseudo_label":
            network = self._network_of(weights)
            p = probabilities_of(
                network, self.pool.images, self.pool.mean, self.pool.spread, bf16=self.precision == "bfloat16"
            )
            self.guesses = own_guesses(p.double().numpy(), (self.pool.weights > 0.0).numpy())
        self.stage += 1
        self._begin_stage(weights)

    def _network_of(self, weights: Weights) -> ResNet:
        network: ResNet = copy.deepcopy(self.average)
        network.load_state_dict(weights)
        return network

    def _one_step(self, sums: _Sums) -> None:
        settings = self.settings
        seed = int(np.random.SeedSequence([settings.seed, self.stage, self.step]).generate_state(1)[0])
        generator = torch.Generator(self.device).manual_seed(seed)
        rows = torch.multinomial(self.chance, settings.batch_size, replacement=True, generator=generator)
        n_others = settings.batch_size * settings.unlabelled_ratio
        others = torch.randint(len(self.images), (n_others,), generator=generator, device=self.device)
        views = {view: self._view(view, rows, others, generator) for view in self.method.views}
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(settings, self.step, self.stages[self.stage][1])
        outputs = self._outputs(views)
        seen = Seen(outputs, self.labels[rows], self.weight[rows], self.step)
        outcome = self.method.loss(seen)
        loss = float(outcome.loss.detach())
        if not math.isfinite(loss):
            self._stop(f"{loss} in step {self.step + 1}")
        self.optimizer.zero_grad(set_to_none=True)
        outcome.loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        update_average(self.average, self.network, warm_decay(settings.ema_decay, self.step))
        self.step += 1
        sums.add(outcome, loss, self.truth[others])
        self.mask_rate = float(outcome.counted.mean()) if len(outcome.counted) else math.nan

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _outputs(self, views: dict[View, Tensor]) -> dict[View, Tensor]:
        """Logits by view.

        Views that are learned from go through together, so that batch normalisation sees labelled and unlabelled
        crops at once; `weak` ones only make targets, and go alone and without a gradient, for a third of the time.
        """
        outputs: dict[View, Tensor] = {}
        if "weak" in views:
            # Its own autocast: casts made without a gradient must not be used again below.
            with torch.no_grad(), self._autocast():
                outputs["weak"] = self.network(_channels_last(views["weak"])).float()
        learned = [view for view in views if view != "weak"]
        with self._autocast():
            together = self.network(_channels_last(torch.cat([views[view] for view in learned]))).float()
        parts = torch.split(together, [len(views[view]) for view in learned])
        return {**outputs, **dict(zip(learned, parts, strict=True))}

    def _view(self, view: View, rows: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
        images = self.images[rows if view.startswith("labelled") else others].float().div_(255.0)
        changed = self.augmentation(images, "weak" if view.endswith("weak") else "strong", generator)
        return changed.sub_(self.pool.mean).div_(self.pool.spread)

    def _stop(self, what: str) -> None:
        name = self.stages[self.stage][0]
        kept = f"the checkpoint of step {self.saved_step} is kept" if self.lines else "no checkpoint was kept"
        if self.folder is None:
            kept = "nothing was kept, for want of a folder"
        raise TrainingError(
            f"The loss of training must be a number. Got {what} of {name} instead; {kept}. Remedy: a smaller "
            f"learning_rate than {self.settings.learning_rate:g}, in another folder."
        )

    def _judge(self) -> None:
        """Keep the averaged weights when they are the best on held-out labels; without any, always."""
        weights = {name: value.detach().cpu().clone() for name, value in self.average.state_dict().items()}
        if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
            self._stop(f"weights that are not numbers after step {self.step}")
        self.held_out_loss = self.accuracy = math.nan
        held = self.pool.held_out
        score: Score | None = None
        if bool(held.any()) and self.stages[self.stage][0] != "barlow_twins":
            p = probabilities_of(
                self.average,
                self.pool.images[held],
                self.pool.mean,
                self.pool.spread,
                bf16=self.precision == "bfloat16",
            )
            labels = self.pool.classes_held_out
            self.accuracy = float((p.argmax(dim=1) == labels).float().mean())
            self.held_out_loss = self.method.held_out_loss(p, labels)
            # A bin that is right does not make a distribution right: ordinal regression is judged by its loss.
            ranked = 0.0 if self.settings.method == "regression" else self.accuracy
            score = (ranked, -self.held_out_loss)
        always = score is None or self.settings.keep == "last"
        if always or (score is not None and score > self.best.score):
            self.best = _Best(score or self.best.score, weights, self.step)
        if always or self.best.score > self.best_of_all.score:
            self.best_of_all = self.best

    def _log(self, sums: _Sums, seconds: float) -> None:
        record = {
            "stage": self.stage,
            "method": self.stages[self.stage][0],
            "step": self.step,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "loss": sums.loss / sums.steps,
            "supervised_loss": sums.supervised / sums.steps,
            "unsupervised_loss": sums.unsupervised / sums.steps,
            "mask_rate": sums.counted / sums.crops if sums.crops else None,
            "pseudo_label_accuracy": sums.right / sums.known if sums.known else None,
            "held_out_accuracy": _or_none(self.accuracy),
            "held_out_loss": _or_none(self.held_out_loss),
            "best_step": self.best.step,
            "seconds": round(seconds, 3),
        }
        self.lines += 1
        self.last_look = record
        if self.folder is not None:
            with (self.folder / METRICS_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def _save(self) -> None:
        folder = self.folder
        if folder is None:
            return
        parts: dict[str, Weights] = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "method": self.method.state(),
            "best": self.best.weights,
            "best_of_all": self.best_of_all.weights,
            "momentum": {
                str(index): state["momentum_buffer"]
                for index, state in self.optimizer.state_dict()["state"].items()
                if state.get("momentum_buffer") is not None
            },
        }
        arrays: dict[str, NDArray[np.generic]] = {
            f"{part}.{name}": tensor.detach().cpu().contiguous().numpy()
            for part, tensors in parts.items()
            for name, tensor in tensors.items()
        }
        if self.guesses is not None:
            arrays["guesses.labels"], arrays["guesses.confidence"] = self.guesses
        header = {
            "kind": "perception checkpoint", "settings": self.settings.model_dump(mode="json"),
            "precision": self.precision, "data": self.digest,
            "stage": self.stage, "step": self.step, "lines": self.lines,
            "accuracy": _or_none(self.accuracy),
            "best": _best_header(self.best), "best_of_all": _best_header(self.best_of_all),
        }  # fmt: skip
        write_arrays(arrays, header, folder / CHECKPOINT_FILE)
        self.saved_step = self.step

    def _load(self, path: Path) -> None:
        arrays, header = read_arrays(path, "perception checkpoint")
        _check_same_run(path, header, self.settings, self.digest)
        self.precision = precision_to_go_on_in(path, header, self.settings.precision, self.precision)
        if "guesses.labels" in arrays:
            labels, confidence = arrays["guesses.labels"], arrays["guesses.confidence"]
            self.guesses = Guesses(labels.astype(np.int64), confidence.astype(np.float64))
        self.stage = int(header["stage"])
        self._begin_stage(None)
        self.network.load_state_dict(_part(arrays, "network"))
        self.average.load_state_dict(_part(arrays, "average"))
        for name, tensor in _part(arrays, "method").items():
            self.method.state()[name].copy_(tensor)
        momentum = {int(i): {"momentum_buffer": t} for i, t in _part(arrays, "momentum").items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": momentum})
        self.step, self.lines = int(header["step"]), int(header["lines"])
        self.saved_step = self.step
        self.accuracy = math.nan if header["accuracy"] is None else float(header["accuracy"])
        self.best = _best_from(header["best"], _part(arrays, "best"))
        self.best_of_all = _best_from(header["best_of_all"], _part(arrays, "best_of_all"))
        metrics = path.with_name(METRICS_FILE)
        lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True) if metrics.exists() else []
        write_whole(metrics, "".join(lines[: self.lines]))
        self.last_look = json.loads(lines[self.lines - 1]) if 0 < self.lines <= len(lines) else {}


def _check_same_run(path: Path, header: dict[str, Any], settings: FitSettings, digest: str) -> None:
    given, found = settings.model_dump(mode="json", exclude={"precision"}), header.get("settings", {})
    other = [name for name in given if found.get(name) != given[name]]
    if other:
        raise InputError(
            f"{path} must be of a run with the same settings to go on from it. Got {other[0]} {found.get(other[0])!r} "
            f"there and {given[other[0]]!r} here instead. Remedy: give the settings it was begun with, or another "
            "folder."
        )
    if header.get("data") != digest:
        raise InputError(
            f"{path} must be of a run on the same images and labels to go on from it, with the same weights, held-out "
            "labels and classifier to begin with. Got others instead. Remedy: give those it was begun with, or another "
            "folder."
        )


def _best_header(best: _Best) -> dict[str, float | int | None]:
    return {"accuracy": _or_none(best.score[0]), "minus_loss": _or_none(best.score[1]), "step": best.step}


def _best_from(header: dict[str, Any], weights: Weights) -> _Best:
    score = (header["accuracy"], header["minus_loss"])
    known = (-math.inf, -math.inf) if None in score else (float(score[0]), float(score[1]))
    return _Best(known, weights, int(header["step"]))


def _device(name: str | None) -> torch.device:
    gpu = torch.cuda.is_available()
    try:
        device = torch.device(name or ("cuda" if gpu else "cpu"))
    except RuntimeError:
        raise InputError(f"A device must be cpu or cuda. Got {name!r} instead.") from None
    if device.type == "cuda" and not gpu:
        raise InputError(f"Device {name!r} must be there. Got no GPU instead. Remedy: device cpu.")
    return device


def _shares(pool: Pool) -> Tensor:
    """(classes,) shares of the labels trained on, by weight."""
    weights = torch.where(pool.held_out, 0.0, pool.weights)
    labels = pool.labels if pool.labels.ndim == 2 else _one_hot(pool.labels.clamp(min=0), pool.classes)
    return (weights @ labels) / weights.sum()


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    """(n, classes) float32 of (n,) classes."""
    return torch.nn.functional.one_hot(labels, classes).float()


def _channels_last(images: Tensor) -> Tensor:
    return images.to(memory_format=torch.channels_last)


def _part(arrays: dict[str, NDArray[np.generic]], part: str) -> Weights:
    return {
        name.removeprefix(f"{part}."): torch.from_numpy(np.array(array))
        for name, array in arrays.items()
        if name.startswith(f"{part}.")
    }


def scaled(images: NDArray[np.uint8], size_px: int) -> Tensor:
    """(n, 1, size_px, size_px) uint8: the crops as `scale_crops` scales them."""
    return torch.from_numpy(np.ascontiguousarray(scale_crops(images, size_px)))[:, None]


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
