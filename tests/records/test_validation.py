"""What is right is taken and what is wrong is refused, with everything that is wrong."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from medical.records.definitions import resource_types, table
from medical.records.invariants import Ruled, _rule, _rules_of, broken
from medical.records.validation import _Walk, validate
from tests.records.samples import Json, examples, mutants, synthea

EXAMPLES = examples()


def told(resource: Any) -> set[tuple[str, str]]:
    """Code and place of everything that is wrong."""
    return {(issue.code, issue.expression) for issue in validate(resource)}


def observation(**more: Any) -> Json:
    return {"resourceType": "Observation", "status": "final", "code": {"text": "pulse"}} | more


class TestRight:
    def test_every_official_example(self) -> None:
        assert len(EXAMPLES) > 250
        assert {(one["resourceType"], one["id"]): validate(one) for one in EXAMPLES if validate(one)} == {}

    def test_everything_of_a_synthetic_patient(self) -> None:
        entries = synthea()["entry"]
        assert len(entries) > 50
        assert [issue for entry in entries for issue in validate(entry["resource"])] == []

    def test_all_types_are_known(self) -> None:
        assert len(resource_types()) == 146


class TestMutants:
    @pytest.mark.parametrize(
        "number", range(len(EXAMPLES)), ids=[f"{one['resourceType']}-{one['id']}" for one in EXAMPLES]
    )
    def test_every_one_is_refused(self, number: int) -> None:
        survivors = [(name, broken) for name, broken in mutants(EXAMPLES[number], number) if not validate(broken)]
        assert survivors == []


class TestProblems:
    def test_all_are_told_with_their_places(self) -> None:
        wrong = observation(
            status="nearly", foo=1, valueString="x", valueInteger=2, note=[], effectiveDateTime="2026-02-30"
        )
        del wrong["code"]
        assert told(wrong) == {
            ("code-invalid", "Observation.status"),
            ("structure", "Observation"),
            ("structure", "Observation.value"),
            ("structure", "Observation.note"),
            ("value", "Observation.effective"),
            ("required", "Observation.code"),
        }

    def test_in_lists_and_within_others(self) -> None:
        wrong = observation(component=[{"code": {"text": "a"}}, {"code": {"coding": [{"code": 1}]}}])
        assert told(wrong) == {("value", "Observation.component[1].code.coding[0].code")}

    @pytest.mark.parametrize(
        "value", [None, 1, [], "Observation", {}, {"resourceType": "Nothing"}, {"resourceType": ["Patient"]}]
    )
    def test_what_is_no_resource(self, value: Any) -> None:
        assert {code for code, _ in told(value)} == {"structure"}

    @pytest.mark.parametrize("name", ["DomainResource", "Resource", "Element", "Quantity"])
    def test_what_is_no_type_of_resource(self, name: str) -> None:
        assert told({"resourceType": name})

    def test_too_deep(self) -> None:
        extension: Json = {"url": "a", "valueString": "b"}
        for _ in range(100):
            extension = {"url": "a", "extension": [extension]}
        assert {code for code, _ in told(observation(extension=[extension]))} == {"too-long"}

    @pytest.mark.parametrize(
        "number", [Decimal("1E+400"), Decimal("NaN"), Decimal("Infinity"), 10**120, Decimal("0." + "1" * 200)]
    )
    def test_numbers_that_nobody_can_keep(self, number: Any) -> None:
        assert told(observation(valueQuantity={"value": number})) == {("value", "Observation.value.value")}


class TestRules:
    """Invariants, each broken alone."""

    @pytest.mark.parametrize(
        ("key", "wrong"),
        [
            ("obs-6", observation(valueString="x", dataAbsentReason={"text": "unknown"})),
            ("obs-3", observation(referenceRange=[{"appliesTo": [{"text": "men"}]}])),
            ("per-1", observation(effectivePeriod={"start": "2026-02-02", "end": "2026-02-01"})),
            ("ext-1", observation(extension=[{"url": "a"}])),
            ("qty-3", observation(valueQuantity={"value": 1, "code": "mg"})),
            ("rng-2", observation(valueRange={"low": {"value": 2}, "high": {"value": 1}})),
            ("rat-1", observation(valueRatio={"numerator": {"value": 2}})),
            ("ref-1", observation(subject={"reference": "#a"})),
            ("dom-3", observation(contained=[{"resourceType": "Device", "id": "a"}])),
            ("txt-1", observation(text={"status": "generated", "div": "<div><script>alert(1)</script></div>"})),
            ("pat-1", {"resourceType": "Patient", "contact": [{"gender": "male"}]}),
            ("cpt-2", {"resourceType": "Patient", "telecom": [{"value": "1"}]}),
            ("att-1", {"resourceType": "Patient", "photo": [{"data": "aGFsbG8="}]}),
            (
                "app-3",
                {
                    "resourceType": "Appointment",
                    "status": "booked",
                    "participant": [{"status": "accepted", "type": [{"text": "a"}]}],
                },
            ),
            ("bdl-1", {"resourceType": "Bundle", "type": "batch", "total": 1}),
        ],
    )
    def test_is_told(self, key: str, wrong: Json) -> None:
        issues = validate(wrong)
        assert [issue.code for issue in issues] == ["invariant"]
        assert issues[0].diagnostics.startswith(key)

    def test_a_cancelled_appointment_that_nobody_came_to(self) -> None:
        """app-4 as it is published names a code that does not exist."""
        missed = {"resourceType": "Appointment", "status": "noshow", "cancelationReason": {"text": "flu"}}
        missed |= {"start": "2026-02-02T10:00:00Z", "end": "2026-02-02T10:30:00Z"}
        assert validate(missed | {"participant": [{"status": "accepted", "type": [{"text": "a"}]}]}) == []

    def test_every_rule_of_the_definitions_can_be_evaluated(self) -> None:
        """On an object with nothing in it; which rules hold then is another matter."""
        assert len(table("invariants")) > 80
        for type_name in table("invariants"):
            empty: Json = {}
            list(broken([Ruled(type_name, empty, type_name, empty)]))

    def test_what_is_obvious_is_so(self) -> None:
        """Where the form of a rule says that it holds, it does: on every object of every example and of a patient."""
        seen = Counter[bool]()
        for resource in [*EXAMPLES, *(entry["resource"] for entry in synthea()["entry"])]:
            walk = _Walk()
            walk.resource(resource, resource["resourceType"], 0)
            for one in walk.ruled:
                for key, _, obvious, expression in _rules_of(one.type):
                    seen[obvious.holds(one.value)] += 1
                    assert not obvious.holds(one.value) or _rule(one.type, expression)(one.value, one.resource), key
        assert seen[True] > seen[False] > 0


class TestNarrative:
    @pytest.mark.parametrize(
        "div",
        [
            "<div>text",
            "<p>text</p>",
            "<div onclick='a()'>text</div>",
            "<div><a href='javascript:alert(1)'>x</a></div>",
            "<div><a href='java\nscript:alert(1)'>x</a></div>",
            "<div><img src='data:text/html,x'/></div>",
            "<div><iframe src='https://evil.example'/></div>",
            "<!DOCTYPE div [<!ENTITY a 'b'>]><div>&a;</div>",
            "<div><?php x ?></div>",
            "<div xmlns='http://www.w3.org/2000/svg'>x</div>",
        ],
    )
    def test_what_could_run_is_refused(self, div: str) -> None:
        [issue] = validate(observation(text={"status": "generated", "div": div}))
        assert issue.expression == "Observation.text.div"

    @pytest.mark.parametrize(
        "div",
        [
            '<div xmlns="http://www.w3.org/1999/xhtml"><p style="color:red">a&nbsp;b &lt; c</p></div>',
            '<div><a href="https://example.org/a?b=c">x</a><a href="#there">y</a><img src="a.png" alt="a"/></div>',
        ],
    )
    def test_text_is_not(self, div: str) -> None:
        assert validate(observation(text={"status": "generated", "div": div})) == []
