"""The REST API under /api/v1: reads of one moment, writes that are in the store when they are answered.

Writes carry an author (a signature, not a proof) and, where they change what others said, the newest revision that the
sender has seen: if somebody said something since, the answer is 412 and nothing is written. Results do not conflict.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as PlainHTTPException

from cryoscout.core.errors import CryoscoutError, InputError, StoreHeldError, UnknownNameError
from cryoscout.core.new_files import finite
from cryoscout.live import views
from cryoscout.live.assets import asset_routes
from cryoscout.live.guard import ROLE
from cryoscout.live.models import ModeSent, NoteSent, OutcomeSent, OverrideSent, UndoSent, WhatIfSent
from cryoscout.live.pictures import patch_picture
from cryoscout.live.running import Moment
from cryoscout.live.scores import hole_scores, score_names
from cryoscout.live.server import ServedSessions
from cryoscout.live.undo import UNDOABLE, undoing
from cryoscout.session.overrides import Overrides, override_of
from cryoscout.session.store import SessionStore
from cryoscout.session.store_contents import Event

Json = dict[str, Any]
BASE = "/api/v1"
MOST_ROWS = 1000
OF_ALL_SESSIONS = frozenset(("budget", "pause", "resume"))
"""What is said of the microscope holds for every session that is served."""
SessionName = Annotated[
    str | None, Query(alias="session", max_length=200, description="Which of several sessions.")
]
AsOf = Annotated[
    datetime | None,
    Query(description="The state as of a past time; with its zone, else the server's local time."),
]


class JsonAnswer(JSONResponse):
    """JSON without NaN: what is not known is null."""

    def render(self, content: Any) -> bytes:
        """The bytes."""
        return super().render(finite(content))


def problem(status: int, title: str, detail: str) -> JSONResponse:
    """An error as problem+json (RFC 9457)."""
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(content, status, media_type="application/problem+json")


def app_of(served: ServedSessions) -> FastAPI:
    """The application, without its guard; `served` is started and ended with it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        import asyncio

        served.hub.bind(asyncio.get_running_loop())
        yield

    app = FastAPI(
        title="cryoscout",
        version="1",
        summary="The advisor of a running cryo-EM session.",
        openapi_url=f"{BASE}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        default_response_class=JsonAnswer,
        responses={
            code: {"description": text, "content": {"application/problem+json": {}}}
            for code, text in (
                (400, "Bad input"),
                (404, "Not there"),
                (422, "Not as the model says"),
                (503, "Held"),
            )
        },
    )
    _errors(app)
    _reads(app, served)
    _writes(app, served)
    _page(app)

    @app.websocket(f"{BASE}/socket")
    async def socket(socket: WebSocket, session: str | None = None) -> None:
        try:
            advisor = served.advisor(session)
        except UnknownNameError:
            await socket.close(4404, "unknown session")
            return
        await served.hub.serve(socket, advisor.name, lambda: advisor.moment)

    return app


