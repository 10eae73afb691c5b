"""SmartScope's REST interface against a server on this computer that speaks the published shapes."""

from __future__ import annotations

import asyncio
import gzip
import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from cryoscout.core.errors import FileFormatError, InputError, ServiceError
from cryoscout.formats.smartscope import rest as smartscope_rest
from cryoscout.formats.smartscope.addresses import TOKEN_VARIABLE, is_address
from cryoscout.formats.smartscope.records import read_source
from cryoscout.formats.smartscope.rest import SmartScopeClient, read_token
from cryoscout.formats.smartscope.selecting import select_holes, select_squares
from cryoscout.formats.smartscope.server_session import list_sessions, read_session, sessions_in_words
from smartscope_server import TOKEN, Server, running

DATA = Path(__file__).parents[1] / "data"
MADE = DATA / "smartscope" / "made_by_hand_grid.yaml"
CERTIFICATE = DATA / "tls" / "localhost.pem", DATA / "tls" / "localhost_key.pem"


@pytest.fixture
def server() -> Iterator[Server]:
    with running(MADE) as state:
        yield state


def client_of(server: Server, token: str = TOKEN, timeout_s: float = 20.0) -> SmartScopeClient:
    return SmartScopeClient(server.address, token, timeout_s)


def test_a_session_is_read_page_by_page_with_its_positions(server):
    source = read_session(client_of(server), "run7")
    export = read_source(MADE)
    assert source.squares["square_id"].tolist() == ["S1", "S2"]
    assert source.squares[["x_um", "y_um"]].equals(export.squares[["x_um", "y_um"]])
    assert source.holes["hole_id"].tolist() == [f"H{s}-{h}" for s in (1, 2) for h in range(1, 10)]
    for column in ("x_um", "y_um", "x_px", "y_px", "chosen"):
        assert source.holes[column].tolist() == export.holes[column].tolist()
    assert source.holes["patch_id"].iloc[0] == "S1/1_2"
    assert source.exposures["exposure_id"].tolist() == export.exposures["exposure_id"].tolist()
    assert source.ctf["ctf_max_res_angstrom"].tolist() == export.ctf["ctf_max_res_angstrom"].tolist()
    assert source.session_name == "run7"
    assert set(server.tokens) == {f"Token {TOKEN}"}


def test_a_version_without_detailed_lists_gives_no_positions_and_says_so(server):
    server.has_detailed = False
    source = read_session(client_of(server), "run7")
    assert source.holes["x_um"].isna().all()
    assert "this version of SmartScope lists no positions; its export YAML has them" in source.notes


def test_a_hole_of_no_listed_square_is_named(server):
    server.lists["holes"][0]["square_id"] = "S9"
    with pytest.raises(
        FileFormatError, match=r"hole H1-1: a hole must be of a square that is listed. Got 'S9'"
    ):
        read_session(client_of(server), "run7")
    source = read_session(client_of(server), "run7", permissive=True)
    assert [found.element for found in source.deviations] == ["hole H1-1", "highmag M1"]


def test_a_session_without_grids_is_refused(server):
    server.lists["grids"] = []
    with pytest.raises(InputError, match=r"must have grids. Got none for 'run7' instead"):
        read_session(client_of(server), "run7")


def test_a_session_that_is_not_there_names_those_that_are_newest_first(server):
    with pytest.raises(InputError) as error:
        read_session(client_of(server), "run8")
    assert str(error.value) == (
        "A SmartScope session must have grids. Got none for 'run8' instead. Sessions there: 'run7', 'run6'. "
        "Remedy: take the session's id from its address in SmartScope."
    )
    assert list_sessions(client_of(server)) == ["run7", "run6"]
    server.lists["sessions"] = [{"session_id": f"s{n:02d}", "date": f"202401{n:02d}"} for n in range(1, 31)]
    assert sessions_in_words(client_of(server)).endswith("'s12', 's11' and 10 more.")
    server.lists["sessions"] = []
    assert sessions_in_words(client_of(server)) == "The server shows no session to this token's user."


