"""Leginon's tables as records: what stands beside a resolution is kept."""

from cryoscout.formats.leginon.session import read_session
from cryoscout.formats.leginon.source import records_of

NAME = "24jan05a_grid1_00008gr_00011sq_v01_0000{hole}hl_v01_0000{hole}en-a"


def test_the_confidence_of_a_fit_is_kept_beside_its_resolution(tmp_path):
    table = tmp_path / "ctf.csv"
    table.write_text(f"{NAME.format(hole=2)},10,20,4.5,0.83\n{NAME.format(hole=3)},30,20,7.25,0.5\n")
    records = records_of(table, read_session([table]))
    kept = records.ctf.set_index("name")[["ctf_max_res_angstrom", "confidence"]]
    assert kept.loc[NAME.format(hole=2)].tolist() == [4.5, 0.83]
    assert kept.loc[NAME.format(hole=3)].tolist() == [7.25, 0.5]
