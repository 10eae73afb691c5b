"""The sessions shipped with cryoscout: the public Y1 session (aldolase) in its paper and its later split.

The two splits share hole names but not models: a model fitted on one has seen validation holes of the other,
so each session refuses the other's models (see `SessionInfo.refused_models`).
"""

from __future__ import annotations

import io
import zlib
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
import pandas as pd

from cryoscout.core.errors import StoreError, UnknownNameError
from cryoscout.core.units import FAILED_FIT_ANGSTROM, GOOD_THRESHOLD_ANGSTROM
from cryoscout.session.model import Session, SessionInfo, session_from_holes
from cryoscout.session.tables import TABLES, typed_table

Split = Literal["train", "val", "all"]

BUILTIN_SESSIONS: tuple[str, ...] = ("y1", "y1-2022")
SPLITS: tuple[str, ...] = ("train", "val", "all")

Y1_TABLE = "y1.csv.gz"
Y1_2022_TABLE = "y1-2022.csv.gz"
Y1_LOOKS = "y1-looks.csv.gz"
MODEL_2022 = "regress50-2022"

_ORIGIN = "Session 21mar02c, aldolase, Leginon; github.com/IBM/CryoRL-pytorch, commit {commit}"
_LICENCE = "Apache-2.0"

_WHY_NOT_2022 = (
    "it was fitted on the later split of the same session, "
    "which holds validation holes of the paper's split. "
    "Remedy: use res18 or res50, or load the session y1-2022."
)
_WHY_NOT_PAPER = (
    "it was fitted on the paper's split of the same session, "
    "which holds validation holes of the later split. "
    "Remedy: use regress50-2022, or load the session y1."
)
_REFUSED: dict[str, dict[str, str]] = {
    "y1": dict.fromkeys(
        (MODEL_2022, "Y1_2_regress_8bit_res50_train_by_hl", "Y1_2_regress_8bit_res50_val_by_hl"),
        _WHY_NOT_2022,
    ),
    "y1-2022": dict.fromkeys(
        (
            "res18",
            "res50",
            *(f"2_cat_8bit_res{depth}_{split}_by_hl" for depth in (18, 50) for split in ("train", "val")),
        ),
        _WHY_NOT_PAPER,
    ),
}


def load_builtin(name: str, split: Split = "val") -> Session:
    """A built-in session.

    name : 'y1' (the CryoRL paper's split, models res18 and res50: p_good at 6 angstrom) or 'y1-2022' (the
        later split, model regress50-2022: predicted CTF resolution)
    split : 'train', 'val', or 'all'; y1 'all' is every exposure of the whole session, also the 479 without a
        place in the split (they have no prediction), as needed to fit a time model
    Times are the acquisition times of the raw exposures, not those of their aligned copies.
    Raises UnknownNameError for another name or split, StoreError when the shipped file is damaged.
    """
    if name not in BUILTIN_SESSIONS:
        raise UnknownNameError("The built-in session", name, BUILTIN_SESSIONS)
    if split not in SPLITS:
        raise UnknownNameError("The split", split, SPLITS)
    session = _loaded(name, split)
    # Everything of its own: what a caller writes into it is in no session that is loaded later.
    info = session.info.model_copy(deep=True)
    return replace(session, info=info, **{table: getattr(session, table).copy() for table in TABLES})


@cache
def _loaded(name: str, split: Split) -> Session:
    rows = _read_table(Y1_TABLE)
    if name == "y1-2022":
        later = _read_table(Y1_2022_TABLE)
        rows = rows.drop(columns=["split", "ctf_max_res_angstrom"]).merge(later, on="hole_id", how="inner")
    if split != "all":
        rows = rows[rows["split"] == split]
    rows = rows.reset_index(drop=True)
    predictions = _paper_predictions(rows) if name == "y1" else _later_predictions(rows)
    tables = {"predictions": predictions, "provenance": _provenance(name)}
    session = session_from_holes(name, _info(name, split), _holes(rows), _exposures(rows), tables)
    return _with_looks(session)


def builtin_looks() -> pd.DataFrame:
    """When the patches, squares and grids of the session Y1 were looked at, in the order of time.

    Columns: name (of the image, which is the id of the place), level ("patch", "square" or "grid"), looked_at. Places
    below which nothing was imaged are among them, and are in no table of the session.
    """
    looks = _read_table(Y1_LOOKS)
    return looks.assign(looked_at=pd.to_datetime(looks["looked_at"], format="%Y-%m-%d %H:%M:%S"))


def _with_looks(session: Session) -> Session:
    """The session with the looks at its patches and squares."""
    at = builtin_looks().set_index("name")["looked_at"]
    tables = {}
    for table, column in (("squares", "square_id"), ("patches", "patch_id")):
        frame = getattr(session, table)
        looked_at = frame[column].map(at)
        looked = pd.array(looked_at.notna().to_numpy(), dtype="boolean")
        looked[~looked_at.notna().to_numpy()] = pd.NA
        tables[table] = frame.assign(looked_at=looked_at, looked=looked)
    return replace(session, **tables)


