"""Who may talk to the server: tokens, cookies, Host, Origin, sizes, headers."""

from __future__ import annotations

import os
import stat

import pytest
from live_client import HOST, Client
from live_tokens import OPERATOR, TOKENS

from cryoscout.core.errors import InputError, StoreError
from cryoscout.live.guard import LARGEST_BODY_BYTES, allowed_hosts
from cryoscout.live.lock import only_server
from cryoscout.live.serving import ServeRequest, check, guarded
from cryoscout.live.tokens import LASTS_S, Browsers, Tokens, tokens_of

NOTE = {"author": "t", "text": "x"}


def cookie_of(client, token=OPERATOR):
    answer = client.ask("GET", f"/?token={token}", token=False)
    assert answer.status_code == 303
    return answer


def test_without_a_token_nothing_is_told(client):
    for path in ("/", "/api/v1/advice", "/api/v1/openapi.json", "/docs"):
        answer = client.ask("GET", path, token=False)
        assert answer.status_code == 401, path
        assert answer.headers["content-type"] == "application/problem+json"
    wrong = Client(client.app, "wrong")
    assert wrong.ask("GET", "/api/v1/advice").status_code == 401


def test_a_token_in_the_address_becomes_a_cookie_and_is_dropped(client):
    answer = cookie_of(client)
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert OPERATOR not in cookie
    assert cookie.startswith("cryoscout-8321=")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    name = cookie.split(";")[0]
    assert client.ask("GET", "/", token=False, headers={"cookie": name}).status_code == 200


def test_a_redirect_never_leads_to_another_host(client):
    answer = client.ask("GET", f"//evil.example/?token={OPERATOR}", token=False)
    assert not answer.headers["location"].startswith("//")


def test_a_browser_must_write_from_this_servers_own_page(client):
    cookie = cookie_of(client).headers["set-cookie"].split(";")[0]

    def post(**headers):
        return client.ask(
            "POST", "/api/v1/note", json=NOTE, token=False, headers={"cookie": cookie, **headers}
        )

    assert post(origin=f"http://{HOST}").status_code == 200
    assert post().status_code == 403
    assert post(origin="http://127.0.0.1:9999").status_code == 403, "another program of this computer"
    assert post(origin="https://evil.example").status_code == 403
    assert post(origin="null").status_code == 403


def test_a_script_without_an_origin_may_write_and_one_with_a_foreign_origin_may_not(client):
    assert client.ask("POST", "/api/v1/note", json=NOTE).status_code == 200
    assert client.ask("POST", "/api/v1/note", json=NOTE, headers={"origin": "http://x"}).status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:9999", "localhost:8321.evil.example", ""]
)
def test_a_foreign_host_is_refused(client, host):
    foreign = Client(client.app, OPERATOR, host)
    assert foreign.ask("GET", "/api/v1/advice").status_code == 421


def test_a_viewer_reads_and_does_not_write(viewer):
    assert viewer.get("advice")
    assert viewer.ask("POST", "/api/v1/note", json=NOTE).status_code == 403


