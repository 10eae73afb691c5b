"""Which picture a hole is cut from and where, by format: centre or corner, full size or smaller."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cryoscout.core.errors import InputError
from cryoscout.perception.patch_images import cut_session, picture_files
from cryoscout.session.model import Session
from session_with_images import tiny_session


def of_format(name: str) -> Session:
    session = tiny_session()
    return replace(session, info=session.info.model_copy(update={"format": name}))


def with_full_size(session: Session, square: str, height: int, width: int) -> Session:
    fields = json.dumps({"image_height_px": str(height), "image_width_px": str(width)})
    row = {"record_id": square, "source": "a", "reader": "epu", "shared": "", "fields": fields}
    return replace(session, vendor_fields=pd.DataFrame([row]))


def picture(path: Path, dots: list[tuple[int, int]], shape: tuple[int, int] = (200, 200)) -> None:
    pixels = np.random.default_rng(0).integers(90, 110, shape).astype(np.uint8)
    pixels[-shape[0] // 20 :] = (
        255  # so many bright pixels that a dot is not cut as a hot one; no hole lies there
    )
    for row, column in dots:
        pixels[row, column] = 255
    Image.fromarray(pixels).save(path)


def test_positions_of_epu_are_on_the_square_at_full_size_and_its_picture_may_be_smaller(
    tmp_path: Path,
) -> None:
    session = with_full_size(of_format("epu"), "s0", 400, 400)
    # Hole 5 of patch 0: x 40, y 40 of 400 px; on 200 px its centre is (40.5 / 2 - 0.5) = 19.75.
    picture(tmp_path / "s0.png", [(20, 20)])
    cut = cut_session(session, tmp_path, 9)
    assert set(cut.images) == {"p0", "p1"}
    assert cut.image_row[:24].notna().all()
    assert cut.image_row[24:].isna().all()
    crop = cut.images["p0"][int(cut.image_row[5])]
    assert np.unravel_index(crop.argmax(), crop.shape) == (4, 4)


@pytest.mark.parametrize("file", ["s0.mrc", "s0.png"])
@pytest.mark.parametrize("name", ["epu", "serialem", "smartscope"])
def test_an_mrc_whose_top_row_is_not_known_is_refused(name: str, file: str, tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "s0.mrc") as made:
        made.set_data(np.zeros((20, 20), dtype=np.float32))
    (tmp_path / "s0.mrc").rename(tmp_path / file)
    with pytest.raises(InputError, match=rf"s0\.\w+ must be a PNG, JPEG or TIFF.*for {name} sessions"):
        cut_session(of_format(name), tmp_path, 9)


def test_a_patchs_own_picture_comes_before_its_squares(tmp_path: Path) -> None:
    picture(tmp_path / "p0.png", [(20, 20)])
    picture(tmp_path / "s0.png", [])
    cut = cut_session(of_format("generic"), tmp_path, 9)
    assert set(cut.images) == {"p0", "p1"}
    assert cut.images["p0"][0][4, 4] == cut.images["p0"].max()
    assert cut.images["p0"].shape == cut.images["p1"].shape == (12, 9, 9)
    assert cut.report.joined == 2


@pytest.mark.parametrize("name", ["leginon", "simulated"])
def test_leginon_and_simulated_sessions_take_patches_alone_from_the_centre(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "p0.png", [(120, 120)])
    picture(tmp_path / "s1.png", [])
    cut = cut_session(of_format(name), tmp_path, 9)
    assert set(cut.images) == {"p0"}
    assert cut.images["p0"][0][4, 4] == cut.images["p0"].max()
    assert cut.report.first_not_joined == ("s1.png",)


def test_only_pictures_of_the_folder_itself_are_taken(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    picture(tmp_path / "deep" / "p0.png", [])
    picture(tmp_path / "p1.JPG", [])
    (tmp_path / "notes.txt").write_text("")
    assert [path.name for path in picture_files(tmp_path)] == ["p1.JPG"]
    assert picture_files(tmp_path / "nowhere") == []


def test_every_picture_is_a_step(tmp_path: Path) -> None:
    steps: list[None] = []
    for name in ("p0.png", "p1.png", "p2.png"):
        picture(tmp_path / name, [])
    cut_session(of_format("generic"), tmp_path, 9, step=lambda: steps.append(None))
    assert len(steps) == 3
