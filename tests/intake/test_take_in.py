"""Imports into a stored session: those that come at the same time, and results that come before their images."""

from __future__ import annotations

import pytest
from reader_samples import SAMPLES, Sample

from cryoscout.core.telling import SILENT
from cryoscout.intake import take_in
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.take_in import Sources, update_session
from cryoscout.session.model import session_without_rows
from cryoscout.session.store import SessionStore

TABLES = {
    "a.csv": "grid,square,hole,name,ctf\ng,s1,h1,m1.mrc,3.5\ng,s1,h2,m2.mrc,4.5\n",
    "b.csv": "grid,square,hole,name,ctf\ng,s1,h2,m2.mrc,4.5\ng,s1,h3,m3.mrc,5.5\n",
}


def table(tmp_path, name):
    path = tmp_path / name
    path.write_text(TABLES[name])
    return Sources([path], [], ReadOptions(), name)


@pytest.mark.parametrize("second", [pytest.param("a.csv", marks=pytest.mark.slow), "b.csv"])
def test_of_two_first_imports_at_once_the_later_one_adds_what_is_new(tmp_path, monkeypatch, second):
    place = tmp_path / "night.session"
    with SessionStore.create(place) as store:
        store.save_import(session_without_rows("night"), source="nothing yet")
    read = take_in.read_session

    def read_while_another_comes(sources, telling):
        monkeypatch.setattr(take_in, "read_session", read)
        update_session(place, table(tmp_path, "a.csv"), SILENT)
        return read(sources, telling)

    monkeypatch.setattr(take_in, "read_session", read_while_another_comes)
    update_session(place, table(tmp_path, second), SILENT)
    with SessionStore.open(place) as store:
        session = store.load()
    wanted = ["h1", "h2"] if second == "a.csv" else ["h1", "h2", "h3"]
    assert session.holes["hole_id"].tolist() == wanted
    assert session.exposures["exposure_id"].tolist() == [f"m{hole[1]}" for hole in wanted]
    assert session.name == "night"


HOLES = "grid,square,hole\ng,s1,h1\ng,s1,h2\ng,s1,h3\n"
IMAGES = {
    "first": "grid,square,hole,micrograph\ng,s1,h1,a.mrc\ng,s1,h2,m1.mrc\n",
    "second": "grid,square,hole,micrograph\ng,s1,h3,b.mrc\n",
}
CTFFIND = (
    "# Output from CTFFind version 4.1.14, run on 2020-01-01 10:00:00\n"
    "# Input file: m1.mrc ; Number of micrographs: 1\n"
    "# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]\n"
    "1.000000 10295.926758 10012.275391 -38.856349 0.000000 0.030650 5.25\n"
)
RESULTS = {
    "relion": [SAMPLES["relion"]],
    "cryosparc": [SAMPLES["cryosparc numpy"]],
    "gctf table": [SAMPLES["gctf table"]],
    "gctf logs": [SAMPLES["gctf log"]],
    "ctffind": [Sample("m1.txt", CTFFIND.encode(), "ctffind", True)],
    "own table": [Sample("own.csv", b"micrograph,ctf\nb.mrc,3.5\nm1.mrc,4.5\n", "generic", True)],
}
VALUES = {
    "relion": {"a": 3.5, "b": 25.0},
    "cryosparc": {"a": 3.5, "b": 4.5},
    "gctf table": {"a": 3.464, "b": 12.5},
    "gctf logs": {"m1": 3.464},
    "ctffind": {"m1": 5.25},
    "own table": {"b": 3.5, "m1": 4.5},
}


def written(tmp_path, **texts):
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return [tmp_path / f"{name}.csv" for name in texts]


def results_of(tmp_path, kind):
    """The results of that kind, a folder where it is of a file for each micrograph."""
    place = tmp_path / "ctf"
    place.mkdir()
    for sample in RESULTS[kind]:
        (place / sample.file).write_bytes(sample.data)
    return place if kind in ("gctf logs", "ctffind") else place / RESULTS[kind][0].file


def update(place, *paths):
    return update_session(place, Sources(paths, [], ReadOptions(), "tests"), SILENT)


def measured(place):
    with SessionStore.open(place) as store:
        rows = store.load().exposures
    return dict(rows.loc[rows["outcome"] == "measured", ["exposure_id", "ctf_max_res_angstrom"]].values)


@pytest.mark.parametrize("beside", ["alone", "beside the images"])
@pytest.mark.parametrize("kind", RESULTS)
def test_results_read_before_their_images_join_when_these_have_come(tmp_path, kind, beside):
    place = tmp_path / "night.session"
    holes, first, second = written(tmp_path, holes=HOLES, **IMAGES)
    results = results_of(tmp_path, kind)
    sources = Sources([holes, results], [], ReadOptions(), "tests")
    take_in.store_session(take_in.read_session(sources, SILENT), place, "tests", False, SILENT)
    assert measured(place) == {}
    so_far = {}
    for images, names in ((first, ("a", "m1")), (second, ("b",))):
        # The images come by an import of their own; what joined nothing before is read again, once.
        read, added = update(place, images)
        assert added["exposures"] == len(names)
        assert measured(place) == pytest.approx(so_far)
        named = [images, results] if beside == "beside the images" else [results]
        now = {name: VALUES[kind][name] for name in names if name in VALUES[kind]}
        so_far |= now
        read, added = update(place, *named)
        assert (added["outcomes"], list(read.unchanged)) == (len(now), [])
        assert measured(place) == pytest.approx(so_far)
        read, added = update(place, *named)
        assert (added, list(read.unchanged)) == ({}, named)


def test_results_whose_images_were_recorded_live_since_are_read_again(tmp_path):
    place = tmp_path / "night.session"
    [holes] = written(tmp_path, holes=HOLES)
    results = results_of(tmp_path, "relion")
    sources = Sources([holes, results], [], ReadOptions(), "tests")
    take_in.store_session(take_in.read_session(sources, SILENT), place, "tests", False, SILENT)
    with SessionStore.open(place) as store:
        store.record_imaged("h1", exposure_id="a")
    assert update(place, results)[1]["outcomes"] == 1
    assert measured(place) == {"a": 3.5}
    assert list(update(place, results)[0].unchanged) == [results]
