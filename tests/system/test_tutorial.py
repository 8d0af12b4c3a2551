"""The tutorial's commands, run exactly as they stand in it."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEPT_OUT = {"data", ".git", ".env"}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class TestTutorial:
    """A newcomer follows docs/tutorial.md from top to bottom."""

    def test_leads_from_an_empty_folder_to_a_refused_double_booking(self, project: Path, tmp_path: Path) -> None:
        """Every command succeeds, the repeated booking is a replay and the second one is refused."""
        fresh = subprocess.run(["make", "--question", ".venv/.runtime-installed"], cwd=project, check=False)
        assert fresh.returncode == 0, "the installation is older than the lock file: run `make test`"
        for entry in project.iterdir():
            if entry.name not in KEPT_OUT:
                (tmp_path / entry.name).symlink_to(entry)
        script = "\n".join(COMMANDS.findall((project / "docs/tutorial.md").read_text()))
        bash = shutil.which("bash")
        assert bash, "the tutorial's commands are for a POSIX shell"
        environment = {**os.environ, "PORT": str(free_port())}
        done = subprocess.run(
            [bash, "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        log = tmp_path / "data/tutorial.log"
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log.read_text() if log.exists() else ''}"
        answers = done.stdout.splitlines()
        assert '"status":"booked"' in done.stdout
        assert any(line.lower().startswith("idempotency-replayed: true") for line in answers)
        assert '"code":"slot_taken"' in answers[-1]
