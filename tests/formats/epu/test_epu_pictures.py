"""EPU's pictures of squares are found by folder and time."""

from __future__ import annotations

from cryoscout.formats.epu.pictures import square_of_picture, square_pictures


def test_the_newest_picture_of_each_square_is_found_from_session_disc_and_square(tmp_path):
    for disc, square, name in (
        ("Images-Disc1", "7", "GridSquare_20240101_100000.jpg"),
        ("Images-Disc2", "7", "GridSquare_20240101_1200.jpg"),
        ("Images-Disc2", "7", "GridSquare_20240101_120000.mrc"),
        ("Images-Disc1", "12", "GridSquare_20240101_100000.mrc"),
        ("Images-Disc1", "12", "GridSquare_20240101_100000.xml"),
        ("Images-Disc1", "13", "other.jpg"),
    ):
        folder = tmp_path / disc / f"GridSquare_{square}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    found = square_pictures(tmp_path)
    assert list(found) == ["7", "12"]
    assert found["7"] == tmp_path / "Images-Disc2" / "GridSquare_7" / "GridSquare_20240101_1200.jpg"
    assert found["12"].name == "GridSquare_20240101_100000.mrc"
    assert square_of_picture(found["7"]) == "7"
    assert list(square_pictures(tmp_path / "Images-Disc1")) == ["7", "12"]
    assert list(square_pictures(tmp_path / "Images-Disc2" / "GridSquare_7")) == ["7"]
    assert square_pictures(tmp_path / "nowhere") == {}
