"""Whether a path lies on a network file system, where SQLite's WAL is not safe.

WAL keeps its index in memory that all processes map; a network file system does
not share it between hosts (sqlite.org/wal.html, "all processes using a database
must be on the same host computer").
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath

NETWORK = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs", "ceph", "fuse.ceph",
        "glusterfs", "fuse.glusterfs", "lustre", "beegfs", "gpfs", "orangefs", "ocfs2", "gfs2",
        "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.blobfuse", "davfs",
    }
)  # fmt: skip
"""File system types (as in /proc/self/mountinfo) that several hosts may mount."""

_MOUNTS = Path("/proc/self/mountinfo")


def network_file_system(path: Path, mounts: str | None = None) -> str | None:
    """The type of the network file system that `path` is on; None where it is local or not known.

    `mounts` is the text of a mountinfo file; the system's own by default.
    """
    if mounts is None:
        if not _MOUNTS.exists():
            return None
        mounts = _MOUNTS.read_text(errors="replace")
    kind = _type_of(PurePath(path.resolve()), mounts)
    return kind if kind in NETWORK else None


def _type_of(path: PurePath, mounts: str) -> str | None:
    found: tuple[int, str] | None = None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        point = PurePath(_unescape(fields[4]))
        # The deepest mount counts, and of two on one another the later.
        if path.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = (len(point.parts), after.split()[0])
    return None if found is None else found[1]


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)
