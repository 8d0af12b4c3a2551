"""Vital signs: one call for what was measured at one moment, kept as the Observations that FHIR's profile asks for.

Codes and units: https://hl7.org/fhir/R4/observation-vitalsigns.html (LOINC, UCUM).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal, NamedTuple
from uuid import UUID

from medical.people import service as people
from medical.platform.authz import Actor
from medical.platform.errors import FieldProblem, InvalidRequest
from medical.platform.ids import new_id
from medical.records import service
from medical.records.service import Draft, Stored

Json = dict[str, Any]
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
CATEGORY = {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
GROWN_UP = 18
"""Years from which the usual ranges hold."""
Interpretation = Literal["low", "normal", "high"]
WORDS: dict[str, Interpretation] = {"L": "low", "N": "normal", "H": "high"}


class Vital(NamedTuple):
    """A vital sign: how it is coded, and which values it can have."""

    code: str
    name: str
    unit: str
    least: Decimal
    most: Decimal
    """What a living person can have; beyond it somebody mistyped."""
    usual: tuple[Decimal, Decimal] | None = None
    """Of grown-ups at rest."""
    others: Mapping[str, tuple[Decimal, Decimal]] = MappingProxyType({})
    """Other units, with what to subtract and what to multiply by then."""


def _range(low: str, high: str) -> tuple[Decimal, Decimal]:
    return Decimal(low), Decimal(high)


INCH = {"m": _range("0", "100"), "[in_i]": _range("0", "2.54")}
POUND = {"g": _range("0", "0.001"), "[lb_av]": _range("0", "0.45359237")}
FAHRENHEIT = {"[degF]": (Decimal(32), Decimal(5) / Decimal(9))}
VITALS = {
    "heart_rate": Vital("8867-4", "Heart rate", "/min", *_range("10", "350"), _range("60", "100")),
    "respiratory_rate": Vital("9279-1", "Respiratory rate", "/min", *_range("1", "120"), _range("12", "20")),
    "body_temperature": Vital(
        "8310-5", "Body temperature", "Cel", *_range("20", "46"), _range("36.1", "37.8"), FAHRENHEIT
    ),
    "oxygen_saturation": Vital("2708-6", "Oxygen saturation", "%", *_range("20", "100"), _range("95", "100")),
    "systolic": Vital("8480-6", "Systolic blood pressure", "mm[Hg]", *_range("30", "350"), _range("90", "139")),
    "diastolic": Vital("8462-4", "Diastolic blood pressure", "mm[Hg]", *_range("10", "250"), _range("60", "89")),
    "body_height": Vital("8302-2", "Body height", "cm", *_range("20", "280"), None, INCH),
    "body_weight": Vital("29463-7", "Body weight", "kg", *_range("0.2", "700"), None, POUND),
    "head_circumference": Vital("9843-4", "Head circumference", "cm", *_range("10", "100"), None, INCH),
}
PRESSURE = Vital("85354-9", "Blood pressure panel", "", Decimal(0), Decimal(0))
MASS_INDEX = Vital("39156-5", "Body mass index", "kg/m2", Decimal(0), Decimal(0))


class Reading(NamedTuple):
    """What was measured, in the unit in which it was."""

    kind: str
    value: Decimal
    unit: str | None


class Kept(NamedTuple):
    """A measurement as it was kept."""

    id: str
    kind: str
    value: Decimal
    unit: str
    interpretation: Interpretation | None
    """None where there is no usual range for this person."""


def record(actor: Actor, patient_id: UUID, taken_at: datetime, readings: Sequence[Reading]) -> list[Kept]:
    """Keep what was measured at a moment, and the body mass index where height and weight tell it.

    Raises ``NotFound``, or ``InvalidRequest`` with every reading that cannot be.
    """
    patient = people.get_visible_patient(actor, patient_id)
    values = _converted(readings)
    grown_up = _years(patient.birth_date, taken_at.date()) >= GROWN_UP
    made = [*_documents(patient_id, taken_at, values, grown_up)]
    drafts = [Draft(document, str(new_id())) for _, document in made]
    stored = service.create_many(actor, drafts)
    service.touch_all(stored)
    return [one for (kinds, _), kept in zip(made, stored, strict=True) for one in _kept(kinds, kept, values, grown_up)]


def _converted(readings: Sequence[Reading]) -> dict[str, Decimal]:
    """The values in the units that they are kept in. Raises ``InvalidRequest``."""
    values: dict[str, Decimal] = {}
    problems = []
    for number, one in enumerate(readings):
        vital, where = VITALS[one.kind], f"/readings/{number}"
        if one.unit not in (None, vital.unit, *vital.others):
            known = ", ".join((vital.unit, *vital.others))
            problems.append(FieldProblem(f"{where}/unit", f"is measured in {known} (UCUM)"))
            continue
        less, times = vital.others.get(one.unit or "", (Decimal(0), Decimal(1)))
        value = round((one.value - less) * times, 2) if one.unit in vital.others else one.value
        if not vital.least <= value <= vital.most:
            problems.append(FieldProblem(f"{where}/value", f"must be {vital.least} to {vital.most} {vital.unit}"))
        if one.kind in values:
            problems.append(FieldProblem(f"{where}/kind", "comes twice"))
        values[one.kind] = value
    if ("systolic" in values) != ("diastolic" in values):
        problems.append(FieldProblem("/readings", "systolic and diastolic come together"))
    if problems:
        raise InvalidRequest(problems)
    return values


def _documents(
    patient_id: UUID, taken_at: datetime, values: dict[str, Decimal], grown_up: bool
) -> Iterator[tuple[list[str], Json]]:
    """The Observations, each with what it holds; blood pressure is one."""
    for kind, value in values.items():
        if kind not in ("systolic", "diastolic"):
            yield [kind], _observation(patient_id, taken_at, VITALS[kind]) | _measured(kind, value, grown_up)
    if "systolic" in values:
        parts = [
            {"code": _concept(VITALS[kind])} | _measured(kind, values[kind], grown_up)
            for kind in ("systolic", "diastolic")
        ]
        yield ["systolic", "diastolic"], _observation(patient_id, taken_at, PRESSURE) | {"component": parts}
    if "body_height" in values and "body_weight" in values:
        index = round(values["body_weight"] / (values["body_height"] / 100) ** 2, 1)
        values["body_mass_index"] = index
        quantity = {"valueQuantity": _quantity(index, MASS_INDEX.unit)}
        yield ["body_mass_index"], _observation(patient_id, taken_at, MASS_INDEX) | quantity


def _observation(patient_id: UUID, taken_at: datetime, vital: Vital) -> Json:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [CATEGORY]}],
        "code": _concept(vital),
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": taken_at.isoformat(),
    }


def _concept(vital: Vital) -> Json:
    return {"coding": [{"system": LOINC, "code": vital.code, "display": vital.name}], "text": vital.name}


def _measured(kind: str, value: Decimal, grown_up: bool) -> Json:
    vital = VITALS[kind]
    made: Json = {"valueQuantity": _quantity(value, vital.unit)}
    letter = _letter(kind, value, grown_up)
    if letter and vital.usual:
        made["interpretation"] = [{"coding": [{"system": INTERPRETATION, "code": letter}]}]
        low, high = vital.usual
        made["referenceRange"] = [{"low": _quantity(low, vital.unit), "high": _quantity(high, vital.unit)}]
    return made


def _letter(kind: str, value: Decimal, grown_up: bool) -> str | None:
    usual = VITALS[kind].usual if kind in VITALS else None
    if not usual or not grown_up:
        return None
    return "L" if value < usual[0] else "H" if value > usual[1] else "N"


def _quantity(value: Decimal, unit: str) -> Json:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def _kept(kinds: Sequence[str], stored: Stored, values: dict[str, Decimal], grown_up: bool) -> Iterator[Kept]:
    for kind in kinds:
        letter = _letter(kind, values[kind], grown_up)
        unit = VITALS[kind].unit if kind in VITALS else MASS_INDEX.unit
        yield Kept(stored.fhir_id, kind, values[kind], unit, WORDS[letter] if letter else None)


def _years(born: date, then: date) -> int:
    return then.year - born.year - ((then.month, then.day) < (born.month, born.day))
