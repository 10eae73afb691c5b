"""Pictures of a place from the images that are stored: the crops of its holes where they lie, each in its circle."""

from __future__ import annotations

import io

import numpy as np

from cryoscout.live.running import Moment
from cryoscout.session.model import Session
from cryoscout.session.store import SessionStore

LARGEST_PX = 2000
"""Side of a picture; larger ones are made smaller."""
MOST_PATCHES = 60
_COLOURS = {0: (150, 150, 150), 1: (240, 200, 60), 2: (220, 90, 80), 3: (70, 190, 120), 4: (200, 190, 80)}


def patch_picture(store: SessionStore, session: Session, moment: Moment, place: str) -> bytes | None:
    """PNG of a patch, or of all patches of a square beside each other; None where no image is stored.

    place : id of a patch or square, looked up in the session; it is never a path
    Circles are coloured by the state of the hole (`views.STATES`).
    """
    patches = session.patches
    ids = patches.loc[patches["patch_id"] == place, "patch_id"].tolist()
    if not ids:
        ids = patches.loc[patches["square_id"] == place, "patch_id"].tolist()[:MOST_PATCHES]
    tiles = [tile for each in ids if (tile := _tile(store, session, moment, each)) is not None]
    if not tiles:
        return None
    from PIL import Image

    columns = int(np.ceil(np.sqrt(len(tiles))))
    height, width = max(tile.shape[0] for tile in tiles), max(tile.shape[1] for tile in tiles)
    rows = -(-len(tiles) // columns)
    canvas = np.zeros((rows * height, columns * width, 3), dtype=np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * height, number % columns * width
        canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    picture = Image.fromarray(canvas)
    picture.thumbnail((LARGEST_PX, LARGEST_PX))
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return out.getvalue()


def _tile(store: SessionStore, session: Session, moment: Moment, patch_id: str) -> np.ndarray | None:
    """One patch, (h, w, 3) uint8: the crops of its holes at their places, each in a circle."""
    from PIL import Image, ImageDraw

    from cryoscout.live.views import states_of

    crops = store.images(patch_id)
    holes = session.holes[(session.holes["patch_id"] == patch_id) & session.holes["image_row"].notna()]
    if crops is None or holes.empty:
        return None
    side_y, side_x = crops.shape[1:]
    x, y = holes["x_px"].to_numpy(dtype=float), holes["y_px"].to_numpy(dtype=float)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        number = np.arange(len(holes))
        columns = max(1, int(np.ceil(np.sqrt(len(holes)))))
        x, y = (number % columns) * float(side_x), (number // columns) * float(side_y)
    shrink = max(1.0, max(np.ptp(x) + side_x, np.ptp(y) + side_y) / LARGEST_PX)
    width, height = (int((np.ptp(each) + side) / shrink) + 1 for each, side in ((x, side_x), (y, side_y)))
    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    index = {name: place for place, name in enumerate(moment.advice.names.holes)}
    states = states_of(moment)
    size = max(1, int(side_x / shrink)), max(1, int(side_y / shrink))
    for hole, row, left, top in zip(
        holes["hole_id"], holes["image_row"], x - x.min(), y - y.min(), strict=True
    ):
        crop = Image.fromarray(crops[int(row)]).convert("RGB").resize(size)
        corner = int(left / shrink), int(top / shrink)
        picture.paste(crop, corner)
        colour = _COLOURS[int(states[index[hole]])] if hole in index else (255, 255, 255)
        box = (corner[0] + 1, corner[1] + 1, corner[0] + size[0] - 2, corner[1] + size[1] - 2)
        if size[0] > 3 and size[1] > 3:
            draw.ellipse(box, outline=colour, width=2)
    return np.asarray(picture)
