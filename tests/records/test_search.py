"""What a search finds, in which order, and what it does not tell."""

from urllib.parse import quote
from uuid import uuid4

import pytest

from medical.identity.permissions import Role
from tests.clinic import Clinic, Statements
from tests.records.conftest import Fhir, pulse, refusal
from tests.records.samples import Json

PATIENT_FREE: Json = {
    "resourceType": "Organization",
    "name": "Åsa Müller",
    "identifier": [{"system": "s", "value": "a|b,c"}],
}


class Chart:
    """Three pulses on three days, an organization and a visit there."""

    def __init__(self, fhir: Fhir, patient: str) -> None:
        self.fhir, self.patient = fhir, patient
        self.ids = {"person": patient.removeprefix("Patient/")}
        for name, day, value in (
            ("low", "2026-01-10", 50),
            ("middle", "2026-02", 70),
            ("high", "2026-03-10T10:00:00Z", 90),
        ):
            quantity = {"value": value, "system": "http://unitsofmeasure.org", "code": "/min"}
            self.add(name, pulse(patient, effectiveDateTime=day, valueQuantity=quantity))
        self.add("clinic", PATIENT_FREE)
        reference = {"reference": f"Organization/{self.ids['clinic']}"}
        visit = {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}}
        self.add("visit", visit | {"subject": {"reference": patient}, "serviceProvider": reference})

    def add(self, name: str, resource: Json) -> None:
        """Keep it under a name."""
        self.ids[name] = self.fhir.made(resource)["id"]

    def found(self, query: str, mode: str = "match") -> set[str]:
        """The names of what a search finds."""
        names = {one: name for name, one in self.ids.items()}
        return {names[one] for one in self.fhir.ids(query, mode)}


@pytest.fixture
def chart(fhir: Fhir, patient: str) -> Chart:
    """A patient's chart."""
    return Chart(fhir, patient)


PULSES = {"low", "middle", "high"}


