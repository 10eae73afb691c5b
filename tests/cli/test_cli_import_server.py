"""`cryoscout import https://...`: a SmartScope server beside files, its token shown to nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cryoscout.formats.ctf.relion import write_micrographs
from cryoscout.formats.smartscope.addresses import TOKEN_VARIABLE
from cryoscout.session.store import SessionStore
from smartscope_server import TOKEN, Server, running

DATA = Path(__file__).parents[1] / "formats" / "data"
GRID = DATA / "smartscope" / "made_by_hand_grid.yaml"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("CRYOSCOUT_SMARTSCOPE_TOKEN", TOKEN)
    with running(GRID) as state:
        yield state


def told_by(answer):
    assert answer.code == 0, answer.err
    assert TOKEN not in answer.out + answer.err
    return json.loads(answer.out)


def test_a_session_of_a_server_becomes_a_session_that_can_be_planned(cli, server, tmp_path):
    told = told_by(cli("import --smartscope-session run7 --json", server.address))
    assert (told["session"], told["format"], told["folder"]) == ("run7", "smartscope", "run7.session")
    assert [told[level] for level in ("grids", "squares", "holes", "exposures")] == [1, 2, 18, 6]
    assert told["outcomes"]["measured"] == 5
    assert any("SmartScope does not write when" in note for note in told["notes"])
    with SessionStore.open(tmp_path / "run7.session") as store:
        assert store.load().holes["x_um"].notna().sum() > 0
    assert TOKEN.encode() not in b"".join(
        file.read_bytes() for file in (tmp_path / "run7.session").rglob("*") if file.is_file()
    )
    plan = told_by(cli("plan run7.session --budget-min 60 --policy random --also-unchosen --json"))
    assert all(hole["hole"].startswith("H") for hole in plan["holes"])


def test_a_server_and_a_table_of_results_are_one_session(cli, server, tmp_path):
    write_micrographs(tmp_path / "ctf.star", ["Movies/grid1_square1_hole4_4_hm.mrc"], [3.1])
    line = "import ctf.star --smartscope-session run7 -o run7.session"
    told = told_by(cli(line + " --json", server.address))
    assert told["outcomes"]["measured"] == 6
    assert [join["joined"] for join in told["joins"]] == [6, 5, 1]
    with SessionStore.open(tmp_path / "run7.session") as store:
        results = store.load().exposures.set_index("exposure_id")["ctf_max_res_angstrom"]
    assert results["grid1_square1_hole4_4_hm"] == 3.1


def test_a_session_grows_with_its_server_and_with_the_table_beside_it(cli, server, tmp_path):
    write_micrographs(tmp_path / "ctf.star", ["Movies/late.mrc"], [3.1])
    line = "import ctf.star --smartscope-session run7 -o run7.session --update --json --allow-unjoined"
    assert told_by(cli(line, server.address))["exposures"] == 6
    again = told_by(cli(line, server.address))
    assert set(again["added"].values()) == {0}
    server.lists["highmag"].append(
        {"hm_id": "M7", "hole_id": "H2-1", "grid_id": "G1", "name": "late", "status": "completed"}
    )
    grown = told_by(cli(line, server.address))
    assert {what: count for what, count in grown["added"].items() if count} == {"exposures": 1}
    # The table has not changed, but what it is of was not there before.
    with SessionStore.open(tmp_path / "run7.session") as store:
        late = store.load().exposures.set_index("exposure_id").loc["late"]
    assert (late["outcome"], late["ctf_max_res_angstrom"]) == ("measured", 3.1)


def test_without_a_session_the_servers_sessions_are_named(cli, server, tmp_path):
    answer = cli("import", server.address)
    assert answer == (
        2,
        "",
        "A session of the server must be named. Got none instead. Sessions there: 'run7', 'run6'. Remedy: add "
        "--smartscope-session ID.\n",
    )
    answer = cli("import --smartscope-session run8", server.address)
    assert answer.code == 2
    assert "Got none for 'run8' instead. Sessions there: 'run7', 'run6'." in answer.err
    assert list(tmp_path.iterdir()) == []


def test_the_token_comes_from_a_file_where_one_is_named(cli, server, tmp_path, monkeypatch):
    monkeypatch.setenv("CRYOSCOUT_SMARTSCOPE_TOKEN", "wrong0token")
    answer = cli("import --smartscope-session run7", server.address)
    assert answer.code == 2
    assert "must accept the token. Got 401 at" in answer.err
    assert "Remedy: check the token" in answer.err
    assert "wrong0token" not in answer.err
    (tmp_path / "token").write_text(TOKEN + "\n")
    told_by(cli("import --smartscope-session run7 --token-file token --json", server.address))


def test_deviating_records_stop_the_import_or_are_left_out_and_named(cli, server):
    server.lists["holes"][0]["square_id"] = "S9"
    answer = cli("import --smartscope-session run7", server.address)
    assert answer.code == 2
    assert "smartscope/run7: hole H1-1: a hole must be of a square that is listed." in answer.err
    answer = cli("import --smartscope-session run7 --permissive --json", server.address)
    assert "Left out: smartscope/run7, hole H1-1: a hole must be" in answer.err
    assert told_by(answer)["left_out"] == 2


def test_a_redirection_to_another_host_never_gets_the_token(cli, server):
    with running(GRID) as other:
        server.answer, server.location = (302, b""), f"{other.address}/api/grids/"
        answer = cli("import --smartscope-session run7", server.address)
        assert answer.code == 2
        assert "Got a redirection (302) from" in answer.err
        assert "The token was not sent on." in answer.err
        assert other.tokens == []


def test_a_server_that_is_slow_ends_at_the_time_limit(cli, server):
    server.drip_s = 3.0
    answer = cli("import --smartscope-session run7 --timeout-s 0.3", server.address)
    assert answer.code == 2
    assert "must answer within 0.3 s" in answer.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "import http://scope.example.org --smartscope-session a",
            "A token must travel encrypted. Got http to",
        ),
        (
            "import http://scope.example.org --smartscope-session a",
            "Or add --insecure, where nobody else can listen.",
        ),
        (
            "import https://me:secret@host --smartscope-session a",
            "Got 'https://host' and more that is not shown",
        ),
        (
            "import https://host/?token=secret --smartscope-session a",
            "the token comes from a file or the variable",
        ),
        ("import ftp://host --smartscope-session a", "A SmartScope address must be https://HOST"),
        (
            "import https://a https://b --smartscope-session a",
            "must be imported from one server. Got 2 addresses",
        ),
        ("import y1 https://host", "A built-in session must be imported alone."),
        (
            "import y1 --smartscope-session a",
            "--smartscope-session must go with the address of a SmartScope server.",
        ),
        ("import x.csv --token-file a", "--token-file must go with the address of a SmartScope server."),
        ("import x.csv --timeout-s 3", "--timeout-s must go with the address of a SmartScope server."),
        ("import x.csv --insecure", "--insecure must go with the address of a SmartScope server."),
        ("import https://host --timeout-s 0", "must be between 0.1 and 600 s"),
        ("import https://host --token-file gone", "gone: must be a file."),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_sent(cli, server, tmp_path, monkeypatch, line, message):
    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(httpx.AsyncClient, "send", never)
    answer = cli(line)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert "cret" not in answer.err
    assert list(tmp_path.iterdir()) == []


def test_http_to_another_computer_is_asked_only_when_it_is_said_to_be_safe(cli, server, monkeypatch):
    asked = []

    async def take(self, request, **_):
        asked.append((str(request.url), request.headers["Authorization"]))
        raise TimeoutError

    monkeypatch.setattr(httpx.AsyncClient, "send", take)
    answer = cli("import http://scope.example.org --smartscope-session a --insecure")
    assert answer.code == 2
    assert asked == [("http://scope.example.org/api/grids/?session_id=a&page_size=1000", f"Token {TOKEN}")]


def test_a_missing_token_is_told_with_the_variables_name(cli, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    answer = cli("import https://host --smartscope-session a")
    assert answer.code == 2
    assert "Got none in the variable CRYOSCOUT_SMARTSCOPE_TOKEN instead." in answer.err
