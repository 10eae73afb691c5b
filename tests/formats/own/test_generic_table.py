"""Every table here is made by hand."""

import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.formats.own import table as generic_table
from cryoscout.formats.own.cells import plain_header
from cryoscout.formats.own.columns import HEADER_ALIASES, ROLE_OF, ColumnMap, read_column_map
from cryoscout.formats.own.table import detect, read_source, validate
from cryoscout.formats.own.times import parse_time

FULL = (
    "Grid ID,Square,Patch,Hole,Micrograph Name,Stage X (um),Stage Y (um),Start time,CTF max res (Å),Operator\n"
    "g1,s1,p1,h1,data/a_Fractions.mrc,1.5,-2,2024-01-05 11:51:50,4.5,ann\n"
    "g1,s1,p1,h1,data/b.mrc,1.5,-2,2024-01-05 11:51:55,inf,ann\n"
    'g1,s1,p2,h2,data/c.mrc,3,4,,,"bob, too"\n'
)


def written(tmp_path, text, name="site.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_full_table_gives_every_level(tmp_path):
    path = written(tmp_path, FULL)
    assert detect(path)
    assert validate(path) == []
    records = read_source(path)
    assert records.squares[["square_id", "grid_id"]].to_numpy().tolist() == [["s1", "g1"]]
    assert records.holes[["hole_id", "patch_id", "square_id", "grid_id"]].to_numpy().tolist() == [
        ["h1", "p1", "s1", "g1"],
        ["h2", "p2", "s1", "g1"],
    ]
    assert records.holes["x_um"].tolist() == [1.5, 3.0]
    assert records.holes["x_px"].isna().all()
    assert records.exposures["exposure_id"].tolist() == ["a", "b", "c"]
    assert records.exposures["shot_key"].tolist() == ["1", "2", "1"]
    assert records.exposures["started_at"].tolist()[:2] == [
        datetime(2024, 1, 5, 11, 51, 50),
        datetime(2024, 1, 5, 11, 51, 55),
    ]
    assert records.exposures["started_at"].isna().tolist() == [False, False, True]
    assert records.exposures["Operator"].tolist() == ["ann", "ann", "bob, too"]
    assert records.ctf.to_numpy().tolist() == [["a", 4.5, 2, "data"], ["b", math.inf, 3, "data"]]
    assert records.notes == (
        "columns kept but not used: Operator",
        "1 of 3 exposures have no CTF result yet",
        "1 hole has several exposures; their position is that of the first",
    )


@pytest.mark.parametrize(("header", "unit", "x_um"), [
    ("StageX,StageY", None, [-400.0, 310.0]),
    ("Stage X (um),Stage Y (um)", None, [-0.0004, 0.00031]),
    ("StageX,StageY", "um", [-0.0004, 0.00031]),
])  # fmt: skip
def test_stage_positions_of_no_unit_that_can_only_be_metres_are(tmp_path, header, unit, x_um):
    path = written(tmp_path, f"hole,{header}\na,-0.0004,0.0002\nb,0.00031,0\n")
    records = read_source(path, column_map=ColumnMap(position_unit=unit))
    assert records.holes["x_um"].tolist() == pytest.approx(x_um)
    said = [note for note in records.notes if "read as metres" in note]
    assert bool(said) == (x_um[0] == -400.0)
    far = read_source(written(tmp_path, "hole,StageX,StageY\na,-0.0004,0.0002\nb,0.31,0\n"))
    assert far.holes["x_um"].tolist() == [-0.0004, 0.31]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_the_one_the_header_has_most_of(tmp_path, delimiter):
    path = written(
        tmp_path, delimiter.join(["name", '"x, px; at"', "ctf"]) + "\n" + delimiter.join(["a", "q", "5"])
    )
    records = read_source(path)
    assert records.ctf["ctf_max_res_angstrom"].tolist() == [5.0]
    assert "the last line has no line break and was taken as whole" in records.notes


def test_every_alias_is_recognised_whatever_its_case_and_separators_and_is_documented():
    assert generic_table.__doc__ is not None
    documented = set(generic_table.__doc__.replace(",", " ").replace(";", " ").split())
    for role, aliases in HEADER_ALIASES.items():
        for alias in aliases:
            assert alias in documented, alias
            spelt = "_ ".join(alias).upper()
            assert plain_header(spelt) == alias
            assert ROLE_OF[plain_header(spelt)] == role


def test_the_how_to_page_lists_every_recognised_header():
    page = Path(__file__).parents[3] / "docs" / "how-to" / "generic-csv.md"
    rows = [
        line.strip("| \n").split(" | ") for line in page.read_text().splitlines() if line.startswith("| `")
    ]
    listed = {role.strip("`"): tuple(headers.split(", ")) for role, headers in rows}
    assert listed == HEADER_ALIASES


def test_a_table_of_name_and_ctf_is_enough(tmp_path):
    records = read_source(
        written(tmp_path, "\ufeff# exported by hand\r\n\r\nname;ctf_max_res\r\na.mrc;4.5\r\n\r\nb;5\r\n")
    )
    assert records.ctf.to_numpy().tolist() == [["a", 4.5, 4], ["b", 5.0, 6]]
    assert records.holes.empty
    assert records.exposures["hole_id"].tolist() == ["", ""]


def test_a_hole_without_exposure_column_is_its_own_exposure(tmp_path):
    records = read_source(written(tmp_path, "hole,x,y,ctf\nh1,10,20,4.5\n"))
    assert records.exposures["exposure_id"].tolist() == ["h1"]
    assert records.holes[["x_px", "y_px"]].to_numpy().tolist() == [[10.0, 20.0]]
    assert (
        "x names no unit and was read as px of the parent image; for um of the stage, import it anew with "
        "--position-unit um"
    ) in records.notes


def test_an_exposure_that_a_hole_names_is_called_as_the_hole(tmp_path):
    records = read_source(written(tmp_path, "square,hole,ctf\nS1,S1/1,3\nS2,S2/1,8\nS2,S2/1.mrc,4\n"))
    assert records.exposures["exposure_id"].tolist() == ["S1/1", "S2/1", "S2/1.mrc"]
    again = "an exposure must stand once. Got 'a' again instead (first on line 2). Remedy: where a hole has several "
    found = validate(written(tmp_path, "hole,ctf\na,3\na,4\n"))
    assert [each.message for each in found] == [
        again + "exposures, name each in a column exposure; else keep one line of it."
    ]


def test_images_of_one_name_in_two_folders_are_told_apart_beside_holes_too(tmp_path):
    rows = "h1,raw/A/i.tif,3\nh2,raw/B/i.tif,8\nh3,raw/B/i.tif,9\n"
    path = written(tmp_path, "hole,micrograph,ctf\n" + rows)
    records = read_source(path, permissive=True)
    assert records.exposures[["exposure_id", "hole_id"]].to_numpy().tolist() == [["i", "h1"], ["B/i", "h2"]]
    assert [each.line for each in records.deviations] == [4]


def test_other_headers_are_mapped_by_role_or_by_a_file(tmp_path):
    path = written(tmp_path, "Bild;Loch;X;Y;Thon rings to\na;h1;1;2;5\n")
    assert not detect(path)
    columns = {"exposure": "bild", "hole": "Loch", "ctf": "thon-rings to"}
    records = read_source(path, column_map=ColumnMap(columns, "um"))
    assert records.ctf.to_numpy().tolist() == [["a", 5.0, 2]]
    assert records.holes["x_um"].tolist() == [1.0]
    toml = written(
        tmp_path,
        'position_unit = "um"\n[columns]\nexposure = "Bild"\nhole = "Loch"\nctf = "Thon rings to"\n',
        "map.toml",
    )
    assert read_source(path, column_map=toml).ctf.equals(records.ctf)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[columns\n", FileFormatError, "a column map must be TOML"),
        (
            "[other]\n",
            FileFormatError,
            "must have [columns] with texts, and position_unit. Got other instead",
        ),
        ("[columns]\nctf = 3\n", FileFormatError, "Got another value instead"),
        ('[columns]\nice = "Ice"\n', InputError, "A role must be one of grid, square"),
        ('position_unit = "mm"\n', InputError, "The position unit must be um or px. Got 'mm' instead"),
    ],
)
def test_a_wrong_map_is_refused(tmp_path, text, error, message):
    with pytest.raises(error) as caught:
        read_column_map(written(tmp_path, text, "map.toml"))
    assert message in str(caught.value)