class TestParameters:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("Observation", PULSES),
            ("Observation?code=8867-4", PULSES),
            ("Observation?code=http://loinc.org|8867-4", PULSES),
            ("Observation?code=http://loinc.org|", PULSES),
            ("Observation?code=|8867-4", set()),
            ("Observation?code=a,8867-4", PULSES),
            ("Observation?code=a&code=8867-4", set()),
            ("Observation?code:not=8867-4", set()),
            ("Observation?status=final", PULSES),
            ("Observation?date=2026-01-10", {"low"}),
            ("Observation?date=2026", PULSES),
            ("Observation?date=2026-02-10", set()),
            ("Observation?date=ge2026-02-10", {"middle", "high"}),
            ("Observation?date=le2026-02-10", {"low", "middle"}),
            ("Observation?date=gt2026-02", {"high"}),
            ("Observation?date=lt2026-02", {"low"}),
            ("Observation?date=sa2026-01-10", {"middle", "high"}),
            ("Observation?date=eb2026-03", {"low", "middle"}),
            ("Observation?date=ne2026-01-10", {"middle", "high"}),
            ("Observation?date=2026-03-10T12:00:00%2B02:00", {"high"}),
            ("Observation?value-quantity=70", {"middle"}),
            ("Observation?value-quantity=gt70", {"high"}),
            ("Observation?value-quantity=le70||/min", {"low", "middle"}),
            ("Observation?value-quantity=70|http://unitsofmeasure.org|mg", set()),
            ("Observation?value-quantity=ap71", {"middle"}),
            ("Observation?value-quantity=7e1", {"middle"}),
            ("Observation?code-value-quantity=8867-4$gt80", {"high"}),
            ("Observation?subject:missing=false", PULSES),
            ("Observation?subject:missing=true", set()),
            ("Organization?name=asa", {"clinic"}),
            ("Organization?name=mull", set()),
            ("Organization?name:contains=MULL", {"clinic"}),
            ("Organization?name:exact=asa", set()),
            ("Organization?identifier=s|a\\|b\\,c", {"clinic"}),
            ("Encounter?service-provider.name=asa", {"visit"}),
            ("Encounter?service-provider:Organization.name=x", set()),
            ("Organization?_has:Encounter:service-provider:status=finished", {"clinic"}),
            ("Organization?_has:Encounter:service-provider:status=planned", set()),
            ("Organization?_lastUpdated=gt2020", {"clinic"}),
            ("Organization?_lastUpdated=lt2020", set()),
        ],
    )
    def test_find(self, chart: Chart, query: str, expected: set[str]) -> None:
        assert chart.found(query) == expected

    def test_references_in_every_spelling(self, chart: Chart) -> None:
        own = chart.patient.removeprefix("Patient/")
        for value in (own, chart.patient, f"http://localhost/fhir/R4/{chart.patient}"):
            assert chart.found(f"Observation?subject={value}") == PULSES
            assert chart.found(f"Observation?patient={value}") == PULSES
        assert chart.found(f"Observation?subject:Patient={own}") == PULSES
        assert chart.found(f"Observation?subject:Group={own}") == set()

    def test_of_one_patient_by_code_whoever_and_however_many_they_are(self, chart: Chart) -> None:
        """An index confines the search to the patient; who is not known here, or one of several, is found too."""
        unknown, several = str(uuid4()), [{"reference": chart.patient}, {"reference": f"Patient/{uuid4()}"}]
        chart.add("elsewhere", pulse(f"Patient/{unknown}"))
        agent = {"type": {"coding": [{"code": "author"}]}, "who": several[0]}
        trace = {"resourceType": "Provenance", "recorded": "2026-01-10T10:00:00Z", "agent": [agent]}
        chart.add("of two", trace | {"target": several})
        for name in ("subject", "patient", "subject:Patient"):
            assert chart.found(f"Observation?{name}={chart.patient}&code=8867-4") == PULSES
            assert chart.found(f"Observation?{name}=Patient/{unknown}&code=8867-4,a") == {"elsewhere"}
            assert chart.found(f"Observation?{name}=Patient/{unknown}&code:not=8867-4") == set()
            both = f"{name}={chart.patient}&patient=Patient/{unknown}"
            assert chart.found(f"Observation?{both}&code=8867-4") == set()
            assert chart.found(f"Observation?{both.replace('&patient=', ',')}&code=8867-4") == {*PULSES, "elsewhere"}
        for one in several:
            assert chart.found(f"Provenance?patient={one['reference']}&agent-type=author") == {"of two"}

    @pytest.mark.parametrize("name", ["ice 😀", "last \ud7ff", "very last \U0010ffff", "\U0010ffff\U0010ffff"])
    def test_the_beginning_of_a_name_whatever_its_last_character_is(self, chart: Chart, name: str) -> None:
        chart.add("odd", PATIENT_FREE | {"name": f"{name} and so on"})
        assert chart.found(f"Organization?name={quote(name)}") == {"odd"}
        assert chart.found(f"Organization?name={quote(name)}x") == set()

    def test_by_id(self, chart: Chart) -> None:
        assert chart.found(f"Observation?_id={chart.ids['low']},{chart.ids['high']}") == {"low", "high"}

    @pytest.mark.parametrize(
        "query",
        [
            "date=soon",
            "date=2026-13-45",
            "value-quantity=many",
            "value-quantity=1|2",
            "value-quantity=1e999999999",
            "code:exact=1",
            "subject:missing=maybe",
            "subject:Nothing=1",
            "code-value-quantity=1",
            "_has:Nothing:a:b=1",
            "_sort=nothing",
            "_count=many",
            "_cursor=xyz",
            "_summary=some",
            "_include=Nothing:a",
            "encounter.subject.general-practitioner.organization.partof.name=x",
            "code=%00",
            "_has:Encounter:subject:status=%00",
            "subject=%00",
            "_cursor=WyJcdTAwMDAiLCJcdTAwMDAiXQ",
            "code=" + ",".join("a" * 200),
        ],
    )
    def test_what_cannot_be_asked(self, chart: Chart, query: str) -> None:
        assert refusal(chart.fhir.get(f"Observation?{query}")) == (400, "unknown_parameter")

    def test_what_there_is_not_is_left_out_and_said_so(self, chart: Chart) -> None:
        bundle = chart.fhir.bundle("Observation?nothing=1&status=final")
        assert bundle["total"] == 3
        assert "nothing" not in bundle["link"][0]["url"]
        assert refusal(chart.fhir.get("Observation?nothing=1", Prefer="handling=strict")) == (400, "unknown_parameter")

    def test_in_a_form(self, chart: Chart) -> None:
        answer = chart.fhir.post(
            "Observation/_search", b"value-quantity=gt70", Content_Type="application/x-www-form-urlencoded"
        )
        assert [one["resource"]["id"] for one in answer.get_json()["entry"]] == [chart.ids["high"]]


