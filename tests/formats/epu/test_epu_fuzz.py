"""Any bytes in any of the files end in a table or in an error of ours."""

import re

import pytest
from epu_samples import DATA, short_atlas, short_square
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.errors import CryoscoutError
from cryoscout.formats.epu.session import detect, read_source, validate
from examples import share

EXPOSURE = next(DATA.glob("harvest_session/Images-Disc1/*/Data/*.xml"))
FILES = {
    EXPOSURE.name: EXPOSURE.read_bytes(),
    "square.dm": short_square(2).encode(),
    "EpuSession.dm": (DATA / "harvest_session" / "EpuSession.dm").read_bytes(),
    "Atlas.dm": short_atlas().encode(),
}
EXAMPLES = share(12)
"""Each reads a file of up to 0.2 MB several times."""
HOSTILE = [
    b"",
    b"\0",
    b"\xff",
    b"<",
    b"&",
    b"1e999",
    b"-1e308",
    b"nan",
    b"99999999999999999999999999",
    b'z:Ref="1"',
]
HOSTILE += ["\N{DEVANAGARI DIGIT ONE}".encode(), b"<Id/>", b"</", b"]]>", b"<![CDATA[", b"<?x?>", b"<!--"]

texts = st.text(max_size=8).map(lambda text: text.encode(errors="replace"))
mutations = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 40), st.sampled_from(HOSTILE) | st.binary(max_size=8)),
    max_size=4,
)


def _mutated(data, changes):
    for place, length, put in changes:
        at = int(place * len(data))
        data = data[:at] + put + data[at + length :]
    return data


def _read(path):
    detect(path)
    for permissive in (True, False):
        try:
            source = read_source(path, permissive, retries=0, cluster_radius_um=12.0)
        except CryoscoutError:
            continue
        assert source.holes["hole_id"].is_unique
        assert source.exposures["exposure_id"].is_unique
    if detect(path):
        validate(path)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=EXAMPLES)
@given(changes=mutations)
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, name, changes):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(_mutated(FILES[name], changes))
    _read(path)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=EXAMPLES)
@given(place=st.integers(0), put=st.sampled_from(HOSTILE) | texts)
def test_a_hostile_value_is_read_or_refused(tmp_path_factory, name, place, put):
    """As above, and the XML stays well-formed more often: one text between tags is replaced."""
    between = list(re.finditer(rb">([^<>]+)<", FILES[name]))
    found = between[place % len(between)]
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(FILES[name][: found.start(1)] + put + FILES[name][found.end(1) :])
    _read(path)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=EXAMPLES)
@given(data=st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode(errors="replace")))
def test_any_bytes_are_read_or_refused(tmp_path_factory, name, data):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    _read(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    path = tmp_path / name
    path.write_bytes(FILES[name][: int(share * len(FILES[name]))])
    with pytest.raises(CryoscoutError):
        read_source(path, retries=0)
