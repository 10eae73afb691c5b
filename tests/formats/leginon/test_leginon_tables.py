"""Tables here are hand-made in the shape of the released ones, with names of an invented session."""

import pytest

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.leginon.tables import detect, read_table, validate_file

PATCH = "24jan05a_grid1_00008gr_00011sq_v01_00002hl_v01"


def hole(number, suffix="-a"):
    return f"{PATCH}_{number:05d}en{suffix}"


GOOD = {
    "ctf": [f"{hole(1)},-303.29,-369.18,5.05,0.97", f"{hole(2, '')},1,2,-1,-1", f"{hole(3)},0,0,inf,0.1"],
    "timestamps": [f"{hole(1, '')},2024-01-05 11:51:50", f"{hole(1)},2024-01-05 11:52:30"],
    "softmax": [f"{hole(1)} 0.22 0.78", f"{hole(2)} 1.00 0.00", f"{hole(3)} 0.51 0.51"],
    "predicted-ctf": [f"{hole(1)} 14.48", f"{hole(2)} 3.9"],
}
OTHER_BAD = {
    "ctf": [
        (f"{hole(9)},1,2,5.0", r"5 columns \(name, x_px.*Got 4 instead"),
        (f"{hole(9)},1,2,5.0,0.9,7", r"5 columns .*Got 6 instead"),
        ("FoilHole_1,1,2,5.0,0.9", r"A Leginon name must be .*Got 'FoilHole_1'"),
        (f"{hole(1)},1,2,5.0,0.9", r"a name must stand once\. Got .* again instead \(first on line 1\)"),
        (f"{hole(9)},1,2,good,0.9", r"the CTF resolution must be a number\. Got 'good'"),
        (f"{hole(9)},1,2,nan,0.9", r"the CTF resolution must be a number\. Got 'nan'"),
        (f"{hole(9)},1,2,-3,0.9", r"above 0 angstrom, or -1 for none\. Got '-3'"),
        (f"{hole(9)},1,2,0,0.9", r"above 0 angstrom, or -1 for none\. Got '0'"),
        (f"{hole(9)},1,2,-inf,0.9", r"above 0 angstrom, or -1 for none"),
        (f"{hole(9)},inf,2,5,0.9", r"dx must be finite\. Got 'inf'"),
        (f"{hole(9)},1,up,5,0.9", r"dy must be a number\. Got 'up'"),
        (f"{hole(9)},1,2,5,sure", r"the confidence must be a number\. Got 'sure'"),
    ],
    "timestamps": [
        (f"{hole(9)},yesterday", r"written yyyy-mm-dd hh:mm:ss, between 1990 and 2199\. Got 'yesterday'"),
        (f"{hole(9)},2024-02-30 11:00:00", r"written yyyy-mm-dd hh:mm:ss"),
        (f"{hole(9)},2024-01-05 11:00:00,x", r"2 columns \(name, at\)\. Got 3"),
        (f"{PATCH.removesuffix('_v01')}_00007en", r"2 columns"),
        (f"{hole(1)}_v01,2024-01-05 11:51:49", None),
    ],
    "softmax": [
        (f"{hole(9)} 0.5", r"3 columns \(name, p_good, p_bad\)\. Got 2"),
        (f"{hole(9)} nan 0.5", r"p_good must be a number\. Got 'nan'"),
        (f"{hole(9)} 1.2 0.0", r"p_good must be between 0 and 1\. Got 1\.2"),
        (f"{hole(9)} 0.5 -0.5", r"p_bad must be between 0 and 1\. Got -0\.5"),
        (f"{hole(9)} 0.5 0.53", r"must sum to 1 \(within 0\.02\)\. Got 1\.03"),
        (f"{hole(9)} high low", r"p_good must be a number\. Got 'high'"),
    ],
    "predicted-ctf": [
        (f"{hole(9)} good", r"the predicted CTF resolution must be a number\. Got 'good'"),
        (f"{hole(9)} inf", r"the predicted CTF resolution must be finite"),
        (f"{hole(9)} -1", r"above 0 angstrom\. Got '-1'"),
    ],
}


def written(tmp_path, lines, name="table.dat"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("kind", GOOD)
def test_a_kind_is_recognised_by_content_whatever_the_file_is_called(tmp_path, kind):
    for name in ("timestamps.csv", "softmax.txt", "ctf"):
        assert detect(written(tmp_path, GOOD[kind], name)) == kind


@pytest.mark.parametrize("kind", GOOD)
def test_a_clean_file_has_no_deviation(tmp_path, kind):
    path = written(tmp_path, GOOD[kind])
    assert validate_file(path) == []
    table = read_table(path)
    assert table.rows["name"].tolist() == [line.replace(",", " ").split()[0] for line in GOOD[kind]]
    assert table.rows["line"].tolist() == list(range(1, len(GOOD[kind]) + 1))


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [(kind, line, message) for kind, cases in OTHER_BAD.items() for line, message in cases if message],
)
def test_a_bad_line_is_refused_with_its_number_and_left_out_when_permissive(tmp_path, kind, line, message):
    path = written(tmp_path, [*GOOD[kind], line])
    number = len(GOOD[kind]) + 1
    with pytest.raises(FileFormatError, match=rf"table\.dat, line {number}: .*{message}") as raised:
        read_table(path)
    assert raised.value.line == number
    table = read_table(path, permissive=True)
    assert len(table.rows) == len(GOOD[kind])
    assert [deviation.line for deviation in table.deviations] == [number]


