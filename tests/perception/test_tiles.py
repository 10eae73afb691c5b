"""The tiles of a montage: by the metadata that SerialEM wrote beside it, by its navigator, or not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryoscout.formats.serialem.nav import read_nav
from cryoscout.perception.tiles import Tile, quarters, tiles_beside, tiles_of_map

DATA = Path(__file__).parents[1] / "formats" / "data" / "serialem"


def montage(path: Path, pieces: list[tuple[int, int]], size: str = "100 80") -> Path:
    head = f"ImageSize = {size}\nMontage = 1\n"
    parts = [f"\n[ZValue = {n}]\nPieceCoordinates = {x} {y} 0\n" for n, (x, y) in enumerate(pieces)]
    path.with_name(f"{path.name}.mdoc").write_text(head + "".join(parts))
    return path


def test_pieces_overlap_and_each_tile_ends_in_the_middle_of_its_overlaps(tmp_path):
    path = montage(tmp_path / "m.jpg", [(0, 0), (90, 0), (0, 70), (90, 70)])
    # The montage is 190 x 150 px; y points upward, rows of a JPEG downward.
    assert tiles_beside(path, (150, 190), bottom_first=False) == (
        Tile(0, 75, 0, 95), Tile(0, 75, 95, 190), Tile(75, 150, 0, 95), Tile(75, 150, 95, 190),
    )  # fmt: skip


def test_row_0_of_an_mrc_is_its_lowest_and_a_smaller_picture_has_smaller_tiles(tmp_path):
    pieces = [(0, 0), (90, 0), (0, 70)]
    upward = tiles_beside(montage(tmp_path / "m.mrc", pieces), (75, 95), bottom_first=True)
    assert upward == (Tile(0, 37.5, 0, 47.5), Tile(0, 37.5, 47.5, 95), Tile(37.5, 75, 0, 47.5))
    downward = tiles_beside(montage(tmp_path / "m.png", pieces), (75, 95), bottom_first=False)
    assert downward == (Tile(0, 37.5, 0, 47.5), Tile(37.5, 75, 0, 47.5), Tile(37.5, 75, 47.5, 95))


def test_a_real_montage_has_the_tiles_of_its_metadata(tmp_path):
    text = (DATA / "mdocfile_montage_section.mdoc").read_text()
    path = tmp_path / "LMM.png"
    path.with_name("LMM.mrc.mdoc").write_text(text)
    pieces = {line for line in text.splitlines() if line.startswith("PieceCoordinates")}
    width = max(int(line.split()[2]) for line in pieces) + 5064
    height = max(int(line.split()[3]) for line in pieces) + 3976
    found = tiles_beside(path, (height // 8, width // 8), bottom_first=False)
    assert found is not None
    assert len(found) == len(pieces)
    assert max(tile.bottom for tile in found) == pytest.approx(height // 8)
    assert max(tile.right for tile in found) == pytest.approx(width // 8)


@pytest.mark.parametrize(
    ("pieces", "size", "shape"),
    [
        ([(0, 0), (90, 0)], "100 80", (80, 300)),
        ([(0, 0)], "100 80", (80, 100)),
        ([(0, 0), (90, 0)], "100", (80, 190)),
        ([(0, 0), (90, 0)], "inf inf", (80, 190)),
        ([(0, 0), (90, 0)], "1e-320 1e-320", (80, 190)),
        ([(0, 0), (1e308, 0), (-1e308, 0)], "100 80", (80, 190)),
    ],
    ids=["picture of another shape", "one piece", "size that is none", "no end", "no size", "far away"],
)
def test_what_does_not_fit_the_picture_says_no_tiles(tmp_path, pieces, size, shape):
    assert tiles_beside(montage(tmp_path / "m.jpg", pieces, size), shape, bottom_first=False) is None


def test_without_a_file_beside_it_a_picture_has_no_known_tiles(tmp_path):
    assert tiles_beside(tmp_path / "m.jpg", (100, 100), bottom_first=False) is None
    (tmp_path / "m.jpg.mdoc").write_text("nothing of SerialEM")
    assert tiles_beside(tmp_path / "m.jpg", (100, 100), bottom_first=False) is None
    # A file beside it would have a name that is too long for a file.
    assert tiles_beside(tmp_path / f"{'m' * 250}.jpg", (100, 100), bottom_first=False) is None
    assert quarters((100, 101))[-1] == Tile(50, 100, 50, 101)


def test_a_navigator_says_how_many_frames_its_map_has(tmp_path):
    text = (DATA / "pyserialem_nav.nav").read_text()
    text = text.replace("MapMontage = 0", "MapMontage = 1").replace("MapFramesXY = 0 0", "MapFramesXY = 3 2")
    path = tmp_path / "grid.nav"
    path.write_text(text)
    (item,) = [each for each in read_nav(path).maps if each.is_montage]
    found = tiles_of_map(item, (200, 300))
    assert found is not None
    assert (len(found), found[0], found[-1]) == (6, Tile(0, 100, 0, 100), Tile(100, 200, 200, 300))
    single = next(each for each in read_nav(DATA / "pyserialem_nav.nav").maps)
    assert tiles_of_map(single, (200, 300)) is None