def test_an_oversize_body_is_refused_whether_announced_or_not(client):
    big = b"x" * (LARGEST_BODY_BYTES + 1)
    assert client.ask("POST", "/api/v1/note", content=big).status_code == 413

    async def pieces():
        for _ in range(20):
            yield b"x" * 8192

    answer = client.ask(
        "POST", "/api/v1/note", content=pieces(), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413


def test_the_page_may_load_nothing_from_elsewhere(client):
    headers = client.ask("GET", "/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in client.ask("GET", "/", headers={"origin": "http://x"}).headers
    for path in ("/", "/docs"):
        page = client.ask("GET", path).text
        assert "http://" not in page
        assert "https://" not in page


@pytest.mark.parametrize(
    ("headers", "query", "token"),
    [
        ([(b"origin", b"http://evil.example")], b"", True),
        ([], b"", False),
        ([], b"token=operator-token-of-the-tests", False),  # no token in the address of a socket
    ],
)
def test_a_foreign_socket_is_refused(client, headers, query, token):
    async def drive(message):
        return await message()

    answer = client.listen(drive, headers=headers, query=query, token=token)
    assert answer[0] == "closed"


def test_a_socket_of_a_browser_needs_its_origin(client):
    cookie = cookie_of(client).headers["set-cookie"].split(";")[0].encode()

    async def drive(message):
        return (await message())["type"]

    origin = (b"origin", f"http://{HOST}".encode())
    assert client.listen(drive, headers=[(b"cookie", cookie), origin], token=False) == "advice"
    assert client.listen(drive, headers=[(b"cookie", cookie)], token=False)[0] == "closed"


def test_behind_a_reverse_proxy(served, stored):
    request = ServeRequest((str(stored),), port=8321, public_url="https://em.example.org", root_path="/scout")
    app = guarded(request, served, TOKENS)
    behind = Client(app, OPERATOR, "em.example.org")
    assert behind.get("advice")
    answer = behind.ask("GET", f"/?token={OPERATOR}", token=False)
    assert answer.headers["location"] == "/scout/"
    assert "Secure" in answer.headers["set-cookie"]
    assert "Path=/scout" in answer.headers["set-cookie"]
    cookie = answer.headers["set-cookie"].split(";")[0]
    own = {"cookie": cookie, "origin": "https://em.example.org"}
    assert behind.ask("POST", "/api/v1/note", json=NOTE, token=False, headers=own).status_code == 200
    other = {"cookie": cookie, "origin": "https://em.example.org:8443"}
    assert behind.ask("POST", "/api/v1/note", json=NOTE, token=False, headers=other).status_code == 403


def test_hosts_of_an_open_address_are_its_own_names():
    hosts, origins = allowed_hosts("0.0.0.0", 80, None)  # noqa: S104
    assert "0.0.0.0:80" not in hosts
    assert "http://localhost:80" in origins


def test_tokens_are_made_once_and_read_by_their_owner_alone(tmp_path):
    path = tmp_path / "tokens.json"
    made = tokens_of(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert tokens_of(path) == made
    assert made.role_of(made.viewer) == "viewer"
    assert made.role_of("") is None
    assert made.role_of("\ud800") is None
    path.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        tokens_of(path)
    path.chmod(0o600)
    path.write_text("{}")
    with pytest.raises(InputError, match="operator and viewer"):
        tokens_of(path)


def test_a_second_server_is_told_who_holds_the_session(stored):
    with (
        only_server(stored, "http://127.0.0.1:1"),
        pytest.raises(StoreError, match=f"process {os.getpid()} on .* at http://127.0.0.1:1"),
        only_server(stored, "http://127.0.0.1:2"),
    ):
        pass
    with only_server(stored, "http://127.0.0.1:2"):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sessions": ()}, "SESSION"),
        ({"public_url": "em.example.org"}, "--public-url"),
        ({"public_url": "https://a/b"}, "--root-path"),
        ({"root_path": "scout"}, "--root-path"),
        ({"alert_command": "'"}, "--alert-command"),
        ({"follow": "record"}, "--replay"),
        ({"budget_min": -1.0}, "--budget-min"),
    ],
)
def test_options_that_cannot_be_served_are_refused_before_anything_begins(stored, changes, message):
    with pytest.raises(InputError, match=message):
        check(ServeRequest(**{"sessions": (str(stored),), **changes}))


def test_the_end_is_a_microscope_time():
    with pytest.raises(InputError, match="must be an hour of the day"):
        ServeRequest((), until="tomorrow").settings()
    with pytest.raises(InputError, match="without a zone"):
        ServeRequest((), until="2026-01-31T09:00+01:00").settings()


def test_a_browsers_id_outlives_a_restart_and_cannot_be_made_up():
    first, later = Browsers(TOKENS), Browsers(TOKENS)
    for role in ("operator", "viewer"):
        given = first.admit(role)
        assert later.role_of(given) == role
        assert TOKENS.operator not in given
        assert Browsers(Tokens("another-operators-token", TOKENS.viewer)).role_of(given) is None
    viewer = first.admit("viewer")
    assert later.role_of(viewer.replace(".viewer.", ".operator.")) is None
    for made_up in ("", ".", "...", "a.operator.99999999999.", "ü.operator.9.x", viewer[:-1], viewer + "0"):
        assert later.role_of(made_up) is None


def test_a_browsers_id_ends():
    now = [1e9]
    browsers = Browsers(TOKENS, lambda: now[0])
    given = browsers.admit("operator")
    now[0] += LASTS_S - 10
    assert browsers.role_of(given) == "operator"
    now[0] += 20
    assert browsers.role_of(given) is None
