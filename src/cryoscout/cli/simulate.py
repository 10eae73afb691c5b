"""`cryoscout simulate`: a session with known truth, written as a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoscout.cli.output import console, print_json, progress, session_name
from cryoscout.cli.session_place import (
    NewDatabaseUrl,
    in_words,
    place_of_new_session,
    refuse_images_in_database,
)
from cryoscout.core.counting import counted
from cryoscout.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cryoscout.session.model import Session
    from cryoscout.session.store import SessionStore
    from cryoscout.simulate.image_settings import ImageSettings
    from cryoscout.simulate.scene import Scene
    from cryoscout.simulate.scene_settings import SceneSettings


def simulate(
    preset: Annotated[
        str,
        typer.Option(
            help="Kind of session. Tables: small, y1-like, atlas, daily, million. With images: y1-sim, y3, "
            "daily-images."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The session folder to make, NAME.session.")
    ] = None,
    database_url: NewDatabaseUrl = None,
    holes: Annotated[int | None, typer.Option(help="Number of holes instead of the preset's.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same session.", min=0)] = 0,
    images: Annotated[
        bool | None,
        typer.Option(
            "--images/--no-images",
            help="Store a crop of every hole; presets with images do so by themselves.",
        ),
    ] = None,
    crop_px: Annotated[
        int | None, typer.Option(help="Side of a crop, 16 to 150 px; 64 when not given.")
    ] = None,
    mrc: Annotated[
        Path | None, typer.Option(help="Folder for every patch and square image at full size, as MRC files.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a session, or MRC files, of that name.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a session with known truth: tree, outcomes, times; and scores of a classifier, or images.

    \b
    Example:
      cryoscout simulate --preset y1-like -o practice.session --seed 1
      cryoscout simulate --preset y1-sim -o pictures.session
      cryoscout simulate --preset y3 --holes 200 --mrc images -o few.session
    """
    from cryoscout.session.store import SessionStore
    from cryoscout.simulate.presets import image_settings_named, scene_named

    is_scene = _has_images(preset)
    _check_options(preset, is_scene, images, crop_px, mrc)
    if output is None and database_url is None:
        raise InputError(
            "A session must go somewhere. Got neither -o nor --database-url instead. Remedy: -o NAME.session."
        )
    place = place_of_new_session(output, preset, database_url=database_url)
    refuse_images_in_database(place, is_scene and images is not False)
    name = session_name(place) if isinstance(place, Path) else preset
    if mrc is not None:
        _check_mrc_folder(mrc, force)
    # The store is made first: an output that may not be written is refused before the work, not after it.
    with SessionStore.create(place, force=force) as store:
        source = f"simulate --preset {preset} --seed {seed}"
        if is_scene:
            settings = scene_named(preset) if holes is None else _smaller(scene_named(preset), holes)
            session, told = _with_images(
                store,
                name,
                settings,
                image_settings_named(preset),
                seed,
                source,
                images is not False,
                crop_px,
                mrc,
            )
        else:
            session, told = _tables(store, name, preset, holes, seed, source), {}
    summary = {"session": session.name, "preset": preset, "seed": seed, **session.counts(), **told}
    if as_json:
        print_json(summary)
        return
    _print_summary(in_words(place), session, seed, told, mrc)


def _print_summary(place: str, session: Session, seed: int, told: dict[str, Any], mrc: Path | None) -> None:
    out = console()
    out.print(
        f"Wrote {place}: {counted(session.n_holes, 'holes')} in {counted(len(session.patches), 'patches')}, seed {seed}"
    )
    if told:
        crops = f"{told['crops']} crops of {told['crop_px']} px" if told["crops"] else "no crops"
        files = f", {told['mrc_files']} MRC files in {mrc}" if mrc is not None else ""
        out.print(f"Images: {crops}{files}")
    out.print(f"Next: cryoscout replay {place} --budget-min 240")


def _has_images(preset: str) -> bool:
    """Whether a preset is a specimen. Raises UnknownNameError, with the names of both kinds."""
    from cryoscout.core.errors import UnknownNameError
    from cryoscout.simulate.presets import SCENE_PRESETS, TABLE_PRESETS

    if preset not in TABLE_PRESETS and preset not in SCENE_PRESETS:
        raise UnknownNameError("The simulation preset", preset, [*TABLE_PRESETS, *SCENE_PRESETS])
    return preset in SCENE_PRESETS


