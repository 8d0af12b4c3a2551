"""Many requests in one: all or nothing in a transaction, each by itself in a batch."""

from collections import Counter
from typing import Any

import pytest

from tests.clinic import Clinic, Statements
from tests.records.conftest import Fhir, issues, pulse, refusal
from tests.records.samples import Json
from tests.records.test_resources import at_once

LABORATORY: Json = {"resourceType": "Organization", "name": "Laboratory", "identifier": [{"system": "s", "value": "1"}]}


def entry(method: str, url: str, resource: Json | None = None, full_url: str | None = None, **request: str) -> Json:
    """One request of a bundle."""
    made: Json = {"request": {"method": method, "url": url} | request}
    return made | ({"resource": resource} if resource else {}) | ({"fullUrl": full_url} if full_url else {})


def bundle(kind: str, *entries: Json) -> Json:
    return {"resourceType": "Bundle", "type": kind, "entry": [*entries]}


def sent(fhir: Fhir, kind: str, *entries: Json) -> list[Json]:
    """The answers to the entries."""
    answer = fhir.post("", bundle(kind, *entries))
    assert answer.status_code == 200, answer.text
    told: list[Json] = answer.get_json()["entry"]
    return told


def statuses(told: list[Json]) -> list[str]:
    return [str(one["response"]["status"]) for one in told]


class TestTransaction:
    def test_entries_refer_to_each_other_in_any_order(self, fhir: Fhir) -> None:
        visit = {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}}
        visit |= {"serviceProvider": {"reference": "urn:uuid:lab"}}
        told = sent(
            fhir,
            "transaction",
            entry("POST", "Encounter", visit, "urn:uuid:visit"),
            entry("POST", "Organization", LABORATORY, "urn:uuid:lab"),
        )
        assert statuses(told) == ["201", "201"]
        made = fhir.bundle("Encounter?_include=Encounter:service-provider")["entry"]
        assert made[0]["resource"]["serviceProvider"]["reference"] == f"Organization/{made[1]['resource']['id']}"
        assert told[1]["response"]["location"].endswith(f"Organization/{made[1]['resource']['id']}/_history/1")

    def test_all_or_nothing(self, fhir: Fhir) -> None:
        wrong = {"resourceType": "Observation"}
        answer = fhir.post(
            "", bundle("transaction", entry("POST", "Organization", LABORATORY), entry("POST", "Observation", wrong))
        )
        assert answer.status_code == 422
        assert len(issues(answer)) == 2
        assert fhir.ids("Organization") == []

    def test_every_method(self, fhir: Fhir) -> None:
        old, other = fhir.made(LABORATORY), fhir.made(LABORATORY | {"identifier": [{"system": "s", "value": "2"}]})
        told = sent(
            fhir,
            "transaction",
            entry("GET", "Organization?name=renamed"),
            entry(
                "PUT", f"Organization/{old['id']}", LABORATORY | {"id": old["id"], "name": "Renamed"}, ifMatch='W/"1"'
            ),
            entry("DELETE", "Organization?identifier=s|2"),
            entry("PUT", "Organization/mine", LABORATORY | {"id": "mine"}),
            entry("GET", "Organization/mine"),
        )
        assert statuses(told) == ["200", "200", "204", "201", "200"]
        assert told[0]["resource"]["entry"][0]["resource"]["id"] == old["id"]
        assert told[4]["resource"]["id"] == "mine"
        assert fhir.get(f"Organization/{other['id']}").status_code == 410

    def test_conditional_references_find_one(self, fhir: Fhir) -> None:
        kept = fhir.made(LABORATORY)
        part = {"resourceType": "Organization", "name": "Part", "partOf": {"reference": "Organization?identifier=s|1"}}
        sent(fhir, "transaction", entry("POST", "Organization", part))
        assert fhir.ids(f"Organization?partof={kept['id']}")
        fhir.made(LABORATORY)
        assert refusal(fhir.post("", bundle("transaction", entry("POST", "Organization", part)))) == (
            412,
            "several_match",
        )
        part["partOf"]["reference"] = "Organization?identifier=s|9"
        assert refusal(fhir.post("", bundle("transaction", entry("POST", "Organization", part)))) == (
            412,
            "nothing_matches",
        )

    def test_made_once(self, fhir: Fhir) -> None:
        for expected in ("201", "200"):
            told = sent(fhir, "transaction", entry("POST", "Organization", LABORATORY, ifNoneExist="identifier=s|1"))
            assert statuses(told) == [expected]
        assert len(fhir.ids("Organization")) == 1

    def test_updated_where_it_is_found(self, fhir: Fhir) -> None:
        for expected in ("201", "200"):
            told = sent(fhir, "transaction", entry("PUT", "Organization?identifier=s|1", LABORATORY))
            assert statuses(told) == [expected]
        assert fhir.bundle("Organization")["entry"][0]["resource"]["meta"]["versionId"] == "2"

    @pytest.mark.parametrize(
        ("wrong", "expected"),
        [
            ({"request": {}}, (400, "unreadable_resource")),
            ("nonsense", (400, "unreadable_resource")),
            (entry("POST", "Nothing", {"resourceType": "Nothing"}), (400, "unreadable_resource")),
            (entry("POST", "Organization", pulse(None)), (400, "unreadable_resource")),
            (entry("BREW", "Organization"), (400, "unreadable_resource")),
            (entry("DELETE", "Organization"), (400, "unreadable_resource")),
            (
                entry("PUT", "Organization/a", LABORATORY | {"id": "a"}, ifMatch="nonsense"),
                (400, "unreadable_resource"),
            ),
            (entry("POST", "Organization", LABORATORY, full_url=["a"]), (400, "unreadable_resource")),
            (entry("POST", "Organization", LABORATORY, ifNoneExist={"a": 1}), (400, "unreadable_resource")),
            (entry("POST", "Organization", LABORATORY, ifNoneExist="name=%00"), (400, "unknown_parameter")),
            (entry("POST", "Slot", {"resourceType": "Slot"}), (405, "not_here")),
            (entry("GET", "Organization/none"), (404, "not_found")),
            (entry("DELETE", "Organization?nothing=1"), (400, "unknown_parameter")),
        ],
    )
    def test_what_cannot_be_done(self, fhir: Fhir, wrong: Any, expected: tuple[int, str]) -> None:
        answer = fhir.post("", bundle("transaction", entry("POST", "Organization", LABORATORY), wrong))
        assert refusal(answer) == expected
        assert fhir.ids("Organization") == []

    def test_one_resource_is_written_once(self, fhir: Fhir) -> None:
        twice = entry("PUT", "Organization/a", LABORATORY | {"id": "a"})
        assert refusal(fhir.post("", bundle("transaction", twice, twice))) == (400, "unreadable_resource")

    def test_statements_do_not_grow_with_the_entries(self, fhir: Fhir, statements: Statements) -> None:
        counts = []
        for size in (1, 20):
            statements.clear()
            sent(fhir, "transaction", *[entry("POST", "Observation", pulse(None)) for _ in range(size)])
            counts.append(statements.count)
        assert counts[0] == counts[1]


