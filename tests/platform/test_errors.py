"""Refusals: one class per reason, each a problem document that clients can switch on."""

import json
import re
from collections.abc import Iterator

import pytest

import medical.app  # noqa: F401 - every domain's refusals are defined
from medical.people.errors import LocationExists, PossibleDuplicate
from medical.platform.db import flush_or_raise
from medical.platform.errors import AppError, FieldProblem, InvalidRequest, NotFound
from medical.platform.health import NotReady, SchemaNotReady
from tests.clinic import Clinic


def refusals(kind: type[AppError] = AppError) -> Iterator[type[AppError]]:
    """Every class of refusal that the program knows."""
    for one in kind.__subclasses__():
        yield one
        yield from refusals(one)


class TestRefusals:
    """All of them together."""

    @pytest.mark.parametrize("kind", sorted(set(refusals()), key=repr))
    def test_each_says_what_is_wrong_in_words(self, kind: type[AppError]) -> None:
        """A stable code for programs; a title, a detail and a line of documentation for people."""
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
        assert 400 <= kind.status < 600
        assert kind.__doc__
        assert kind.title
        assert kind is InvalidRequest or kind.detail.endswith(".") or kind.detail.endswith(">.")

    def test_a_code_means_one_status(self) -> None:
        """A client that switches on the code needs no more."""
        found: dict[str, set[int]] = {}
        for kind in refusals():
            found.setdefault(kind.code, set()).add(kind.status)
        assert {code: statuses for code, statuses in found.items() if len(statuses) > 1} == {}


class TestDocument:
    """The problem document of RFC 9457."""

    def test_names_its_members(self) -> None:
        """And no `errors` where there are none."""
        assert json.loads(NotFound("No such patient.").document("abc")) == {
            "type": "urn:medical-backend:problem:not_found",
            "title": "Not found",
            "status": 404,
            "detail": "No such patient.",
            "code": "not_found",
            "request_id": "abc",
        }

    def test_lists_what_is_wrong_with_the_input(self) -> None:
        """Each with its place."""
        refusal = InvalidRequest([FieldProblem("/a", "is bad"), FieldProblem("/b/0", "is worse")])
        made = json.loads(refusal.document("abc"))
        assert made["errors"] == [{"pointer": "/a", "message": "is bad"}, {"pointer": "/b/0", "message": "is worse"}]
        assert made["detail"] == "2 problems in what was sent."

    def test_carries_further_members(self) -> None:
        """What belongs to this refusal alone."""
        made = json.loads(PossibleDuplicate(members={"candidates": [{"mrn": "P1"}]}).document("abc"))
        assert made["candidates"] == [{"mrn": "P1"}]
        assert made["code"] == "possible_duplicate"
        behind = json.loads(SchemaNotReady("0001", "0002").document("abc"))
        assert (behind["found"], behind["wanted"]) == ("0001", "0002")
        assert isinstance(SchemaNotReady(None, "0002"), NotReady)


class TestConstraintErrors:
    """A violated constraint as a refusal."""

    def test_are_made_anew_each_time(self, clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
        """One kept for all would gather the trace, and so the data, of every request that met it."""
        raised: list[LocationExists] = []
        original = LocationExists.__init__

        def note(self: LocationExists, *arguments: object, **named: object) -> None:
            raised.append(self)
            original(self, *arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(LocationExists, "__init__", note)
        clinic.location(name="North")
        for _ in range(2):
            assert clinic.admin.post("/locations", {"name": "North", "time_zone": "UTC"}).status_code == 409
        assert len(raised) == len({id(one) for one in raised}) == 2
        assert flush_or_raise.__annotations__["constraints"]
