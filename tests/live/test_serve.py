"""The server as a program: it listens, answers, tells by its socket, ends when told to, and goes on afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from cryoscout.cli.main import main
from cryoscout.live.serving import ServeRequest, serving

START_LIMIT_S = 120.0


class Served:
    """A running `cryoscout serve`."""

    def __init__(self, process, base, token):
        self.process, self.base, self.token = process, base, token
        self.headers = {"Authorization": f"Bearer {token}"}

    def get(self, what):
        return httpx.get(
            f"{self.base}/api/v1/{what}", headers=self.headers, trust_env=False, timeout=60
        ).json()

    def post(self, what, body):
        return httpx.post(
            f"{self.base}/api/v1/{what}", headers=self.headers, json=body, trust_env=False, timeout=60
        )

    def until(self, holds, limit_s=60.0):
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            advice = self.get("advice")
            if holds(advice):
                return advice
            time.sleep(0.1)
        raise AssertionError(f"not within {limit_s} s: {advice}")


@contextmanager
def ends_within(seconds):
    """Fail where the block goes on for longer: a server that is not refused would serve for ever."""

    def too_long(*_):
        raise TimeoutError(f"it goes on after {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def running(*arguments, stop=signal.SIGTERM, expect=(143, 0), python=sys.executable):
    process = subprocess.Popen(
        [
            str(python),
            "-W",
            "error",
            "-c",
            "from cryoscout.cli.main import run; run()",
            "serve",
            *map(str, arguments),
            "--port",
            "0",
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    said, deadline = [], time.monotonic() + START_LIMIT_S
    found = None
    while found is None and time.monotonic() < deadline:
        line = process.stderr.readline()
        if not line:
            raise AssertionError(f"serve ended: {''.join(said)}")
        said.append(line)
        found = re.search(r"operator +(http://\S+)/\?token=(\S+)", line)
    try:
        yield Served(process, found[1], found[2])
    finally:
        process.send_signal(stop)
        process.wait(60)
        rest = process.stderr.read()
        process.stderr.close()
    assert process.returncode in expect, rest
    assert "Traceback" not in rest


@pytest.mark.slow
def test_where_only_the_extra_is_installed_the_page_has_its_socket(tmp_path, monkeypatch):
    """uvicorn alone answers a socket with 404: what it needs for one is in the extra."""
    from websockets.sync.client import connect

    repository, python = Path(__file__).parents[2], tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install = ["install", "--quiet", "--constraint", repository / "constraints.txt", f"{repository}[live]"]
    subprocess.run([python, "-m", "pip", *install], check=True)
    for name in ("PYTHONPATH", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 1
    with running("y1", "--replay", "60", python=python, expect=(143, 130, 0)) as server:
        address = server.base.replace("http", "ws") + "/api/v1/socket"
        with connect(address, additional_headers=server.headers, proxy=None) as socket:
            assert json.loads(socket.recv(60))["advice"]["next"]["hole"]


def test_a_server_listens_tells_and_ends(stored, capfd):
    from websockets.sync.client import connect

    with running(stored) as server:
        hole = server.get("advice")["next"]["hole"]
        address = server.base.replace("http", "ws") + "/api/v1/socket"
        with connect(address, additional_headers=server.headers, proxy=None) as socket:
            first = json.loads(socket.recv(20))
            assert first["advice"]["next"]["hole"] == hole
            sent = {"author": "t", "hole_id": hole, "ctf_max_res_angstrom": 3.5}
            answer = server.post("outcome", sent).json()
            while True:
                message = json.loads(socket.recv(20))
                if message["type"] == "advice" and message["revision"] >= answer["revision"]:
                    break
        with ends_within(120):
            assert main(["serve", str(stored), "--port", "0"]) == 2
        assert f"process {server.process.pid} on" in capfd.readouterr().err
        expected = server.get("advice")
    with serving(ServeRequest((str(stored),)), print) as served:
        [advisor] = served.advisors.values()
        again = json.loads(json.dumps(advisor.moment.content))
        assert again["holes"] == expected["holes"]
        assert advisor.moment.run_id != expected["run_id"]


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_kill(stored):
    with running(stored, stop=signal.SIGKILL, expect=(-9,)) as server:
        done = []
        for _ in range(6):
            hole = server.get("advice")["next"]["hole"]
            answer = server.post(
                "outcome", {"author": "t", "hole_id": hole, "ctf_max_res_angstrom": 3.5}
            ).json()
            done.append(hole)
            server.until(lambda advice, at=answer["revision"]: advice["revision"] >= at)
        expected = server.get("advice")
    with running(stored) as server:
        again = server.get("advice")
        assert again["results"] == 6
        assert again["holes"] == expected["holes"]
        measured = server.get("events?kind=measured&limit=1000")["events"]
        assert [event["payload"]["exposure_id"].split("#")[0] for event in measured] == done


@pytest.mark.parametrize("arguments", [["no.session"], ["--port", "0"]])
def test_bad_arguments_end_with_2(arguments, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with ends_within(120):
        assert main(["serve", *arguments]) == 2
    assert "instead" in capfd.readouterr().err