def test_a_map_to_a_column_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"The column for ctf must be one of name, other\. Got 'res' for site\.csv instead"
    ):
        read_source(written(tmp_path, "name,other\na,1\n"), column_map=ColumnMap({"ctf": "res"}))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "a,b",
            "the header of a table must name an exposure or a hole. Got 'a,b' instead. Remedy: name the column ",
        ),
        (
            "name,micrograph,ctf",
            "a header must name exposure once. Got name, micrograph instead. Remedy: say which",
        ),
        ("name,x,ctf", "a header must name x and y. Got only one of them instead."),
        ("", "a table must have a header. Got a file without lines instead."),
    ],
)
def test_a_header_that_does_not_say_enough_is_refused(tmp_path, header, message):
    path = written(tmp_path, header + "\n")
    with pytest.raises(FileFormatError) as error:
        read_source(path, permissive=True)
    assert error.value.detail.startswith(message)
    assert validate(path)[0].message.startswith(message)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "g,s,p,h,x/a.mrc,1,2,,4",
            "an exposure must stand once. Got 'a' again instead (first on line 2). Remedy: keep one line of it; where "
            "images of two folders have one name, write both with their folders, and where the folders have one name "
            "too, give them names of their own.",
        ),
        (
            "g,,p,h,b,1,2,,4",
            "a hole must be in one patch, square and grid. Got 'h' in another instead (first on line 2). "
            "Remedy: name the same ones in every line of the hole.",
        ),
        (
            ",s,p,h9,b,1,2,,4",
            "a square must be in one grid. Got 's' in another instead. "
            "Remedy: name the grid in every line of the square, or in none.",
        ),
        ("g,s,p,h,,1,2,,4", "a line must name its exposure. Got '' instead."),
        ("g,s,p,NA,b,1,2,,4", "a line must name its hole. Got 'NA' instead."),
        ("g,s,p,h,b,left,2,,4", "x must be a finite number. Got 'left' instead."),
        (
            'g,s,p,h,b,1,"2,5",,4',
            "y must be a number with a decimal point. Got '2,5' instead. "
            "Remedy: export the table with decimal points.",
        ),
        (
            'g,s,p,h,b,1,2,,"4,5"',
            "ctf must be a number with a decimal point. Got '4,5' instead. "
            "Remedy: export the table with decimal points.",
        ),
        (
            "g,s,p,h,b,1,2,,-1",
            "the CTF resolution must be above 0 angstrom. Got '-1' instead. "
            "Remedy: leave the cell of an exposure without result empty.",
        ),
        ("g,s,p,h,b,1,2,,good", "the CTF resolution must be a number. Got 'good' instead."),
        (
            "g,s,p,h,b,1,2,01/05/2024 11:51:50,4",
            "a time must be a date with a time of day such as 2024-01-05 11:51:50. Got '01/05/2024 11:51:50' instead. "
            "Remedy: export times as year-month-day.",
        ),
        ("g,s,p,h,b,1,2,", "a line must have 9 values, as the header. Got 8 instead."),
        (
            "g,s,p,h,b,1,2,,4,5",
            "a line must have 9 values, as the header. Got 10 instead. Remedy: if numbers are written with a decimal "
            "comma, export them with a decimal point, or with semicolons between the values.",
        ),
    ],
)
def test_a_line_that_deviates_is_named_and_permissively_left_out(tmp_path, row, message):
    text = "grid,square,patch,hole,name,x_um,y_um,time,ctf\ng,s,p,h,a,1,2,2024-01-05 11:51:50,4.5\n"
    path = written(tmp_path, text + row + "\n")
    with pytest.raises(FileFormatError) as error:
        read_source(path)
    assert (error.value.line, error.value.detail) == (3, message)
    records = read_source(path, permissive=True)
    assert len(records.exposures) == len(records.ctf) == 1
    assert [(each.line, each.message) for each in records.deviations] == [(3, message)]
    assert list(records.deviations) == validate(path)