class TestPages:
    @pytest.mark.parametrize(
        ("sort", "expected"),
        [
            ("date", ["low", "middle", "high"]),
            ("-date", ["high", "middle", "low"]),
            ("value-quantity", ["low", "middle", "high"]),
            ("-value-quantity", ["high", "middle", "low"]),
            ("_lastUpdated", ["low", "middle", "high"]),
            ("status,-date", ["high", "middle", "low"]),
            ("", ["high", "middle", "low"]),
        ],
    )
    def test_all_pages_are_in_order_with_nothing_twice(self, chart: Chart, sort: str, expected: list[str]) -> None:
        query = f"Observation?_count=1&_sort={sort}" if sort else "Observation?_count=1"
        assert chart.fhir.all_ids(query) == [chart.ids[name] for name in expected]

    @pytest.mark.parametrize(("sort", "place"), [("date", -1), ("-date", -1)])
    def test_what_has_no_value_comes_last(self, chart: Chart, sort: str, place: int) -> None:
        chart.add("undated", pulse(chart.patient))
        assert chart.fhir.all_ids(f"Observation?_count=1&_sort={sort}")[place] == chart.ids["undated"]

    def test_what_comes_meanwhile_shifts_no_page(self, chart: Chart) -> None:
        first = chart.fhir.bundle("Observation?_count=2")
        chart.add("more", pulse(chart.patient))
        following = next(link["url"] for link in first["link"] if link["relation"] == "next")
        rest = chart.fhir.ids(following.removeprefix("http://localhost/fhir/R4/"))
        assert [one["resource"]["id"] for one in first["entry"]] + rest == [
            chart.ids[one] for one in ("high", "middle", "low")
        ]

    @pytest.mark.parametrize(
        ("query", "total", "shown"),
        [
            ("", 3, 3),
            ("?_count=2", None, 2),
            ("?_count=2&_total=accurate", 3, 2),
            ("?_count=0", 3, 0),
            ("?_summary=count", 3, 0),
        ],
    )
    def test_totals(self, chart: Chart, query: str, total: int | None, shown: int) -> None:
        bundle = chart.fhir.bundle(f"Observation{query}")
        assert (bundle.get("total"), len(bundle.get("entry", []))) == (total, shown)

    @pytest.mark.parametrize(
        ("query", "there", "not_there"),
        [
            ("_elements=status", {"status"}, {"code", "subject"}),
            ("_summary=true", {"status", "code", "subject", "valueQuantity"}, {"note"}),
            ("_summary=data", {"status", "code", "note"}, {"text"}),
            ("_summary=text", {"text"}, {"code"}),
        ],
    )
    def test_parts(self, fhir: Fhir, patient: str, query: str, there: set[str], not_there: set[str]) -> None:
        text = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">72</div>'}
        fhir.made(pulse(patient, text=text, note=[{"text": "a"}]))
        [entry] = fhir.bundle(f"Observation?{query}")["entry"]
        assert there <= entry["resource"].keys()
        assert not not_there & entry["resource"].keys()
        assert entry["resource"]["meta"]["tag"][0]["code"] == "SUBSETTED"