def test_grids_of_other_sessions_are_not_read_where_the_server_does_not_filter(server, monkeypatch):
    server.lists["grids"].append({"grid_id": "G2", "name": "other", "session_id": "run6"})
    whole = Server.list_page
    monkeypatch.setattr(
        Server,
        "list_page",
        lambda self, path, query: whole(self, path, {k: v for k, v in query.items() if k != "session_id"}),
    )
    assert set(read_session(client_of(server), "run7").holes["grid_id"]) == {"G1"}


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((500, b"oops"), ServiceError, "The SmartScope server must answer. Got status 500 at "),
        ((403, b"{}"), ServiceError, "The SmartScope server must accept the token. Got 403 at "),
        (
            (400, b"{}"),
            ServiceError,
            "The SmartScope server must take the request. Got 400 (bad request) at ",
        ),
        (
            (404, b"{}"),
            ServiceError,
            "Got 404 (not found) instead. Remedy: give the address under which SmartScope",
        ),
        ((200, b"{wrong"), FileFormatError, "line 1: must be JSON. Got text that is not ("),
        (
            (200, b"<!doctype html><title>Log in</title>"),
            FileFormatError,
            "must be JSON. Got a page of HTML or XML instead. Remedy: give the address under which SmartScope",
        ),
        (
            (200, b"[]"),
            FileFormatError,
            "a list must be an object with `results`. Got something else instead.",
        ),
        ((200, b'{"results": 5}'), FileFormatError, "a list must be an object with `results`."),
        (
            (200, b'{"results": [5], "next": null}'),
            FileFormatError,
            "`results` must hold records. Got '5' instead.",
        ),
        ((200, b"\xff\xfe"), FileFormatError, "must be utf-8 text. Got other bytes instead."),
        ((200, b"[" * 100_000), FileFormatError, "brackets must be at most 64 deep."),
    ],
)
def test_an_answer_that_is_none_is_one_clear_error(server, answer, error, message):
    server.answer = answer
    with pytest.raises(error) as raised:
        list(client_of(server).records("grids"))
    assert message in str(raised.value)
    assert TOKEN not in str(raised.value)


def test_a_wrong_token_is_told_without_showing_it(server):
    with pytest.raises(ServiceError) as raised:
        list(client_of(server, "wrong0token").records("grids"))
    assert "must accept the token. Got 401 at http://127.0.0.1:" in str(raised.value)
    assert "wrong0token" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    ["http://example.org/api/grids/?page=2", "https://127.0.0.1/api/", "file:///etc/passwd", 5, "http://[x"],
)
def test_the_next_page_is_followed_on_the_same_origin_only(server, address):
    server.next = address
    with pytest.raises(FileFormatError, match=r"`next` must be an address on http://127.0.0.1:"):
        list(client_of(server).records("grids"))
    assert len(server.tokens) == 1


def test_pages_that_never_end_do(server):
    server.next = f"{server.address}/api/grids/?page=1"
    with pytest.raises(FileFormatError, match=r"the pages of a list must end"):
        list(client_of(server).records("grids"))


def test_a_redirection_is_refused_and_the_token_does_not_travel(server):
    with running(MADE) as other:
        for place in (f"{server.address}/elsewhere/", f"{other.address}/api/grids/"):
            for code in (301, 302, 307, 308):
                server.answer, server.location = (code, b""), place
                with pytest.raises(
                    ServiceError, match=rf"Got a redirection \({code}\).*The token was not sent on\."
                ):
                    list(client_of(server).records("grids"))
        assert len(server.tokens) == 8
        assert other.tokens == []


def test_a_slow_answer_ends_at_the_time_limit_however_it_is_slow(server):
    server.drip_s = 0.02
    with pytest.raises(ServiceError, match=r"must answer within 0.3 s"):
        list(client_of(server, timeout_s=0.3).records("holes"))
    server.drip_s = 3.0
    with pytest.raises(ServiceError, match=r"must answer within 0.3 s"):
        list(client_of(server, timeout_s=0.3).records("holes"))
    server.drip_s, server.header_drip_s = 0.0, 0.02
    with pytest.raises(ServiceError, match=r"must answer within 0.3 s"):
        list(client_of(server, timeout_s=0.3).records("holes"))


def test_all_answers_together_have_a_time_limit(server, monkeypatch):
    monkeypatch.setattr(smartscope_rest, "TIMEOUTS_OF_ALL", 0.1)
    server.lists["grids"] = [{"grid_id": f"G{n}", "session_id": "run7"} for n in range(100)]
    server.drip_s = 0.001
    with pytest.raises(ServiceError, match=r"must give all answers within 0.5 s, 0.1 times the limit of one"):
        list(client_of(server, timeout_s=5.0).records("grids"))


