"""Sessions of EPU that are being written, for tests of what follows them."""

from __future__ import annotations

import os
import random
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from epu_samples import formats_data

from cryoscout.core.telling import SILENT
from cryoscout.intake.follow import FollowedSources
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.take_in import Sources, read_session, store_session
from cryoscout.session.store import SessionStore
from cryoscout.session.vendor_fields import unpacked

DATA = Path(__file__).parents[1] / "formats" / "data"
_ACQUISITION = "KeyValuePairOfintParticleAcquisitionDataXmlBpEWF4JT"


@dataclass
class Live:
    """A session of EPU that is being written: what stands in the folder now, and what is still to come."""

    folder: Path
    star: Path
    to_come: dict[str, bytes] = field(default_factory=dict)
    """Path below the folder -> content."""
    names: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    """Of the star file, in the order they came."""

    def write(self, key, content):
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        # Two writes within one tick of the clock of the disk must not look like one.
        self.ticks = getattr(self, "ticks", 0) + 1
        os.utime(path, ns=(10**18 + self.ticks, 10**18 + self.ticks))
        return path

    def write_star(self):
        columns = ("rlnMicrographName", "rlnDefocusU", "rlnDefocusV", "rlnCtfMaxResolution")
        head = "\n# version 30001\n\ndata_micrographs\n\nloop_ \n"
        head += "".join(f"_{name} #{place} \n" for place, name in enumerate(columns, start=1))
        self.star.write_text(head + "".join(self.rows) + " \n", encoding="utf-8")
        self.ticks = getattr(self, "ticks", 0) + 1
        os.utime(self.star, ns=(10**18 + self.ticks, 10**18 + self.ticks))
        return self.star


def hole_xml(hole_id, seconds):
    at = f"2025-03-03T09:00:{seconds:02d}.1234567+00:00"
    return formats_data.epu_image_xml(at, 1e-6 * (int(hole_id) % 97), 2e-6 * seconds).encode()


def live_session(place, *, exposures, shots, along, seed, has_session, has_squares, is_named):
    """A folder with what a microscope writes first, and everything that follows."""
    formats_data.write_epu_session(
        place / "made", exposures, shots=shots, holes_along_square=along, seed=seed, share_imaged=0.7
    )
    live = Live(place / "epu", place / "micrographs_ctf.star")
    holes = {}
    for path in sorted((place / "made").rglob("*.*")):
        key = path.relative_to(place / "made").as_posix()
        content = path.read_bytes()
        if path.suffix == ".dm":
            if not (has_session if path.stem == "EpuSession" else has_squares):
                continue
            if not is_named:
                content = re.sub(
                    rf"<b:{_ACQUISITION}>.*?</b:{_ACQUISITION}>".encode(), b"", content, flags=re.S
                )
            live.write(key, content)
        elif "_Data_" in key:
            live.to_come[key] = content
            live.names.append(path.stem)
            hole_id = path.stem.split("_")[1]
            holes.setdefault(hole_id, path.parent.parent.relative_to(place / "made").as_posix())
        else:
            live.write(key, content)
    rng = random.Random(seed)
    for hole_id, folder in sorted(holes.items()):
        for seconds in range(1, 1 + rng.choice([0, 0, 1, 2])):
            key = f"{folder}/FoilHoles/FoilHole_{hole_id}_20250303_0900{seconds:02d}.xml"
            live.to_come[key] = hole_xml(hole_id, seconds)
    for key in [key for key in live.to_come if "_Data_" in key and rng.random() < 0.15]:
        # A copy on a second disc, and for some nothing on the first one.
        live.to_come[key.replace("Images-Disc1", "Images-Disc2")] = live.to_come[key]
        if rng.random() < 0.5:
            del live.to_come[key]
    return live


def everything(session):
    """A session as plain values that do not depend on the order in which things came."""
    tables = {}
    for table, key in (
        ("grids", ["grid_id"]),
        ("squares", ["square_id"]),
        ("patches", ["patch_id"]),
        ("holes", ["hole_id"]),
        ("exposures", ["exposure_id"]),
        ("ctf_runs", ["exposure_id", "run"]),
    ):
        tables[table] = getattr(session, table).sort_values(key).reset_index(drop=True)
    return tables


def assert_same(one, other):
    assert one.info == other.info
    for table, frame in everything(one).items():
        pd.testing.assert_frame_equal(frame, everything(other)[table], obj=table)
    assert unpacked(one.vendor_fields) == unpacked(other.vendor_fields)
    rows = [set(each.provenance.itertuples(index=False, name=None)) for each in (one, other)]
    assert rows[0] == rows[1]


def loaded(folder):
    with SessionStore.open(folder) as store:
        return store.load(), store.files()


def stored_twice(live, options, extra=()):
    """The session as it begins, stored in two places."""
    sources = Sources([live.folder, *extra], [], options, "live")
    read = read_session(Sources([live.folder], [], options, "live"), SILENT)
    places = [live.folder.parent / f"{name}.session" for name in ("followed", "again")]
    store_session(read, places[0], "live", False, SILENT)
    shutil.copytree(*places)
    return sources, *places


PERMISSIVE = ReadOptions(permissive=True)


def begun(place, *, extra=(), **changes):
    """A session with its squares and nothing imaged, followed; `changes` as of `live_session`."""
    made = {"exposures": 8, "shots": 2, "along": 3, "seed": 1}
    made |= {"has_session": True, "has_squares": True, "is_named": False} | changes
    live = live_session(place, **made)
    live.to_come = {key.replace("Disc2", "Disc1"): content for key, content in live.to_come.items()}
    if not made["has_squares"]:
        first = exposures_to_come(live)[0]
        live.write(first, live.to_come.pop(first))
    live.write_star()
    sources, followed_place, again_place = stored_twice(live, PERMISSIVE, [live.star, *extra])
    followed = FollowedSources(followed_place, sources)
    followed.take_in()
    return live, followed, sources, followed_place, again_place


def exposures_to_come(live):
    """Keys of the exposures, in the order of time."""
    return sorted((key for key in live.to_come if "_Data_" in key), key=lambda key: key[-19:])
