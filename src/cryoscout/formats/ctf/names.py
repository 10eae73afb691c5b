"""From the name of a micrograph in a table of results to the name of its exposure, so that results join to it.

Programs that process micrographs put things around the name; these are taken off, again and again until nothing is left
to take off:

    folder                    MotionCorr/job002/Movies/NAME.mrc, X:\\session\\NAME.tif, >J12/imported/NAME.mrc
    extension                 .mrc .mrcs .tif .tiff .eer .xml .jpg .png .ctf .ctf:mrc .txt .log .star ...
    slice of a stack          000003@NAME.mrcs
    movie                     NAME_Fractions, NAME_EER, NAME.frames (Leginon), NAME_frames (the same through RELION)
    motion correction         NAME_DW, NAME-DW, NAME_noDW, NAME_PS, NAME_patch_aligned,
                              NAME_patch_aligned_doseweighted, NAME_rigid_aligned, NAME_aligned_mic (Scipion),
                              NAME_motion_corrected (Murfey)
    uid of cryoSPARC          009364081384628432098_NAME: 15 to 21 digits (written with 21); fewer digits are a date and
                              stay, except before FoilHole_
    square before EPU's name  GridSquare_9456927_Data_FoilHole_...

The aligned image of Leginon (`-a`) stays: it is an image of its own. RELION's motion correction turns the dots of a
name into underscores (`name_without_dots`; `MotioncorrRunner::getOutputFileNames` in motioncorr_runner.cpp of
3dem/relion, 73f0a3c0). Leginon calls a movie NAME.frames.mrc, .frames.tif, .frames.eer (`determineFramesName` of its
frame transfer, leginon-org/leginon); Murfey an aligned image NAME_motion_corrected.mrc (`motion_corrected_mrc` of
DiamondLightSource/python-murfey). Doubt: no specification lists the others; `_noDW` and `_rigid_aligned` were not seen
in a file, the square before EPU's name in one public table, `_aligned_mic` in the tests of ESRF's Scipion tools.
"""

from __future__ import annotations

import re

LONGEST_NAME = 1000
"""Of a longer name only the folder is taken off."""

_PREFIX = re.compile(r"\d{1,9}@|\d{15,21}_|\d+_(?=FoilHole_)|GridSquare_\d+_Data_(?=FoilHole_)")
_ENDS = re.compile(
    r"(?:\.(?i:mrcs?|tiff?|eer|xml|jpe?g|png|ctf|txt|log|star|dm[34]|hdf5?|bz2|gz)(?::mrc)?"
    r"|(?i:_fractions|_eer|[._]frames|_(?:patch|rigid)_aligned\w*+|_aligned_mic|_motion_corrected)|[_-]DW|_noDW|_PS)+$"
)


def exposure_name(written: str) -> str:
    """The name of the exposure behind the name or path of a micrograph, movie or CTF image.

    The result is never empty unless `written` holds no name; applying it twice changes nothing. No file is looked at.
    """
    name = written
    while True:
        shorter = name.replace("\\", "/").rsplit("/", 1)[-1].strip().lstrip(">")
        if len(shorter) <= LONGEST_NAME:
            prefix = _PREFIX.match(shorter)
            shorter = shorter[prefix.end() :] if prefix else shorter
            shorter = _ENDS.sub("", shorter)
        if not shorter.strip():
            # Nothing but decoration: what is left of the name is all there is.
            return name.replace("\\", "/").rsplit("/", 1)[-1].strip().lstrip(">")
        if shorter == name:
            return name
        name = shorter


def folder_of(written: str) -> str:
    """The name of the folder that the path of a micrograph ends in, "" for a name alone.

    Where images of several folders have one name, it tells them apart: MotionCorr/job002/g2/a_0001.mrc is of g2.
    """
    folders = written.replace("\\", "/").split("/")[:-1]
    return re.sub(r"^\d{1,9}@", "", folders[-1].strip().lstrip(">")) if folders else ""


def name_without_dots(written: str) -> str:
    """`exposure_name` with underscores for dots, as RELION's motion correction writes the names of its micrographs.

    SerialEM's dated names have dots: 2025-01-02_10.11.12_g1_0001 becomes 2025-01-02_10_11_12_g1_0001.
    """
    return exposure_name(written).replace(".", "_")