class TestBatch:
    def test_each_by_itself(self, fhir: Fhir) -> None:
        told = sent(
            fhir,
            "batch",
            entry("POST", "Organization", LABORATORY),
            entry("POST", "Observation", {"resourceType": "Observation"}),
            entry("GET", "Organization?_summary=count"),
            entry("GET", "Organization/none"),
        )
        assert statuses(told) == ["201", "422", "200", "404"]
        assert told[1]["response"]["outcome"]["resourceType"] == "OperationOutcome"
        assert told[2]["resource"]["total"] == 1

    def test_by_who_may(self, clinic: Clinic, fhir: Fhir) -> None:
        """Patients read in one, and write nothing."""
        own, caller = clinic.patient_with_account()
        kept = fhir.made(pulse(f"Patient/{own['id']}"))
        told = sent(
            Fhir(caller), "batch", entry("GET", f"Observation/{kept['id']}"), entry("POST", "Organization", LABORATORY)
        )
        assert statuses(told) == ["200", "403"]

    def test_too_many_are_refused_and_none_is_left_out(self, fhir: Fhir) -> None:
        many = [entry("GET", "Organization/a")] * 5001
        assert refusal(fhir.post("", bundle("batch", *many))) == (400, "unreadable_resource")

    def test_other_bundles_are_none(self, fhir: Fhir) -> None:
        assert refusal(fhir.post("", bundle("collection"))) == (400, "unreadable_resource")


def test_two_that_write_the_same_in_opposite_orders_both_go_through(fhir: Fhir) -> None:
    entries = [entry("PUT", f"Organization/{name}", LABORATORY | {"id": name}) for name in "abcdef"]
    answers = at_once(8, lambda n: fhir.post("", bundle("transaction", *(entries[::-1] if n % 2 else entries))))
    assert Counter(answer.status_code for answer in answers) == {200: 8}
    assert {fhir.get(f"Organization/{name}").get_json()["meta"]["versionId"] for name in "abcdef"} == {"8"}


def test_with_or_without_a_slash(fhir: Fhir) -> None:
    for path in ("", "/"):
        answer = Fhir.call(fhir, "POST", path.lstrip("/"), bundle("batch"))
        assert answer.status_code == 200
    direct = fhir.caller.app.test_client().post(
        "/fhir/R4", json=bundle("batch"), headers={"Authorization": f"Bearer {fhir.caller.token}"}
    )
    assert direct.status_code == 200


def test_eight_conditional_creates_make_one(fhir: Fhir) -> None:
    answers = at_once(8, lambda _: fhir.post("Organization", LABORATORY, If_None_Exist="identifier=s|1"))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 7}
    assert len(fhir.ids("Organization")) == 1
