"""Hole images of an import: those that are in a folder, or cut from its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryoscout.core.errors import InputError
from cryoscout.core.telling import Telling

if TYPE_CHECKING:
    from cryoscout.perception.patch_images import CutImages
    from cryoscout.session.model import Session


@dataclass(frozen=True)
class ImagesRequest:
    """What --images and --crop-px ask for."""

    crops: Path | None = None
    """Folder of hole images *_crop.png, which readers join by name"""
    pictures: Path | None = None
    """Folder of patch or square images, from which holes are cut"""
    crop_px: int = 0


def images_request(folder: Path | None, crop_px: int | None) -> ImagesRequest:
    """What is in the folder: hole images where there is any, else pictures to cut them from; of an EPU session those of
    its squares.

    Raises InputError for a folder with neither, and for --crop-px without pictures.
    """
    from cryoscout.formats.leginon.crops import PATTERN
    from cryoscout.perception.patch_images import DEFAULT_CROP_PX, picture_files

    if folder is None:
        if crop_px is not None:
            raise InputError(
                "--crop-px must go with --images. Got none instead. Remedy: name the folder of images."
            )
        return ImagesRequest()
    if folder.is_dir() and any(folder.glob(PATTERN)):
        if crop_px is not None:
            raise InputError(
                f"--crop-px must go with patch images. Got hole images {PATTERN} in {folder} instead. Remedy: leave "
                "--crop-px out."
            )
        return ImagesRequest(crops=folder)
    if not picture_files(folder):
        raise InputError(
            f"--images must be a folder with hole images {PATTERN} (Leginon) or with patch images (MRC, TIFF, PNG or "
            f"JPEG) named by their patch, or square. Got {folder}, which has none, instead. Remedy: name the folder "
            "they are in."
        )
    return ImagesRequest(pictures=folder, crop_px=DEFAULT_CROP_PX if crop_px is None else crop_px)


def cut_images(
    session: Session, request: ImagesRequest, *, permissive: bool, telling: Telling
) -> CutImages | None:
    """Images of the holes, None where none are asked for; what was left out is named."""
    from cryoscout.perception.patch_images import cut_session, picture_files

    if request.pictures is None:
        return None
    with telling.progress("cutting hole images", len(picture_files(request.pictures))) as step:
        cut = cut_session(session, request.pictures, request.crop_px, permissive=permissive, step=step)
    for line in cut.left_out:
        telling.say(f"Left out: {line}")
    return cut
