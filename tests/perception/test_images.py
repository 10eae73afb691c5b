"""Pictures of every format are read with their numbers; what is damaged or no single picture is refused by name."""

from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cryoscout.core.errors import CryoscoutError, InputError
from cryoscout.perception import images
from cryoscout.perception.hole_finding import find_holes
from cryoscout.perception.images import opened_image, read_image
from examples import share

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


def test_which_row_comes_first_is_told_by_the_content_and_not_by_the_name(tmp_path):
    Image.fromarray(PIXELS.astype(np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "b.mrc")
    mrc(tmp_path / "a.mrc", PIXELS.astype(np.float32)).rename(tmp_path / "c.rec")
    for name, bottom_first in (("b.mrc", False), ("c.rec", True)):
        with opened_image(tmp_path / name) as picture:
            assert picture.bottom_first is bottom_first


def montage_stack(tmp_path, pieces, size="30 20", at=None):
    """Pieces of 20 x 30 px cut from one picture at their lower left corners, and the metadata beside them."""
    whole = np.random.default_rng(0).normal(size=(34, 52)).astype(np.float32)
    stack = np.stack([whole[y : y + 20, x : x + 30] for x, y in pieces])
    text = "".join(
        f"[ZValue = {n}]\nPieceCoordinates = {x} {y} {z}\n\n"
        for n, (x, y, z) in enumerate(at or [(*p, 0) for p in pieces])
    )
    (tmp_path / "m.mrc.mdoc").write_text(f"ImageSize = {size}\nMontage = 1\n\n{text}")
    with mrcfile.new(tmp_path / "m.mrc") as file:
        file.set_data(stack)
    return tmp_path / "m.mrc", whole


CORNERS = [(0, 0), (0, 14), (22, 14), (22, 0)]


def test_the_pieces_of_a_montage_of_serialem_are_put_at_their_places(tmp_path):
    path, whole = montage_stack(tmp_path, CORNERS)
    with opened_image(path) as picture:
        assert (picture.shape, picture.bottom_first) == ((34, 52), True)
        assert np.array_equal(picture.rows(9, 25), whole[9:25])
    assert np.array_equal(read_image(path), whole)


def test_each_piece_of_a_montage_is_taken_to_the_middle_of_its_overlaps(tmp_path):
    path, _ = montage_stack(tmp_path, CORNERS)
    with mrcfile.open(path, mode="r+") as file:
        for number in range(4):
            file.data[number] = number + 1
    image = read_image(path)
    assert image[:17, :26].tolist() == np.full((17, 26), 1).tolist()
    assert image[17:, 26:].tolist() == np.full((17, 26), 3).tolist()
    assert (image[0, 51], image[33, 0]) == (4, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"size": "31 20"},
        {"at": [(0, 0, 0), (0, 14, 0), (22, 14, 0)]},
        {"at": [(0, 0, 0), (0, 14, 0), (22, 14, 1), (22, 0, 1)]},
        {"at": [(0, 0, 0), (0, 14, 0), (1e300, 14, 0), (22, 0, 0)]},
        {"at": [(0, 0, 0), (0, 14, 0), (22.5, 14, 0), (22, 0, 0)]},
    ],
    ids=["size of another", "a piece without place", "two montages", "far away", "no whole pixel"],
)
def test_a_stack_whose_metadata_do_not_say_one_montage_is_refused(tmp_path, change):
    path, _ = montage_stack(tmp_path, CORNERS, **change)
    with pytest.raises(
        InputError, match=r"must hold one picture\. Got a stack of 4 instead.*keep the \.mdoc beside it"
    ):
        read_image(path)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.uint16, np.float32, np.float16])
def test_mrc_files_of_every_kind_are_read(tmp_path, kind):
    pixels = (PIXELS // 2).astype(kind)
    assert np.array_equal(read_image(mrc(tmp_path / "a.mrc", pixels)), pixels.astype(np.float32))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("stamp", "flags", "is_unsigned"),
    [(1146047817, 0, True), (1146047817, 4, True), (1146047817, 1, False), (0, 0, False), (5, 0, False)],
)
def test_bytes_of_an_mrc_are_unsigned_where_the_stamp_of_imod_says_so(
    tmp_path, order, stamp, flags, is_unsigned
):
    head = bytearray(1024)
    for offset, value in (
        (0, 3),
        (4, 2),
        (8, 1),
        (12, 0),
        (64, 1),
        (68, 2),
        (72, 3),
        (152, stamp),
        (156, flags),
    ):
        head[offset : offset + 4] = np.array([value], f"{order}i4").tobytes()
    head[208:212] = b"MAP "
    path = tmp_path / "bytes.mrc"
    path.write_bytes(bytes(head) + bytes([0, 100, 127, 128, 200, 255]))
    expected = [0, 100, 127, 128, 200, 255] if is_unsigned else [0, 100, 127, -128, -56, -1]
    assert read_image(path).ravel().tolist() == expected


