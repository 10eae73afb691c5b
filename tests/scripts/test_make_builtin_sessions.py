"""The released tables are hand-made here: three exposures of an invented session, one outside the split."""

import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_builtin_sessions.py"
HOLE = "24jan05a_grid1_00008gr_00011sq_v01_00002hl_v01_{:05d}en"
ONE, TWO, THREE = (HOLE.format(number) for number in (1, 2, 3))


@pytest.fixture
def script(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("make_builtin_sessions", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DATA", tmp_path)
    return module


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "released"
    folder.mkdir()
    files = {
        "target_CTF_Y1.csv": [
            *(f"{hole},1.234,5.678,-1,-1" for hole in (ONE, TWO, THREE)),
            f"{ONE}-a,1.234,5.678,4.4567,0.9",
            f"{TWO}-a,1.234,5.678,100000,0.9",
        ],
        "timestamps.csv": [
            f"{hole},2024-01-05 10:00:0{index}" for index, hole in enumerate((ONE, TWO, THREE))
        ],
    }
    for split, hole, ctf in (("train", ONE, "4.46"), ("val", TWO, "100000.00")):
        files[f"CTF_{split}_by_hl.csv"] = [f"{hole}-a,1.23,5.68,{ctf},0.90"]
        files[f"Y1_2_regress_8bit_res50_{split}_by_hl.txt"] = [f"{hole}-a 5.5"]
        for model in ("res18", "res50"):
            files[f"2_cat_8bit_{model}_{split}_by_hl.txt"] = [f"{hole}-a 0.30 0.70"]
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def test_the_built_in_tables_are_written_byte_for_byte_again(script, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make_builtin_sessions.py", str(folder)])
    written = []
    for _ in range(2):
        script.main()
        written.append({file.name: file.read_bytes() for file in tmp_path.glob("*.gz")})
    assert written[0] == written[1]
    assert all(packed[4:8] == b"\0\0\0\0" for packed in written[0].values()), (
        "a time stands in the gzip header"
    )
    table = pd.read_csv(tmp_path / "y1.csv.gz", index_col="hole_id")
    assert table["aligned"].tolist() == [1, 1, 0]
    assert table["ctf_max_res_angstrom"].fillna(-1).tolist() == [4.46, 100000.0, -1]
    assert table["split"].fillna("").tolist() == ["train", "val", ""]
    assert table["x_px"].tolist() == [1.23] * 3
    later = pd.read_csv(tmp_path / "y1-2022.csv.gz", index_col="hole_id")
    assert later["ctf_max_res_angstrom"].tolist() == [4.4567, 100000.0]


def test_the_script_without_a_folder_says_how_to_use_it(script, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make_builtin_sessions.py"])
    with pytest.raises(SystemExit, match=r"Usage: python scripts/make_builtin_sessions\.py FOLDER"):
        script.main()
