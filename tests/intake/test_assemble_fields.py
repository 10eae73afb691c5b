"""What files say beyond the tables reaches the session, once, and is found by the id of its record."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.formats.ctf import relion
from cryoscout.formats.own import table as generic_table
from cryoscout.formats.records import EXPOSURE_COLUMNS, SourceRecords
from cryoscout.formats.serialem import session as serialem
from cryoscout.formats.smartscope import records as smartscope
from cryoscout.intake.assemble import assemble
from cryoscout.intake.assemble_fields import vendor_fields
from cryoscout.session.store_update import changes_between
from cryoscout.session.tables import empty_table
from cryoscout.session.vendor_fields import VendorFields, unpacked

DATA = Path(__file__).parents[1] / "formats" / "data"
NAN = float("nan")
NONE = empty_table("vendor_fields")
STAR = (
    "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnVoltage #2\n1 300.0\n\ndata_micrographs\n\nloop_\n"
    "_rlnMicrographName #1\n_rlnOpticsGroup #2\n_rlnCtfMaxResolution #3\nm1.mrc 1 3.5\n\n"
)
CSV = "hole,micrograph,stage_x_um,stage_y_um,operator,ice\nh1,m1.mrc,0,0,Ann,\nh2,m2.mrc,5,0,Ann,thin\n"


def source(extra, format_name="epu", exposures=None):
    more = {} if exposures is None else {"exposures": exposures}
    return SourceRecords(format_name, Path("/data/run"), extra=extra, **more)


def test_of_real_and_made_files_everything_that_a_reader_keeps_is_found_in_the_session():
    for reader, file in (
        (serialem, DATA / "serialem" / "made_by_hand_two_squares.nav"),
        (smartscope, DATA / "smartscope" / "made_by_hand_grid.yaml"),
    ):
        records = reader.read_source(file)
        assert records.extra
        session = assemble([records]).session
        for record_id, fields in records.extra.items():
            assert fields.items() <= session.fields_of(record_id).items(), record_id
        again = assemble([records], session).session
        assert changes_between(session, again) == []


def test_columns_of_a_sites_own_table_are_kept(tmp_path):
    (tmp_path / "site.csv").write_text(CSV)
    session = assemble([generic_table.read_source(tmp_path / "site.csv")]).session
    assert session.fields_of("m1") == {"operator": "Ann", "shot_key": "1"}
    assert session.fields_of("m2") == {"operator": "Ann", "ice": "thin", "shot_key": "1"}
    assert session.vendor_fields["source"].unique().tolist() == ["site.csv"]


def test_optics_groups_have_no_table_and_are_kept_under_their_own_name(tmp_path):
    (tmp_path / "m.star").write_text(STAR)
    (tmp_path / "site.csv").write_text(CSV)
    sources = [generic_table.read_source(tmp_path / "site.csv"), relion.read_source(tmp_path / "m.star")]
    session = assemble(sources).session
    assert sources[1].extra["optics group 1"]["rlnVoltage"] == "300.0"
    for record_id, fields in sources[1].extra.items():
        assert session.fields_of(record_id) == fields


def test_image_shift_and_shot_are_kept_unless_the_name_says_the_shot():
    rows = [
        ("e1", "h1", "s", "g", "3-2", pd.NaT, 1.0, 2.0, 0.5, -0.25),
        ("FoilHole_1_Data_7_8_20240101_100000", "h1", "s", "g", "7", pd.NaT, 1.0, 2.0, NAN, NAN),
    ]
    exposures = pd.DataFrame(rows, columns=list(EXPOSURE_COLUMNS))
    shared = {"Dose": "40"}
    extra = {"e1": VendorFields({"Dose": "40", "Note": "a"}, shared), rows[1][0]: VendorFields({}, shared)}
    found = unpacked(vendor_fields([source(extra, exposures=exposures)], NONE))
    assert found == {
        ("epu", "e1"): {
            "Dose": "40",
            "Note": "a",
            "shot_key": "3-2",
            "shift_x_um": "0.5",
            "shift_y_um": "-0.25",
        }
    }


def test_a_record_without_an_id_is_kept_too():
    found = unpacked(vendor_fields([source({"": {"a": "b"}})], NONE))
    assert found == {("epu", "(no id)"): {"a": "b"}}


TEXTS = st.sampled_from(["", "0", "1", "true"])
RECORDS = st.dictionaries(
    st.sampled_from(["h1", "h2", "h3", "h4"]), st.dictionaries(st.sampled_from("abc"), TEXTS, max_size=3)
)


@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_later_readings_add_what_is_new_or_another_and_nothing_else(readings):
    stored = NONE
    expected = {}
    for records in readings:
        known = len(stored)
        table = vendor_fields([source(records)], stored)
        new = {
            key
            for key, fields in records.items()
            if not fields.items() <= expected.get(("epu", key), {}).items()
        }
        added = table.iloc[known:]
        assert set(added["record_id"]) - {""} == new
        for key, fields in records.items():
            if fields:
                expected[("epu", key)] = {**expected.get(("epu", key), {}), **fields}
        assert unpacked(table) == expected
        stored = table
