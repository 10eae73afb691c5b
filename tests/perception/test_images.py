"""Pictures of every format are read with their numbers; what is damaged or no single picture is refused by name."""

from __future__ import annotations

import struct
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from PIL import Image

from cryoscout.core.errors import InputError
from cryoscout.perception import images
from cryoscout.perception.images import read_image

PIXELS = np.arange(12 * 17, dtype=np.uint8).reshape(12, 17)


def mrc(path: Path, data: np.ndarray) -> Path:
    with mrcfile.new(path) as file:
        file.set_data(data)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_whole_numbers_are_read_as_they_are(tmp_path, suffix, kind):
    path = tmp_path / f"a.{suffix}"
    pixels = PIXELS.astype(kind) * (200 if kind is np.uint16 else 1)
    Image.fromarray(pixels).save(path)
    assert np.array_equal(read_image(path), pixels)


def test_a_tiff_of_floats_is_read(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(PIXELS.astype(np.float32) / 7).save(path)
    assert np.array_equal(read_image(path), PIXELS.astype(np.float32) / 7)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.uint16, np.float32, np.float16])
def test_mrc_files_of_every_kind_are_read(tmp_path, kind):
    pixels = (PIXELS // 2).astype(kind)
    assert np.array_equal(read_image(mrc(tmp_path / "a.mrc", pixels)), pixels.astype(np.float32))


def test_an_mrc_file_without_a_known_machine_stamp_is_read(tmp_path):
    path = mrc(tmp_path / "a.mrc", PIXELS.astype(np.float32))
    content = bytearray(path.read_bytes())
    content[212:216] = b"\0\0\x44\x44"
    path.write_bytes(content)
    assert np.array_equal(read_image(path), PIXELS)


def test_the_name_does_not_say_the_format(tmp_path):
    path = tmp_path / "a.mrc"
    Image.fromarray(PIXELS).save(path, format="PNG")
    assert np.array_equal(read_image(path), PIXELS)


def test_colour_becomes_grey(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.full((8, 9, 3), 90, dtype=np.uint8)).save(path)
    assert read_image(path) == pytest.approx(np.full((8, 9), 90.0), abs=2)


def made(tmp_path: Path, what: str) -> Path:
    path = tmp_path / "bad.img"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60), dtype=np.uint8)).save(
        path, format="PNG"
    )
    whole = path.read_bytes()
    path.unlink()
    if what == "a folder":
        path.mkdir()
    elif what == "a text":
        path.write_text("row,column\n1,2\n")
    elif what == "an empty file":
        path.write_bytes(b"")
    elif what == "half a PNG":
        path.write_bytes(whole[: len(whole) // 2])
    elif what == "half an MRC":
        path.write_bytes(mrc(tmp_path / "a.mrc", PIXELS).read_bytes()[:-20])
    elif what == "an MRC header of huge size":
        path.write_bytes(
            struct.pack("<4i", 900_000, 900_000, 1, 2) + bytes(48) + struct.pack("<3i", 1, 2, 3) + bytes(948)
        )
    elif what == "a stack":
        path = mrc(tmp_path / "bad.img", np.zeros((3, 4, 5), dtype=np.float32))
    elif what == "a TIFF of two pages":
        page = Image.fromarray(PIXELS)
        page.save(path, format="TIFF", save_all=True, append_images=[page])
    elif what == "NaN":
        path = mrc(tmp_path / "bad.img", np.full((4, 5), np.nan, dtype=np.float32))
    return path


@pytest.mark.parametrize(
    "what",
    [
        "nothing",
        "a folder",
        "a text",
        "an empty file",
        "half a PNG",
        "half an MRC",
        "an MRC header of huge size",
        "a stack",
        "a TIFF of two pages",
        "NaN",
    ],
)
@pytest.mark.filterwarnings("ignore:Data array contains NaN")
def test_what_is_no_picture_is_refused_with_its_name_and_a_remedy(tmp_path, what):
    with pytest.raises(InputError, match=r"bad\.img must .* Got .* instead\. Remedy: "):
        read_image(made(tmp_path, what))


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    monkeypatch.setattr(images, "MOST_PIXELS", 100)
    with pytest.raises(InputError, match=r"1 to 100 pixels. Got 17 x 12"):
        read_image(path)
