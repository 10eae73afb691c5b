"""`cryoscout simulate`: a stored session, the same for the same seed."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from cryoscout.perception.images import read_image
from cryoscout.session.store import SessionStore
from cryoscout.simulate.images import hole_crops
from cryoscout.simulate.presets import SCENE_PRESETS, image_settings_named
from cryoscout.simulate.scene import simulate_scene


def test_a_simulated_session_is_stored_and_told(cli, tmp_path):
    answer = cli("simulate --preset small --holes 80 --seed 4 -o some.session --json")
    assert answer.code == 0
    told = json.loads(answer.out)
    assert (told["session"], told["preset"], told["seed"], told["holes"]) == ("some", "small", 4, 80)
    with SessionStore.open(tmp_path / "some.session") as store:
        assert store.load().n_holes == 80


def test_the_same_seed_gives_the_same_session_and_another_seed_another(cli, tmp_path):
    def holes(name: str, seed: int):
        assert cli("simulate --preset small --holes 80 --seed", seed, "-o", name).code == 0
        with SessionStore.open(tmp_path / name) as store:
            return store.load().exposures

    first = holes("a.session", 4)
    assert first.equals(holes("b.session", 4))
    assert not first.equals(holes("c.session", 5))


def test_an_existing_session_is_kept_without_force(cli, sim, tmp_path):
    before = (tmp_path / sim / "session.db").read_bytes()
    answer = cli("simulate --preset small -o sim.session")
    assert answer.code == 2
    assert "--update" in answer.err
    assert answer.err.count("\n") == 1
    assert (tmp_path / sim / "session.db").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sim.session"]
    assert cli("simulate --preset small --holes 50 -o sim.session --force").code == 0


def test_an_unknown_preset_offers_the_nearest_and_leaves_nothing(cli, tmp_path):
    answer = cli("simulate --preset smal -o x.session")
    assert answer.code == 2
    assert answer.err.endswith("Got 'smal' instead. Did you mean 'small'?\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("preset", "holes", "patches"),
    [
        ("y1-sim", 20, 1),
        ("y3", 24, 2),
        pytest.param("y1-sim", 60, 3, marks=pytest.mark.slow),
        pytest.param("y3", 60, 5, marks=pytest.mark.slow),
    ],
)
def test_a_preset_with_images_stores_the_crop_of_every_hole(preset, holes, patches, cli, tmp_path):
    answer = cli(
        f"simulate --preset {preset} --holes {holes} --seed 2 --crop-px 24 -o pictures.session --json"
    )
    assert answer.code == 0
    told = json.loads(answer.out)
    assert (told["holes"], told["crops"], told["crop_px"], told["mrc_files"]) == (holes, holes, 24, 0)
    scaled = {name: told[name] for name in ("holes", "patches", "squares", "grids")}
    assert scaled == {"holes": holes, "patches": patches, "squares": 1, "grids": 1}
    settings = SCENE_PRESETS[preset]
    scene = simulate_scene(type(settings).model_validate({**settings.model_dump(), **scaled}), 2)
    with SessionStore.open(tmp_path / "pictures.session") as store:
        holes = store.load().holes
        for patch, (patch_id, of_patch) in enumerate(holes.groupby("patch_id")):
            crops = store.images(str(patch_id))
            assert crops.dtype == np.uint8
            assert sorted(of_patch["image_row"]) == list(range(len(crops)))
            assert (crops == hole_crops(scene, patch, image_settings_named(preset), 24)).all()


def test_images_can_be_left_out_and_written_as_mrc(cli, tmp_path):
    answer = cli("simulate --preset y1-sim --holes 20 --no-images --mrc pictures -o x.session")
    assert answer.code == 0
    assert "Images: no crops, 2 MRC files in pictures" in answer.out
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["p1.mrc", "s1.mrc"]
    assert read_image(tmp_path / "pictures" / "p1.mrc").shape[0] >= 1024
    assert not list((tmp_path / "x.session").rglob("*.npy"))
    with SessionStore.open(tmp_path / "x.session") as store:
        assert store.load().holes["image_row"].isna().all()
    again = cli("simulate --preset y1-sim --holes 20 --no-images --mrc pictures -o y.session")
    assert again.code == 2
    assert "must hold none yet" in again.err
    assert cli("simulate --preset y1-sim --holes 20 --mrc pictures --force -o y.session").code == 0


def test_the_same_seed_gives_the_same_images(cli, tmp_path):
    for name in "ab":
        assert cli(f"simulate --preset y3 --holes 30 --seed 5 --crop-px 16 -o {name}.session").code == 0
    files = [sorted((tmp_path / f"{name}.session").rglob("*.npy")) for name in "ab"]
    assert len(files[0]) > 1
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--preset small --images", "The preset must have images.*y1-sim.*Got small.*Remedy"),
        ("--preset daily --crop-px 32", "The preset must have images.*Got daily"),
        ("--preset y1-like --mrc pictures", "The preset must have images"),
        ("--preset y1-sim --crop-px 8", "side of a crop must be 16 to 150 px.*Got 8"),
        ("--preset y1-sim --crop-px 64 --no-images", "--crop-px must be left out"),
        ("--preset y1-sim --mrc no/such", "must exist"),
        ("--preset y1-simm", "one of .*small.*y3.*Did you mean 'y1-sim'"),
    ],
)
def test_options_that_do_not_fit_are_refused_and_nothing_is_left(cli, tmp_path, options, message):
    answer = cli(f"simulate {options} -o x.session")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert re.search(message, answer.err)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_for_mrc_is_refused(cli, tmp_path):
    (tmp_path / "pictures").write_text("mine")
    answer = cli("simulate --preset y1-sim --mrc pictures -o x.session")
    assert (answer.code, (tmp_path / "pictures").read_text()) == (2, "mine")
    assert "must name a folder" in answer.err
