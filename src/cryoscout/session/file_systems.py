"""Which file system a folder lies on: the store's write-ahead log needs shared memory, a network has none."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from cryoscout.core.errors import StoreError

# fmt: off
NETWORK_FILE_SYSTEMS = frozenset((
    "9p", "acfs", "afs", "auristorfs", "beegfs", "ceph", "cifs", "coda", "cvmfs", "davfs", "fhgfs",
    "fuse.ceph", "fuse.davfs2", "fuse.glusterfs", "fuse.juicefs", "fuse.mfs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs", "gfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs3",
    "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "quobyte", "smb", "smb2", "smb3", "smbfs", "weka",
    "wekafs",
))
# fmt: on
"""Names of network and cluster file systems as /proc/mounts writes them."""

_MOUNTS = Path("/proc/mounts")


def file_system_of(folder: Path, mounts: str) -> str:
    """Type of the file system a folder lies on.

    folder : absolute     mounts : text in the form of /proc/mounts (device, mount point, type, ...); later
        lines cover earlier ones     Returns '' when no mount point holds the folder.
    """
    best, found = -1, ""
    place = PurePosixPath(folder)
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = PurePosixPath(_unescaped(fields[1]))
        depth = len(point.parts)
        if depth >= best and (place == point or point in place.parents):
            best, found = depth, fields[2]
    return found


def refuse_network_file_system(folder: Path, mounts: str | None = None) -> None:
    """Raise StoreError when the folder would lie on a network file system.

    mounts : text in the form of /proc/mounts; None reads it, and nothing is refused where the system has none
    """
    kind = _kind_of(folder, mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreError(
            f"A session store must lie on a local disk. Got {folder} on a network file system ({kind}) "
            "instead; its write-ahead log would lose data there. Remedy: put the session on a local disk, "
            "for example with -o, or --store-dir of cryoscout import."
        )


def is_on_network(folder: Path, mounts: str | None = None) -> bool:
    """Whether the folder lies on a network file system; mounts as in `refuse_network_file_system`."""
    return _kind_of(folder, mounts) in NETWORK_FILE_SYSTEMS


def _kind_of(folder: Path, mounts: str | None) -> str:
    if mounts is None:
        if not _MOUNTS.is_file():
            return ""
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    return file_system_of(folder.resolve(), mounts)


def _unescaped(field: str) -> str:
    """The kernel writes blank, tab, newline and backslash in a mount point as octal."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
