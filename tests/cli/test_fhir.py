"""Records taken in and written out by commands, as somebody does who moves from another system."""

import gzip
import json
from pathlib import Path

from tests.cli.program import events, medical
from tests.cli.test_commands import create_admin
from tests.records.samples import DATA

PULSE = {"resourceType": "Observation", "id": "pulse", "status": "final", "code": {"text": "pulse"}}


def test_in_and_out_again(tmp_path: Path) -> None:
    """Several files on several processes; what is refused is told and ends the command with 1, and is no stop."""
    data, out = ("--data", str(tmp_path / "data")), tmp_path / "out"
    lines = tmp_path / "Observation.ndjson"
    lines.write_text("\n".join(json.dumps(one) for one in (PULSE, PULSE | {"id": "wrong", "status": "no such"})))
    nowhere = medical("fhir", "import", *data, str(lines))
    assert nowhere.returncode == 1
    assert "medical create-admin" in events(nowhere.stdout)[-1]["reason"]
    assert create_admin(tmp_path / "data", "ada@clinic.example").returncode == 0
    files = [str(DATA / "synthea.json.gz"), str(lines)]
    result = medical("fhir", "import", *data, "--jobs", "2", *files)
    said = {one["event"]: one for one in events(result.stdout)}
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert (
        said["entry_refused"].items() >= {"file": "Observation.ndjson", "entry": 1, "code": "invalid_resource"}.items()
    )
    done = said["records_imported"]
    assert (done["files"], done["refused"]) == (2, 1)
    again = medical("fhir", "import", *data, *files)
    assert again.returncode == 0
    assert {one["event"]: one for one in events(again.stdout)}["records_imported"]["before"] == 2
    assert medical("fhir", "export", str(out), *data, "--gzip").returncode == 0
    kept = [json.loads(line) for path in out.iterdir() for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert len(kept) == done["resources"] + 1  # the clinic itself is one
    assert [one["id"] for one in kept if one["resourceType"] == "Observation" and one["id"] == "pulse"] == ["pulse"]