def test_a_body_shorter_than_its_length_is_refused_as_cut(server):
    answer = b'{"results": [], "next": null}'
    server.answer, server.left_out_bytes = (200, answer + b" " * 20), 20
    with pytest.raises(
        ServiceError, match=r"must answer whole. Got its end too early, after 29 bytes, at http:"
    ):
        list(client_of(server).records("grids"))


def test_nothing_of_the_environment_has_a_part(server, monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert list_sessions(client_of(server)) == ["run7", "run6"]
    assert server.tokens == [f"Token {TOKEN}"]


def test_no_cookie_is_kept_and_nothing_is_unpacked(server):
    server.headers = {"Set-Cookie": "a=b; Path=/"}
    client = client_of(server)
    assert list_sessions(client) == list_sessions(client) == ["run7", "run6"]
    assert [("cookie" in asked, asked["accept-encoding"]) for asked in server.asked_with] == [
        (False, "identity")
    ] * 2
    server.headers = {"Content-Encoding": "gzip"}
    server.answer = (200, gzip.compress(b" " * 1_000_000))
    with pytest.raises(FileFormatError, match=r"must be utf-8 text"):
        list_sessions(client)


def test_a_server_is_read_from_a_running_loop_too(server):
    async def read() -> list[str]:
        return list_sessions(client_of(server))

    assert asyncio.run(read()) == ["run7", "run6"]


def test_a_server_that_is_not_there_is_told(server):
    client = SmartScopeClient("http://127.0.0.1:1", TOKEN, 5.0)
    with pytest.raises(ServiceError, match=r"The SmartScope server must be reachable"):
        list(client.records("grids"))


def test_an_answer_too_large_is_refused(server, monkeypatch):
    monkeypatch.setattr(smartscope_rest, "LARGEST_ANSWER_BYTES", 100)
    with pytest.raises(FileFormatError, match=r"must be at most 100 bytes"):
        list(client_of(server).records("holes"))


def test_all_answers_together_have_a_largest_size_and_a_most_of_records(server, monkeypatch):
    monkeypatch.setattr(smartscope_rest, "MOST_RECORDS", 9)
    with pytest.raises(FileFormatError, match=r"all lists must have at most 9 records\."):
        read_session(client_of(server), "run7")
    monkeypatch.setattr(smartscope_rest, "MOST_RECORDS", 1000)
    monkeypatch.setattr(smartscope_rest, "LARGEST_IMPORT_BYTES", 3000)
    with pytest.raises(FileFormatError, match=r"all answers must be at most 3,000 bytes\."):
        read_session(client_of(server), "run7")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "http://smartscope.example.org",
            "A token must travel encrypted. Got http to smartscope.example.org instead.",
        ),
        ("http://127.0.0.1.example.org", "A token must travel encrypted."),
        ("ftp://localhost", "A SmartScope address must be https://HOST"),
        ("smartscope.example.org", "A SmartScope address must be https://HOST"),
        ("https://me:secret@host", "Got 'https://host' and more that is not shown here instead."),
        ("https://secret@host", "A SmartScope address must be https://HOST"),
        ("https://me:se/cret@host", "An address must be written https://HOST."),
        (
            "https://host/?token=secret",
            "A SmartScope address must have no query. Got 'https://host/' and more",
        ),
        ("https://host/#secret", "A SmartScope address must have no query."),
        ("https://host:99999", "An address must be written https://HOST."),
        ("https://ho st", "An address must be one word."),
    ],
)
def test_an_address_that_would_show_the_token_is_refused(address, message):
    with pytest.raises(InputError) as error:
        SmartScopeClient(address, TOKEN)
    assert message in str(error.value)
    assert "cret" not in str(error.value)


def test_http_to_another_computer_is_the_users_own_decision():
    assert SmartScopeClient("http://smartscope.example.org", TOKEN, allow_http=True).origin.startswith(
        "http://"
    )
    with pytest.raises(InputError, match="must be https://HOST"):
        SmartScopeClient("ftp://smartscope.example.org", TOKEN, allow_http=True)


