"""Reading what comes in: every problem is named, and nothing that comes in is a crash."""

import json
from typing import Annotated
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta
from werkzeug.datastructures import MultiDict

from medical.identity.schemas import ChangeRoles
from medical.people.schemas import RegisterPatient, UpdatePatient
from medical.platform.errors import InvalidRequest, MalformedJson
from medical.platform.wire import Email, Input, Instant, Text, read_body, read_query
from medical.scheduling.schemas import BookAppointment, CreateAvailability

TEXT = st.characters(exclude_categories=["Cs"])
PERSON = b'"given_name": "Ada", "family_name": "Okafor", "birth_date": "1980-05-17"'


def problems_of(raw: bytes, model: type[Input]) -> dict[str, str]:
    """The message for each pointer."""
    with pytest.raises(InvalidRequest) as refused:
        read_body(raw, model)
    found = {problem.pointer: problem.message for problem in refused.value.errors}
    assert len(found) == len(refused.value.errors), "a problem is named once"
    return found


class TestReadBody:
    """A body becomes its shape, or every problem in it is named."""

    def test_what_fits_is_taken_as_it_is(self) -> None:
        """Values arrive with their types, and absent ones as their defaults."""
        patient = read_body(b"{" + PERSON + b', "sex": "female", "phone": "+49 30 901820"}', RegisterPatient)
        assert (patient.family_name, patient.birth_date.year, patient.phone) == ("Okafor", 1980, "+49 30 901820")
        assert patient.identifiers == []

    def test_problems_of_shape_and_of_value_are_named_together(self) -> None:
        """A wrong type does not hide a date in the future, a missing field, or a stranger."""
        raw = b'{"given_name": 5, "family_name": "  ", "birth_date": "2999-01-01", "colour": "red"}'
        assert set(problems_of(raw, RegisterPatient)) == {
            "/given_name",
            "/family_name",
            "/birth_date",
            "/sex",
            "/colour",
        }

    def test_problems_in_nested_shapes_and_lists_have_their_place(self) -> None:
        """The pointer leads to the item and to the field in it."""
        raw = (
            b"{" + PERSON + b', "sex": "female", "address": {"city": 5, "planet": "x", "line": ["", "ok", 7]},'
            b' "identifiers": [{"system": "s", "value": "v"}, {"system": "s"}, "x"]}'
        )
        assert set(problems_of(raw, RegisterPatient)) == {
            "/address/city",
            "/address/planet",
            "/address/line/0",
            "/address/line/2",
            "/identifiers/1/value",
            "/identifiers/2",
        }

    def test_every_check_of_a_value_is_made(self) -> None:
        """Values of the right shape are refused together too."""
        raw = (
            b'{"given_name": "A\\u0000", "family_name": "B", "birth_date": "1066-10-14", "sex": "male",'
            b' "identifiers": [{"system": "s", "value": "v"}, {"system": "s", "value": "v"}],'
            b' "address": {"line": ["\\u0000"]}}'
        )
        assert problems_of(raw, RegisterPatient) == {
            "/given_name": "contains a NUL character",
            "/birth_date": "must lie between 1850-01-01 and today",
            "/identifiers": "names an identifier twice",
            "/address/line/0": "contains a NUL character",
        }

    def test_a_problem_between_fields_is_named_at_one_of_them(self) -> None:
        """An end before its beginning is no matter of either alone."""
        raw = (
            b'{"clinician_id": "018f0000-0000-7000-8000-000000000000", "weekdays": [1], "start_time": "09:00",'
            b' "end_time": "17:00", "valid_from": "2030-02-01", "valid_until": "2030-01-01"}'
        )
        assert problems_of(raw, CreateAvailability) == {"/valid_until": "lies before valid_from"}

    def test_a_strange_name_is_escaped_in_its_pointer(self) -> None:
        """RFC 6901 writes ~ as ~0 and / as ~1."""
        assert set(problems_of(b'{"a/b~c": 1}', UpdatePatient)) == {"/a~1b~0c"}

    def test_a_choice_is_told_and_not_repeated(self) -> None:
        """Nothing that was sent comes back in the answer; also where the choice is in a list."""
        assert problems_of(b"{" + PERSON + b', "sex": "Okafor"}', RegisterPatient) == {
            "/sex": "must be one of male, female, other, unknown"
        }
        [(pointer, message)] = problems_of(b'{"roles": ["nurse", "Okafor"]}', ChangeRoles).items()
        assert (pointer, message.split()[-1]) == ("/roles/1", "service")

    def test_null_is_taken_only_where_a_value_may_be_absent(self) -> None:
        """A patient may lose the phone number, not the name."""
        assert read_body(b'{"phone": null}', UpdatePatient).given() == {"phone": None}
        assert set(problems_of(b'{"phone": null, "family_name": null}', UpdatePatient)) == {"/family_name"}

    @pytest.mark.parametrize("start", ["2030-01-01T09:00:00", "2030-01-01", "1899-12-31T00:00:00Z", "next tuesday", 5])
    def test_an_instant_without_an_offset_or_far_away_is_refused(self, start: str | int) -> None:
        """Naive times mean nothing; dates at the ends of the calendar cannot be moved to another offset."""

        class At(Input, frozen=True, kw_only=True):
            start: Instant

        value = str(start) if isinstance(start, int) else f'"{start}"'
        assert set(problems_of(f'{{"start": {value}}}'.encode(), At)) == {"/start"}
        assert read_body(b'{"start": "2030-01-01T09:00:00+02:00"}', At).start.utcoffset() is not None

    @pytest.mark.parametrize("field", ["start_time", "end_time"])
    def test_a_last_newline_does_not_slip_through_a_pattern(self, field: str) -> None:
        """Python's $ lets one pass, where JSON Schema's does not."""
        times = {"start_time": "09:00", "end_time": "17:00"} | {field: "08:00\\n"}
        raw = '{"clinician_id": "018f0000-0000-7000-8000-000000000000", "weekdays": [1], ' + ", ".join(
            f'"{name}": "{time}"' for name, time in times.items()
        )
        assert problems_of(raw.encode() + b"}", CreateAvailability) == {f"/{field}": "ends with a newline"}

    @pytest.mark.parametrize(
        "email",
        [
            "ada",
            "ada@",
            "@example.org",
            "ada@localhost",
            "a b@example.org",
            ".ada@example.org",
            "a..b@example.org",
            "ada@-example.org",
            "ada@example-.org",
            "\u0430da@example.org",
            "ada@example.org\n",
            "ada@example.org\u0000",
            "a" * 65 + "@example.org",
            "ada@" + "a" * 64 + ".org",
            "ada@" + "a." * 130 + "org",
        ],
    )
    def test_an_address_that_mail_cannot_reach_is_refused(self, email: str) -> None:
        """By form only: whether somebody reads there is not known here."""

        class Letter(Input, frozen=True, kw_only=True):
            to: Email

        assert set(problems_of(json.dumps({"to": email}).encode(), Letter)) == {"/to"}
        assert read_body(b'{"to": "ada.o\'hara+1@mail-2.example.org"}', Letter).to.endswith("example.org")

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"{",
            b"nonsense",
            b"\xff\xfe",
            b'{"given_name": "\xff"}',
            b'{"given_name": "\\ud800"}',
            b'{"given_name": "a\x00b"}',
            b'{"given_name": 1e999}',
            b'{"stranger": 1, ',
            b'{"stranger": ' + b"[" * 100_000,
            b"[" * 100_000,
            b'{"address": ' * 5000,
            b"{} {}",
        ],
    )
    def test_what_is_not_json_is_malformed(self, raw: bytes) -> None:
        """Cut off, of another encoding, or too deep: also after something else was found wrong."""
        with pytest.raises(MalformedJson):
            read_body(raw, RegisterPatient)

    @pytest.mark.parametrize("raw", [b"[]", b'"text"', b"5", b"null", b"true"])
    def test_json_of_another_kind_is_a_problem_of_the_whole(self, raw: bytes) -> None:
        """The pointer of the whole document is empty (RFC 6901 section 5)."""
        assert set(problems_of(raw, RegisterPatient)) == {""}

    @given(st.binary(max_size=200))
    def test_no_bytes_crash_it(self, raw: bytes) -> None:
        """They are taken, malformed or wrong; there is no fourth outcome."""
        with pytest.raises((MalformedJson, InvalidRequest)):
            read_body(raw, BookAppointment)

    @given(
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(TEXT), lambda part: st.lists(part, max_size=4))
    )
    def test_no_value_in_any_field_crashes_it(self, value: object) -> None:
        """Whatever stands in a field, the answer names the field or takes it."""
        for field in UpdatePatient.__struct_fields__:
            named = {field}
            try:
                read_body(json.dumps({field: value}).encode(), UpdatePatient)
            except InvalidRequest as refused:
                named = {problem.pointer.split("/")[1] for problem in refused.errors}
            assert named == {field}