def test_an_mrc_file_without_a_known_machine_stamp_is_read(tmp_path):
    path = mrc(tmp_path / "a.mrc", PIXELS.astype(np.float32))
    content = bytearray(path.read_bytes())
    content[212:216] = b"\0\0\x44\x44"
    path.write_bytes(content)
    assert np.array_equal(read_image(path), PIXELS)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("shape", [(256, 512), (512, 256), (100, 700)])
def test_bytes_of_either_order_of_the_header_are_read_whatever_their_size(tmp_path, order, shape):
    data = np.random.default_rng(0).integers(-128, 128, shape, dtype=np.int8)
    header = np.zeros(256, f"{order}i4")
    header[:4] = *shape[::-1], 1, 0
    header[16:19] = 1, 2, 3
    path = tmp_path / "a.mrc"
    path.write_bytes(header.tobytes() + data.tobytes())
    assert np.array_equal(read_image(path), data)


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


def tiff_of(directories: int, whole: bool = True, loop: bool = False) -> bytes:
    """A TIFF of 4 x 4 pixels with further directories; whole : each of them is a picture"""
    picture = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 0), (278, 4), (279, 16)]
    parts, at = [b"II*\0" + struct.pack("<I", 8)], 8
    for number in range(directories):
        entries = picture if whole or number == 0 else [(254, 0)]
        at += 2 + 12 * len(entries) + 4
        content = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
        follows = at if number < directories - 1 else (8 if loop else 0)
        parts.append(struct.pack("<H", len(entries)) + content + struct.pack("<I", follows))
    return b"".join(parts)


def png_of(*chunks: bytes, times: int = 1) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    further = b"".join(chunk(each, b"") for each in chunks) * times
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + further
        + chunk(b"IDAT", zlib.compress(bytes(20)))
        + chunk(b"IEND", b"")
    )


LONG = {
    "80,000 directories": (tiff_of(80_000), r"must hold one picture. Got 1,000 or more"),
    "80,000 directories without pictures": (tiff_of(80_000, whole=False), "must hold one picture"),
    "directories in a circle": (tiff_of(1, loop=True), "directories that lead nowhere"),
    "two directories, the second without width": (tiff_of(2, whole=False), "must hold one picture. Got 2"),
    "a directory of 60,000 entries": (
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 60_000) + bytes(12 * 60_000 + 4),
        "a directory of more than 4,096 entries",
    ),
    "values that overlap": (
        b"II*\0"
        + struct.pack("<IH", 8, 3000)
        + b"".join(struct.pack("<HHII", 300 + n, 1, 30_000, 8) for n in range(3000))
        + bytes(4),
        "a directory of more values than the file has bytes",
    ),
    "600,000 chunks": (png_of(b"IDAT", times=600_000), "more than 100,000 chunks"),
    "a million segments": (b"\xff\xd8" + b"\xff\xe1\0\4ab" * 1_000_000, "more than 100,000 segments"),
    "filled with nothing": (b"\xff\xd8" + b"\xff" * 5_000_000, "or filled with nothing"),
    "decoded again and again": (
        b"\xff\xd8\xff\xdb" + b"\xff\xda\0\x08\1\1\0\0\0\0" * 1000,
        "more than 20 scans",
    ),
    "a TIFF that ends in its directory": (tiff_of(1)[:30], "ends too early"),
}


@pytest.mark.parametrize("what", LONG)
def test_a_picture_made_to_take_long_is_refused_at_once(tmp_path, what):
    content, got = LONG[what]
    path = tmp_path / "a.img"
    path.write_bytes(content)
    began = time.process_time()
    with pytest.raises(InputError, match=got):
        read_image(path)
    # Generous: without the look at the parts these take a second to many minutes.
    assert time.process_time() - began < 0.5


def test_a_tiff_made_by_hand_is_read(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_of(1))
    assert read_image(path).shape == (4, 4)


@settings(max_examples=share(100))
@given(
    kind=st.sampled_from(["png", "jpg", "tif", "mrc"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=8)), max_size=6),
    at_start=st.booleans(),
)
def test_a_damaged_picture_is_read_or_refused(tmp_path_factory, kind, changes, at_start):
    folder = tmp_path_factory.getbasetemp()
    path, damaged = folder / f"whole.{kind}", folder / f"damaged.{kind}"
    if not path.exists():
        if kind == "mrc":
            mrc(path, PIXELS.astype(np.float32))
        else:
            Image.fromarray(PIXELS).save(path)
    data = path.read_bytes()
    for place, length, put in changes:
        at = int(place * (min(len(data), 300) if at_start else len(data)))
        data = data[:at] + put + data[at + length :]
    damaged.write_bytes(data)
    for read in (read_image, lambda file: find_holes_of(file)):
        try:
            read(damaged)
        except CryoscoutError:
            continue


def find_holes_of(path: Path) -> None:
    with images.opened_image(path) as picture:
        find_holes(picture)


def test_a_large_picture_is_read_by_blocks_with_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_BLOCK_PIXELS", 40)
    pixels = np.arange(500 * 17, dtype=np.uint16).reshape(500, 17)
    for suffix in ("png", "tif"):
        Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
        assert np.array_equal(read_image(tmp_path / f"a.{suffix}"), pixels)
    assert np.array_equal(read_image(mrc(tmp_path / "a.mrc", pixels)), pixels)
