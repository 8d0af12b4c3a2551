"""Resources changed in part and by condition, and the versions that come of it."""

import base64
from typing import Any

import pytest

from medical.records.codec import encode
from tests.clinic import Clinic
from tests.records.conftest import BASE, Fhir, pulse, refusal
from tests.records.samples import Json, parsed
from tests.records.test_bundles import bundle, entry, sent, statuses

JSON_PATCH = "application/json-patch+json"
LABORATORY: Json = {"resourceType": "Organization", "name": "Laboratory", "identifier": [{"system": "s", "value": "1"}]}


def patched(fhir: Fhir, path: str, *operations: Json, **headers: str) -> Any:
    """The answer to a JSON Patch."""
    return fhir.call("PATCH", path, [*operations], **{"Content-Type": JSON_PATCH} | headers)


def replacing(path: str, value: Any) -> Json:
    return {"op": "replace", "path": path, "value": value}


class TestPatch:
    def test_changes_what_it_names_and_nothing_else(self, fhir: Fhir) -> None:
        """Decimals of what it does not touch stay as they were written."""
        body = encode(pulse(None)).replace(b"72", b"72.50")
        kept = parsed(fhir.post("Observation", body).text)
        path = f"Observation/{kept['id']}"
        answer = patched(
            fhir,
            path,
            {"op": "test", "path": "/status", "value": "final"},
            replacing("/status", "amended"),
            {"op": "add", "path": "/note", "value": [{"text": "said again"}]},
        )
        assert (answer.status_code, answer.headers["ETag"]) == (200, 'W/"2"')
        now = parsed(answer.text)
        assert now | {"meta": 0} == kept | {"meta": 0, "status": "amended", "note": [{"text": "said again"}]}
        assert "72.50" in answer.text
        assert fhir.ids("Observation?status=amended") == [kept["id"]]

    @pytest.mark.parametrize(
        ("operations", "expected"),
        [
            ([replacing("/status", "no such")], (422, None)),
            ([{"op": "remove", "path": "/status"}], (422, None)),
            ([replacing("/nothing/there", 1)], (422, "patch_refused")),
            ([{"op": "remove", "path": "/component/3"}], (422, "patch_refused")),
            ([replacing("/id", "other")], (422, "patch_refused")),
            ([replacing("/resourceType", "Patient")], (422, "patch_refused")),
            ([{"op": "replace", "path": "", "value": 3}], (422, "patch_refused")),
            ([{"op": "test", "path": "/status", "value": "amended"}], (422, "patch_refused")),
            ([{"op": "burn", "path": "/status"}], (400, "unreadable_resource")),
            ([{"path": "/status"}], (400, "unreadable_resource")),
            ([{"op": "add", "path": 7, "value": 1}], (400, "unreadable_resource")),
            ([{"op": "copy", "from": 7, "path": "/note"}], (400, "unreadable_resource")),
            ([7], (400, "unreadable_resource")),
            ({"status": "amended"}, (400, "unreadable_resource")),
        ],
    )
    def test_one_that_does_not_fit_changes_nothing(
        self, fhir: Fhir, operations: Any, expected: tuple[int, str | None]
    ) -> None:
        kept = fhir.made(pulse(None))
        answer = fhir.call("PATCH", f"Observation/{kept['id']}", operations, **{"Content-Type": JSON_PATCH})
        assert answer.status_code == expected[0], answer.text
        assert expected[1] is None or refusal(answer) == expected
        assert parsed(fhir.get(f"Observation/{kept['id']}").text) == kept

    def test_other_formats_are_not_taken(self, fhir: Fhir) -> None:
        kept = fhir.made(pulse(None))
        answer = fhir.call("PATCH", f"Observation/{kept['id']}", {"status": "amended"})
        assert refusal(answer) == (415, "unsupported_media_type")

    def test_of_a_version_that_is_not_the_last(self, fhir: Fhir) -> None:
        kept = fhir.made(pulse(None))
        path = f"Observation/{kept['id']}"
        assert patched(fhir, path, replacing("/status", "amended"), If_Match='W/"1"').status_code == 200
        assert refusal(patched(fhir, path, replacing("/status", "final"), If_Match='W/"1"')) == (412, "stale")

    def test_of_what_was_deleted_or_never_was(self, fhir: Fhir) -> None:
        kept = fhir.made(pulse(None))
        fhir.call("DELETE", f"Observation/{kept['id']}")
        assert patched(fhir, f"Observation/{kept['id']}", replacing("/status", "final")).status_code == 410
        assert patched(fhir, "Observation/none", replacing("/status", "final")).status_code == 404

    def test_of_a_patient_changes_the_row_too(self, clinic: Clinic, fhir: Fhir) -> None:
        own = clinic.patient()
        answer = patched(fhir, f"Patient/{own['id']}", replacing("/name/0/family", "Newman"))
        assert answer.status_code == 200, answer.text
        assert clinic.admin.get(f"/patients/{own['id']}").get_json()["family_name"] == "Newman"

    def test_in_a_transaction_it_comes_as_a_binary(self, fhir: Fhir) -> None:
        kept = fhir.made(pulse(None))
        data = base64.b64encode(encode([replacing("/status", "amended")])).decode()
        binary = {"resourceType": "Binary", "contentType": JSON_PATCH, "data": data}
        told = sent(fhir, "transaction", entry("PATCH", f"Observation/{kept['id']}", binary))
        assert statuses(told) == ["200"]
        assert fhir.get(f"Observation/{kept['id']}").get_json()["status"] == "amended"
        wrong = fhir.post("", bundle("transaction", entry("PATCH", f"Observation/{kept['id']}", pulse(None))))
        assert refusal(wrong) == (400, "unreadable_resource")


