"""A trained classifier as an ONNX file: predicts with onnxruntime, without torch."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.array_file import FORMAT_VERSION
from cryoscout.core.errors import InputError
from cryoscout.perception.predictor import KIND, Predictor, fields_of
from cryoscout.perception.prepare import check_images
from cryoscout.perception.scaling import scale_crops
from cryoscout.perception.settings import FitSettings

INPUT, OUTPUT = "crops", "logits"
METADATA_KEY = "cryoscout"
_AT_ONCE = 256
_ERRORS_ONLY = 3


def need_onnx(package: str) -> None:
    """Raise InputError with the remedy where the package, onnx or onnxruntime, is not installed."""
    if importlib.util.find_spec(package) is None:
        raise InputError(
            f'An ONNX file must have {package}. Got none installed instead. Remedy: pip install "cryoscout[onnx]".'
        )


@dataclass(frozen=True)
class OnnxClassifier(Predictor):
    """Crops to probabilities of their classes, computed with onnxruntime; fields as in `Predictor`.

    The network computes in 32 bits, as a `Classifier` does: the two are equal within 1e-4.
    """

    settings: FitSettings
    classes: int
    session: Any
    """onnxruntime.InferenceSession"""
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
        pixels = scale_crops(check_images(images), self.settings.size_px)[:, None]
        parts = [np.zeros((0, self.classes))]
        for start in range(0, len(pixels), _AT_ONCE):
            grey = pixels[start : start + _AT_ONCE].astype(np.float32) / np.float32(255.0)
            x = (grey - np.float32(self.mean)) / np.float32(self.spread)
            logits = self.session.run([OUTPUT], {INPUT: x})[0].astype(np.float64)
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            parts.append(powers / powers.sum(axis=1, keepdims=True))
        return np.concatenate(parts)

    @classmethod
    def load(cls, path: Path) -> OnnxClassifier:
        """Read what `Classifier.export_onnx` wrote.

        Raises InputError when it is missing, damaged, another network's file, or of a newer version, and with the
        remedy where onnxruntime is not installed.
        """
        if not path.is_file():
            raise InputError(f"A classifier must be a file .onnx. Got {str(path)!r} instead: no such file.")
        session = _session(path)
        try:
            header = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
            version, kind = int(header["format"]), header["kind"]
        except (KeyError, ValueError, TypeError):
            raise InputError(
                f"{path} must be an ONNX file written by cryoscout. Got one without its settings instead. "
                "Remedy: export it with cryoscout train --onnx."
            ) from None
        if version > FORMAT_VERSION or kind != KIND:
            raise InputError(
                f"{path} must be a {KIND} of format {FORMAT_VERSION} or older. Got {kind}, format {version}, instead. "
                f"Remedy: use cryoscout {header.get('cryoscout')} or newer."
            )
        fields = fields_of(header, path)
        side = fields["settings"].size_px
        shapes = {part.name: part.shape[1:] for part in (*session.get_inputs(), *session.get_outputs())}
        if shapes != {INPUT: [1, side, side], OUTPUT: [fields["classes"]]}:
            raise InputError(
                f"{path} must take crops of {side} x {side} px and give {fields['classes']} classes, as its settings "
                f"say. Got {shapes} instead. Remedy: export it again."
            )
        return cls(session=session, **fields)


def _session(path: Path) -> Any:
    """The graph, ready to run on the CPU with one thread: an operator's computer has other things to do."""
    need_onnx("onnxruntime")
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as refused

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(
            path.read_bytes(), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except (
        refused.Fail, refused.InvalidArgument, refused.InvalidGraph, refused.InvalidProtobuf,
        refused.NotImplemented, refused.RuntimeException, refused.NoSuchFile,
    ) as error:  # fmt: skip
        first = str(error).splitlines()[0]
        raise InputError(
            f"{path} must be a whole ONNX file. Got {first} instead. Remedy: copy or export it again."
        ) from None
