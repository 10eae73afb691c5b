"""What a server writes for others: next.json and next.txt, alerts, and a file that is touched each minute."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoscout.core.errors import CryoscoutError
from cryoscout.core.new_files import finite, write_whole
from cryoscout.core.telling import Say
from cryoscout.live.bridges import Answered, Bridge, answered_events, bridge_named
from cryoscout.live.running import Moment
from cryoscout.live.server import ServedSessions
from cryoscout.live.sources import sources_of
from cryoscout.live.views import message_json

if TYPE_CHECKING:
    from cryoscout.live.serving import ServeRequest

EXPIRES_S = 900.0
"""An advice is good for so long after it was made: a bridge that finds an older one goes on with what the microscope
has. While the thread that plans is well it makes one each minute."""
ALERT_AGAIN_S = 1800.0
WATCHDOG_S = 60.0
WATCHDOG_FILE = "serve.alive"
LOOK_S = 5.0
ALERT_LIMIT_S = 30.0
LEAST_FREE_BYTES = 500_000_000
ALERTED = frozenset(("drift", "ctf", "microscope", "disk", "store", "folder", "stop"))
REMEDY = "Check the folder of --export-to and the disk; it is tried again by itself."
Json = dict[str, Any]


class Outputs:
    """Files and alerts of one server, in a thread of their own: nothing that fails here holds the advice up."""

    def __init__(self, request: ServeRequest, served: ServedSessions, say: Say) -> None:
        self._request, self._served, self._say = request, served, say
        self._command = None if request.alert_command is None else shlex.split(request.alert_command)
        self._alerted_s: dict[str, float] = {}
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="outputs", daemon=True)
        self._touched_s: dict[Path, float] = {}
        self._bridge: Bridge | None = None
        if request.bridge is not None:
            self._bridge = bridge_named(
                request.bridge,
                request.export_to,
                request.smartscope_address,
                request.smartscope_token_file,
                request.athena_session,
                [*request.watch, *request.ctf] or _sources_of(served),
            )
        self._written: dict[str, int] = {}
        self._is_armed: set[str] = set()
        """Sessions of which what stands in the folder says that it is to be obeyed."""
        self._may_stand = True
        """Whether something that is to be obeyed may stand with the bridge; at first that of a killed server may."""

    def start(self) -> None:
        """Begin; each advice wakes it."""
        for advisor in self._served.advisors.values():
            advisor.on_moment.append(lambda moment: self._wake.set())
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=ALERT_LIMIT_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._look()
            self._wake.wait(LOOK_S)
            self._wake.clear()

    def _look(self) -> None:
        now_s = self._served.clock()
        if self._served.armed_until_s is not None and now_s > self._served.armed_until_s:
            self._served.mode, self._served.armed_until_s = "suggest", None
            why = "the time for which sending was armed is over"
            self._say(f"Sending has ended: {why}.")
            with suppress(CryoscoutError, OSError):
                first = next(iter(self._served.advisors.values()))
                first.write("noted", {"author": "serve", "text": f"mode suggest: {why}", "kind": "note"})
        tasks = (
            ("export", "next.json cannot be written", self._write_next),
            ("watchdog", f"{WATCHDOG_FILE} cannot be written", self._touch),
            ("space", "The space on the disk cannot be seen", self._disk),
            ("alert", "An alert failed", self._alert),
        )
        for name, advisor in self._served.advisors.items():
            moment = advisor.moment
            for cause, what, work in tasks:
                try:
                    work(name, moment, now_s)
                except Exception as error:  # noqa: BLE001  the thread goes on, and so does the next task
                    advisor.trouble(cause, f"{what}: {_said(error)}.", REMEDY, 5)
                else:
                    advisor.well(cause)

    def _write_next(self, name: str, moment: Moment, now_s: float) -> None:
        """The files, and what a bridge gets: of several sessions that of the one in the microscope."""
        folder, mode = self._request.export_to, self._served.mode
        takes_back = mode == "watch" and name in self._is_armed
        is_loaded = name == self._served.to_obey
        if mode != "send":
            self._end_sending(name)
        if (mode == "watch" and not takes_back) or (folder is None and self._bridge is None):
            return
        content = next_json(name, moment, now_s, mode, self._served.armed_until_s)
        if mode == "send" and is_loaded and self._bridge is not None:
            content |= self._prepared(name, self._bridge, moment)
        if folder is not None:
            stems = ["next"] if is_loaded else []
            stems += [f"next-{name}"] if len(self._served.advisors) > 1 else []
            for stem in stems:
                write_whole(folder / f"{stem}.json", json.dumps(finite(content), indent=1) + "\n")
                write_whole(folder / f"{stem}.txt", next_text(content))
        if mode != "send":
            self._is_armed.discard(name)
            return
        self._is_armed.add(name)
        if is_loaded:
            self._hand_over(name, moment, content, now_s)

    def _hand_over(self, name: str, moment: Moment, content: Json, now_s: float) -> None:
        if now_s > content["expires_unix_s"]:
            minutes = (now_s - moment.at_s) / 60.0
            sentence = f"The advice is {minutes:.0f} min old and has expired: nothing is handed over."
            remedy = "The microscope goes on with what it has; look at the other messages."
            self._served.advisor(name).trouble("bridge", sentence, remedy, 8)
            self._take_back()
            return
        self._may_stand = True
        if moment.revision != self._written.get(name):
            self._written[name] = moment.revision
            self._send(name, content)
        if self._bridge is not None:
            self._give(name, moment, content)
        else:
            self._served.advisor(name).well("bridge")

    def _end_sending(self, name: str) -> None:
        """Nothing is handed over: what could not be is no trouble any more, and what was is taken back."""
        for cause in ("bridge", "plan file"):
            self._served.advisor(name).well(cause)
        self._take_back()

    def _take_back(self) -> None:
        if self._bridge is not None and self._may_stand:
            self._bridge.take_back()
        self._may_stand = False

    def _prepared(self, name: str, bridge: Bridge, moment: Moment) -> Json:
        """What the bridge adds; where that fails it is said, and the advice goes without."""
        advisor = self._served.advisor(name)
        try:
            added = bridge.prepare(moment)
        except (CryoscoutError, OSError) as error:
            advisor.trouble("plan file", f"The plan cannot be made into a file: {_said(error)}.", REMEDY, 5)
            return {}
        advisor.well("plan file")
        return added

    def _give(self, name: str, moment: Moment, content: Json) -> None:
        """Hand the advice to the microscope's software; where that fails it goes on with what it has."""
        advisor = self._served.advisor(name)
        try:
            answered = self._bridge.give(moment, content) if self._bridge is not None else Answered()
        except CryoscoutError as error:
            advisor.trouble("bridge", str(error), "The microscope goes on with what it has.", 6)
            return
        advisor.well("bridge")
        for kind, payload in answered_events(answered.news(moment.facts["sent"]), moment.revision):
            advisor.write(kind, payload)

    def _send(self, name: str, content: Json) -> None:
        """Holes that are handed over are written down as sent, once each."""
        advisor = self._served.advisor(name)
        known = advisor.moment.facts["sent"]
        new = [each["hole"] for each in content["holes"] if each["hole"] not in known]
        if new:
            advisor.write(
                "sent", {"holes": new, "state": "sent", "revision": content["revision"], "author": "serve"}
            )

    def _touch(self, name: str, moment: Moment, now_s: float) -> None:
        """Others can watch the watcher: the file is as old as the last minute in which there was an advice that holds.

        Of a session in a database it stands in the folder of --export-to.
        """
        location = Path(self._served.advisor(name).location)
        place = location if location.is_dir() else self._request.export_to
        if place is None or now_s > moment.at_s + EXPIRES_S:
            return
        if abs(now_s - self._touched_s.get(place, -1e18)) >= WATCHDOG_S:
            write_whole(place / WATCHDOG_FILE, datetime.fromtimestamp(now_s).astimezone().isoformat() + "\n")
            self._touched_s[place] = now_s

    def _disk(self, name: str, _moment: Moment, _now_s: float) -> None:
        advisor = self._served.advisor(name)
        location = Path(advisor.location)
        if not location.is_dir():
            return
        free = shutil.disk_usage(location).free
        if free < LEAST_FREE_BYTES:
            sentence = f"The disk of the session is nearly full: {free / 1e6:.0f} MB are free."
            advisor.trouble("disk", sentence, "Free space.", 9)
        else:
            advisor.well("disk")

    def _alert(self, name: str, moment: Moment, now_s: float) -> None:
        """One alert for each cause in half an hour: a line of the log, and the command."""
        advisor = self._served.advisor(name)
        found = message_json(moment, now_s, list(advisor.troubles.values()), self._served.folder_clock())[
            "all"
        ]
        verdict = moment.content["verdict"]
        if verdict["verb"] == "STOP":
            found.append({"cause": "stop", "sentence": verdict["sentence"], "remedy": "", "since": None})
        for each in found:
            key = f"{name}: {each['cause']}"
            if each["cause"] not in ALERTED or abs(now_s - self._alerted_s.get(key, -1e18)) < ALERT_AGAIN_S:
                continue
            self._alerted_s[key] = now_s
            self._say(f"ALERT {name}: {each['sentence']} {each['remedy']}")
            if self._command is not None:
                self._call({"session": name, **each})

    def _call(self, content: Json) -> None:
        try:
            done = subprocess.run(  # noqa: S603  the command is the operator's own, from the command line
                self._command or [],
                input=json.dumps(content).encode(),
                timeout=ALERT_LIMIT_S,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self._say(f"The alert command failed: {error}")
            return
        if done.returncode:
            self._say(f"The alert command left with {done.returncode}.")


def _sources_of(served: ServedSessions) -> list[Path]:
    """Sources of all sessions."""
    return [path for advisor in served.advisors.values() for path in sources_of(advisor.location)]


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).rstrip(".") if isinstance(error, CryoscoutError) else f"{type(error).__name__}: {error}"