def _info(name: str, split: str) -> SessionInfo:
    paper = name == "y1"
    return SessionInfo(
        format="leginon",
        built_in=True,
        default_time_model="cryorl",
        description="Y1, aldolase: "
        + ("the CryoRL paper's split" if paper else "the later regression split"),
        origin=_ORIGIN.format(commit="a0561e1 and 87b97f3" if paper else "87b97f3"),
        licence=_LICENCE,
        dataset=name,
        split=split,
        refused_models=_REFUSED[name],
    )


def _read_table(file: str) -> pd.DataFrame:
    packed = resources.files("cryoscout.session").joinpath("data", file).read_bytes()
    try:
        plain = zlib.decompress(packed, wbits=31)
    except zlib.error as error:
        raise StoreError(
            f"The built-in table {file} must be a gzip file. Got {error} instead. "
            "Remedy: install cryoscout again."
        ) from None
    return pd.read_csv(io.BytesIO(plain), dtype={"hole_id": "str", "split": "str"}, keep_default_na=True)


def _holes(rows: pd.DataFrame) -> pd.DataFrame:
    """Parents by the vendor's rule: a name is its parent's name plus its own level."""
    levels = rows["hole_id"].str.extract(
        r"^(?P<patch_id>(?P<square_id>(?P<grid_id>.+_\d{5}gr)_\d{5}sq(?:_v\d\d)?)_\d{5}hl(?:_v\d\d)?)_\d{5}en$"
    )
    return levels.assign(hole_id=rows["hole_id"], x_px=rows["x_px"], y_px=rows["y_px"])


def _exposures(rows: pd.DataFrame) -> pd.DataFrame:
    ctf = rows["ctf_max_res_angstrom"].to_numpy(dtype=np.float64)
    failed = ctf >= FAILED_FIT_ANGSTROM
    outcome = np.where(np.isnan(ctf), "pending", np.where(failed, "failed", "measured"))
    return pd.DataFrame(
        {
            "exposure_id": rows["hole_id"] + np.where(rows["aligned"] == 1, "-a", ""),
            "hole_id": rows["hole_id"],
            "shot": 1,
            "started_at": pd.to_datetime(rows["started_at"], format="%Y-%m-%d %H:%M:%S"),
            "outcome": outcome,
            "ctf_max_res_angstrom": np.where(failed, np.nan, ctf),
        }
    )


def _paper_predictions(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(
        [
            _predictions(rows, model_id, threshold_angstrom=GOOD_THRESHOLD_ANGSTROM, p_good=rows[model_id])
            for model_id in ("res18", "res50")
        ]
    )


def _later_predictions(rows: pd.DataFrame) -> pd.DataFrame:
    return _predictions(rows, MODEL_2022, ctf_predicted_angstrom=rows["ctf_predicted_angstrom"])


def _predictions(rows: pd.DataFrame, model_id: str, **values: float | pd.Series[float]) -> pd.DataFrame:
    """The model's rows; `values` are prediction columns, the others NaN; holes without one are left out."""
    frame = pd.DataFrame(
        {
            "hole_id": rows["hole_id"],
            "model_id": model_id,
            "threshold_angstrom": values.get("threshold_angstrom", np.nan),
            "p_good": values.get("p_good", np.nan),
            "ctf_predicted_angstrom": values.get("ctf_predicted_angstrom", np.nan),
            "predicted_at": np.datetime64("NaT", "ns"),
        }
    )
    return typed_table(
        "predictions", frame[frame["p_good"].notna() | frame["ctf_predicted_angstrom"].notna()]
    )


def _provenance(name: str) -> pd.DataFrame:
    paper = name == "y1"
    ctf = "CTF_{train,val}_by_hl.csv; target_CTF_Y1.csv for the others" if paper else "target_CTF_Y1.csv"
    models = "2_cat_8bit_res{18,50}_{train,val}_by_hl.txt" if paper else "Y1_2_regress_8bit_res50_*_by_hl.txt"
    rows = [
        ("holes", "x_px, y_px", "CTF_{train,val}_by_hl.csv; target_CTF_Y1.csv for the others", "builtin"),
        ("exposures", "ctf_max_res_angstrom", ctf, "builtin"),
        ("exposures", "started_at", "timestamps.csv", "builtin"),
        ("squares", "looked_at", "timestamps.csv", "builtin"),
        ("patches", "looked_at", "timestamps.csv", "builtin"),
        ("predictions", "p_good" if paper else "ctf_predicted_angstrom", models, "builtin"),
    ]
    return pd.DataFrame(rows, columns=["table", "field", "file", "reader"])
