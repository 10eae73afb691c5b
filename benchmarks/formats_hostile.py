"""How long the readers take over files that were made to take long: 10 MB of each kind, or fewer where less is worse.

    python benchmarks/formats_hostile.py [--json] [--quick]

Each file is read in a process of its own, by what a user would call: recognised and validated, then read strictly and
permissively; of a picture, the pixels. The figure of a kind is the longest of these in seconds of the processor, so
that a busy machine gives the same, start of the interpreter left out; a file that takes more than LONGEST_S is ended
and counts as that. Whether a file is refused or read is not judged here but in the tests.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

BYTES = 10_000_000
LONGEST_S = 600.0

_NAV = "AdocVersion = 2.00\n\n[Item = 1]\n"
_STAR = "data_\nloop_\n_rlnMicrographName\n_rlnCtfMaxResolution\n"
_EPU = '<EpuSessionXml xmlns="u" xmlns:z="z">', "</EpuSessionXml>"


def _repeated(text: str, size: int) -> str:
    return text * (size // len(text))


def _numbered(text: str, size: int) -> str:
    return "".join(text.format(n) for n in range(size // (len(text) + 4)))


def _tiff(size: int) -> bytes:
    """Directories that are each a picture of 4 x 4 px."""
    picture = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 0), (278, 4), (279, 16)]
    entries = struct.pack("<H", 8) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in picture
    )
    each = len(entries) + 4
    count = size // each
    links = (8 + each * (n + 1) if n < count - 1 else 0 for n in range(count))
    return b"II*\0" + struct.pack("<I", 8) + b"".join(entries + struct.pack("<I", link) for link in links)


def _references(size: int) -> str:
    """Every hole of a square stands for the same large element."""
    large = '<big z:Id="1">' + _repeated("<a>x</a>", size // 10) + "</big>"
    hole = (
        "<KeyValuePairOfintTargetLocation><key>{0}</key><value><a z:Ref='1'/></value>"
        "</KeyValuePairOfintTargetLocation>"
    )
    return (
        f'<GridSquareXml xmlns:z="z"><Id>1</Id>{large}<TargetLocations><TargetLocations><m_serializationArray>'
        f"{_numbered(hole, size - len(large))}"
        "</m_serializationArray></TargetLocations></TargetLocations></GridSquareXml>"
    )


KINDS: dict[str, tuple[str, Callable[[int], str | bytes]]] = {
    "wide CSV of empty columns, 40 kB": (
        "a.csv",
        lambda _: "name,ctf" + "," * 20_000 + "\na,3" + "," * 20_000 + "\n",
    ),
    "wide CSV": ("a.csv", lambda n: "name,ctf" + "," * (n // 2) + "\na,3" + "," * (n // 2) + "\n"),
    "CSV of 1,900 columns": (
        "a.csv",
        lambda n: (
            "name,ctf,"
            + ",".join(f"c{each}" for each in range(1900))
            + "\n"
            + "".join(f"a{row},3" + ",1" * 1900 + "\n" for row in range(n // 3810))
        ),
    ),
    "wide STAR": ("a.star", lambda n: _STAR + _numbered("_l{0}\n", n)),
    "wide STAR of pairs": ("a.star", lambda n: "data_\n_rlnMicrographName a\n" + _numbered("_l{0} 1\n", n)),
    "STAR of many tables": ("a.star", lambda n: _STAR + "a 3\n" + _repeated("data_x\n", n)),
    "many-directory TIFF": ("a.tif", _tiff),
    "TIFF of 80,000 directories": ("a.tif", lambda _: _tiff(80_000 * 102)),
    "many-chunk PNG": (
        "a.png",
        lambda n: (
            b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\4\0\0\0\4\x08\0\0\0\0\x81\x8a\xa3\xd3"
            + b"\0\0\0\0tEXt\x1b\x21\xa4\x42" * (n // 12)
        ),
    ),
    "many-segment JPEG": ("a.jpg", lambda n: b"\xff\xd8" + b"\xff\xe1\0\4ab" * (n // 6)),
    "XML attributes": ("a.dm", lambda n: _EPU[0] + "<Id " + _numbered('a{0}="1" ', n) + "/>" + _EPU[1]),
    "XML attributes of a navigator": (
        "a.xml",
        lambda n: (
            '<?xml version="1.0"?><navigator><Item name="1" ' + _numbered('a{0}="1" ', n) + "/></navigator>"
        ),
    ),
    "deep XML": ("a.dm", lambda n: _EPU[0] + "<a>" * (n // 7) + "</a>" * (n // 7) + _EPU[1]),
    "XML references": ("GridSquare_1.dm", _references),
    "deep JSON": ("a.json", lambda n: '[{"decisionType": 1},' + "[" * n),
    "JSON of many brackets": (
        "a.json",
        lambda n: '[{"decisionType": 1},' + _repeated("[[[],[]]],", n) + "1]",
    ),
    "JSON of many keys": ("a.json", lambda n: '[{"decisionType": 1' + _numbered(',"k{0}": 1', n) + "}]"),
    "JSON string without end": ("a.json", lambda n: '[{"decisionType": "' + '\\"' * (n // 2)),
    "deep YAML": ("a.yaml", lambda n: "session_id: 1\natlas:\n " + "- " * (n // 2)),
    "YAML of many values": (
        "a.yaml",
        lambda n: "session_id: 1\natlas: [" + _repeated("1,1,1,1,1,1,1,1,\n", n) + "]",
    ),
    "long line, CSV": ("a.csv", lambda n: "name,ctf\n" + "a" * n + "\n"),
    "long line, STAR": ("a.star", lambda n: _STAR + "a " * (n // 2) + "\n"),
    "long line, CTFFIND": (
        "a.txt",
        lambda n: (
            "# Output from CTFFind\n# Input file: a.mrc ; Number of micrographs: 1\n# Columns: #1\n"
            + "1 " * (n // 2)
        ),
    ),
    "long line, navigator": ("a.nav", lambda n: _NAV + "Note = " + "a " * (n // 2) + "\n"),
    "lines of just under the limit, CSV": (
        "a.csv",
        lambda n: "name,ctf\n" + ('"' * 99_001 + "\n") * (n // 99_002),
    ),
    "lines of just under the limit, STAR": (
        "a.star",
        lambda n: _STAR + ('"a" ' * 24_000 + "\n") * (n // 96_001),
    ),
    "keys of one item, navigator": ("a.nav", lambda n: _NAV + _numbered("k{0} = 1\n", n)),
    "empty items, navigator": ("a.nav", lambda n: _NAV + _repeated("[Item = 1]\n", n)),
}
"""Kind -> name of the file and its content for a size in bytes."""

_READ = """
import sys, time
from pathlib import Path
from cryoscout.core.errors import CryoscoutError
from cryoscout.formats import registry
from cryoscout.perception.images import read_image

