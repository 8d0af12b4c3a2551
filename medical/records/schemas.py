"""Wire shapes of what clinicians do with records."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, field

from medical.people.models import PatientMerge
from medical.platform.errors import FieldProblem
from medical.platform.paging import PageQuery
from medical.platform.wire import Input, Instant, LongText, Output, Text
from medical.records.chart import Entry, Happening, Item, Warned
from medical.records.notes import Note
from medical.records.vitals import Interpretation, Kept, Reading

Kind = Literal[
    "heart_rate",
    "respiratory_rate",
    "body_temperature",
    "oxygen_saturation",
    "systolic",
    "diastolic",
    "body_height",
    "body_weight",
    "head_circumference",
]


class ReadingIn(Input, frozen=True, kw_only=True):
    """What was measured; the unit is UCUM's, by default the one that it is kept in."""

    kind: Kind
    value: Annotated[float, Meta(ge=0, le=100_000)]
    unit: Annotated[str, Meta(max_length=20, examples=["[degF]"])] | None = None

    def plain(self) -> Reading:
        """The reading with its digits as they were written."""
        return Reading(self.kind, Decimal(str(self.value)), self.unit)


class RecordVitals(Input, frozen=True, kw_only=True):
    """What was measured at one moment, by default now; systolic and diastolic come together."""

    taken_at: Instant | None = None
    readings: Annotated[list[ReadingIn], Meta(min_length=1, max_length=20)]


class VitalOut(Output, frozen=True, kw_only=True):
    """A measurement as it was kept; `interpretation` is null where there is no usual range for this person."""

    observation_id: str
    kind: str
    value: float
    unit: str
    interpretation: Interpretation | None

    @classmethod
    def of(cls, one: Kept) -> "VitalOut":
        """The measurement as callers see it."""
        return cls(
            observation_id=one.id,
            kind=one.kind,
            value=float(one.value),
            unit=one.unit,
            interpretation=one.interpretation,
        )


class MergePatients(Input, frozen=True, kw_only=True):
    """Who turned out to be this patient, and how that is known."""

    source_patient_id: UUID
    reason: Text


class MergeOut(Output, frozen=True, kw_only=True):
    """That two patients were one: `moved` says how much of what became the target's."""

    id: UUID
    source_patient_id: UUID
    target_patient_id: UUID
    reason: str
    moved: dict[str, int]
    merged_by: UUID
    merged_at: Instant
    undone_by: UUID | None
    undone_at: Instant | None

    @classmethod
    def of(cls, merge: PatientMerge) -> "MergeOut":
        """The merge as callers see it."""
        counts = {name: len(ids) for name, ids in merge.moved.items() if isinstance(ids, list)}
        return cls(
            id=merge.id,
            source_patient_id=merge.source_patient_id,
            target_patient_id=merge.target_patient_id,
            reason=merge.reason,
            moved=counts | {"account": int(bool(merge.moved["account"]))},
            merged_by=merge.merged_by,
            merged_at=merge.merged_at,
            undone_by=merge.undone_by,
            undone_at=merge.undone_at,
        )


class MergesOut(Output, frozen=True, kw_only=True):
    """Whom a patient was merged with, the latest first."""

    items: list[MergeOut]


class VitalsOut(Output, frozen=True, kw_only=True):
    """What was kept, the body mass index too where height and weight tell it."""

    items: list[VitalOut]


NoteText = Annotated[str, Meta(min_length=1, max_length=100_000, pattern=r"\S")]


class DraftNote(Input, frozen=True, kw_only=True):
    """A note that its author has still to sign."""

    title: Text
    text: NoteText


class AmendNote(Input, frozen=True, kw_only=True):
    """What is to stand in the place of a signed note, and why."""

    text: NoteText
    reason: LongText


class NoteOut(Output, frozen=True, kw_only=True):
    """A note; one that was amended is `superseded`, and the other says by `replaces_id` which it stands for."""

    id: str
    title: str
    text: str
    status: Literal["draft", "signed", "amended", "superseded"]
    author_id: str | None
    replaces_id: str | None
    version: int

    @classmethod
    def of(cls, note: Note) -> "NoteOut":
        """The note as callers see it."""
        return cls(**note._asdict())


class TimelineQuery(PageQuery, frozen=True, kw_only=True):
    """When it happened: at or after `from`, before `to`."""

    start: Instant | None = field(name="from", default=None)
    until: Instant | None = field(name="to", default=None)


class HappeningOut(Output, frozen=True, kw_only=True):
    """Something that happened to a patient: a resource of this type, at `/fhir/R4/{type}/{id}`."""

    at: Instant
    type: str
    id: str
    name: str

    @classmethod
    def of(cls, one: Happening) -> "HappeningOut":
        """What happened as callers see it."""
        return cls(**one._asdict())


class ItemOut(Output, frozen=True, kw_only=True):
    """Something of a list: a resource of this type, at `/fhir/R4/{type}/{id}`."""

    type: str
    id: str
    name: str
    status: str
    since: str | None

    @classmethod
    def of(cls, item: Item) -> "ItemOut":
        """The item as callers see it."""
        return cls(**item._asdict())


class ItemsOut(Output, frozen=True, kw_only=True):
    """A list of a record."""

    items: list[ItemOut]


class EntryIn(Input, frozen=True, kw_only=True):
    """What is on the list, by its `id`, or is new, by its name or code; `active` false takes it off."""

    id: Annotated[str, Meta(max_length=64)] | None = None
    name: Text | None = None
    system: Text | None = None
    code: Text | None = None
    active: bool = True

    def plain(self) -> Entry:
        """The entry as the verbs take it."""
        return Entry(self.id, self.name, self.system, self.code, self.active)


class Reconcile(Input, frozen=True, kw_only=True):
    """What somebody takes and is allergic to, as it was gone through with them; what is not named stays as it is."""

    medications: Annotated[list[EntryIn], Meta(max_length=100)] = field(default_factory=list)
    allergies: Annotated[list[EntryIn], Meta(max_length=100)] = field(default_factory=list)

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        for kind, entries in (("medications", self.medications), ("allergies", self.allergies)):
            for number, one in enumerate(entries):
                if one.id is None and not one.name and not (one.system and one.code):
                    yield FieldProblem(f"/{kind}/{number}/name", "is required of what is new, or system and code")


class WarningOut(Output, frozen=True, kw_only=True):
    """A medication that the patient takes, and an allergy of theirs that speaks against it."""

    medication_id: str
    allergy_id: str
    substance: str

    @classmethod
    def of(cls, one: Warned) -> "WarningOut":
        """The warning as callers see it."""
        return cls(**one._asdict())


class ReconciledOut(Output, frozen=True, kw_only=True):
    """Both lists as they are now, and what on one speaks against what on the other."""

    medications: list[ItemOut]
    allergies: list[ItemOut]
    warnings: list[WarningOut]