@pytest.mark.parametrize("timeout_s", [0.0, 601.0, math.nan, math.inf])
def test_the_time_limit_is_between_0_1_and_600_s(timeout_s):
    with pytest.raises(InputError, match=r"must be between 0\.1 and 600 s"):
        SmartScopeClient("https://host", TOKEN, timeout_s)


def test_a_certificate_that_is_not_trusted_has_its_own_remedy_which_helps(monkeypatch):
    with running(MADE, CERTIFICATE) as server:
        with pytest.raises(
            ServiceError, match=r"Got self-signed certificate at https://localhost:.*SSL_CERT_FILE"
        ):
            list(client_of(server).records("grids"))
        assert server.tokens == []
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE[0]))
        assert list_sessions(client_of(server)) == ["run7", "run6"]


def test_a_certificate_of_another_host_is_not_trusted(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE[0]))
    with running(MADE, CERTIFICATE) as server:
        server.address = server.address.replace("localhost", "127.0.0.1")
        with pytest.raises(
            ServiceError, match=r"certificate that this computer trusts. Got IP address mismatch"
        ):
            list(client_of(server).records("grids"))
        assert server.tokens == []


def test_addresses_are_told_from_paths():
    assert is_address("https://host")
    assert is_address("HTTP://host/x")
    assert not is_address("data/https")
    assert not is_address("C:\\data")


@pytest.mark.parametrize(
    "address", ["https://host", "https://host/api", "https://host/api/", "http://[::1]:80"]
)
def test_the_address_may_end_in_api_or_not(address):
    assert SmartScopeClient(address, TOKEN).api.endswith("/api/")
    assert SmartScopeClient(address, TOKEN).api.count("api") == 1


def test_the_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(InputError, match=r"Got none in the variable CRYOSCOUT_SMARTSCOPE_TOKEN instead"):
        read_token()
    monkeypatch.setenv("CRYOSCOUT_SMARTSCOPE_TOKEN", TOKEN)
    assert read_token() == TOKEN
    file = tmp_path / "token"
    file.write_text("ab12\n")
    assert read_token(file) == "ab12"
    file.write_text("two words")
    with pytest.raises(InputError, match=r"Got something else in ") as error:
        read_token(file)
    assert "two words" not in str(error.value)


# Selecting


def test_a_plan_is_selected_group_by_group_and_groups_stay_apart_from_others(server):
    holes = ["H2-1", "H2-3", "H2-7", "H2-8", "H1-9"]
    report = select_holes(client_of(server), ["G1"], holes)
    assert (report.selected, report.images, report.not_open) == (5, 9, ())
    assert server.bodies == [
        {"type": "holes", "key": "selected", "new_value": "1", "ids": ["H2-2"]},
        {"type": "holes", "key": "selected", "new_value": "1", "ids": ["H2-7", "H2-8"]},
        {"type": "holes", "key": "selected", "new_value": "1", "ids": ["H1-9"]},
    ]


def test_what_is_imaged_or_queued_is_left_as_it_is(server):
    report = select_holes(client_of(server), ["G1"], ["H1-3", "H2-1"])
    assert (report.selected, report.not_open) == (1, ("H1-3",))
    again = select_holes(client_of(server), ["G1"], ["H2-1"])
    assert (again.selected, again.images, again.not_open) == (0, 0, ("H2-1",))
    assert len(server.bodies) == 1


def test_names_of_an_export_stand_for_ids_where_they_are_unique(server):
    select_holes(client_of(server), ["grid1"], ["grid1_square2_hole8"])
    assert server.bodies[0]["ids"] == ["H2-8"]
    server.lists["grids"].append({"grid_id": "G2", "name": "grid1"})
    with pytest.raises(
        InputError, match=r"A grid of the plan must be one grid of the server. Got 2 for 'grid1'"
    ):
        select_holes(client_of(server), ["grid1"], ["grid1_square2_hole8"])


def test_nothing_is_selected_where_one_hole_is_unknown(server):
    with pytest.raises(
        InputError, match=r"A hole of the plan must be one hole of the server. Got 0 for 'H9'"
    ):
        select_holes(client_of(server), ["G1"], ["H2-7", "H9"])
    assert server.bodies == []


