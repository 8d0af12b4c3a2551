"""On which side of a container's wall a command runs."""

from pathlib import Path

import pytest

from medical.cli.side import Side, side


@pytest.mark.parametrize("marker", ["run/.containerenv", ".dockerenv"])
def test_a_container_is_known_by_its_marker(tmp_path: Path, marker: str) -> None:
    (tmp_path / marker).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / marker).touch()
    assert side(tmp_path) is Side.CONTAINER


@pytest.mark.parametrize(("cgroup", "expected"), [("0::/libpod-1f\n", Side.CONTAINER), ("0::/init.scope\n", Side.HOST)])
def test_or_by_its_control_group(tmp_path: Path, cgroup: str, expected: Side) -> None:
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/cgroup").write_text(cgroup)
    assert side(tmp_path) is expected


def test_a_machine_without_control_groups_is_a_host(tmp_path: Path) -> None:
    assert side(tmp_path) is Side.HOST
