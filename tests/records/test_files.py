"""Records of files: what is right goes in, what is wrong is told, what was interrupted goes on."""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from medical.fhir import files
from medical.identity.permissions import Role
from medical.platform.db import Scope, db, scoped
from medical.records import exporting
from medical.records.codec import encode
from medical.records.errors import UnknownParameter
from medical.records.importing import Tally
from medical.records.programs import program_of
from tests.clinic import Clinic
from tests.records.conftest import Fhir, pulse
from tests.records.samples import Json, parsed, synthea
from tests.records.test_bundles import LABORATORY, bundle, entry

WRONG: Json = {"resourceType": "Observation", "id": "wrong", "status": "no such"}


@pytest.fixture
def folder(clinic: Clinic, tmp_path: Path) -> Iterator[Path]:
    """A place for files, while the program works by itself."""
    with clinic.app.app_context():
        yield tmp_path
        db.session.rollback()


def written(path: Path, *lines: Any) -> Path:
    """A file of these values, each a line."""
    content = b"\n".join(one if isinstance(one, bytes) else encode(one) for one in lines) + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def taken(clinic: Clinic, path: Path, **how: Any) -> Tally | None:
    """What comes of the file, for this clinic."""
    with scoped(Scope(clinic.organization_id)):
        return files.take_in(program_of(clinic.organization_id), path, **{"again": False} | how)


def exported(clinic: Clinic) -> dict[str, list[Json]]:
    """All resources of the clinic by their types."""
    with scoped(Scope(clinic.organization_id)):
        actor = program_of(clinic.organization_id)
        lines = {name: [parsed(body) for body in exporting.bodies_of(actor, name)] for name in exporting.types_of([])}
        exporting.note()
        db.session.commit()
    return lines


def refused(tally: Tally | None) -> Sequence[tuple[int, str]]:
    """What was left out, and why."""
    assert tally
    return [(one.number, one.code) for one in tally.refused]


def observations(count: int) -> list[Json]:
    return [pulse(None, id=f"pulse-{number}") for number in range(count)]


