"""The size of a pixel is taken from the picture's own file, or from the one that its program wrote beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryoscout.perception.pixel_size import pixel_size_um

DATA = Path(__file__).parents[1] / "formats" / "data"
EPU_SQUARE = next((DATA / "epu" / "harvest_session" / "Images-Disc1").rglob("GridSquare_*.xml"))


def mrc(path, pixel_angstrom):
    with mrcfile.new(path) as file:
        file.set_data(np.zeros((4, 8), np.float32))
        file.voxel_size = pixel_angstrom
    return path


def test_the_header_of_an_mrc_says_it_but_not_by_the_value_of_those_who_do_not_know(tmp_path):
    assert pixel_size_um(mrc(tmp_path / "a.mrc", 120.0), 8) == pytest.approx(0.012)
    assert pixel_size_um(mrc(tmp_path / "b.mrc", 1.0), 8) is None
    assert pixel_size_um(mrc(tmp_path / "c.mrc", 0.0), 8) is None
    (tmp_path / "d.png").write_bytes(b"")
    assert pixel_size_um(tmp_path / "d.png", 8) is None
    # A file of SerialEM beside it would have a name that is too long for a file.
    assert pixel_size_um(mrc(tmp_path / f"{'e' * 250}.mrc", 120.0), 8) == pytest.approx(0.012)


def test_serialems_metadata_beside_the_picture_comes_first(tmp_path):
    path = mrc(tmp_path / "a.mrc", 120.0)
    (tmp_path / "a.mrc.mdoc").write_text(
        "[ZValue = 0]\nPixelSpacing = 250\n[ZValue = 1]\nPixelSpacing = 250\n"
    )
    assert pixel_size_um(path, 8) == pytest.approx(0.025)
    (tmp_path / "a.mrc.mdoc").write_text("not SerialEM's\n")
    assert pixel_size_um(path, 8) == pytest.approx(0.012)


def test_epus_xml_beside_a_smaller_picture_is_scaled_by_its_width(tmp_path):
    picture = tmp_path / EPU_SQUARE.with_suffix(".jpg").name
    picture.write_bytes(b"")
    shutil.copy(EPU_SQUARE, tmp_path)
    full = pixel_size_um(picture, 4096)
    assert full is not None
    assert 0.005 < full < 0.2
    assert pixel_size_um(picture, 1024) == pytest.approx(4 * full)