def expires_at_s(made_s: float, now_s: float, mode: str, armed_until_s: float | None) -> float:
    """Until when an advice holds, seconds since 1970: EXPIRES_S from when it was made, and no longer than it is armed.

    However often it is written again, it becomes no younger. What was made in the future, because this computer's clock
    was set back since, counts from now.
    """
    until_s = min(made_s, now_s) + EXPIRES_S
    return min(until_s, armed_until_s) if mode == "send" and armed_until_s is not None else until_s


def next_json(name: str, moment: Moment, now_s: float, mode: str, armed_until_s: float | None = None) -> Json:
    """What bridges read: revision, when it was made, when it expires, and the next holes in the vendor's ids."""
    made = datetime.fromtimestamp(moment.at_s).astimezone()
    expires_s = expires_at_s(moment.at_s, now_s, mode, armed_until_s)
    checked = datetime.fromtimestamp(now_s).astimezone()
    keys = ("order", "hole", "patch", "square", "grid", "x_um", "y_um", "p_good", "minutes")
    of_looks = ("order", "square", "patch", "grid", "x_um", "y_um", "rate", "minutes")
    names = moment.advice.names.holes
    planned = [names[hole] for hole in moment.advice.walk.holes.tolist()]
    is_paused = moment.advice.now.overrides.is_paused
    return {
        "session": name,
        "run_id": moment.run_id,
        "revision": moment.revision,
        "mode": mode,
        "made_at": made.isoformat(timespec="seconds"),
        "written_at": checked.isoformat(timespec="seconds"),
        "expires_at": datetime.fromtimestamp(expires_s).astimezone().isoformat(timespec="seconds"),
        "expires_unix_s": int(expires_s),
        "verdict": moment.content["verdict"],
        "planned": [] if is_paused or moment.advice.looks else planned,
        "holes": [] if is_paused else [{key: each[key] for key in keys} for each in moment.content["holes"]],
        "looks": []
        if is_paused
        else [{key: each[key] for key in of_looks} for each in moment.content["looks"]],
        "squares": [
            {key: each[key] for key in ("square", "grid", "advice", "planned")} for each in moment.squares
        ],
    }


def next_text(content: Json) -> str:
    """The same for people and for macro languages: key and value on a line, then one line for each hole."""
    lines = [
        f"revision {content['revision']}",
        f"mode {content['mode']}",
        f"made_at {content['made_at']}",
        f"expires_unix_s {content['expires_unix_s']}",
        f"verdict {content['verdict']['verb']} {one_line(content['verdict']['place'])}",
        f"say {one_line(content['verdict']['sentence'])}",
    ]
    for each in content["holes"]:
        x, y = ("-" if each[key] is None else f"{each[key]:.3f}" for key in ("x_um", "y_um"))
        lines.append(f"hole {each['order']} {x} {y} {each['p_good']:.2f} {one_line(each['hole'])}")
    for each in content["looks"]:
        x, y = ("-" if each[key] is None else f"{each[key]:.3f}" for key in ("x_um", "y_um"))
        place = each["square"] if each["patch"] is None else each["patch"]
        lines.append(f"look {each['order']} {x} {y} {each['rate']:.2f} {one_line(place)}")
    return "\n".join(lines) + "\n"


def one_line(text: str) -> str:
    """A text without line ends: an id must not begin a line of its own."""
    return " ".join(text.split())
