import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.formats.ctf.names import LONGEST_NAME, exposure_name, folder_of

EPU = "FoilHole_19513699_Data_19508496_19508498_20230919_154056"
LEGINON = "24jan05a_grid1_00008gr_00011sq_v01_00002hl_v01_00005en-a"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (f"MotionCorr/job002/Movies/{EPU}_Fractions.mrc", EPU),
        (f"X:\\session\\Images-Disc1\\{EPU}_Fractions.tiff", EPU),
        (f"{EPU}_EER.eer", EPU),
        (f"{EPU}_fractions_DW.mrc", EPU),
        (f"{EPU}-DW.mrc", EPU),
        (f"{EPU}_fractions_noDW.mrc", EPU),
        (f"{EPU}_patch_aligned.mrc", EPU),
        (f"{EPU}_fractions_patch_aligned_doseweighted.mrc", EPU),
        (
            f"J88/motioncorrected/013361838351298364391_{EPU}_fractions.mrc_patch_aligned_doseweighted.mrc",
            EPU,
        ),
        (f">J2/imported/002951270711614884258_{EPU}_EER.eer", EPU),
        (f"00001234_{EPU}.mrc", EPU),
        (f"GridSquare_19493759_Data_{EPU}.mrc", EPU),
        (f"000003@{EPU}.mrcs", EPU),
        (f"000003@J3/x/013361838351298364391_{EPU}_Fractions.mrcs", EPU),
        (f"000003@013361838351298364391_00001234_{EPU}.mrcs", EPU),
        (f"CtfFind/job003/Movies/{EPU}_PS.ctf:mrc", EPU),
        ("MotionCorr/job002/Movies/20170629_00021_frameImage.mrc", "20170629_00021_frameImage"),
        ("20240105115150_grid1.mrc", "20240105115150_grid1"),
        (f"{LEGINON}.mrc", LEGINON),
        (f"{LEGINON}-DW.mrc", LEGINON),
        ("name.with.dots.mrc", "name.with.dots"),
        (f"X:\\frames\\{LEGINON}.frames.mrc", LEGINON),
        (f"rawdata/{LEGINON}.frames.tif", LEGINON),
        (f"rawdata/{LEGINON}.frames.eer", LEGINON),
        (f"MotionCorr/job002/Movies/{LEGINON}_frames.mrc", LEGINON),
        (
            f"J3/motioncorrected/009364081384628432098_{LEGINON}.frames_patch_aligned_doseweighted.mrc",
            LEGINON,
        ),
        (f"MotionCorr/job002/Movies/{EPU}_Fractions_motion_corrected.mrc", EPU),
        ("_DW", "_DW"),
        (".mrc", ".mrc"),
        ("", ""),
        ("folder/", ""),
    ],
)
def test_what_programs_put_around_a_name_is_taken_off(written, name):
    assert exposure_name(written) == name


@given(st.one_of(st.text(), st.text(alphabet="_-DWmrc.0123456789@/\\>PS \t")))
def test_taking_off_twice_changes_nothing_and_leaves_no_folder(written):
    name = exposure_name(written)
    assert exposure_name(name) == name
    assert "/" not in name
    assert "\\" not in name


@given(
    st.from_regex(r"[a-z]{1,8}_[0-9]{1,5}", fullmatch=True),
    st.lists(st.sampled_from(["_Fractions", ".mrc", "_DW", "-DW", "_EER", "_patch_aligned"]), max_size=4),
)
def test_any_chain_of_suffixes_joins_to_the_same_exposure(name, suffixes):
    assert exposure_name(f"a/b/{name}{''.join(suffixes)}") == name


def test_a_name_of_a_hostile_length_is_left_as_it_is():
    name = "_patch_aligned" * 100_000 + "."
    assert len(name) > LONGEST_NAME
    assert exposure_name(f"folder/{name}") == name


@pytest.mark.parametrize(
    ("written", "folder"),
    [
        ("MotionCorr/job002/g2/a_0001.mrc", "g2"),
        ("X:\\frames\\g2\\a_0001.tif", "g2"),
        ("000003@g2/a_0001.mrcs", "g2"),
        (">g2/a_0001.mrc", "g2"),
        ("a_0001.mrc", ""),
        ("", ""),
    ],
)
def test_the_folder_of_a_micrograph_is_the_last_of_its_path(written, folder):
    assert folder_of(written) == folder
