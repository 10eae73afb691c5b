"""The squares of a plan as pictures: the chosen holes numbered on the image of the square, or at their stage positions.

An operator finds a hole by where it is, not by its id. Every drawing is one inline SVG element, made of text alone, so
that a list stays one file and needs no drawing library.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryoscout.advice.work_list import PlannedVisit, WorkList, name_within
from cryoscout.session.model import Session

if TYPE_CHECKING:
    from cryoscout.perception.patch_images import PicturedPlace

MOST_DRAWN = 30
"""Squares, or patches with a picture, that are drawn: in the order in which the plan comes to them."""

WIDTH_PX = 900
"""Of a drawing, and of the picture in it."""

_NAMES_BESIDE = 80
"""Up to so many chosen holes have the vendor's name beside them where there is room; all have it as a tooltip."""

_LETTER_PX = 4.4
"""Width of a letter of such a name."""

_PLANNED, _IMAGED, _OTHER = "#0072b2", "#999999", "#bbbbbb"
_HOLE_RADIUS = 0.32
"""Of the distance between neighbouring holes."""


@dataclass(frozen=True)
class SquareMap:
    """One drawing."""

    title: str
    svg: str
    """An inline <svg> element."""
    note: str


@dataclass(frozen=True)
class _Canvas:
    """Holes on a drawing: x to the right, y down, px."""

    holes: NDArray[np.int64]  # (m,) indices of the session's holes
    xy: NDArray[np.float64]  # (m, 2)
    height: float
    radius: float
    behind: str  # an <image>, or a scale bar


def square_maps(
    session: Session, work_list: WorkList, pictures: Mapping[tuple[str, str], PicturedPlace] | None = None
) -> list[SquareMap]:
    """The drawings of a plan, in the order in which it comes to the squares; none where no position is known.

    pictures : of patches and squares by ("patch" or "square", id), of `pictures_of_session`
    A square is drawn on its picture, or each of its patches on theirs; else at the stage positions.
    """
    pictures = pictures or {}
    hole_index = {name: place for place, name in enumerate(session.holes["hole_id"])}
    visits_of: dict[str, list[PlannedVisit]] = {}
    for visit in work_list.visits:
        visits_of.setdefault(visit.square, []).append(visit)
    square_of_hole = session.squares["square_id"].to_numpy()[session.tree().square_of_hole]
    drawn: list[SquareMap] = []
    for square, visits in visits_of.items():
        by_patch: dict[str, list[PlannedVisit]] = {}
        for visit in visits:
            by_patch.setdefault(visit.patch, []).append(visit)
        places = [("square", square)] if ("square", square) in pictures else []
        places += [("patch", patch) for patch in by_patch if ("patch", patch) in pictures and not places]
        for level, name in places[: MOST_DRAWN - len(drawn)]:
            inside = visits if level == "square" else by_patch[name]
            canvas = _on_picture(pictures[level, name])
            drawn.append(_drawn(session, canvas, inside, hole_index, name, "its picture"))
        on_pictures = {patch for level, patch in places if level == "patch"}
        rest = [] if ("square", square) in places else [v for v in visits if v.patch not in on_pictures]
        if rest and len(drawn) < MOST_DRAWN:
            canvas_um = _at_stage_positions(session, np.flatnonzero(square_of_hole == square))
            if canvas_um is not None:
                drawn.append(_drawn(session, canvas_um, rest, hole_index, square, "stage positions"))
    return drawn


def pictures_of_session(session: Session, folders: Sequence[Path]) -> dict[tuple[str, str], PicturedPlace]:
    """The pictures of folders that show patches or squares of the session; what cannot be read is passed over."""
    from cryoscout.perception.patch_images import pictured_places

    found: dict[tuple[str, str], PicturedPlace] = {}
    for folder in folders:
        for each in pictured_places(session, folder):
            found.setdefault(each.place, each)
    return found


def _on_picture(pictured: PicturedPlace) -> _Canvas:
    from PIL import Image

    grey = pictured.grey
    scale = min(1.0, WIDTH_PX / grey.shape[1])
    picture = Image.fromarray(grey)
    width, height = round(grey.shape[1] * scale), round(grey.shape[0] * scale)
    data = io.BytesIO()
    picture.resize((width, height), Image.Resampling.BOX).save(data, "JPEG", quality=80)
    text = base64.b64encode(data.getvalue()).decode("ascii")
    xy = (pictured.centres_px[:, ::-1] + 0.5) * scale
    shown = f'<image href="data:image/jpeg;base64,{text}" width="{width}" height="{height}"/>'
    return _Canvas(pictured.holes, xy, height, _radius(xy, width), shown)


