"""`cryoscout simulate`: a stored session, the same for the same seed."""

from __future__ import annotations

import json

from cryoscout.session.store import SessionStore


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
    assert "--force" in answer.err
    assert answer.err.count("\n") == 1
    assert (tmp_path / sim / "session.db").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sim.session"]
    assert cli("simulate --preset small --holes 50 -o sim.session --force").code == 0


def test_an_unknown_preset_offers_the_nearest_and_leaves_nothing(cli, tmp_path):
    answer = cli("simulate --preset smal -o x.session")
    assert answer.code == 2
    assert answer.err.endswith("Got 'smal' instead. Did you mean 'small'?\n")
    assert list(tmp_path.iterdir()) == []
