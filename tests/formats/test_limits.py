"""Nonsense is named and not planned: what no microscope does is a deviation, and its value is missing."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from reader_samples import SAMPLES

from cryoscout.core.errors import FileFormatError
from cryoscout.formats import registry
from cryoscout.formats.epu import session as epu
from cryoscout.formats.epu.images import read_image
from cryoscout.formats.leginon.tables import read_table
from cryoscout.formats.limits import (
    area_problem,
    low_resolution_problem,
    pixel_problem,
    pixel_size_problem,
    stage_problem,
)
from cryoscout.formats.own.columns import ColumnMap
from cryoscout.formats.own.table import read_source
from cryoscout.formats.text.findings import Findings


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (stage_problem, (0.0, -1500.0, 5000.0, math.nan), (5001.0, -1e300, math.inf)),
        (pixel_problem, (0.0, -20_000.0, 1e6, math.nan), (1e20, -1e7)),
        (area_problem, (1e-3, 1600.0, 1e7, math.nan), (0.0, -1.0, 1.1e7, math.inf, -math.inf)),
        (pixel_size_problem, (0.1, 6400.0, 1e6, math.nan), (0.0, -1.0, 2e6, math.inf)),
    ],
)
def test_values_have_limits_far_beyond_real_ones(check, right, wrong):
    assert [check(value, "x") for value in right] == [None] * len(right)
    assert all(re.search(r"x must be .* Got .* instead\. Remedy: ", check(value, "x")) for value in wrong)


def test_no_microscope_resolves_half_an_angstrom():
    assert low_resolution_problem(1e-320)
    assert [low_resolution_problem(value) for value in (0.5, 3.0, math.inf, math.nan, -1.0, 0.0)] == [
        None
    ] * 6
    assert "must be 0.5 angstrom or more. Got 1e-30 instead" in low_resolution_problem(1e-30)


def table(tmp_path, x="1", ctf="3.5"):
    path = tmp_path / "a.csv"
    path.write_text(f"hole,name,x,y,ctf\nh1,a,{x},2,{ctf}\nh2,b,3,4,4.5\n")
    return path


@pytest.mark.parametrize("unit", ["um", "px"])
def test_a_hole_of_an_own_table_keeps_its_result_without_its_impossible_place(tmp_path, unit):
    path, columns = table(tmp_path, x="1e20"), ColumnMap(position_unit=unit)
    with pytest.raises(FileFormatError, match=r"line 2: x must be (a stage|on an image)"):
        read_source(path, column_map=columns)
    source = read_source(path, True, columns)
    assert [each.line for each in source.deviations] == [2]
    assert source.holes[f"x_{unit}"].isna().tolist() == [True, False]
    assert source.ctf["ctf_max_res_angstrom"].tolist() == [3.5, 4.5]


def test_an_exposure_of_an_own_table_stays_without_its_impossible_result(tmp_path):
    path = table(tmp_path, ctf="1e-320")
    with pytest.raises(FileFormatError, match=r"line 2: the CTF resolution must be 0\.5 angstrom or more"):
        read_source(path)
    source = read_source(path, True)
    assert source.exposures["exposure_id"].tolist() == ["a", "b"]
    assert source.ctf["name"].tolist() == ["b"]
    assert len(source.deviations) == 1


CHANGES = {
    "epu exposure": (rb"(<Position>.*?<X>)[^<]*", rb"\g<1>1e294", "exposures", "stage_x_um"),
    "epu square": (rb"(<StagePosition.*?<\w+:X>)[^<]*", rb"\g<1>1e294", "holes", "x_um"),
    "smartscope": (rb"(stage_x: ).*", rb"\g<1>1e300", "holes", "x_um"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_place_where_no_stage_goes_is_named_and_missing(tmp_path, name):
    pattern, put, level, column = CHANGES[name]
    path = tmp_path / SAMPLES[name].file
    data = re.sub(pattern, put, SAMPLES[name].data, flags=re.DOTALL if name.startswith("epu") else 0)
    assert data != SAMPLES[name].data
    path.write_bytes(data)
    module = registry.format_of(path).load()
    options = {"retries": 0} if module is epu else {}
    with pytest.raises(
        FileFormatError, match=r"must be a stage position within 5,000 um \(a grid is 3 mm wide\)"
    ):
        module.read_source(path, **options)
    source = module.read_source(path, True, **options)
    assert any("must be a stage position" in each.message for each in source.deviations)
    assert len(getattr(source, level))
    assert getattr(source, level)[column].isna().any()


def test_an_area_that_no_square_of_an_atlas_has_is_named_and_missing(tmp_path):
    data = re.sub(
        rb"(<(\w+:)?Physical\b.*?<(\w+:)?height>)[^<]*",
        rb"\g<1>1e290",
        SAMPLES["epu atlas"].data,
        count=1,
        flags=re.DOTALL,
    )
    path = tmp_path / SAMPLES["epu atlas"].file
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=r"its area must be above 0 and at most 10,000,000 um2"):
        epu.read_source(path, retries=0)
    source = epu.read_source(path, True, retries=0)
    assert [each.element for each in source.deviations if "its area" in each.message]
    assert source.squares["area_um2"].isna().any()


@pytest.mark.parametrize("size", ["0", "-1", "1e290"])
def test_a_pixel_that_no_image_has_is_named_and_missing(tmp_path, size):
    sample = SAMPLES["epu exposure"]
    path = tmp_path / Path(sample.file).name
    wide = re.compile(rb"(<pixelSize>.*?<numericValue>)[^<]*", re.DOTALL)
    path.write_bytes(wide.sub(rb"\g<1>" + size.encode(), sample.data, count=1))
    assert path.read_bytes() != sample.data
    with pytest.raises(
        FileFormatError, match=r"must be the size of a pixel, above 0 and at most 1,000,000 angstrom"
    ):
        read_image(path)
    findings = Findings(path, permissive=True)
    assert "pixel_size_angstrom" not in read_image(path, findings).numbers
    assert [each.element for each in findings.deviations] == ["SpatialScale/pixelSize/x/numericValue"]


@pytest.mark.parametrize("year", ["0001", "1980", "2200", "9999"])
def test_a_year_of_no_microscope_is_named(tmp_path, year):
    path = tmp_path / "times.csv"
    path.write_text(f"21jan01a_00001gr_00002sq_00003hl_00001en-a,{year}-01-05 11:51:50\n")
    with pytest.raises(FileFormatError, match=r"must be written yyyy-mm-dd hh:mm:ss, between 1990 and 2199"):
        read_table(path)
    path.write_text(f"name,time\na,{year}-01-05 11:51:50\n")
    with pytest.raises(FileFormatError, match=r"a time must be a date with a time of day"):
        read_source(path)
