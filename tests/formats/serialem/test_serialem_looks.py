"""When a square of a SerialEM session was looked at: from the metadata of the stack of its map, by place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from test_serialem import MADE, rows

from cryoscout.formats.serialem.session import read_source


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A folder with the navigator of two squares, whose maps are sections 0 and 1 of one stack."""
    shutil.copy(MADE, tmp_path / "grid1.nav")
    return tmp_path


SQUARES_UM = {"3-A": "-212.4 341.7", "4-A": "96.3 -131.8"}


def section(number: int, time: str, stage: str, piece: str = "") -> str:
    more = f"PieceCoordinates = {piece}\n" if piece else ""
    return f"[ZValue = {number}]\n{more}StagePosition = {stage}\nDateTime = 05-Jan-24  {time}\n\n"


def test_a_square_was_looked_at_when_the_first_piece_of_its_map_was_taken(session):
    # Section 0 of the stack is a montage of two pieces, section 1 one of one.
    first, second = SQUARES_UM.values()
    pieces = [
        (0, "10:00:46", first, "0 0 0"), (1, "10:00:57", "-220 350", "0 3400 0"), (2, "10:04:30", second, "0 0 1"),
    ]  # fmt: skip
    text = "ImageFile = grid1_MMM.mrc\nMontage = 1\n\n" + "".join(section(*each) for each in pieces)
    (session / "grid1_MMM.mrc.mdoc").write_text(text)
    looked = [
        ("3-A", True, pd.Timestamp(2024, 1, 5, 10, 0, 46)),
        ("4-A", True, pd.Timestamp(2024, 1, 5, 10, 4, 30)),
    ]
    assert rows(read_source(session).squares, "square_id", "looked", "looked_at") == looked
    # A stack of the same name of another grid was not taken there.
    elsewhere = [(number, "11:00:00", "5000 5000", piece) for number, _, _, piece in pieces]
    (session / "other").mkdir()
    other = session / "other" / "grid1_MMM.mrc.mdoc"
    other.write_text("ImageFile = grid1_MMM.mrc\n\n" + "".join(section(*each) for each in elsewhere))
    assert rows(read_source(session).squares, "square_id", "looked", "looked_at") == looked
    (session / "grid1_MMM.mrc.mdoc").unlink()
    assert read_source(session).squares["looked_at"].isna().all()
    # Of two that were taken there nobody knows which one the map is.
    other.write_text(text)
    (session / "grid1_MMM.mrc.mdoc").write_text(text)
    assert read_source(session).squares["looked_at"].isna().all()


def test_a_map_of_a_single_image_says_when_too_and_one_without_a_time_or_place_says_nothing(session):
    first, second = SQUARES_UM.values()
    text = "ImageFile = grid1_MMM.mrc\n\n" + section(0, "10:00:46", first)
    (session / "grid1_MMM.mrc.mdoc").write_text(text + f"[ZValue = 1]\nStagePosition = {second}\n")
    squares = read_source(session).squares
    assert squares["looked_at"].tolist()[0] == pd.Timestamp(2024, 1, 5, 10, 0, 46)
    assert pd.isna(squares["looked_at"].iloc[1])
    (session / "grid1_MMM.mrc.mdoc").write_text(text.replace(f"StagePosition = {first}\n", ""))
    assert read_source(session).squares["looked_at"].isna().all()