class TestByCondition:
    def test_an_update_makes_the_first_and_then_the_next_version(self, fhir: Fhir) -> None:
        first = fhir.call("PUT", "Organization?identifier=s|1", LABORATORY)
        second = fhir.call("PUT", "Organization?identifier=s|1", LABORATORY | {"name": "New"})
        assert (first.status_code, second.status_code) == (201, 200)
        assert first.get_json()["id"] == second.get_json()["id"]
        assert second.get_json()["meta"]["versionId"] == "2"
        other = fhir.call("PUT", "Organization?identifier=s|1", LABORATORY | {"id": "another"})
        assert refusal(other) == (400, "unreadable_resource")

    def test_under_an_id_of_the_clients(self, fhir: Fhir) -> None:
        answer = fhir.call("PUT", "Organization?identifier=s|1", LABORATORY | {"id": "lab-1"})
        assert (answer.status_code, answer.get_json()["id"]) == (201, "lab-1")

    def test_a_patch_of_the_one_that_is_found(self, fhir: Fhir) -> None:
        assert patched(fhir, "Organization?identifier=s|1", replacing("/name", "New")).status_code == 404
        fhir.made(LABORATORY)
        assert patched(fhir, "Organization?identifier=s|1", replacing("/name", "New")).get_json()["name"] == "New"

    def test_a_deletion_of_the_one_that_is_found(self, fhir: Fhir) -> None:
        made = fhir.made(LABORATORY)
        assert fhir.call("DELETE", "Organization?identifier=s|1").status_code == 204
        assert fhir.get(f"Organization/{made['id']}").status_code == 410
        assert fhir.call("DELETE", "Organization?identifier=s|1").status_code == 204

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
    def test_several_or_no_condition_change_nothing(self, fhir: Fhir, method: str) -> None:
        made = {fhir.made(LABORATORY)["id"] for _ in range(2)}
        patch = method == "PATCH"
        body: Any = [replacing("/name", "New")] if patch else LABORATORY
        kind = {"Content-Type": JSON_PATCH} if patch else {}
        assert refusal(fhir.call(method, "Organization?identifier=s|1", body, **kind)) == (412, "several_match")
        assert refusal(fhir.call(method, "Organization", body, **kind)) == (400, "unknown_parameter")
        assert refusal(fhir.call(method, "Organization?nothing=1", body, **kind)) == (400, "unknown_parameter")
        assert set(fhir.ids("Organization?name=Laboratory")) == made


class TestHistory:
    def test_of_a_type_and_of_everything_newest_first(self, fhir: Fhir) -> None:
        kept = fhir.made(pulse(None))
        lab = fhir.made(LABORATORY)
        fhir.put(kept | {"status": "amended"})
        fhir.call("DELETE", f"Organization/{lab['id']}")
        told = [entry_["request"] for entry_ in fhir.bundle("_history")["entry"]]
        assert [(one["method"], one["url"]) for one in told] == [
            ("DELETE", f"Organization/{lab['id']}"),
            ("PUT", f"Observation/{kept['id']}"),
            ("POST", "Organization"),
            ("POST", "Observation"),
        ]
        observations = fhir.bundle("Observation/_history")
        assert [one["resource"]["status"] for one in observations["entry"]] == ["amended", "final"]
        assert observations["total"] == 2

    @pytest.mark.parametrize("path", ["_history", "Observation/_history", "Observation/{id}/_history"])
    def test_a_page_at_a_time(self, fhir: Fhir, path: str) -> None:
        kept = fhir.made(pulse(None))
        for status in ("preliminary", "amended", "corrected", "final"):
            fhir.put(kept | {"status": status})
        found: list[str] = []
        path = path.format(**kept) + "?_count=2"
        while path:
            page = fhir.bundle(path)
            assert len(page["entry"]) <= 2
            found += [one["resource"]["meta"]["versionId"] for one in page["entry"]]
            path = next((one["url"] for one in page["link"] if one["relation"] == "next"), "").removeprefix(BASE)
        assert found == ["5", "4", "3", "2", "1"]

    def test_since(self, fhir: Fhir) -> None:
        fhir.made(pulse(None))
        later = fhir.made(pulse(None))["meta"]["lastUpdated"]
        assert len(fhir.bundle(f"Observation/_history?_since={later}")["entry"]) == 1
        assert "entry" not in fhir.bundle("_history?_since=2100-01-01T00:00:00Z")
        for wrong in ("_since=yesterday", "_count=x", "_cursor=x", "_cursor=WyJhIiwiYiJd", "_cursor=WzFd"):
            assert refusal(fhir.get(f"_history?{wrong}")) == (400, "unknown_parameter")

    def test_only_of_what_one_may_see(self, clinic: Clinic, fhir: Fhir) -> None:
        own, caller = clinic.patient_with_account()
        other = clinic.patient()
        seen = fhir.made(pulse(f"Patient/{own['id']}"))
        hidden = fhir.made(pulse(f"Patient/{other['id']}"))
        fhir.put(hidden | {"status": "amended"})
        told = Fhir(caller).bundle("Observation/_history")["entry"]
        assert [one["resource"]["id"] for one in told] == [seen["id"]]


