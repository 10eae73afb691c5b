"""MRC files of simulated images: read back, with the pixel size, by our own reader too."""

from __future__ import annotations

import mrcfile
import numpy as np
import pytest
from image_scenes import small_scene

from cryoscout.core.errors import InputError
from cryoscout.perception.images import read_image
from cryoscout.simulate.image_files import mrc_name, write_mrc, write_mrc_images
from cryoscout.simulate.image_settings import ImageSettings
from cryoscout.simulate.images import patch_counts, square_counts

SETTINGS = ImageSettings()


def test_every_patch_and_square_is_written_with_its_pixel_size(tmp_path):
    scene = small_scene(31)
    patch_ids, square_ids = ["p1", "p2", "p/3", "p4"], ["s1", "s2"]
    paths = list(write_mrc_images(tmp_path, scene, patch_ids, square_ids, SETTINGS))
    assert paths == [tmp_path / f"{name}.mrc" for name in ("p1", "p2", "p%2F3", "p4", "s1", "s2")]
    for path, counts, pixel_angstrom in (
        (paths[2], patch_counts(scene, 2, SETTINGS), 105.0),
        (paths[5], square_counts(scene, 1, SETTINGS), 800.0),
    ):
        assert mrcfile.validate(path)
        with mrcfile.open(path) as file:
            assert (file.voxel_size.x, file.voxel_size.y) == pytest.approx((pixel_angstrom, pixel_angstrom))
            assert (file.data == np.rint(np.clip(counts, 0, None))).all()
        assert (read_image(path) == np.rint(np.clip(counts, 0, None))).all()


def test_counts_beyond_16_bits_are_cut(tmp_path):
    write_mrc(tmp_path / "a.mrc", np.array([[-3.0, 1.6], [70_000.0, 65_535.0]], np.float32), 10.0)
    assert read_image(tmp_path / "a.mrc").tolist() == [[0, 2], [65_535, 65_535]]


def test_names_never_leave_the_folder():
    assert mrc_name("../up") == "..%2Fup.mrc"


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(InputError, match=r"Remedy: choose another folder"):
        write_mrc(tmp_path / "none" / "a.mrc", np.ones((4, 4), np.float32), 10.0)
    with pytest.raises(InputError, match="an id for each of 4 patches and 2 squares"):
        write_mrc_images(tmp_path, small_scene(31), ["a"], ["b"], SETTINGS)