def _at_stage_positions(session: Session, holes: NDArray[np.int64]) -> _Canvas | None:
    """The holes of a square that have a stage position, to one scale; None where none has."""
    um = session.holes[["x_um", "y_um"]].to_numpy(dtype=np.float64)[holes]
    holes, um = holes[np.isfinite(um).all(axis=1)], um[np.isfinite(um).all(axis=1)]
    if not len(holes):
        return None
    low, high = um.min(axis=0), um.max(axis=0)
    extent = max(float((high - low).max()), 1e-6)
    margin = 0.06 * WIDTH_PX
    scale = (WIDTH_PX - 2 * margin) / extent
    # The stage's y goes up, a drawing's down.
    xy = np.stack([(um[:, 0] - low[0]) * scale + margin, (high[1] - um[:, 1]) * scale + margin], axis=1)
    height = float((high[1] - low[1]) * scale + 2 * margin) + 20
    bar_um = round_length(extent / 5) if len(holes) > 1 else 0.0
    bar = (
        f'<path d="M{margin:.1f} {height - 12:.1f}h{bar_um * scale:.1f}" stroke="#111" stroke-width="3"/>'
        f'<text x="{margin + bar_um * scale + 6:.1f}" y="{height - 8:.1f}" font-size="13">{bar_um:g} µm, stage x to '
        "the right, y up</text>"
        if bar_um
        else ""
    )
    return _Canvas(holes, xy, height, _radius(xy, WIDTH_PX), bar)


def _radius(xy: NDArray[np.float64], width: float) -> float:
    """Of a hole, so that neighbours stay apart."""
    if len(xy) < 2:
        return width / 40
    from scipy.spatial import cKDTree

    distances = np.asarray(cKDTree(xy).query(xy, k=2)[0])
    return float(np.clip(_HOLE_RADIUS * np.median(distances[:, 1]), 2.0, width / 20))


def round_length(length: float) -> float:
    """The largest of 1, 2, 5, 10, ... that is not above the length."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(step * power for step in (1, 2, 5) if step * power <= length))


def _drawn(
    session: Session,
    canvas: _Canvas,
    visits: Sequence[PlannedVisit],
    hole_index: Mapping[str, int],
    name: str,
    what: str,
) -> SquareMap:
    place = {int(hole): at for hole, at in zip(canvas.holes, canvas.xy, strict=True)}
    shown = [(visit, place[index]) for visit in visits if (index := hole_index[visit.hole]) in place]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {canvas.height:.0f}" '
        f'role="img" font-family="sans-serif"><title>{escape(name)}, {escape(what)}</title>',
        canvas.behind,
        *_others(session, canvas, {hole_index[visit.hole] for visit in visits}),
        *_chosen(shown, canvas.radius),
        "</svg>",
    ]
    missing = len(visits) - len(shown)
    note = f"{len(shown)} chosen holes, numbered in order of visit; grey: imaged; outlines: not chosen."
    note += f" {missing} have no position here." if missing else ""
    return SquareMap(f"{name}: {what}", "".join(parts), note)


def _others(session: Session, canvas: _Canvas, chosen: set[int]) -> Iterator[str]:
    imaged = session.imaged_by_hole()
    names = session.holes["hole_id"].to_numpy()
    for hole, (x, y) in zip(canvas.holes.tolist(), canvas.xy.tolist(), strict=True):
        if hole not in chosen:
            fill = _IMAGED if imaged[hole] else "none"
            yield (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{canvas.radius:.1f}" fill="{fill}" fill-opacity="0.6" '
                f'stroke="{_OTHER}">'
                f"<title>{escape(str(names[hole]))}</title></circle>"
            )


def _chosen(shown: Sequence[tuple[PlannedVisit, NDArray[np.float64]]], radius: float) -> Iterator[str]:
    if len(shown) > 1:
        points = " ".join(f"{x:.1f},{y:.1f}" for _, (x, y) in shown)
        yield f'<polyline points="{points}" fill="none" stroke="{_PLANNED}" stroke-width="1.5" opacity="0.6"/>'
    size = max(1.25 * radius, 7.0)
    longest = max((len(name_within(visit.hole, visit.patch)) for visit, _ in shown), default=0)
    has_room = 0.6 * _LETTER_PX * longest <= radius / _HOLE_RADIUS
    for visit, (x, y) in shown:
        yield (
            f'<g><title>{escape(visit.hole)}, p {visit.p_good:.2f}</title><circle cx="{x:.1f}" cy="{y:.1f}" '
            f'r="{max(radius, 4.0):.1f}" fill="{_PLANNED}" stroke="#fff"/>'
            f'<text x="{x:.1f}" y="{y + 0.35 * size:.1f}" font-size="{size:.1f}" text-anchor="middle" fill="#fff">'
            f"{visit.order}</text>"
        )
        if has_room and len(shown) <= _NAMES_BESIDE:
            yield (
                f'<text x="{x:.1f}" y="{y + radius + 9:.1f}" font-size="8" text-anchor="middle" stroke="#fff" '
                f'stroke-width="2" paint-order="stroke">{escape(name_within(visit.hole, visit.patch))}</text>'
            )
        yield "</g>"
