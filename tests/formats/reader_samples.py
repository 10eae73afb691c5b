"""One whole, clean file of every format that is read or written here, for tests that every reader must pass.

Real ones where there are some (tests/formats/data); the others are made by hand or by our own writers.
"""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from epu_samples import DATA as EPU
from epu_samples import short_atlas, short_square

from cryoscout.formats.epu.athena import SquarePlan, decisions_of, write_decisions
from cryoscout.formats.leginon.order import LeginonOrder, write_order
from cryoscout.formats.smartscope.selection import write_selection

DATA = Path(__file__).parent / "data"
SQUARE = "21jan01a_00001gr_00002sq"
HOLES = [f"{SQUARE}_00003hl_0000{number}en" for number in (1, 2, 3)]
XML_NAV = (
    '<?xml version="1.0" encoding="utf-8"?>\n<navigator>\n<PreData><AdocVersion>2.00</AdocVersion></PreData>\n'
    '<Item name="7">\n<Color>0</Color><StageXYZ>1 2 3</StageXYZ><NumPts>1</NumPts><Regis>1</Regis>\n'
    "<Type>0</Type><PtsX>1</PtsX><PtsY>2</PtsY>\n</Item>\n</navigator>\n"
)


class Sample(NamedTuple):
    """A file, and what it is."""

    file: str
    data: bytes
    format: str
    is_lines: bool
    """Read line by line, so that one bad line can be left out."""


def _written(write) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        write(path)
        return path.read_bytes()


def _numpy() -> bytes:
    table = np.zeros(2, dtype=[("uid", "u8"), ("ctf/ctf_fit_to_A", "f4"), ("micrograph_blob/path", "S8")])
    table["uid"], table["ctf/ctf_fit_to_A"] = (7, 9), (3.5, 4.5)
    table["micrograph_blob/path"] = (b"a.mrc", b"b.mrc")
    stream = io.BytesIO()
    np.save(stream, table, allow_pickle=False)
    return stream.getvalue()


def _csdat() -> bytes:
    header = {
        "length": 2,
        "dtype": [["uid", "<u8"], ["ctf/ctf_fit_to_A", "<f4"], ["micrograph_blob/path", "|O"]],
        "compression": None,
        "compressed_fields": [],
    }
    columns = [np.array((7, 9), "<u8"), np.array((3.5, 4.5), "<f4"), np.array((1, 7), "<u8")]
    text = json.dumps(header).encode()
    body = b"".join(len(each.tobytes()).to_bytes(4, "little") + each.tobytes() for each in columns)
    return b"\x95CSDAT" + len(text).to_bytes(4, "little") + text + body + b"\0a.mrc\0b.mrc\0"


