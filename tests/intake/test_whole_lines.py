"""A table that is read while it is written: half a row is none, and it is read when it is whole."""

from __future__ import annotations

import os
import time

from cryoscout.core.telling import SILENT
from cryoscout.intake.follow import FollowedSources
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.take_in import Sources, read_session, store_session
from cryoscout.intake.whole_lines import SETTLED_S, WholeLines
from cryoscout.session.store import SessionStore

HEAD = "grid,square,hole,exposure,ctf\n"
STAR = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCtfMaxResolution #2\n"


def results_of(folder):
    with SessionStore.open(folder) as store:
        exposures = store.load().exposures
    known = exposures.dropna(subset=["ctf_max_res_angstrom"])
    return dict(zip(known["exposure_id"], known["ctf_max_res_angstrom"], strict=True))


def test_half_a_value_is_not_taken_for_a_value(tmp_path):
    table, star, folder = tmp_path / "own.csv", tmp_path / "micrographs_ctf.star", tmp_path / "own.session"
    table.write_text(HEAD + "g,s,h1,e1,3.5\ng,s,h2,e2,\n")
    star.write_text(STAR)
    sources = Sources([table, star], [], ReadOptions(permissive=True), "tests")
    store_session(
        read_session(Sources([table], [], sources.options, "t"), SILENT), folder, "t", False, SILENT, None
    )
    with FollowedSources(folder, sources) as followed:
        followed.take_in()
        with table.open("a") as file:
            file.write("g,s,h3,e3,4.")  # 4.7 to be
        taken = followed.take_in([table])
        assert table in taken.waiting
        assert results_of(folder) == {"e1": 3.5}
        with table.open("a") as file:
            file.write("7\n")
        assert table not in followed.take_in([table]).waiting
        assert results_of(folder) == {"e1": 3.5, "e3": 4.7}
        with star.open("a") as file:
            file.write("e2.mrc 1")  # 12.5 to be
        followed.take_in([star])
        assert results_of(folder) == {"e1": 3.5, "e3": 4.7}
        with star.open("a") as file:
            file.write("2.5\n")
        followed.take_in([star])
        assert results_of(folder) == {"e1": 3.5, "e2": 12.5, "e3": 4.7}


def test_a_file_that_rests_is_taken_as_it_is(tmp_path):
    now_s = [0.0]
    lines = WholeLines(lambda: now_s[0])
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2")
    assert lines.unfinished_bytes(path) == 3
    now_s[0] += SETTLED_S + 1
    assert lines.unfinished_bytes(path) == 0
    path.write_text("a,b\n1,2\n3")
    assert lines.unfinished_bytes(path) == 1  # it goes on
    binary = tmp_path / "a.mrc"
    binary.write_bytes(b"\0\1")
    assert lines.unfinished_bytes(binary) == 0


def test_a_clock_of_the_disk_that_is_behind_makes_no_half_value_a_whole_one(tmp_path):
    """A server of files whose clock is an hour behind: what is written now looks as if it had rested for an hour."""
    table, folder = tmp_path / "own.csv", tmp_path / "own.session"
    table.write_text(HEAD + "g,s,h1,e1,3.5\n")
    sources = Sources([table], [], ReadOptions(permissive=True), "tests")
    store_session(read_session(sources, SILENT), folder, "t", False, SILENT, None)
    with FollowedSources(folder, sources) as followed:
        followed.take_in()
        with table.open("a") as file:
            file.write("g,s,h2,e2,4.")  # 4.7 to be
        behind = time.time() - 3600.0
        os.utime(table, (behind, behind))
        assert table in followed.take_in([table]).waiting
        assert results_of(folder) == {"e1": 3.5}