def seconds(read, *arguments):
    start = time.process_time()
    try:
        answer = read(*arguments)
    except CryoscoutError:
        answer = None
    return time.process_time() - start, answer

path = Path(sys.argv[1])
if path.suffix in (".tif", ".png", ".jpg"):
    print(seconds(read_image, path)[0])
else:
    worst, answer = seconds(registry.validate, path)
    if answer is not None and answer[0] is not None:
        module = answer[0].load()
        worst = max(worst, *(seconds(module.read_source, path, permissive)[0] for permissive in (False, True)))
    print(worst)
"""


def hostile_s(folder: Path, size: int = BYTES) -> dict[str, float]:
    """Seconds of the processor for each kind.     folder : for the files, one at a time     size : bytes of each"""
    found: dict[str, float] = {}
    for kind, (name, content) in KINDS.items():
        path = folder / name
        data = content(size)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        try:
            answer = subprocess.run(
                [sys.executable, "-c", _READ, str(path)], capture_output=True, text=True, timeout=LONGEST_S
            )
        except subprocess.TimeoutExpired:
            found[kind] = LONGEST_S
        else:
            if answer.returncode:
                raise SystemExit(f"{kind}: {answer.stderr}")
            found[kind] = round(float(answer.stdout), 3)
        path.unlink()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the sizes, to see that the script runs"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = hostile_s(Path(folder), BYTES // 10 if options.quick else BYTES)
    if options.json:
        print(json.dumps({"hostile_worst_s": max(found.values()), "hostile_s_of": found}, indent=1))
        return
    for kind, seconds in sorted(found.items(), key=lambda each: -each[1]):
        print(f"{kind:40} {seconds:8.3f}")


if __name__ == "__main__":
    main()