def test_squares_are_selected_grid_by_grid_and_opened_ones_are_left(server):
    server.lists["squares"][1]["status"] = None
    report = select_squares(client_of(server), {"grid1": ["grid1_square1", "S2"]})
    assert (report.selected, report.not_open) == (1, ("grid1_square1",))
    assert server.bodies == [{"type": "squares", "key": "selected", "new_value": "1", "ids": ["S2"]}]
    with pytest.raises(
        InputError, match=r"A square of the plan must be one square of the server. Got 0 for 'S9'"
    ):
        select_squares(client_of(server), {"grid1": ["S9"]})


def test_areas_of_squares_are_counted_on_the_atlas_of_the_server(server):
    assert read_session(client_of(server), "run7").squares["area_um2"].isna().all()
    server.lists["atlas"] = [{"atlas_id": "A1", "grid_id": "G1", "pixel_size": 640.0}]
    squares = read_session(client_of(server), "run7").squares
    assert squares["area_um2"].tolist() == pytest.approx([2500 * 0.064**2] * 2)


def test_the_area_of_a_square_is_counted_on_its_own_atlas(server):
    server.lists["atlas"] = [
        {"atlas_id": "A1", "grid_id": "G1", "pixel_size": 640.0},
        {"atlas_id": "A2", "grid_id": "G1", "pixel_size": 1280.0},
    ]
    for square, atlas_id in zip(server.lists["squares"], ("A2", "A1"), strict=True):
        square["atlas_id"] = atlas_id
    areas = read_session(client_of(server), "run7").squares["area_um2"]
    assert areas.tolist() == pytest.approx([2500 * 0.128**2, 2500 * 0.064**2])
    del server.lists["squares"][1]["atlas_id"]
    assert read_session(client_of(server), "run7").squares["area_um2"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("record", "key", "value", "message"),
    [
        ("squares", "area", -4.0, "area must be above 0 px. Got -4 instead."),
        ("squares", "area", 1e300, "area must be above 0 and at most 10,000,000 um2"),
        (
            "atlas",
            "pixel_size",
            1e300,
            "pixel_size must be the size of a pixel, above 0 and at most 1,000,000 angstrom",
        ),
        ("atlas", "pixel_size", 0, "pixel_size must be the size of a pixel, above 0"),
        (
            "squares",
            "completion_time",
            "9999-12-31T23:59:59Z",
            "completion_time must be a time yyyy-mm-dd",
        ),
        ("squares", "completion_time", "yesterday", "Got 'yesterday' instead."),
        ("squares", "completion_time", 17.5, "Got '17.5' instead."),
    ],
)
def test_a_value_of_a_square_that_cannot_be_is_named_and_missing(server, record, key, value, message):
    server.lists["atlas"] = [{"atlas_id": "A1", "grid_id": "G1", "pixel_size": 640.0}]
    server.lists[record][0][key] = value
    with pytest.raises(FileFormatError) as error:
        read_session(client_of(server), "run7")
    assert message in str(error.value)
    source = read_session(client_of(server), "run7", permissive=True)
    assert [message in each.message for each in source.deviations] == [True]
    assert source.deviations[0].element
    column = "looked_at" if key == "completion_time" else "area_um2"
    assert pd.isna(source.squares[column].iloc[0])
    assert len(source.squares) == 2


def test_two_names_of_one_square_or_hole_are_sent_once_or_not_at_all(server):
    server.lists["squares"][1]["status"] = None
    for squares in ({"grid1": ["grid1_square2", "S2"]}, {"grid1": ["S2"], "G1": ["grid1_square2"]}):
        with pytest.raises(
            InputError, match=r"A square of the plan must be named once. Got '.*' and '.*', which are"
        ):
            select_squares(client_of(server), squares)
    hole = next(each for each in server.lists["holes"] if each["hole_id"] == "H2-7")
    with pytest.raises(InputError, match=r"A hole of the plan must be named once"):
        select_holes(client_of(server), ["G1"], ["H2-7", hole["name"]])
    assert server.bodies == []


def test_a_selection_that_fails_is_told(server):
    server.patch_answer = {"success": False, "error": "Model or method invalid."}
    with pytest.raises(ServiceError, match=r"must say that the selection succeeded"):
        select_holes(client_of(server), ["G1"], ["H2-7"])
