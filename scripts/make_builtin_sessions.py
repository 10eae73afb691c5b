"""Write the data files of the built-in sessions from the released tables of the Y1 session.

    python scripts/make_builtin_sessions.py FOLDER

FOLDER holds CTF_{train,val}_by_hl.csv, 2_cat_8bit_res{18,50}_{train,val}_by_hl.txt, target_CTF_Y1.csv,
timestamps.csv and Y1_2_regress_8bit_res50_{train,val}_by_hl.txt (origin: README.md beside the written
files, in src/cryoscout/session/data).
The files are byte-identical every time: fixed row order, gzip without a time.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pandas as pd

DATA = Path(__file__).resolve().parents[1] / "src" / "cryoscout" / "session" / "data"
NOT_AN_EXPOSURE = "-1"


def read_text_table(path: Path, separator: str, columns: list[str]) -> pd.DataFrame:
    """A headerless table with every value as the text of the file, so that no digit is lost."""
    return pd.read_csv(path, sep=separator, header=None, names=columns, dtype="str", keep_default_na=False)


def write_gzip(path: Path, table: pd.DataFrame) -> None:
    """CSV under gzip; no file name and no time in the header, so the bytes depend on the table alone."""
    plain = table.to_csv(index=False, lineterminator="\n").encode("ascii")
    path.write_bytes(gzip.compress(plain, compresslevel=9, mtime=0))
    print(f"{path.name}: {len(table)} rows, {path.stat().st_size} bytes")


def by_split(folder: Path, pattern: str, separator: str, columns: list[str]) -> pd.DataFrame:
    """Both splits of one kind of file, by the hole's name (the aligned image's name without -a)."""
    parts = [
        read_text_table(folder / pattern.format(split=split), separator, columns).assign(split=split)
        for split in ("train", "val")
    ]
    both = pd.concat(parts, ignore_index=True)
    return indexed(both.assign(hole_id=both["name"].str.removesuffix("-a")), "hole_id")


def indexed(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """The table by that column, whose values must be unique."""
    by_column = table.set_index(column)
    if not by_column.index.is_unique:
        sys.exit(f"{column} must be unique. Got repeats instead.")
    return by_column


def paper_table(folder: Path, images: pd.DataFrame, times: pd.Series) -> pd.DataFrame:
    """Every exposure of the session; the paper's split, values and predictions where it has a place there."""
    raw = images[images.index.str.fullmatch(r".*_\d{5}en")]
    aligned = images[images.index.str.fullmatch(r".*_\d{5}en-a")].rename(
        index=lambda name: name.removesuffix("-a")
    )
    split = by_split(folder, "CTF_{split}_by_hl.csv", ",", ["name", "x", "y", "ctf", "confidence"])
    table = pd.DataFrame(index=raw.index.sort_values())
    table["aligned"] = table.index.isin(aligned.index).astype(int)
    for column, source in (("x_px", "x"), ("y_px", "y")):
        rounded = raw[source].astype("float64").map("{:.2f}".format)
        table[column] = split[source].reindex(table.index).fillna(rounded)
    ctf = aligned["ctf"][aligned["ctf"] != NOT_AN_EXPOSURE].astype("float64").map("{:.2f}".format)
    table["ctf_max_res_angstrom"] = split["ctf"].reindex(table.index).fillna(ctf)
    table["started_at"] = times.reindex(table.index)
    table["split"] = split["split"].reindex(table.index)
    for model in ("res18", "res50"):
        softmax = by_split(
            folder, f"2_cat_8bit_{model}_{{split}}_by_hl.txt", " ", ["name", "p_good", "p_bad"]
        )
        table[model] = softmax["p_good"].reindex(table.index)
    return table.rename_axis("hole_id").reset_index()


def later_table(folder: Path, images: pd.DataFrame) -> pd.DataFrame:
    """The later split: the released CTF values in full and the regressor's prediction."""
    split = by_split(
        folder, "Y1_2_regress_8bit_res50_{split}_by_hl.txt", " ", ["name", "predicted"]
    ).sort_index()
    return pd.DataFrame(
        {
            "hole_id": split.index,
            "split": split["split"].to_numpy(),
            "ctf_max_res_angstrom": images["ctf"].reindex(split["name"]).to_numpy(),
            "ctf_predicted_angstrom": split["predicted"].to_numpy(),
        }
    )


def looks_table(times: pd.Series) -> pd.DataFrame:
    """When each image of a patch, square and grid was taken, by the preset that its name ends in."""
    level = times.index.str.extract(r"_\d{5}(hl|sq|gr)(?:_v\d\d)?$", expand=False)
    table = pd.DataFrame({"name": times.index, "level": level, "looked_at": times.to_numpy()})
    table = table[table["level"].notna()].sort_values(["looked_at", "name"], kind="stable")
    return table.assign(level=table["level"].map({"hl": "patch", "sq": "square", "gr": "grid"}))


def main() -> None:
    """Read FOLDER, write the three tables."""
    if len(sys.argv) != 2:
        sys.exit("Usage: python scripts/make_builtin_sessions.py FOLDER")
    folder = Path(sys.argv[1])
    columns = ["name", "x", "y", "ctf", "confidence"]
    images = indexed(read_text_table(folder / "target_CTF_Y1.csv", ",", columns), "name")
    times = indexed(read_text_table(folder / "timestamps.csv", ",", ["name", "time"]), "name")["time"]
    write_gzip(DATA / "y1.csv.gz", paper_table(folder, images, times))
    write_gzip(DATA / "y1-looks.csv.gz", looks_table(times))
    write_gzip(DATA / "y1-2022.csv.gz", later_table(folder, images))


if __name__ == "__main__":
    main()
