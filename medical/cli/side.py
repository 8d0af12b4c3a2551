"""On which side of a container's wall the program runs."""

from enum import StrEnum
from pathlib import Path

MARKERS = (Path("/run/.containerenv"), Path("/.dockerenv"))
CGROUPS = ("libpod", "docker", "kubepods", "containerd")


class Side(StrEnum):
    """Where a command is typed."""

    HOST = "host"
    CONTAINER = "container"


def side(root: Path = Path("/")) -> Side:
    """Whether this is a container (Podman, Docker, Kubernetes) or the host."""
    if any((root / marker.relative_to("/")).exists() for marker in MARKERS):
        return Side.CONTAINER
    cgroup = root / "proc/1/cgroup"
    try:
        lines = cgroup.read_text()
    except OSError:  # no such file on macOS and Windows, none to read for some users
        return Side.HOST
    return Side.CONTAINER if any(word in lines for word in CGROUPS) else Side.HOST