def test_a_quote_without_end_a_long_line_and_bad_bytes_are_refused(tmp_path):
    with pytest.raises(FileFormatError, match=r"a value in quotes must end with its quote"):
        read_source(written(tmp_path, 'name,ctf\n"a,5\nb,6\n'))
    with pytest.raises(FileFormatError, match=r"line 2: a line must have at most 100,000 characters"):
        read_source(written(tmp_path, "name,ctf\n" + "a" * 10_000_000 + ",5\n"))
    with pytest.raises(FileFormatError, match=r"must be text\. Got a NUL byte instead"):
        read_source(written(tmp_path, b"name,ctf\ncaf\0\xe9,5\n"))


def test_a_table_of_a_windows_code_page_is_read_and_says_so(tmp_path):
    text = "name;x (µm);y (µm);CTF max res (Å)\ncafé;1;2;5\n"
    path = written(tmp_path, text.encode("cp1252"))
    assert detect(path)
    records = read_source(path)
    assert records.ctf[["name", "ctf_max_res_angstrom"]].values.tolist() == [["café", 5.0]]
    assert any("not UTF-8 and read as text of Windows code page 1252" in note for note in records.notes)
    assert not any("code page" in note for note in read_source(written(tmp_path, text)).notes)


def test_a_value_over_several_lines_keeps_the_line_numbers_right(tmp_path):
    path = written(tmp_path, 'name,note,ctf\na,"two\nlines",5\nb,one,0\n')
    assert [(each.line, each.message) for each in validate(path)] == [
        (4, "the CTF resolution must be above 0 angstrom. Got '0' instead.")
    ]