class TestIncluded:
    def test_what_it_refers_to(self, chart: Chart) -> None:
        for rule in ("Encounter:service-provider", "Encounter:service-provider:Organization"):
            assert chart.found(f"Encounter?_include={rule}", "include") == {"clinic"}
        assert chart.found("Encounter?_include=Encounter:*", "include") == {"clinic", "person"}
        assert chart.found("Encounter?_include=Encounter:service-provider:Location", "include") == set()

    def test_what_refers_to_it(self, chart: Chart) -> None:
        assert chart.found("Organization?_revinclude=Encounter:service-provider", "include") == {"visit"}

    def test_and_so_on(self, chart: Chart) -> None:
        chart.add("parent", {"resourceType": "Organization", "name": "Group"})
        part = {"reference": f"Organization/{chart.ids['parent']}"}
        assert chart.fhir.put(PATIENT_FREE | {"id": chart.ids["clinic"], "partOf": part}).status_code == 200
        rules = "_include=Encounter:service-provider&_include:iterate=Organization:partof"
        assert chart.found(f"Encounter?{rules}", "include") == {"clinic", "parent"}


class TestSight:
    """Nobody learns of what they may not see: not by a total, not by a chain, not by what is included."""

    @pytest.fixture
    def doctor(self, clinic: Clinic) -> Fhir:
        """A clinician who does not care for the patient."""
        return Fhir(clinic.clinician())

    @pytest.mark.parametrize(
        "query",
        [
            "Observation?_total=accurate",
            "Observation?_summary=count",
            "Organization?_has:Encounter:service-provider:status=finished&_total=accurate",
        ],
    )
    def test_no_totals(self, chart: Chart, doctor: Fhir, query: str) -> None:
        assert chart.fhir.bundle(query)["total"] > 0
        assert doctor.bundle(query)["total"] == 0

    def test_nothing_included(self, chart: Chart, doctor: Fhir) -> None:
        assert doctor.ids("Organization?_revinclude=Encounter:service-provider") == [chart.ids["clinic"]]
        assert doctor.ids("Organization?_revinclude=Encounter:service-provider", "include") == []

    def test_no_chain_through_what_is_hidden(self, chart: Chart, doctor: Fhir, clinic: Clinic) -> None:
        other = clinic.patient()
        clinic.relate(other, doctor.caller)
        seen: Json = pulse(f"Patient/{other['id']}", encounter={"reference": f"Encounter/{chart.ids['visit']}"})
        kept = doctor.made(seen)
        assert chart.fhir.ids("Observation?encounter.status=finished") == [kept["id"]]
        assert doctor.ids("Observation?encounter.status=finished") == []


def test_the_trail_names_each_patient_once(chart: Chart, clinic: Clinic) -> None:
    """However much of theirs is on the page, and of others what is theirs."""
    other = clinic.patient()
    chart.add("other", pulse(f"Patient/{other['id']}"))
    assert len(chart.fhir.ids("Observation")) == 4
    auditor = clinic.user(Role.AUDITOR)
    for patient_id in (chart.patient.removeprefix("Patient/"), other["id"]):
        events = auditor.get("/audit/events", patient_id=patient_id, action="record.searched").get_json()["items"]
        assert len(events) == 1


def test_statements_do_not_grow_with_the_page(chart: Chart, statements: Statements) -> None:
    """Whatever the page holds."""
    for _ in range(12):
        chart.fhir.made(pulse(chart.patient))
    counts = []
    for size in (2, 12):
        statements.clear()
        chart.fhir.bundle(f"Observation?_count={size}&_include=Observation:encounter")
        counts.append(statements.count)
    assert counts[0] == counts[1] <= 6
