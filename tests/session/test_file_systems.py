from pathlib import Path

import pytest

from cryoscout.core.errors import StoreError
from cryoscout.session.file_systems import file_system_of, refuse_network_file_system

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/export /export nfs4 rw 0 0
/dev/sdb1 /export/local xfs rw 0 0
//box/data /mnt/micro\\040scope cifs rw 0 0
user@host: /remote fuse.sshfs rw 0 0
/dev/sdc1 /remote ext4 rw 0 0
broken line
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/data/x", "ext4"),
        ("/export/me/x", "nfs4"),
        ("/exported/x", "ext4"),
        ("/export/local/x", "xfs"),
        ("/mnt/micro scope/x", "cifs"),
        ("/remote/x", "ext4"),
    ],
)
def test_the_deepest_and_latest_mount_decides(folder, kind):
    assert file_system_of(Path(folder), MOUNTS) == kind


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre", "gpfs", "beegfs", "9p"]
)
def test_a_network_file_system_is_refused_and_the_remedy_named(kind):
    with pytest.raises(
        StoreError, match=rf"must lie on a local disk.*\({kind}\).*with -o, or --store-dir of"
    ):
        refuse_network_file_system(Path("/somewhere/y.session"), f"x / {kind} rw 0 0\n")


def test_a_local_file_system_passes():
    refuse_network_file_system(Path("/somewhere/y.session"), "x / btrfs rw 0 0\n")
