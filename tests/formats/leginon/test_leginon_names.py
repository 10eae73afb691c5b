import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import InputError
from cryoscout.formats.leginon.names import parse_name

FULL = "21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01_00005en-a"


def test_a_full_name_gives_every_level():
    name = parse_name(FULL)
    assert (name.session, name.root) == ("21mar02c", "21mar02c_grid1c")
    assert [(level.number, level.preset, level.version) for level in name.levels] == [
        (8, "gr", None),
        (11, "sq", 1),
        (2, "hl", 1),
        (5, "en", None),
    ]
    assert name.own.suffix == "-a"
    assert name.stem == "21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01_00005en"
    assert name.parent == name.patch == "21mar02c_grid1c_00008gr_00011sq_v01_00002hl_v01"
    assert name.square == "21mar02c_grid1c_00008gr_00011sq_v01"
    assert name.grid == "21mar02c_grid1c_00008gr"


def test_without_a_tile_the_grid_is_session_and_label():
    name = parse_name("21mar02c_grid1c_00011sq_00002hl_00005en")
    assert (name.square, name.grid) == ("21mar02c_grid1c_00011sq", "21mar02c_grid1c")


def test_levels_are_known_by_place_whatever_the_presets_are_called():
    name = parse_name("24jan05a_00001atlas_00002big_00003mid2_00004expo-DW")
    assert (name.own.preset, name.own.suffix) == ("expo", "-DW")
    assert name.patch == "24jan05a_00001atlas_00002big_00003mid2"
    assert name.grid == "24jan05a_00001atlas"


def test_a_version_belongs_to_its_level_and_not_to_the_target():
    name = parse_name("21mar02c_00001gr_00011sq_00002hl_00005en-a_v02")
    assert name.own.version == 2
    assert name.own.target == "21mar02c_00001gr_00011sq_00002hl_00005en"
    assert name.stem == "21mar02c_00001gr_00011sq_00002hl_00005en_v02"


def test_the_upper_levels_have_no_patch_or_square():
    tile = parse_name("21mar02c_grid1_00010gr")
    assert (tile.parent, tile.patch, tile.square, tile.grid) == (None, None, None, None)


def test_a_root_of_another_shape_is_the_session():
    assert parse_name("mysession_00001sq_00002hl_00003en").session == "mysession"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "21mar02c",
        "_00001gr",
        "21mar02c_0001gr",
        "21mar02c_00001gr_junk",
        "21mar02c_00001gr.mrc",
        "FoilHole_1_2",
    ],
)
def test_a_name_that_is_not_leginons_is_refused(text):
    with pytest.raises(InputError, match=r"A Leginon name must be a session followed by levels.*Got "):
        parse_name(text)


LEVEL = st.tuples(
    st.integers(0, 99999),
    st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,4}", fullmatch=True),
    st.none() | st.integers(0, 99),
)


@given(st.lists(LEVEL, min_size=1, max_size=5), st.sampled_from(["", "-a", "-DW", "-a-DW"]))
def test_any_written_name_is_read_back(levels, suffix):
    text = "21mar02c_grid1"
    for index, (number, preset, version) in enumerate(levels):
        text += f"_{number:05d}{preset}" + (suffix if index == len(levels) - 1 else "")
        text += "" if version is None else f"_v{version:02d}"
    name = parse_name(text)
    assert name.root == "21mar02c_grid1"
    assert [(level.number, level.preset, level.version) for level in name.levels] == levels
    assert name.own.suffix == suffix
