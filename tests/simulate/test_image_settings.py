"""Settings of the images: what is impossible is refused with the field's name."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cryoscout.core.errors import FileFormatError
from cryoscout.simulate.image_settings import ImageSettings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ice_mean_free_path_nm", 0.0),
        ("dose_e_per_px", 0.0),
        ("dose_e_per_px", float("nan")),
        ("pixel_nm", -1.0),
        ("film_optical_depth", -0.1),
        ("meniscus", 0.9),
        ("mtf_blur_px", 0.8),
        ("darkest_percent", 50.0),
        ("brightest_percent", 50.0),
        ("crop_full_px", 15),
        ("grain_um", 0.0),
        ("square_pixel_nm", float("inf")),
        ("no_such_field", 1),
    ],
)
def test_an_impossible_value_is_refused_by_name(field, value):
    with pytest.raises(ValidationError) as error:
        ImageSettings(**{field: value})
    assert error.value.errors()[0]["loc"] == (field,)


def test_a_margin_that_would_cut_crops_is_refused():
    with pytest.raises(ValidationError, match=r"patch_margin_um must be at least 0\.847.*Got 0\.5 instead"):
        ImageSettings(patch_margin_um=0.5)
    assert ImageSettings(patch_margin_um=0.5, crop_full_px=80).patch_margin_um == 0.5


def test_settings_are_saved_and_read_back(tmp_path):
    settings = ImageSettings(dose_e_per_px=12.5, crop_full_px=120)
    settings.save(tmp_path / "images.json")
    assert ImageSettings.load(tmp_path / "images.json") == settings
    (tmp_path / "images.json").write_text('{"dose_e_per_px": "many"}')
    with pytest.raises(FileFormatError, match="dose_e_per_px"):
        ImageSettings.load(tmp_path / "images.json")
