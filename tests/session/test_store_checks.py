"""One flipped bit of the disk: a store is as it was written, or refused as damaged; never other numbers."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from store_examples import assert_same

from cryoscout.core.errors import StoreError
from cryoscout.session.damage import damage_of
from cryoscout.session.place import DATABASE
from cryoscout.session.store import SessionStore
from session_with_images import bright, images_of, stored, tiny_session, truth


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session with images, results recorded live and a prediction."""
    place = stored(
        tmp_path_factory.mktemp("whole") / "tiny.session",
        tiny_session(),
        images_of(tiny_session(), bright(truth())),
    )
    with SessionStore.open(place) as store:
        holes = store.load().holes["hole_id"].tolist()
        for hole in holes[100:104]:
            store.record_imaged(hole)
    return Path(place)


def flips(whole: Path, tmp_path: Path, count: int, seed: int) -> tuple[int, int]:
    """How many of so many single flips were refused, and how many changed nothing. Fails at any that told nothing."""
    with SessionStore.open_for_reading(whole) as store:
        expected, events = store.load(), list(store.events())
    rng = np.random.default_rng(seed)
    content = (whole / DATABASE).read_bytes()
    place = tmp_path / "tiny.session"
    shutil.copytree(whole, place)
    refused = 0
    for _ in range(count):
        at, bit = int(rng.integers(len(content))), int(rng.integers(8))
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        for left in place.glob(f"{DATABASE}-*"):
            left.unlink()
        (place / DATABASE).write_bytes(flipped)
        try:
            with SessionStore.open(place) as store:
                session, said = store.load(), list(store.events())
        except StoreError as error:
            said_of_damage = str(error)
        else:
            said_of_damage = ""
        if said_of_damage:
            assert str(place) in said_of_damage, f"byte {at}, bit {bit}"
            assert "damaged" in said_of_damage or "session store" in said_of_damage, f"byte {at}, bit {bit}"
            refused += 1
            continue
        assert_same(session, expected)
        assert said == events, f"byte {at}, bit {bit}"
    return refused, count - refused


def test_a_flipped_bit_changes_nothing_or_is_refused(whole: Path, tmp_path: Path) -> None:
    refused, harmless = flips(whole, tmp_path, 25, seed=0)
    assert refused > 0
    assert refused + harmless == 25


@pytest.mark.slow
def test_a_thousand_flipped_bits_change_nothing_or_are_refused(whole: Path, tmp_path: Path) -> None:
    refused, harmless = flips(whole, tmp_path, 1000, seed=1)
    print(f"{refused} refused, {harmless} without effect")  # noqa: T201
    assert refused > 50


def test_a_number_that_was_changed_behind_the_store_is_told_with_its_table(
    whole: Path, tmp_path: Path
) -> None:
    place = tmp_path / "tiny.session"
    shutil.copytree(whole, place)
    with closing(sqlite3.connect(place / DATABASE)) as database, database:
        database.execute("DROP TRIGGER exposures_touched_by_update")
        database.execute(
            "UPDATE exposures SET ctf_max_res_angstrom = ctf_max_res_angstrom + 1 WHERE rowid = 3"
        )
    with (
        SessionStore.open(place) as store,
        pytest.raises(
            StoreError,
            match=r"rows of its table .* it is damaged\. Remedy: restore it from a copy, or import",
        ),
    ):
        store.load()


def test_an_image_file_that_changed_is_not_used(whole: Path, tmp_path: Path) -> None:
    place = tmp_path / "tiny.session"
    shutil.copytree(whole, place)
    with SessionStore.open(place) as store:
        patch = store.load().patches["patch_id"].iloc[0]
        assert store.images(patch) is not None
        file = sorted((place / "images").iterdir())[0]
        content = bytearray(file.read_bytes())
        content[-7] ^= 4
        file.write_bytes(content)
        with pytest.raises(ValueError, match="differs from its checksum: it is damaged"):
            store.images(patch)


def test_the_note_of_which_files_were_read_is_checked_too(tmp_path: Path) -> None:
    place = tmp_path / "tiny.session"
    with SessionStore.create(place) as store:
        store.save_import(tiny_session(), "tests", files={"/a": {"x.csv": (10, 20)}})
    with closing(sqlite3.connect(place / DATABASE)) as connection, connection:
        connection.execute("DROP TRIGGER files_touched_by_update")
        connection.execute("UPDATE files SET size = 11")

    with SessionStore.open(place) as store, pytest.raises(StoreError, match="rows of its table files"):
        store.files()
    assert [what for what, _ in damage_of(place)] == ["tables"]


def test_a_folder_of_data_is_told_from_a_store_whose_import_was_cut_off(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(
        StoreError, match=r"which is none\. Remedy: .*cryoscout import FOLDER -o NAME\.session"
    ):
        SessionStore.open(tmp_path)