def test_unknown_columns_of_one_name_are_all_kept(tmp_path):
    exposures = read_source(written(tmp_path, "name,ctf,note,note,\na,5,u,v,w\n")).exposures
    assert exposures[["note", "note (column 4)", " (column 5)"]].to_numpy().tolist() == [["u", "v", "w"]]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-01-05 11:51:50", datetime(2024, 1, 5, 11, 51, 50)),
        (
            "2024-01-05T11:51:50.1234567+01:00",
            datetime(2024, 1, 5, 11, 51, 50, 123456, timezone(timedelta(hours=1))),
        ),
        ("2024-01-05T11:51Z", datetime(2024, 1, 5, 11, 51, tzinfo=UTC)),
        ("2024-01-05 11:51 -0530", datetime(2024, 1, 5, 17, 21, tzinfo=UTC)),
        ("2024/1/5 9:51:50", datetime(2024, 1, 5, 9, 51, 50)),
        ("20240105_115150", datetime(2024, 1, 5, 11, 51, 50)),
        ("05-Jan-24  11:51:50", datetime(2024, 1, 5, 11, 51, 50)),
        ("05-jan-2024 11:51:50", datetime(2024, 1, 5, 11, 51, 50)),
        ("05.01.2024 11:51:50", datetime(2024, 1, 5, 11, 51, 50)),
    ],
)
def test_common_forms_of_time_are_read_as_the_clock_stands(text, time):
    assert parse_time(text) == time


def test_all_times_of_a_table_are_of_the_zone_of_the_first(tmp_path):
    rows = "a,2024-10-27T02:59:00+02:00\nb,2024-10-27T02:00:00+01:00\nc,2024-10-27T01:01:00Z\nd,2024-10-27 03:02\n"
    source = read_source(written(tmp_path, "name,time\n" + rows))
    assert source.exposures["started_at"].dt.strftime("%H:%M").tolist() == [
        "02:59",
        "03:00",
        "03:01",
        "03:02",
    ]
    assert "2 times have another time zone; all times are given in that of the first, +0200" in source.notes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-01-05",
        "1704455510",
        "01/05/2024 11:51",
        "2024-02-30 11:00",
        "05-Foo-24 11:00",
        "9999-01-01 00:00",
        "2024-01-05 11:00+99:00",
    ],
)
def test_what_could_mean_another_time_is_refused(text):
    assert str(parse_time(text)).startswith("a time must be a date with a time of day")


@given(st.datetimes(datetime(1990, 1, 1), datetime(2199, 12, 31)))
def test_every_iso_time_reads_back(time):
    assert parse_time(time.isoformat(timespec="microseconds")) == time
    assert parse_time(f"{time:%Y%m%d_%H%M%S}") == time.replace(microsecond=0)


def test_a_hole_without_exposure_time_and_result_is_not_imaged_yet(tmp_path):
    path = tmp_path / "holes.csv"
    path.write_text(
        "hole,image,square,patch,x um,y um,ctf\nh1,a.mrc,s,p,1,2,4.0\nh2,,s,p,3,4,\nh3,,s,p,5,6,\n"
    )
    source = read_source(path)
    assert source.holes["hole_id"].tolist() == ["h1", "h2", "h3"]
    assert source.holes["x_um"].tolist() == [1.0, 3.0, 5.0]
    assert source.exposures["exposure_id"].tolist() == ["a"]
    assert source.notes == ()
    path.write_text("hole,image,ctf\nh1,,4.0\n")
    with pytest.raises(FileFormatError, match=r"line 2: a line must name its exposure\. Got '' instead\."):
        read_source(path)


