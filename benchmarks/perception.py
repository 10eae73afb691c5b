"""How fast images are simulated, their holes found, and networks trained and asked.

python benchmarks/perception.py [--json] [--threads 2] [--steps 1500]

Fewer steps are quicker to measure; the time of FixMatch is then scaled up to 1,500, and `fixmatch_steps` says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cryoscout.core.precision import Precision, precision_taken
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.perception import fit
from cryoscout.perception.hole_finding import find_holes
from cryoscout.perception.images import read_image
from cryoscout.perception.resnet import seeded_resnet
from cryoscout.perception.settings import settings_for
from cryoscout.perception.training import Progress, optimizer_for, torch_threads
from cryoscout.session.store import SessionStore
from cryoscout.simulate.images import crops_in_order, hole_crops
from cryoscout.simulate.presets import image_settings_named, scene_named
from cryoscout.simulate.scene import simulate_scene
from cryoscout.simulate.session import scene_to_session
from cryoscout.study.engine.runner import machine_in_words

MONTAGE = Path(__file__).parents[1] / "tests" / "perception" / "data" / "semmatch_square_montage.jpg"
REPEATS = 3
THROUGHPUT_STEPS = 12
"""Of each precision, one after the other; the first two are not counted."""
STEPS_BESIDE_PLAIN = 20


def find_holes_s() -> float:
    """Median seconds to read a montage of 3408 x 3544 px and find its holes, after one warm-up."""
    seconds = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        find_holes(read_image(MONTAGE))
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def simulate_y3_s() -> float:
    """Seconds to simulate the preset y3 and store it with a crop of each of its 8,653 holes, compiled before."""
    settings, optics = scene_named("y3"), image_settings_named("y3")
    hole_crops(simulate_scene(settings, 1), 0, optics)
    with tempfile.TemporaryDirectory() as folder, SessionStore.create(Path(folder) / "y3.session") as store:
        began = time.perf_counter()
        scene = simulate_scene(settings, 0)
        session = scene_to_session(scene, "y3", images=optics)
        crops = crops_in_order(scene, session.patches["patch_id"].tolist(), optics)
        store.save_import(session, source="benchmark", images=crops)
        return time.perf_counter() - began


def y3_crops() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The crops of y3 and whether each hole is good."""
    scene = simulate_scene(scene_named("y3"), 0)
    ids = [str(patch) for patch in range(len(scene.square_of_patch))]
    images = np.concatenate([crops for _, crops in crops_in_order(scene, ids, image_settings_named("y3"))])
    return images, (scene.ctf_max_res_angstrom[:, 0] <= GOOD_THRESHOLD_ANGSTROM).astype(np.int64)


def training_figures(threads: int, steps: int) -> dict[str, float | int | str]:
    """FixMatch in the quick profile on 10 % of the labels of y3; training throughput; scoring all of y3."""
    images, good = y3_crops()
    labels = np.where(np.random.default_rng(0).random(len(good)) < 0.1, good, -1)
    began = time.perf_counter()
    trained = fit(images, labels, "fixmatch", "quick", threads=threads, steps=steps)
    fixmatch_s = (time.perf_counter() - began) * settings_for("fixmatch").steps / steps
    began = time.perf_counter()
    trained.predict_proba(images)
    score_s = time.perf_counter() - began
    taken, by_precision = precision_taken("auto"), images_per_s(threads)
    return {
        "fixmatch_quick_s": round(fixmatch_s, 1), "fixmatch_steps": steps,
        "train_images_per_s": round(by_precision[taken]), "precision": taken,
        "precision_ratio": round(by_precision[taken] / max(by_precision.values()), 3),
        "fixmatch_step_over_plain": round(fixmatch_step_over_plain(images, labels, threads), 3),
        "score_8653_s": round(score_s, 2), "threads": threads,
    }  # fmt: skip


class PlainNetwork:
    """The quick profile's network, whose passes are timed without anything around them."""

    def __init__(self, precision: Precision) -> None:
        settings = settings_for("supervised", "quick")
        network = seeded_resnet(
            0, settings.depth, classes=2, width=settings.width, stem_stride=settings.stem_stride
        )
        self.network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.optimizer = optimizer_for(self.network, settings)
        self.side, self.precision = settings.size_px, precision

    def crops(self, n: int) -> torch.Tensor:
        """(n, 1, side, side) of noise."""
        return torch.rand(n, 1, self.side, self.side).to(memory_format=torch.channels_last)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """(n, 2) logits."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits: torch.Tensor = self.network(crops).float()
        return logits

    def forward_and_backward(self, crops: torch.Tensor) -> None:
        """One pass there and back."""
        logits = self.forward(crops)
        self.optimizer.zero_grad(set_to_none=True)
        labels = torch.zeros(len(crops), dtype=torch.long)
        torch.nn.functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]


def images_per_s(threads: int) -> dict[Precision, float]:
    """Images a second forwards, backwards and through the optimizer, 256 at once, in each precision in turn."""
    networks = [PlainNetwork("bfloat16"), PlainNetwork("float32")]
    crops = networks[0].crops(256)
    seconds: dict[Precision, list[float]] = {plain.precision: [] for plain in networks}
    with torch_threads(threads):
        for _ in range(THROUGHPUT_STEPS):
            for plain in networks:
                began = time.perf_counter()
                plain.forward_and_backward(crops)
                plain.optimizer.step()
                seconds[plain.precision].append(time.perf_counter() - began)
    return {precision: len(crops) / statistics.median(each[2:]) for precision, each in seconds.items()}


def fixmatch_step_over_plain(images: NDArray[np.uint8], labels: NDArray[np.int64], threads: int) -> float:
    """Time of a FixMatch step over that of its passes through the network, the two timed in turn.

    The passes are those of the step: the weak crops of the unlabelled part forwards, the labelled ones and the strong
    ones forwards and backwards. What is more in the step: drawing and changing the crops, losses, SGD, the average.
    """
    settings = settings_for("fixmatch", "quick")
    plain = PlainNetwork(precision_taken("auto"))
    n_others = settings.batch_size * settings.unlabelled_ratio
    weak, learned = plain.crops(n_others), plain.crops(settings.batch_size + n_others)
    step_s, plain_s, began = [], [], time.perf_counter()

    def beside(_: Progress) -> None:
        nonlocal began
        ended = time.perf_counter()
        step_s.append(ended - began)
        with torch.no_grad():
            plain.forward(weak)
        plain.forward_and_backward(learned)
        began = time.perf_counter()
        plain_s.append(began - ended)

    fit(
        images, labels, "fixmatch", "quick",
        threads=threads, steps=STEPS_BESIDE_PLAIN, evaluate_every=STEPS_BESIDE_PLAIN, progress=beside,
    )  # fmt: skip
    # The first two warm up; the last one also judges the network on its held-out labels.
    return statistics.median(step_s[2:-1]) / statistics.median(plain_s[2:-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    parser.add_argument(
        "--steps", type=int, default=1_500, help="steps of the measured FixMatch (default 1500)"
    )
    arguments = parser.parse_args()
    figures: dict[str, object] = {
        "machine": machine_in_words(),
        "find_holes_s": round(find_holes_s(), 3),
        "simulate_y3_s": round(simulate_y3_s(), 1),
        **training_figures(arguments.threads, arguments.steps),
    }
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
