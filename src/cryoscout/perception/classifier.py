"""A trained perception network: what `fit` returns, what predicts, and its file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoscout import __version__
from cryoscout.core.array_file import FORMAT_VERSION, read_arrays, write_arrays
from cryoscout.core.errors import InputError
from cryoscout.core.new_files import whole_file
from cryoscout.perception.onnx_classifier import INPUT, METADATA_KEY, OUTPUT, need_onnx
from cryoscout.perception.predictor import KIND, Predictor, fields_of
from cryoscout.perception.prepare import check_images
from cryoscout.perception.resnet import ResNet
from cryoscout.perception.scaling import scale_crops
from cryoscout.perception.settings import FitSettings
from cryoscout.perception.training import probabilities_of, torch_threads

ONNX_OPSET = 17


@dataclass(frozen=True)
class Classifier(Predictor):
    """Crops to probabilities of their classes, computed with torch; fields as in `Predictor`."""

    settings: FitSettings
    classes: int
    weights: Mapping[str, NDArray[np.generic]]
    mean: float
    spread: float
    prior: tuple[float, ...]
    slope: float | None = None
    threshold_angstrom: float | None = None
    edges_angstrom: tuple[float, ...] = ()
    set_aside: tuple[int, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    def raw_proba(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(m, classes) probabilities as the network says them: no temperature, no crop told apart."""
        pixels = torch.from_numpy(
            np.ascontiguousarray(scale_crops(check_images(images), self.settings.size_px))
        )
        with torch_threads(self.settings.threads):
            # In 32 bits, so that an exported network says the same; bfloat16 is for training.
            p = probabilities_of(self.network(), pixels[:, None], self.mean, self.spread, bf16=False)
        return np.asarray(p.double().numpy())

    def network(self) -> ResNet:
        """A new network with these weights, on the CPU."""
        network = ResNet(
            self.settings.depth, classes=self.classes, width=self.settings.width,
            stem_stride=self.settings.stem_stride,
        )  # fmt: skip
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in self.weights.items()}
        network.load_state_dict(tensors)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def save(self, path: Path) -> None:
        """Write weights and settings as one safetensors file."""
        write_arrays(self.weights, self.header(), path)

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Read what `save` wrote. Raises InputError when it cannot be used, as when the weights do not fit."""
        weights, header = read_arrays(path, KIND)
        found = cls(weights=weights, **fields_of(header, path))
        try:
            found.network()
        except RuntimeError:
            raise InputError(
                f"{path} must hold the weights of a ResNet-{found.settings.depth} of width {found.settings.width} with "
                f"{found.classes} classes. Got weights of another shape instead. Remedy: copy or train it again."
            ) from None
        return found

    def export_onnx(self, path: Path) -> None:
        """Write an ONNX file that `OnnxClassifier` predicts with, without torch; it computes in 32 bits.

        The graph is the network, from scaled crops (n, 1, size_px, size_px) float32 to logits (n, classes); settings
        and calibration are in its metadata. A file that stood there stays until the new one is complete.
        Raises InputError with the remedy where the package onnx is missing.
        """
        need_onnx("onnx")
        import onnx

        side = self.settings.size_px
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished:
            with warnings.catch_warnings():
                # torch's other exporter needs one package more, onnxscript, and gives the same graph of a plain ResNet.
                warnings.simplefilter("ignore", DeprecationWarning)
                torch.onnx.export(
                    self.network().eval(), (torch.zeros(1, 1, side, side),), str(unfinished), dynamo=False,
                    input_names=[INPUT], output_names=[OUTPUT], opset_version=ONNX_OPSET,
                    dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
                )  # fmt: skip
            model = onnx.load(str(unfinished))
            header = {"format": FORMAT_VERSION, "cryoscout": __version__, **self.header()}
            onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(header, sort_keys=True)})
            unfinished.write_bytes(model.SerializeToString())