def _check_options(
    preset: str, is_scene: bool, images: bool | None, crop_px: int | None, mrc: Path | None
) -> None:
    from cryoscout.simulate.presets import SCENE_PRESETS

    if not is_scene and (images or crop_px is not None or mrc is not None):
        raise InputError(
            f"The preset must have images for --images, --crop-px and --mrc: one of {', '.join(SCENE_PRESETS)}. "
            f"Got {preset}, which is tables alone, instead. Remedy: choose one of these, or leave the options out."
        )
    if images is False and crop_px is not None:
        raise InputError(
            f"--crop-px must be left out where no crops are stored. Got {crop_px} with --no-images instead. "
            "Remedy: leave one of them out."
        )


def _tables(
    store: SessionStore, name: str, preset: str, holes: int | None, seed: int, source: str
) -> Session:
    from cryoscout.simulate.presets import simulation_named
    from cryoscout.simulate.session import to_session
    from cryoscout.simulate.settings import SimulationSettings
    from cryoscout.simulate.tables import simulate_tables

    settings = simulation_named(preset)
    if holes is not None:
        settings = SimulationSettings.model_validate({**settings.model_dump(), "holes": holes})
    with progress("simulating", 2) as step:
        tables = simulate_tables(settings, seed)
        step()
        session = to_session(tables, name)
        step()
    store.save_import(session, source=source, progress=progress)
    return session


def _with_images(
    store: SessionStore,
    name: str,
    settings: SceneSettings,
    optics: ImageSettings,
    seed: int,
    source: str,
    with_crops: bool,
    crop_px: int | None,
    mrc: Path | None,
) -> tuple[Session, dict[str, Any]]:
    from cryoscout.simulate.images import CROP_PX, check_crop_px, crops_in_order
    from cryoscout.simulate.scene import simulate_scene
    from cryoscout.simulate.session import scene_to_session

    crop_px = CROP_PX if crop_px is None else crop_px
    check_crop_px(crop_px, optics)
    steps = 2 + settings.patches * with_crops + (settings.patches + settings.squares) * (mrc is not None)
    with progress("simulating", steps) as step:
        scene = simulate_scene(settings, seed)
        session = scene_to_session(scene, name, images=optics if with_crops else None)
        step()
        written = _write_mrc(mrc, scene, session, optics, step) if mrc is not None else 0
        crops = None
        if with_crops:
            patch_ids = session.patches["patch_id"].tolist()
            crops = _counted(crops_in_order(scene, patch_ids, optics, crop_px), step)
        store.save_import(session, source=source, images=crops)
        step()
    return session, {
        "crops": session.n_holes if with_crops else 0,
        "crop_px": crop_px if with_crops else None,
        "mrc_files": written,
    }


def _counted(
    crops: Iterator[tuple[str, NDArray[np.uint8]]], step: Callable[[], None]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for patch_id, array in crops:
        yield patch_id, array
        step()


def _write_mrc(folder: Path, scene: Scene, session: Session, optics: Any, step: Callable[[], None]) -> int:
    from cryoscout.simulate.image_files import write_mrc_images

    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder for MRC files must be one that can be made. Got {folder} ({error.strerror}) instead. "
            "Remedy: choose another."
        ) from None
    written = 0
    patch_ids, square_ids = session.patches["patch_id"].tolist(), session.squares["square_id"].tolist()
    for _ in write_mrc_images(folder, scene, patch_ids, square_ids, optics):
        written += 1
        step()
    return written


def _check_mrc_folder(folder: Path, force: bool) -> None:
    """Refuse, before the work, a place where MRC files could not go or would replace others."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--mrc must name a folder. Got {folder}, a file, instead. Remedy: choose another.")
    if not folder.exists() and not folder.parent.is_dir():
        raise InputError(
            f"The folder that --mrc {folder} lies in must exist. Got none instead. Remedy: make it, or choose another."
        )
    there = next(folder.glob("*.mrc"), None) if folder.is_dir() else None
    if there is not None and not force:
        raise InputError(
            f"The folder for MRC files must hold none yet. Got {there} instead. Remedy: choose another, or add --force "
            "to replace files of the same name."
        )


def _smaller(settings: SceneSettings, holes: int) -> SceneSettings:
    """The same kind of specimen with another number of holes, and as many patches, squares, grids for each."""
    share = holes / settings.holes

    def scaled(count: int) -> int:
        return min(max(1, round(count * share)), holes)

    counts = {name: scaled(getattr(settings, name)) for name in ("patches", "squares", "grids")}
    counts["samples"] = min(settings.samples, counts["grids"])
    return type(settings).model_validate({**settings.model_dump(), "holes": holes, **counts})