class TestLines:
    @pytest.mark.parametrize("name", ["Observation.ndjson", "Observation.ndjson.gz"])
    def test_each_by_itself_and_what_is_wrong_is_told(
        self, clinic: Clinic, fhir: Fhir, folder: Path, name: str
    ) -> None:
        first, second = observations(2)
        slot = {"resourceType": "Slot"}
        path = written(folder / name, first, b"{no json", WRONG, b"", slot, {"resourceType": "Nothing"}, second)
        tally = taken(clinic, path)
        assert tally
        assert (tally.kept, tally.unchanged) == (2, 0)
        assert sorted(refused(tally)) == [
            (1, "malformed_json"),
            (2, "invalid_resource"),
            (3, "not_here"),
            (4, "unreadable_resource"),
        ]
        [wrong] = [one for one in tally.refused if one.number == 2]
        assert wrong.resource == "Observation/wrong"
        assert any(one.startswith("Observation.status: ") for one in wrong.problems)
        assert "Observation.code: is required" in wrong.problems
        assert set(fhir.ids("Observation")) == {"pulse-0", "pulse-1"}

    def test_once(self, clinic: Clinic, fhir: Fhir, folder: Path) -> None:
        path = written(folder / "a.ndjson", *observations(3))
        assert taken(clinic, path) == Tally(kept=3)
        assert taken(clinic, path) is None
        assert taken(clinic, path, again=True) == Tally(unchanged=3)
        changed = [one | {"status": "amended"} for one in observations(2)]
        assert taken(clinic, written(folder / "b.ndjson", *changed, *observations(3)[2:])) == Tally(2, 1)
        assert fhir.get("Observation/pulse-0").headers["ETag"] == 'W/"2"'

    def test_interrupted_it_goes_on_where_it_was(
        self, clinic: Clinic, fhir: Fhir, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "AT_ONCE", 2)
        path = written(folder / "a.ndjson", *observations(5))

        def stop(share: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            taken(clinic, path, tell=stop)
        db.session.rollback()
        assert len(fhir.ids("Observation")) == 2
        assert taken(clinic, path) == Tally(kept=3)
        assert len(fhir.ids("Observation")) == 5

    def test_one_goes_on_with_a_file_at_a_time(
        self, clinic: Clinic, fhir: Fhir, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who comes second stops where the other has gone on."""
        monkeypatch.setattr(files, "AT_ONCE", 2)
        path = written(folder / "a.ndjson", *observations(5))
        others: list[Tally | None] = []

        def meanwhile(share: float) -> None:
            if not others:
                others.append(None)
                others.append(taken(clinic, path))

        assert taken(clinic, path, tell=meanwhile) == Tally(kept=2)
        assert others[1] == Tally(kept=3)
        assert len(fhir.ids("Observation")) == 5

    def test_patients_get_ids_of_ours_and_what_comes_before_them_is_theirs(
        self, clinic: Clinic, fhir: Fhir, folder: Path
    ) -> None:
        own = {"resourceType": "Patient", "id": "p-1", "name": [{"family": "Okafor"}], "birthDate": "1980-05-17"}
        assert taken(clinic, written(folder / "a.ndjson", pulse("Patient/p-1", id="before"))) == Tally(kept=1)
        assert taken(clinic, written(folder / "b.ndjson", own, pulse("Patient/p-1", id="with"))) == Tally(kept=2)
        assert taken(clinic, written(folder / "c.ndjson", pulse("Patient/p-1", id="after"))) == Tally(kept=1)
        [patient] = fhir.ids("Patient")
        assert clinic.admin.get(f"/patients/{patient}").get_json()["family_name"] == "Okafor"
        found = fhir.ids(f"Patient/{patient}/$everything?_type=Observation")
        assert set(found) == {"before", "with", "after"}


class TestBundles:
    def test_a_transaction_goes_in_as_a_whole(self, clinic: Clinic, fhir: Fhir, folder: Path) -> None:
        whole = synthea()
        assert taken(clinic, written(folder / "a.json.gz", whole)) == Tally(kept=len(whole["entry"]))
        assert len(fhir.ids("Patient")) == 1

    def test_or_not_at_all_and_then_everything_wrong_is_told(self, clinic: Clinic, fhir: Fhir, folder: Path) -> None:
        broken = bundle("transaction", entry("POST", "Organization", LABORATORY), entry("POST", "Observation", WRONG))
        broken["entry"].append(entry("POST", "Observation", {"resourceType": "Observation"}))
        path = written(folder / "a.json", broken)
        for _ in range(2):  # nothing of it is here, so it is tried again
            assert refused(taken(clinic, path)) == [(1, "invalid_resource"), (2, "invalid_resource")]
        assert fhir.ids("Organization") == []

    def test_a_patient_who_is_here_by_an_identifier_is_that_one(self, clinic: Clinic, fhir: Fhir, folder: Path) -> None:
        known = clinic.patient(identifiers=[{"system": "urn:x", "value": "7,8 & 9"}])
        own = {"resourceType": "Patient", "name": [{"family": "Okafor"}], "birthDate": "1980-05-17"}
        own["identifier"] = [{"system": "urn:x", "value": "7,8 & 9"}]
        seen = pulse("urn:uuid:p")
        whole = bundle("transaction", entry("POST", "Patient", own, "urn:uuid:p"), entry("POST", "Observation", seen))
        assert taken(clinic, written(folder / "a.json", whole)) == Tally(1, 1)
        assert fhir.ids("Patient") == [known["id"]]
        assert len(fhir.ids(f"Observation?patient={known['id']}")) == 1

    def test_a_batch_finds_what_it_made_before(self, clinic: Clinic, fhir: Fhir, folder: Path) -> None:
        once = entry("POST", "Organization", LABORATORY, ifNoneExist="identifier=s|1")
        whole = bundle("batch", once, entry("POST", "Observation", WRONG), once, entry("GET", "Organization"))
        tally = taken(clinic, written(folder / "a.json", whole))
        assert tally
        assert (tally.kept, tally.unchanged) == (1, 1)
        assert sorted(refused(tally)) == [(1, "invalid_resource"), (3, "unreadable_resource")]
        assert len(fhir.ids("Organization")) == 1

    def test_a_collection_and_a_single_resource(self, clinic: Clinic, fhir: Fhir, folder: Path) -> None:
        collection = {"resourceType": "Bundle", "type": "collection"}
        carried = [{"resource": one} for one in observations(2)] + [{"fullUrl": "urn:x"}]
        tally = taken(clinic, written(folder / "a.json", collection | {"entry": carried}))
        assert tally
        assert (tally.kept, refused(tally)) == (2, [(2, "unreadable_resource")])
        assert taken(clinic, written(folder / "b.json", pulse(None, id="alone"))) == Tally(kept=1)
        assert len(fhir.ids("Observation")) == 3

    def test_the_turns_of_files(self, folder: Path) -> None:
        looking = entry("POST", "Organization", LABORATORY, ifNoneExist="identifier=s|1")
        names = [
            written(folder / "d.ndjson", *observations(1)),
            written(folder / "c.json", bundle("transaction", entry("POST", "Organization", LABORATORY))),
            written(folder / "b.json.gz", bundle("transaction", looking)),
            written(folder / "a.json", bundle("batch", looking)),
            written(folder / "Patient.ndjson", {"resourceType": "Patient"}),
        ]
        assert [files.rank(path) for path in names] == [2, 2, 1, 0, 0]


def test_what_is_written_out_goes_in_elsewhere(clinic: Clinic, other_clinic: Clinic, fhir: Fhir, folder: Path) -> None:
    taken(clinic, written(folder / "a.json.gz", synthea()))
    fhir.call("DELETE", f"Observation/{fhir.ids('Observation')[0]}")
    lines = exported(clinic)
    kept = sum(map(len, lines.values()))
    assert kept == len(synthea()["entry"]) - 1
    same = written(folder / "Patient.ndjson", *lines["Patient"])
    assert refused(taken(other_clinic, same)) == [(0, "patient_id_taken")]
    [own] = [one["id"] for one in lines["Patient"]]
    patient = str(uuid4())
    for name, some in sorted(lines.items()):
        moved = [encode(one).replace(own.encode(), patient.encode()) for one in some]
        assert taken(other_clinic, written(folder / f"{name}.ndjson", *moved)) == Tally(kept=len(some))
    there = Fhir(other_clinic.program())
    assert there.ids("Patient") == [patient]
    everything = there.bundle(f"Patient/{patient}/$everything?_type=Observation&_count=1000")
    assert everything["total"] == len(lines["Observation"])


def test_only_types_that_there_are(clinic: Clinic, folder: Path) -> None:
    clinic.patient()
    with scoped(Scope(clinic.organization_id)):
        assert exporting.types_of(["Patient", "Slot"]) == ["Patient"]
        with pytest.raises(UnknownParameter):
            exporting.types_of(["Nothing"])


def test_the_trail_names_whose_records_went_in_and_out(clinic: Clinic, folder: Path) -> None:
    own = clinic.patient()
    taken(clinic, written(folder / "a.ndjson", pulse(f"Patient/{own['id']}", id=str(uuid4()))))
    exported(clinic)
    told = clinic.user(Role.AUDITOR).get("/audit/events", patient_id=own["id"]).get_json()["items"]
    assert {"records.imported", "records.exported"} <= {one["action"] for one in told}