class Search(Input, frozen=True, kw_only=True):
    """A query with one parameter of each kind."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    who: list[UUID] | None = None
    name: Text | None = None
    place: UUID | None = None
    since: Instant | None = None


SOMEBODY, SOMEBODY_ELSE = "018f0000-0000-7000-8000-000000000000", "018f0000-0000-7000-8000-000000000001"


class TestReadQuery:
    """Query parameters are text, and become what they spell."""

    def problems_of(self, *pairs: tuple[str, str]) -> set[str]:
        """The pointers of the problems."""
        with pytest.raises(InvalidRequest) as refused:
            read_query(MultiDict(pairs), Search)
        return {problem.pointer for problem in refused.value.errors}

    def test_a_repeated_parameter_is_a_list_where_the_shape_has_one(self) -> None:
        """And one value is a list of one."""
        both = read_query(MultiDict([("who", SOMEBODY), ("who", SOMEBODY_ELSE)]), Search)
        one = read_query(MultiDict([("who", SOMEBODY)]), Search)
        assert both.who == [UUID(SOMEBODY), UUID(SOMEBODY_ELSE)]
        assert one.who == [UUID(SOMEBODY)]

    def test_every_problem_is_named(self) -> None:
        """Strangers, repetitions and wrong values alike."""
        pairs = [("limit", "0"), ("name", "a"), ("name", "b"), ("place", "x"), ("who", SOMEBODY), ("who", "y")]
        assert self.problems_of(*pairs, ("planet", "z")) == {"/limit", "/name", "/place", "/who/1", "/planet"}

    def test_a_repetition_does_not_hide_a_value_that_is_refused(self) -> None:
        """Neither does it make the first value count."""
        assert self.problems_of(("limit", "5"), ("limit", "6"), ("name", "a\x00")) == {"/limit", "/name"}

    @pytest.mark.parametrize("limit", ["1.0", "+5", "٣", "1e1", "0x10", "", " 5", "9" * 5000, "null", "true"])
    def test_only_digits_spell_a_number(self, limit: str) -> None:
        """What the document calls an integer is one."""
        assert self.problems_of(("limit", limit)) == {"/limit"}
        assert read_query(MultiDict([("limit", "5")]), Search).limit == 5

    @pytest.mark.parametrize(("name", "value"), [("place", "null"), ("since", "null"), ("place", ""), ("name", "")])
    def test_a_parameter_is_absent_or_has_a_value(self, name: str, value: str) -> None:
        """There is no null in a query."""
        assert self.problems_of((name, value)) == {f"/{name}"}

    @given(st.lists(st.tuples(st.sampled_from([*Search.__struct_fields__, "other"]), st.text(max_size=40)), max_size=6))
    def test_no_text_crashes_it(self, pairs: list[tuple[str, str]]) -> None:
        """They are taken, or the problems are named."""
        named: set[str] = set()
        try:
            read_query(MultiDict(pairs), Search)
        except InvalidRequest as refused:
            named = {problem.pointer.split("/")[1] for problem in refused.errors}
        assert named <= {name for name, _ in pairs}
