"""Take down each wall in turn and see which tests miss it: `make mutants`, from the project's folder.

A wall is the permission of a route, its demand for a fresh proof, a policy of row-level security, a row
filter in code or a rule of a domain (`tests/mutation.py`). For each one the tests that guard it run, until
the first fails. One that no test misses is printed and makes the run fail. `ARGS="policy"` runs those
whose name contains the word.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from medical.app import create_app  # noqa: E402 - from this very folder
from medical.config import Mode  # noqa: E402
from medical.platform import schema  # noqa: E402
from medical.platform.postgres import EmbeddedPostgres  # noqa: E402
from tests.mutation import mutants  # noqa: E402

SUBJECTS = "tests/system/test_subjects.py"
GUARDS = {
    "permission": ["tests/system/test_access.py"],
    "step-up": ["tests/system/test_access.py"],
    "policy": ["tests/system/test_row_level_security.py", "tests/system", "tests/identity", "tests/people"],
    "sight": [SUBJECTS, "tests/people", "tests/scheduling/test_routes.py", "tests/scheduling/test_lists.py"],
    "ensure": [
        SUBJECTS,
        "tests/people",
        "tests/scheduling/test_routes.py",
        "tests/scheduling/test_lists.py",
        "tests/identity",
    ],
}
"""Where the tests are that must miss a wall of each kind."""
AT_ONCE = 2


def missed_by(mutant: str, server_url: str) -> str | None:
    """The first test that fails without this wall, or None."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.mutation", "-p", "no:cacheprovider", "-q", "-x"]
    command += ["--no-header", "--tb=no", "-W", "ignore", "--mutant", mutant, *GUARDS[mutant.split(maxsplit=1)[0]]]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | {"TEST_DATABASE_URL": server_url},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest did not run for {mutant!r}:\n{done.stdout}{done.stderr}")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].split(" ", 1)[1].partition(" - ")[0] if failed else None


def main() -> None:
    """Print each wall with the test that missed it; exit with 1 when one was not missed."""
    word = " ".join(sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "data", durable=False) as server:
            walls = [wall for wall in every_wall(server.superuser_url) if word in wall]
            print(f"{len(walls)} walls")
            with ThreadPoolExecutor(AT_ONCE) as pool:
                found = list(pool.map(lambda wall: report(wall, server.superuser_url), walls))
    unmissed = [wall for wall, test in zip(walls, found, strict=True) if test is None]
    print(f"{len(walls) - len(unmissed)} of {len(walls)} missed by a test")
    sys.exit(bool(unmissed))


def every_wall(server_url: str) -> list[str]:
    """The names of all walls."""
    schema.migrate(server_url)
    with psycopg.connect(server_url.replace("postgresql+psycopg://", "postgresql://", 1)) as connection:
        policies = connection.execute("SELECT tablename, policyname FROM pg_policies ORDER BY 1, 2").fetchall()
    app = create_app({"database_url": server_url, "secret_key": os.urandom(32).hex(), "mode": Mode.TEST})
    return list(mutants(app, policies))


def report(wall: str, server_url: str) -> str | None:
    """Run one and print what came of it."""
    test = missed_by(wall, server_url)
    print(f"{'missed by ' + test if test else 'NOT MISSED':60}  {wall}", flush=True)
    return test


if __name__ == "__main__":
    main()
