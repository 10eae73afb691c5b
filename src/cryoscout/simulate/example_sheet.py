"""One picture of what simulated images look like: crops by kind and thickness, a patch image, a square image."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryoscout.core.errors import DataError
from cryoscout.simulate.frames import holes_of_patch
from cryoscout.simulate.image_settings import ImageSettings
from cryoscout.simulate.images import hole_crops, patch_image, square_image
from cryoscout.simulate.scene import HoleKind, Scene

CROPS_PER_KIND = 6
_ROWS = (
    (HoleKind.VITREOUS, "vitreous"),
    (HoleKind.CRYSTALLINE, "crystalline"),
    (HoleKind.CONTAMINATED, "contaminated"),
    (HoleKind.DRY, "dry"),
    (HoleKind.EMPTY, "empty"),
)
_LABEL = {"facecolor": "black", "edgecolor": "none", "pad": 1.0}


def example_sheet(scene: Scene, settings: ImageSettings | None = None, dpi: int = 110) -> bytes:
    """The sheet as a PNG file. The same scene gives the same picture.

    settings : None takes the defaults     dpi : of a figure 13.5 inches wide
    """
    figure = Figure(figsize=(13.5, 4.5), layout="constrained")
    draw_example_sheet(figure, scene, settings or ImageSettings())
    file = io.BytesIO()
    # Without the program's version, so that the file does not change with it.
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()


def draw_example_sheet(figure: Figure, scene: Scene, settings: ImageSettings) -> None:
    """Draw the sheet into an empty figure: one row of crops for each kind, thin to thick; a patch; its square.

    The patch is the one with most kinds in it. Raises DataError for a scene without any.
    """
    if scene.n_holes == 0:
        raise DataError("The scene must have holes for an example sheet. Got none instead.")
    grid = figure.add_gridspec(1, 3, width_ratios=[1.2, 1.0, 1.0])
    crops = grid[0, 0].subgridspec(len(_ROWS), CROPS_PER_KIND, hspace=0.02, wspace=0.02)
    for row, (kind, name) in enumerate(_ROWS):
        holes = _from_thin_to_thick(scene, kind)
        for column in range(CROPS_PER_KIND):
            axes = figure.add_subplot(crops[row, column])
            _bare(axes)
            if column < len(holes):
                hole = int(holes[column])
                _show(axes, _crop(scene, hole, settings))
                label = f"{scene.thickness_nm[hole]:.0f} nm"
                axes.text(
                    0.04, 0.05, label, transform=axes.transAxes, fontsize=6.5, color="white", bbox=_LABEL
                )
            if column == 0:
                axes.set_ylabel(name if len(holes) else f"{name}\n(none)", fontsize=8)
    patch = _most_kinds(scene)
    square = int(scene.square_of_patch[patch])
    for column, title, image, pixel_um in (
        (1, "A patch image", patch_image(scene, patch, settings)[0], settings.pixel_nm / 1000),
        (
            2,
            "The square around it",
            square_image(scene, square, settings)[0],
            settings.square_pixel_nm / 1000,
        ),
    ):
        axes = figure.add_subplot(grid[0, column])
        _bare(axes)
        _show(axes, image)
        axes.set_title(f"{title}, {image.shape[1] * pixel_um:.0f} um wide", fontsize=9)


def _from_thin_to_thick(scene: Scene, kind: HoleKind) -> NDArray[np.intp]:
    """Up to CROPS_PER_KIND holes of a kind, evenly over the ranks of thickness."""
    of_kind = np.flatnonzero(scene.kind == kind)
    ordered = of_kind[np.argsort(scene.thickness_nm[of_kind], kind="stable")]
    ranks = np.linspace(0, max(len(ordered) - 1, 0), min(CROPS_PER_KIND, len(ordered)))
    chosen: NDArray[np.intp] = ordered[np.rint(ranks).astype(np.intp)]
    return chosen


def _most_kinds(scene: Scene) -> int:
    """The patch with most kinds of holes, the first of several."""
    number = [len(np.unique(scene.kind[holes_of_patch(scene, p)])) for p in range(len(scene.square_of_patch))]
    return int(np.argmax(number))


def _crop(scene: Scene, hole: int, settings: ImageSettings) -> NDArray[np.uint8]:
    patch = int(scene.patch_of_hole[hole])
    crop: NDArray[np.uint8] = hole_crops(scene, patch, settings)[hole - holes_of_patch(scene, patch).start]
    return crop


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])


def _show(axes: Axes, image: NDArray[np.uint8]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