class TestCompartments:
    def test_only_what_is_of_the_one_that_is_named(self, fhir: Fhir, patient: str, clinic: Clinic) -> None:
        own = fhir.made(pulse(patient, status="amended"))
        fhir.made(pulse(patient))
        fhir.made(pulse(f"Patient/{clinic.patient()['id']}", status="amended"))
        path = f"{patient}/Observation?status=amended"
        assert fhir.ids(path) == [own["id"]]
        assert fhir.bundle(path)["link"][0]["url"] == BASE + path
        form = fhir.call("POST", f"{patient}/Observation/_search", b"status=amended", **{"Content-Type": FORM})
        assert [one["resource"]["id"] for one in form.get_json()["entry"]] == [own["id"]]
        assert len(fhir.all_ids(f"{patient}/Observation?_count=1")) == 2

    def test_of_an_encounter(self, fhir: Fhir, patient: str) -> None:
        visit = fhir.made(
            {
                "resourceType": "Encounter",
                "status": "finished",
                "class": {"code": "AMB"},
                "subject": {"reference": patient},
            }
        )
        own = fhir.made(pulse(patient, encounter={"reference": f"Encounter/{visit['id']}"}))
        fhir.made(pulse(patient))
        assert fhir.ids(f"Encounter/{visit['id']}/Observation") == [own["id"]]

    @pytest.mark.parametrize(
        "path",
        ["Patient/none/Observation", "{patient}/Organization", "Organization/1/Observation", "{patient}/Nothing"],
    )
    def test_there_is_no_other(self, fhir: Fhir, patient: str, path: str) -> None:
        assert fhir.get(path.format(patient=patient)).status_code == 404


FORM = "application/x-www-form-urlencoded"


class TestEverything:
    @pytest.fixture
    def record(self, fhir: Fhir, patient: str) -> list[str]:
        """Who treated, and what there is of the patient."""
        doctor = fhir.made({"resourceType": "Practitioner", "name": [{"family": "House"}]})
        by = [{"reference": f"Practitioner/{doctor['id']}"}]
        made = [fhir.made(pulse(patient, effectiveDateTime=f"202{n}-05-01", performer=by))["id"] for n in range(3)]
        condition = {"resourceType": "Condition", "subject": {"reference": patient}, "code": {"text": "flu"}}
        return [doctor["id"], *made, fhir.made(condition)["id"]]

    def test_is_the_patient_what_is_theirs_and_who_is_named(self, fhir: Fhir, patient: str, record: list[str]) -> None:
        path = f"{patient}/$everything"
        assert fhir.ids(path) == [patient.split("/")[1], *record[1:]]
        assert fhir.ids(path, "include") == [record[0]]
        assert fhir.bundle(path)["total"] == 5

    def test_a_page_at_a_time(self, fhir: Fhir, patient: str, record: list[str]) -> None:
        page = f"{patient}/$everything?_count=2"
        assert len(fhir.ids(page)) == 3  # the patient comes besides
        found = fhir.all_ids(page)
        assert [one for one in found if one != record[0]] == [patient.split("/")[1], *record[1:]]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("_type=Condition", [4]),
            ("start=2021-01-01&end=2021-12-31&_type=Observation", [2]),
            ("end=2020&_type=Observation,Condition", [1, 4]),
            ("start=2022-05-01&_type=Observation", [3]),
            ("_since=2100-01-01&_type=Observation", []),
        ],
    )
    def test_as_much_as_is_asked_for(
        self, fhir: Fhir, patient: str, record: list[str], query: str, expected: list[int]
    ) -> None:
        assert fhir.ids(f"{patient}/$everything?{query}") == [record[number] for number in expected]

    def test_what_cannot_be_asked_for(self, fhir: Fhir, patient: str) -> None:
        for wrong in ("start=soon", "_count=some", "_cursor=x", "_cursor=WyJhIl0"):
            assert refusal(fhir.get(f"{patient}/$everything?{wrong}")) == (400, "unknown_parameter")
