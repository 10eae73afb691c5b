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

from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.perception import fit
from cryoscout.perception.hole_finding import find_holes
from cryoscout.perception.images import read_image
from cryoscout.perception.resnet import seeded_resnet
from cryoscout.perception.settings import settings_for
from cryoscout.perception.training import optimizer_for, torch_threads
from cryoscout.session.store import SessionStore
from cryoscout.simulate.images import crops_in_order, hole_crops
from cryoscout.simulate.presets import image_settings_named, scene_named
from cryoscout.simulate.scene import simulate_scene
from cryoscout.simulate.session import scene_to_session
from cryoscout.study.engine.runner import machine_in_words

MONTAGE = Path(__file__).parents[1] / "tests" / "perception" / "data" / "semmatch_square_montage.jpg"
REPEATS = 3
THROUGHPUT_STEPS = 12


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


def training_figures(threads: int, steps: int) -> dict[str, float | int]:
    """FixMatch in the quick profile on 10 % of the labels of y3; training throughput; scoring all of y3."""
    images, good = y3_crops()
    labels = np.where(np.random.default_rng(0).random(len(good)) < 0.1, good, -1)
    began = time.perf_counter()
    trained = fit(images, labels, "fixmatch", "quick", threads=threads, steps=steps)
    fixmatch_s = (time.perf_counter() - began) * settings_for("fixmatch").steps / steps
    began = time.perf_counter()
    trained.predict_proba(images)
    score_s = time.perf_counter() - began
    return {
        "fixmatch_quick_s": round(fixmatch_s, 1), "fixmatch_steps": steps,
        "train_images_per_s": round(images_per_s(threads)), "score_8653_s": round(score_s, 2), "threads": threads,
    }  # fmt: skip


def images_per_s(threads: int) -> float:
    """Images a second forwards, backwards and through the optimizer, in the quick profile's network, 256 at once."""
    settings = settings_for("supervised", "quick")
    network = seeded_resnet(
        0, settings.depth, classes=2, width=settings.width, stem_stride=settings.stem_stride
    )
    network = network.to(memory_format=torch.channels_last)
    optimizer = optimizer_for(network, settings)
    side, batch = settings.size_px, 256
    x = torch.rand(batch, 1, side, side).to(memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.long)
    seconds = []
    with torch_threads(threads):
        for _ in range(THROUGHPUT_STEPS):
            began = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(x).float()
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            seconds.append(time.perf_counter() - began)
    return batch / statistics.median(seconds[2:])


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