def _errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
        return problem(422, "Not as the model says", f"{where}: {first['msg']}.")

    @app.exception_handler(PlainHTTPException)
    async def http(request: Request, error: PlainHTTPException) -> JSONResponse:
        answer = problem(error.status_code, str(error.detail).split(".")[0], str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(CryoscoutError)
    async def ours(request: Request, error: CryoscoutError) -> JSONResponse:
        if isinstance(error, UnknownNameError):
            return problem(404, "Not there", str(error))
        if isinstance(error, StoreHeldError):
            return problem(503, "Held", str(error))
        return problem(400, "Bad input", str(error))


def _reads(app: FastAPI, served: ServedSessions) -> None:
    def folder() -> Any:
        return served.folder_clock()

    @app.get(f"{BASE}/sessions", tags=["read"])
    def sessions(as_of: AsOf = None) -> Json:
        """All sessions of this server with their verdicts; as of a past time those that were there."""
        rows = []
        for name in served.advisors:
            try:
                moment = served.moment(name, as_of)
            except InputError:
                continue  # it is younger than that
            rows.append({"session": name, "revision": moment.revision, "verdict": moment.content["verdict"]})
        return {"sessions": rows}

    @app.get(f"{BASE}/session", tags=["read"])
    def session(request: Request, name: SessionName = None, as_of: AsOf = None) -> Json:
        """What is served: counts of holes and of exposures, settings, what operators said, the caller's role."""
        moment = served.moment(name, as_of)
        problem_, now = moment.advice.problem, moment.advice.now
        said = now.overrides
        return {
            "session": served.advisor(name).name,
            "run_id": moment.run_id,
            "revision": moment.revision,
            "grids": len(moment.advice.names.grids),
            "squares": len(moment.advice.names.squares),
            "patches": len(moment.advice.names.patches),
            "holes": problem_.n_holes,
            "holes_imaged": int(now.imaged.sum()),
            "exposures": int(moment.taken.sum()),
            "results": int(now.results.sum()),
            "threshold_angstrom": moment.threshold_angstrom,
            "policy": moment.content["policy"],
            "prediction": moment.content["prediction"],
            "mode": served.mode,
            "armed_until": served.armed_until,
            "writes_files": served.writes_files,
            "bridge": served.bridge,
            "role": request.scope.get(ROLE),
            "replay": served.replay_bound is not None,
            "overrides": {
                "holes": dict(said.holes),
                "squares": dict(said.squares),
                "hole_order": list(said.hole_order),
                "square_order": list(said.square_order),
                "paused": said.is_paused,
                "budget": None if said.budget is None else said.budget.payload(),
                "target": None if said.target is None else said.target.payload(),
                "threshold_angstrom": said.threshold_angstrom,
            },
            "position_unit": "um" if views._has_stage(moment) else "px",
            "scores": score_names(served.session_of(name, moment)),
        }

    @app.get(f"{BASE}/squares", tags=["read"])
    def squares(name: SessionName = None, as_of: AsOf = None) -> Json:
        """Every square: go on, leave, skip, look into, and the numbers behind it."""
        moment = served.moment(name, as_of)
        return {"revision": moment.revision, "squares": moment.squares}

    @app.get(f"{BASE}/patches", tags=["read"])
    def patches(name: SessionName = None, as_of: AsOf = None) -> Json:
        """Every patch, and what is left in it."""
        moment = served.moment(name, as_of)
        return {"revision": moment.revision, "patches": views.patch_rows(moment)}

    @app.get(f"{BASE}/holes", tags=["read"])
    def holes(
        name: SessionName = None,
        as_of: AsOf = None,
        cursor: Annotated[int, Query(ge=0, le=2**31)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 200,
    ) -> Json:
        """Holes row by row; `next` is the cursor of the next page, null at the end."""
        moment = served.moment(name, as_of)
        rows, following = views.hole_rows(moment, cursor, limit)
        return {"revision": moment.revision, "run_id": moment.run_id, "holes": rows, "next": following}

    @app.get(f"{BASE}/holes/columns", tags=["read"])
    def columns(
        name: SessionName = None,
        as_of: AsOf = None,
        fields: Annotated[str, Query(max_length=500)] = "p_good,state,flags,order,x,y",
    ) -> Json:
        """Columns of all holes as typed arrays in base64; `fields` names them, with commas."""
        moment = served.moment(name, as_of)
        wanted = [each for each in fields.split(",") if each]
        return views.hole_columns(moment, wanted, scores_of(served, name, moment, wanted))

    @app.get(f"{BASE}/holes/ids", tags=["read"])
    def ids(name: SessionName = None, as_of: AsOf = None) -> Json:
        """Ids of all holes, in the order of the columns, and of squares and patches; they change with imports alone."""
        moment = served.moment(name, as_of)
        names = moment.advice.names
        return {
            "run_id": moment.run_id,
            "holes": list(names.holes),
            "squares": list(names.squares),
            "patches": list(names.patches),
            "grids": list(names.grids),
        }

    @app.get(f"{BASE}/advice", tags=["read"])
    def advice(name: SessionName = None, as_of: AsOf = None) -> Json:
        """The whole advice: verdict, next hole, why, the next 20, what it will give."""
        moment = served.moment(name, as_of)
        others = served.others(name) if as_of is None else []
        return {**moment.content, "run_id": moment.run_id, "mode": served.mode, "other_sessions": others}

    @app.get(f"{BASE}/verdict", tags=["read"])
    def verdict(name: SessionName = None, as_of: AsOf = None) -> Json:
        """One verb, one place, one number, one sentence."""
        moment = served.moment(name, as_of)
        return {
            "revision": moment.revision,
            **moment.content["verdict"],
            "good_so_far": moment.content["good_so_far"],
            "target": moment.content["target"],
        }

    @app.get(f"{BASE}/forecast", tags=["read"])
    def forecast(name: SessionName = None, as_of: AsOf = None) -> Json:
        """Good micrographs against time with 50 and 80 %, and as collected; of a played session the exact bound."""
        moment = served.moment(name, as_of)
        so_far = served.collected(name, moment)
        bound = () if served.replay_bound is None else served.replay_bound.points(moment, so_far)
        return views.forecast_json(moment, so_far, bound)

    @app.get(f"{BASE}/time", tags=["read"])
    def time_spent(name: SessionName = None, as_of: AsOf = None) -> Json:
        """Where the time went, by interval."""
        moment = served.moment(name, as_of)
        return views.minutes_spent(served.session_of(name, moment), moment, served.notes(name, as_of))

    @app.get(f"{BASE}/trust", tags=["read"])
    def trust(name: SessionName = None, as_of: AsOf = None) -> Json:
        """Given against found by tenth; advised against done; what was sent and not answered."""
        facts = served.moment(name, as_of).facts
        sent = facts["sent"]
        return {
            "tenths": facts["trust"],
            "followed": facts["followed"],
            "followed_near": facts["followed_near"],
            "compared": facts["compared"],
            "followed_of_last_20": facts["followed_of_last_20"],
            "last_20": facts["last_20"],
            "drift": facts["drift"],
            "overdue": facts["overdue"],
            "n_overdue": facts["n_overdue"],
            "unanswered": [hole for hole, state in sent.items() if state == "sent"],
            "sent": {state: sum(each == state for each in sent.values()) for state in _SENT_STATES},
        }

    @app.get(f"{BASE}/message", tags=["read"])
    def message(name: SessionName = None, as_of: AsOf = None) -> Json:
        """The worst problem, since when, what to do, how many more."""
        advisor = served.advisor(name)
        moment = served.moment(name, as_of)
        now_s = served.clock() if as_of is None else moment.at_s
        troubles = list(advisor.troubles.values()) if as_of is None else []
        return views.message_json(moment, now_s, troubles, folder() if as_of is None else None)

    @app.get(f"{BASE}/health", tags=["read"])
    def health(name: SessionName = None, as_of: AsOf = None) -> Json:
        """Four clocks: server, folder, microscope, CTF; each age against its own usual interval."""
        moment = served.moment(name, as_of)
        now_s = served.clock() if as_of is None else moment.at_s
        return views.health_json(moment, now_s, folder() if as_of is None else None)

    @app.get(f"{BASE}/events", tags=["read"])
    def events(
        name: SessionName = None,
        as_of: AsOf = None,
        after: Annotated[int, Query(ge=0, le=2**53)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 200,
        kind: Annotated[str | None, Query(max_length=40)] = None,
    ) -> Json:
        """Events in their order, from one on; tables that were imported are named with their number of rows."""
        advisor = served.advisor(name)
        before_s = None if as_of is None else as_of.timestamp()

        def read(store: SessionStore) -> tuple[list[Json], int | None]:
            rows: list[Json] = []
            for event in store.events(after=after, kind=kind):
                if before_s is not None and datetime.fromisoformat(event.at).timestamp() > before_s:
                    break
                if len(rows) == limit:
                    return rows, rows[-1]["event"]
                rows.append(event_row(event))
            return rows, None

        rows, following = advisor.reading(read)
        return {"events": rows, "next": following}

    @app.get(f"{BASE}/actions", tags=["read"])
    def actions(name: SessionName = None, as_of: AsOf = None) -> Json:
        """The last 20 actions that can be taken back one by one, newest first, and the notes.

        undo_of : the event that an action took back, else null
        """
        advisor = served.advisor(name)
        before_s = None if as_of is None else as_of.timestamp()

        def read(store: SessionStore) -> list[Json]:
            found = [
                {**event_row(event), "undo_of": event.payload.get("undo_of")}
                for event in store.events(kind="overridden")
                if before_s is None or datetime.fromisoformat(event.at).timestamp() <= before_s
            ]
            return found[-UNDOABLE:][::-1]

        return {"actions": advisor.reading(read), "notes": served.moment(name, as_of).facts["notes"]}

    @app.get(f"{BASE}/images/{{place:path}}", tags=["read"], response_class=Response)
    def image(place: str, name: SessionName = None, as_of: AsOf = None) -> Response:
        """The images of a patch, or of a square, as PNG from the store, with a circle around each hole."""
        moment = served.moment(name, as_of)
        advisor = served.advisor(name)
        picture = advisor.reading(
            lambda store: patch_picture(store, served.session_of(name, moment), moment, place)
        )
        if picture is None:
            raise HTTPException(404, f"No images are stored of {place[:80]!r}.")
        return Response(picture, media_type="image/png")

    @app.get(f"{BASE}/exports/{{what}}", tags=["read"], response_class=Response)
    def export(what: str, name: SessionName = None, as_of: AsOf = None) -> Response:
        """next.csv, squares.csv, holes.csv, forecast.csv: tables for people; formulas are escaped."""
        moment = served.moment(name, as_of)
        made: dict[str, Callable[[], list[Json]]] = {
            "next.csv": lambda: moment.content["holes"],
            "squares.csv": lambda: moment.squares,
            "holes.csv": lambda: views.hole_rows(moment, 0, moment.advice.problem.n_holes)[0],
            "forecast.csv": lambda: _forecast_rows(moment),
        }
        if what not in made:
            raise UnknownNameError("An export", what, made)
        headers = {"content-disposition": f'attachment; filename="{what}"'}
        return Response(
            views.rows_as_csv(made[what]()), media_type="text/csv; charset=utf-8", headers=headers
        )


_SENT_STATES = ("sent", "accepted", "imaged", "refused")


def _forecast_rows(moment: Moment) -> list[Json]:
    seen = moment.advice.outlook
    return [
        {
            "minutes": round(float(minutes), 3),
            "expected": round(float(seen.expected[row]), 3),
            "low_50": float(seen.interval_50[row, 0]),
            "high_50": float(seen.interval_50[row, 1]),
            "low_80": float(seen.interval_80[row, 0]),
            "high_80": float(seen.interval_80[row, 1]),
        }
        for row, minutes in enumerate(seen.minutes)
    ]


def scores_of(served: ServedSessions, name: str | None, moment: Moment, wanted: list[str]) -> dict[str, Any]:
    """Further columns that are asked for: what sources give of each hole's image, such as ice and motion."""
    asked = [each for each in wanted if each not in views.HOLE_COLUMNS]
    if not asked:
        return {}
    return hole_scores(served.session_of(name, moment))


def _note_with(store: SessionStore, key: str | None) -> int | None:
    """The event of the note with a sender's key; None where it was not recorded."""
    found = (event.id for event in store.events(kind="noted") if event.payload.get("key") == key)
    return next(found, None)


def event_row(event: Event) -> Json:
    """An event for people: tables that were imported are counted, not listed."""
    payload = dict(event.payload)
    columns = payload.pop("columns", None)
    if columns is not None:
        payload["rows"] = len(next(iter(columns.values()), []))
    author = payload.pop("author", None)
    return {"event": event.id, "kind": event.kind, "at": event.at, "author": author, "payload": payload}


def _writes(app: FastAPI, served: ServedSessions) -> None:
    def recorded(name: str | None, number: int) -> Json:
        advisor = served.advisor(name)
        return {"event": number, "revision": number, "session": advisor.name}

    def check(name: str | None, revision: int) -> None:
        """412 where somebody said something since."""
        last = served.advisor(name).reading(_last_override)
        if last > revision:
            raise HTTPException(
                412,
                f"Somebody said something since revision {revision} (event {last}). Look again, then say it.",
            )

    @app.post(f"{BASE}/outcome", tags=["write"])
    def outcome(sent: OutcomeSent, name: SessionName = None) -> Json:
        """The result of one exposure; sending it again changes nothing."""
        value = sent.ctf_max_res_angstrom
        if (value is None) == (not sent.failed):
            raise InputError(
                "An outcome must have either ctf_max_res_angstrom or failed: true. Got "
                f"{'neither' if value is None else 'both'} instead. A result that is not there yet is not sent."
            )
        if sent.exposure_id is None and sent.hole_id is None:
            raise InputError("An outcome must name exposure_id or hole_id. Got neither instead.")
        if sent.started_at is not None and sent.started_at.tzinfo is not None:
            raise InputError(
                "started_at must be the microscope's time, without a zone. Got one with a zone instead."
            )

        def record(store: SessionStore) -> tuple[str, int]:
            exposure = sent.exposure_id
            if sent.hole_id is not None:
                exposure = store.record_imaged(
                    sent.hole_id, sent.started_at, sent.shot, exposure, sent.author
                )
            done = store.record_outcome(str(exposure), float("inf") if value is None else value, sent.author)
            return done, store.newest_event()

        exposure, number = served.advisor(name).writing(record)
        return {**recorded(name, number), "exposure_id": exposure}

    @app.post(
        f"{BASE}/override", tags=["write"], responses={412: {"description": "Somebody said something since"}}
    )
    def override(sent: OverrideSent, name: SessionName = None) -> Json:
        """Pin, ban, skip, order, pause, resume, budget, threshold, target, or the undo of one of these.

        Of several sessions in one microscope all get a budget, a pause and its end.
        """
        override_of(sent.payload())
        advisor = served.advisor(name)
        with served.saying:
            check(name, sent.revision)
            number = advisor.write("overridden", sent.payload())
            if (sent.of if sent.kind == "undo" else sent.kind) in OF_ALL_SESSIONS:
                for other in served.others_than(advisor):
                    other.write("overridden", sent.payload())
        return recorded(name, number)

    @app.post(
        f"{BASE}/undo", tags=["write"], responses={412: {"description": "Somebody said something since"}}
    )
    def undo(sent: UndoSent, name: SessionName = None) -> Json:
        """Take one of the last 20 actions back, by its event."""
        advisor = served.advisor(name)
        with served.saying:
            check(name, sent.revision)
            known = advisor.reading(
                lambda store: [
                    (event.id, event.at, event.payload) for event in store.events(kind="overridden")
                ]
            )
            said = {"author": sent.author, "undo_of": sent.event, "note": f"undo of event {sent.event}"}
            undone = undoing(known, sent.event)
            changes = [("overridden", {**change.payload(), **said}) for change in undone]
            number = advisor.writing(lambda store: store.append_many(changes))
            shared = [
                change
                for change, override in zip(changes, undone, strict=True)
                if (override.of if override.kind == "undo" else override.kind) in OF_ALL_SESSIONS
            ]
            for other in served.others_than(advisor) if shared else ():
                other.writing(lambda store: store.append_many(shared))
        return recorded(name, number)

    @app.post(f"{BASE}/note", tags=["write"])
    def note(sent: NoteSent, name: SessionName = None) -> Json:
        """A remark for people, or what the microscope did meanwhile (nitrogen, zero-loss, focus, look).

        With the `key` of one that was recorded it changes nothing: whoever got no answer may send it again.
        """
        advisor = served.advisor(name)
        for names, value in ((advisor.moment.advice.names.holes, sent.hole_id),
                             (advisor.moment.advice.names.squares, sent.square_id)):  # fmt: skip
            if value is not None and value not in names:
                raise UnknownNameError("A place of a note", value, list(names)[:2000])
        with served.saying:
            number = None if sent.key is None else advisor.reading(lambda store: _note_with(store, sent.key))
            if number is None:
                number = advisor.write("noted", sent.model_dump(mode="json", exclude_none=True))
        return recorded(name, number)

    @app.post(f"{BASE}/what-if", tags=["write"])
    def what_if(sent: WhatIfSent, name: SessionName = None) -> Json:
        """The advice if something else were said; nothing is changed."""
        advisor = served.advisor(name)
        said: Overrides = advisor.overrides
        at = datetime.fromtimestamp(served.clock()).astimezone().isoformat()
        for each in sent.overrides:
            said = said.of(override_of(each.payload()), at)
        moment = advisor.what_if(said)
        before = advisor.moment.content
        gain = moment.content["expected_good"] - before["expected_good"]
        return {"advice": moment.content, "expected_good_gain": round(gain, 4), "squares": moment.squares}

    @app.post(f"{BASE}/mode", tags=["write"])
    def mode(sent: ModeSent) -> Json:
        """Watch, suggest or send; sending is armed for some minutes."""
        if (sent.mode == "send") != (sent.minutes is not None):
            raise InputError(
                "minutes must be given with mode send, and with it alone. Got it otherwise instead."
            )
        if sent.mode != "watch" and not served.writes_files and served.bridge is None:
            raise InputError(
                f"Mode {sent.mode} needs a folder to write the advice to. Got a server without --export-to instead. "
                "Remedy: stop serve and start it again with --export-to FOLDER; nothing that was said is lost."
            )
        served.mode = sent.mode
        served.armed_until_s = None if sent.minutes is None else served.clock() + 60.0 * sent.minutes
        first = next(iter(served.advisors.values()))
        text = f"mode {sent.mode}" + ("" if sent.minutes is None else f" for {sent.minutes:g} min")
        first.write("noted", {"author": sent.author, "text": text, "kind": "note"})
        return {"mode": served.mode, "armed_until": served.armed_until}


def _last_override(store: SessionStore) -> int:
    last = 0
    for event in store.events(kind="overridden"):
        last = event.id
    return last


def _page(app: FastAPI) -> None:
    """The page, its parts, and the documentation of the API."""
    app.router.routes.extend(asset_routes({"index.html": "/", "docs.html": "/docs"}))