def test_a_table_of_holes_alone_is_a_session_that_nobody_has_imaged(tmp_path):
    path = tmp_path / "holes.csv"
    path.write_text("grid,square,hole,x_um,y_um,ctf\ng1,s1,h1,0,0,\ng1,s1,h2,3,0,4.2\n")
    records = generic_table.read_source(path)
    assert records.holes["hole_id"].tolist() == ["h1", "h2"]
    assert records.exposures["hole_id"].tolist() == ["h2"]


RESTARTING = (
    "grid,square,patch,hole,x_um,y_um,ctf\n"
    "g1,A,1,1,0,0,4\ng1,A,1,2,1,0,\n"
    "g1,B,1,1,50,0,5\ng1,B,2,1,60,0,\n"
    "g2,A,1,1,0,0,6\ng2,A,1,2,1,0,\n"
)


def test_numbers_that_begin_again_in_each_parent_are_told_apart_and_it_is_said(tmp_path):
    records = read_source(written(tmp_path, RESTARTING))
    assert records.holes[["hole_id", "patch_id", "square_id", "grid_id"]].to_numpy().tolist() == [
        ["1", "1", "A", "g1"],
        ["2", "1", "A", "g1"],
        ["B/1", "1", "B", "g1"],
        ["B/2/1", "2", "B", "g1"],
        ["g2/A/1", "1", "g2/A", "g2"],
        ["g2/A/2", "1", "g2/A", "g2"],
    ]
    assert records.squares[["square_id", "grid_id"]].to_numpy().tolist() == [
        ["A", "g1"],
        ["B", "g1"],
        ["g2/A", "g2"],
    ]
    assert records.ctf[["name", "ctf_max_res_angstrom"]].to_numpy().tolist() == [
        ["1", 4.0],
        ["B/1", 5.0],
        ["g2/A/1", 6.0],
    ]
    assert records.exposures["hole_id"].tolist() == ["1", "B/1", "g2/A/1"]
    assert (
        "4 holes have the id of a hole of another place: told apart by the place, such as B/1"
        in records.notes
    )
    assert (
        "1 square has the id of a square of another place: told apart by the place, such as g2/A"
        in records.notes
    )


@given(
    st.lists(st.tuples(*(st.sampled_from("12") for _ in range(4))), min_size=1, max_size=16, unique=True),
    st.integers(0, 16),
)
def test_every_place_is_one_hole_and_a_table_that_grows_gives_the_same_ids_again(
    tmp_path_factory, places, seen
):
    path = tmp_path_factory.mktemp("generic") / "grows.csv"
    lines = [
        f"g{grid},{square},{patch},{hole},{i}.0\n" for i, (grid, square, patch, hole) in enumerate(places)
    ]
    found = []
    for rows in (lines[:seen], lines):
        path.write_text(
            "grid,square,patch,hole,x_um,y_um\n" + "".join(row.replace("\n", ",0\n") for row in rows)
        )
        holes = read_source(path).holes
        assert holes["x_um"].tolist() == [float(i) for i in range(len(rows))]
        assert holes["hole_id"].is_unique
        found.append(holes["hole_id"].tolist())
    assert found[1][: len(found[0])] == found[0]


def test_the_titles_of_cryosparc_live_are_known_and_a_zero_there_is_no_result(tmp_path):
    path = tmp_path / "exposures.csv"
    path.write_text(
        "uid,abs_file_path,CTF fit resolution (A),Relative ice thickness\n"
        "1,/data/raw/a_0001.tif,3.5,1.1\n2,/data/raw/a_0002.tif,0,0\n"
    )
    assert detect(path)
    records = read_source(path)
    assert records.exposures["exposure_id"].tolist() == ["a_0001", "a_0002"]
    assert records.ctf[["name", "ctf_max_res_angstrom"]].values.tolist() == [["a_0001", 3.5]]
    named = tmp_path / "named.csv"
    named.write_text("micrograph,abs_file_path,CTF fit resolution\nm1,/x/a.tif,4\n")
    assert read_source(named).exposures["exposure_id"].tolist() == ["m1"]