def test_every_deviation_is_listed_and_not_only_the_first(tmp_path):
    lines = [*GOOD["ctf"], *(line for line, _ in OTHER_BAD["ctf"])]
    deviations = validate_file(written(tmp_path, lines))
    assert [deviation.line for deviation in deviations] == list(range(4, 4 + len(OTHER_BAD["ctf"])))


def test_a_damaged_first_line_does_not_hide_the_kind(tmp_path):
    path = written(tmp_path, ["name,x,y,ice,conf", *GOOD["ctf"]])
    assert detect(path) == "ctf"
    assert [deviation.line for deviation in validate_file(path)] == [1]


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        ("ctf", "name,dx,dy,ctf,confidence"),
        ("ctf", "Image name, x, y, CTF resolution, conf"),
        ("timestamps", "name,time"),
        ("softmax", "name p_good p_bad"),
        ("predicted-ctf", "name predicted_ctf"),
    ],
)
def test_one_known_header_is_passed_over_and_lines_keep_their_numbers(tmp_path, kind, header):
    path = written(tmp_path, ["", header, *GOOD[kind]])
    assert detect(path) == kind
    assert validate_file(path) == []
    assert read_table(path).rows["line"].tolist() == list(range(3, 3 + len(GOOD[kind])))
    again = written(tmp_path, [header, *GOOD[kind], header])
    assert [deviation.line for deviation in validate_file(again)] == [2 + len(GOOD[kind])]


@pytest.mark.parametrize("older", [PATCH, hole(5, "")])
def test_an_image_older_than_the_one_it_comes_from_is_a_deviation(tmp_path, older):
    young = hole(5, "-a" if older != PATCH else "")
    path = written(tmp_path, [f"{young},2024-01-05 10:00:00", f"{older},2024-01-05 10:00:01"])
    with pytest.raises(
        FileFormatError, match=r"line 1: an image must not be older than the one it comes from"
    ):
        read_table(path)
    table = read_table(path, permissive=True)
    assert (len(table.rows), len(table.deviations)) == (2, 1)


def test_times_may_come_in_any_order(tmp_path):
    path = written(tmp_path, [f"{hole(2)},2024-01-05 12:00:00", f"{hole(1)},2024-01-05 11:00:00"])
    assert validate_file(path) == []


def test_values_are_kept_as_the_file_has_them(tmp_path):
    rows = read_table(written(tmp_path, GOOD["ctf"])).rows
    assert rows["ctf_max_res_angstrom"].tolist() == [5.05, -1.0, float("inf")]
    assert rows["x_px"].tolist() == [-303.29, 1.0, 0.0]


def test_line_ends_byte_order_mark_and_blank_lines_do_not_matter(tmp_path):
    path = tmp_path / "windows.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(GOOD["ctf"]).encode())
    assert detect(path) == "ctf"
    assert read_table(path).rows["line"].tolist() == [1, 3, 5]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"hello world\n", b"a,b\n1,2\n", b"\x93NUMPY\x00\x01", f"{hole(1)},4.5\n".encode()],
)
def test_another_file_is_not_recognised(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    assert detect(path) is None
    with pytest.raises(FileFormatError, match=r"other: must be a Leginon table.*Got lines of another shape"):
        read_table(path)


def test_a_name_of_thousands_of_levels_is_refused_before_it_takes_the_memory_of_all_of_them(tmp_path):
    path = tmp_path / "deep"
    path.write_text(f"{hole(1)} 4.5\n21jan01a{'_00001a' * 10_000} 4.5\n")
    with pytest.raises(
        FileFormatError, match=r"line 2: a name must have at most 1,000 characters\. Got 70,008"
    ):
        read_table(path)
    assert len(read_table(path, permissive=True).rows) == 1


def test_numbers_are_written_with_digits_alone(tmp_path):
    path = tmp_path / "table"
    for text in ("4_5", "\u0661"):
        path.write_text(f"{hole(1)} 4.5\n{hole(2)} {text}\n")
        with pytest.raises(FileFormatError, match=r"line 2: .* must be a number"):
            read_table(path)


def test_a_missing_file_is_a_format_error_with_its_name(tmp_path):
    with pytest.raises(
        FileFormatError, match=r"nowhere\.csv: must be a readable file\. Got nothing there instead"
    ):
        detect(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("header", "rest"),
    [
        ("hole,square,x_px,y_px,likeness", ",square,211.93,50.40,0.364"),
        ("hole,p_good,a,b,c", ",0.5,1,2,3"),
        ("Hole\tP good", "\t0.5"),
        ("GridSquare Hole_ID p_good", " 1 0.5"),
    ],
)
def test_a_table_whose_header_names_holes_or_squares_is_not_one_of_leginon(tmp_path, header, rest):
    lines = [f"{hole(number)}{rest}" for number in (1, 2)]
    assert detect(written(tmp_path, [header, *lines])) is None
    assert detect(written(tmp_path, lines)) is not None


def test_a_star_file_of_images_with_leginon_names_is_not_one_of_leginon(tmp_path):
    assert detect(written(tmp_path, [f"data_{hole(number)},0,0,4,1" for number in (1, 2)])) == "ctf"
    lines = ["data_movies", "", "loop_", "_rlnMicrographMovieName #1", "_rlnOpticsGroup #2"]
    assert (
        detect(written(tmp_path, [*lines, *(f"Movies/{hole(number)}.frames.mrc 1" for number in (1, 2))]))
        is None
    )