_LINES = {
    "ctffind": (
        "m1.txt",
        "ctffind",
        "# Output from CTFFind version 4.1.14, run on 2020-01-01 10:00:00\n"
        "# Input file: m1.mrcs ; Number of micrographs: 3\n"
        "# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]\n"
        "1.000000 10295.926758 10012.275391 -38.856349 0.000000 0.030650 5.279412\n"
        "2.000000 10295.926758 10012.275391 -38.856349 0.000000 0.030650 inf\n"
        "3.000000 10295.926758 10012.275391 -38.856349 0.000000 0.030650 4.5\n",
    ),
    "gctf log": (
        "m1_gctf.log",
        "gctf",
        "Input image file name\n"
        "m1.mrc\n"
        "   Defocus_U   Defocus_V       Angle         CCC\n"
        "    24401.23    21649.58       34.52    0.180863  Final Values\n"
        "Resolution limit estimated by EPA: 3.464\n"
        "Processing done.\n",
    ),
    "gctf table": (
        "micrographs_all_gctf.star",
        "gctf",
        "data_\n\nloop_\n_rlnMicrographName #1\n_rlnDefocusU #2\n_rlnFinalResolution #3\n"
        "a.mrc 24401.23 3.464\nb.mrc 24401.23 12.5\nc.mrc 24401.23 4.5\n",
    ),
    "relion": (
        "micrographs_ctf.star",
        "relion",
        "# version 30001\n\ndata_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnVoltage #2\n1 300.0\n\n"
        "data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnCtfMaxResolution #2\n_rlnOpticsGroup #3\n"
        "a.mrc 3.5 1\nb.mrc 25.0 1\nc.mrc 4.5 1\n",
    ),
    "csv": (
        "site.csv",
        "generic",
        "square,hole,micrograph,ctf,note\ns1,h1,m1.mrc,3.5,one\ns1,h2,m2.mrc,4.5,two\ns1,h3,m3.mrc,5.5,three\n",
    ),
    "tsv": (
        "site.tsv",
        "generic",
        "square\thole\tmicrograph\tctf\ns1\th1\tm1.mrc\t3.5\ns1\th2\tm2.mrc\t4.5\ns1\th3\tm3.mrc\t5.5\n",
    ),
    "squares": (
        "squares.csv",
        "generic-squares",
        "square,x_um,y_um,brightness,looked\ns1,10,20,140,yes\ns2,110,20,150,no\ns3,210,20,90,\n",
    ),
    "leginon ctf": (
        "ctf.csv",
        "leginon",
        "".join(f"{hole}-a,{number}.0,2.0,3.5,0.9\n" for number, hole in enumerate(HOLES)),
    ),
    "leginon times": (
        "times.csv",
        "leginon",
        "".join(f"{hole},2021-01-01 10:0{number}:00\n" for number, hole in enumerate(HOLES)),
    ),
    "leginon softmax": ("softmax.txt", "leginon", "".join(f"{hole}-a 0.25 0.75\n" for hole in HOLES)),
    "leginon predicted": ("predicted.txt", "leginon", "".join(f"{hole}-a 4.5\n" for hole in HOLES)),
    "leginon download": (
        "ctfdata-session1.dat",
        "leginon-export",
        "image #\tdefocus_1\tdefocus_2\tres(0.8)\tres(0.5)\tres(pkg)\timage_name\n"
        "1\t-1e-06\t-1.1e-06\t6.0\t4.0\t3.5\tm1.mrc\n2\t-1e-06\t-1.1e-06\t6.0\t4.0\t3.5\tm2.mrc\n"
        "3\t-1e-06\t-1.1e-06\t6.0\t4.0\t3.5\tm3.mrc\n",
    ),
    "leginon targets": (
        "ctf.txt",
        "leginon-export",
        "ChildImageId\tTargetId_TargetNumber\tCtf_Resolution_Ang\tMean_Defocus_um\n"
        "1\t2_3\t4.5\t1.0\n2\t2_4\t4.5\t1.0\n3\t2_5\t4.5\t1.0\n",
    ),
    "leginon order": (
        "order.txt",
        "leginon-order",
        _written(lambda path: write_order(path, LeginonOrder(tuple(HOLES), {"policy": "index"}))).decode(),
    ),
    "nav": (
        "grid1.nav",
        "serialem",
        (DATA / "serialem" / "made_by_hand_two_squares.nav").read_bytes().decode(),
    ),
    "mdoc": (
        "m1.mrc.mdoc",
        "serialem",
        (DATA / "serialem" / "mdocfile_frame_set_multiple.mdoc").read_bytes().decode(),
    ),
}
_WHOLE = {
    "nav xml": ("grid1.xml", "serialem", XML_NAV.encode()),
    "smartscope": (
        "grid1.yaml",
        "smartscope",
        (DATA / "smartscope" / "made_by_hand_grid.yaml").read_bytes(),
    ),
    "athena": (
        "decisions.json",
        "athena",
        _written(
            lambda path: write_decisions(
                path,
                decisions_of(
                    "12345678-1234-1234-1234-123456789abc", [SquarePlan("7", {"11": 1}, ["13"])], "c"
                ),
            )
        ),
    ),
    "selection": (
        "selection.json",
        "smartscope-selection",
        _written(lambda path: write_selection(path, [["a", "b"], ["c"]])),
    ),
    "cryosparc numpy": ("exposures.cs", "cryosparc", _numpy()),
    "cryosparc csdat": ("exposures.cs", "cryosparc", _csdat()),
    "epu exposure": (
        "FoilHole_19513699_Data_19508496_19508498_20230919_154056.xml",
        "epu",
        next((EPU / "harvest_session").rglob("FoilHole_*_Data_*.xml")).read_bytes(),
    ),
    "epu session": ("EpuSession.dm", "epu", (EPU / "harvest_session" / "EpuSession.dm").read_bytes()),
    "epu square": ("GridSquare_4590776.dm", "epu", short_square(2).encode()),
    "epu atlas": ("Atlas.dm", "epu", short_atlas().encode()),
}

SAMPLES = {
    name: Sample(file, text.encode(), format_name, True) for name, (file, format_name, text) in _LINES.items()
} | {name: Sample(file, data, format_name, False) for name, (file, format_name, data) in _WHOLE.items()}
