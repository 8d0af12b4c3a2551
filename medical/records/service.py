"""What is done with records: written, read, changed and hidden; every version is kept."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import Row, Select, Text, cast, select, text, tuple_

from medical.audit import service as audit
from medical.identity.permissions import Role
from medical.people import service as people
from medical.people.models import Patient
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import Scope, db, enter, scope_organization, scope_user, unattended
from medical.platform.errors import NotFound, Stale
from medical.platform.ids import new_id
from medical.records import directory, patients, queries, turns
from medical.records.codec import decode, encode
from medical.records.definitions import table
from medical.records.errors import Gone, InvalidResource, KeptElsewhere, NotHere, PatientIncomplete, PatientUnknown
from medical.records.indexing import Entry, entries_of, subject_of, uuid_of
from medical.records.labels import is_sensitive
from medical.records.models import Resource, ResourceVersion
from medical.records.patching import patched
from medical.records.validation import validate

Json = dict[str, Any]
ROW = msgspec.json.Encoder()
INSERT = """
    INSERT INTO resource (organization_id, created_by, version, deleted, updated_at, id, type, fhir_id, patient_id,
                          open, sensitive, document)
    SELECT %(organization_id)s, %(created_by)s, version, false, %(updated_at)s, given.id, type, fhir_id, patient_id,
           open, sensitive, document
    FROM json_to_recordset(CAST(%(rows)s AS json)) AS given (
        version int, id uuid, type text, fhir_id text, patient_id uuid, open boolean, sensitive boolean, document jsonb)
"""
KEEP = text(
    """
    INSERT INTO resource_version (id, organization_id, resource_id, version, updated_at, deleted, document)
    SELECT :new_id, organization_id, id, version, updated_at, deleted, document FROM resource WHERE id = :id
    """
)
"""Before a resource changes: what it is becomes a former version."""
REPLACE = text(
    """
    UPDATE resource SET version = :version, updated_at = :updated_at, patient_id = :patient_id, open = :open,
                        sensitive = :sensitive, deleted = false, document = CAST(:document AS jsonb)
    WHERE id = :id
    """
)
HIDE = text(
    "UPDATE resource SET version = :version, updated_at = :updated_at, deleted = true, document = NULL WHERE id = :id"
)
FORGET_VALUES = text("DELETE FROM resource_value WHERE resource_id = :id")
ADD_VALUES = """
    INSERT INTO resource_value (organization_id, resource_id, type, parameter, system, code, text, low, high, since,
                                until, target_type, target_id, subject_id)
    SELECT %(organization_id)s, given.* FROM json_to_recordset(CAST(%(rows)s AS json)) AS given (
        resource_id uuid, type text, parameter text, system text, code text, text text, low numeric, high numeric,
        since timestamptz, until timestamptz, target_type text, target_id text, subject_id uuid)
"""
"""Rows go as JSON: the driver takes several times as long over arrays."""


class Stored(NamedTuple):
    """A version of a resource: its document as JSON, or None where it was deleted."""

    id: UUID
    type: str
    fhir_id: str
    version: int
    updated_at: datetime
    deleted: bool
    patient_id: UUID | None
    body: str | None


class Sight(NamedTuple):
    """Whose a resource is, and so who may see it."""

    patient_id: UUID | None
    open: bool
    sensitive: bool


OPEN = Sight(None, True, False)
ABOUT = frozenset({"patient", "subject", "beneficiary", "individual"})
"""Parameters of compartments that name whom a resource is about."""


class Draft(NamedTuple):
    """A resource that is to be kept under an id."""

    document: Json
    fhir_id: str


def create(actor: Actor, document: Json, fhir_id: str | None = None) -> Stored:
    """Keep a new resource, under an id of ours unless one is given.

    Raises ``InvalidResource`` with everything that is wrong, ``PatientUnknown``, or ``Forbidden`` where an app acts
    and its scopes do not allow it.
    """
    [stored] = create_many(actor, [Draft(document, fhir_id or str(new_id()))])
    _touch(stored)
    return stored


def create_many(actor: Actor, drafts: Sequence[Draft], *, shipped: bool = False) -> list[Stored]:
    """Keep several new resources, in as many statements as one. Raises what ``create`` raises of the first wrong.

    Those that are ``shipped`` with the program are known to be right, and not looked at again.
    """
    if not drafts:
        return []
    now = clock.now()
    bodies = [_with_meta(one.document, one.fhir_id, 1, now) for one in drafts]
    if not shipped:
        _ensure_valid(bodies)
    _register(actor, bodies)
    seen = _examined(actor, bodies)
    kept = [
        Stored(new_id(), body["resourceType"], body["id"], 1, now, False, sight.patient_id, _text(body))
        for body, (_, sight) in zip(bodies, seen, strict=True)
    ]
    _insert([(stored, sight) for stored, (_, sight) in zip(kept, seen, strict=True)])
    _index([(stored, entries) for stored, (entries, _) in zip(kept, seen, strict=True)])
    queries.ensure_reached(actor, [one.id for one in kept], "c")
    return kept


def _register(actor: Actor, bodies: Sequence[Json]) -> None:
    """Give the Patients among these rows; programs may keep those who are not complete as documents alone.

    Raises ``PatientIncomplete`` for others, and what ``register`` raises.
    """
    named = [one for one in bodies if one["resourceType"] == patients.TYPE]
    complete = [one for one in named if patients.is_complete(one)]
    if len(complete) < len(named) and Role.SERVICE not in actor.roles:
        raise PatientIncomplete
    if not complete:
        return
    with keeping_rows():
        patients.register(actor, complete)
    with unattended():
        patients.adopt([one["id"] for one in complete])


def _insert(new: Sequence[tuple[Stored, Sight]]) -> None:
    """Write resources that are new."""
    rows = b",".join(
        ROW.encode(
            {
                "version": one.version,
                "id": one.id,
                "type": one.type,
                "fhir_id": one.fhir_id,
                "patient_id": sight.patient_id,
                "open": sight.open,
                "sensitive": sight.sensitive,
                "document": msgspec.Raw((one.body or "").encode()),
            }
        )
        for one, sight in new
    )
    about = {"organization_id": scope_organization(), "created_by": scope_user(), "updated_at": new[0][0].updated_at}
    db.session.connection().exec_driver_sql(INSERT, about | {"rows": f"[{rows.decode()}]"})


def read(actor: Actor, type_name: str, fhir_id: str, interaction: str = "r") -> Stored:
    """A resource as it is now. Raises ``NotFound`` or ``Gone``."""
    stored = find(actor, type_name, fhir_id, interaction)
    if stored.deleted:
        raise Gone
    return stored


def read_version(actor: Actor, type_name: str, fhir_id: str, version: int) -> Stored:
    """A resource as it was in a version. Raises ``NotFound``, or ``Gone`` for a version that deleted it."""
    now = find(actor, type_name, fhir_id)
    wanted = [now] if version == now.version else _former(now, version)
    if not wanted:
        raise NotFound
    if wanted[0].deleted:
        raise Gone
    return wanted[0]


def find(actor: Actor, type_name: str, fhir_id: str, interaction: str = "r") -> Stored:
    """A resource the actor may see, whatever became of it; the trail says where it took a broken glass.

    Raises ``NotFound``.
    """
    stored = _touched(queries.find(actor, interaction, type_name, fhir_id), type_name)
    if stored.patient_id:
        people.note_glass(actor, stored.patient_id)
    return stored


def is_readable(actor: Actor, stored: Stored) -> bool:
    """Whether the scopes of the actor's app, if one acts, let it read what it has just written."""
    return actor.app is None or not queries.beyond(actor, [stored.id], "r")


def _former(now: Stored, version: int) -> list[Stored]:
    """A former version of a resource, if there is such a one."""
    columns = (ResourceVersion.version, ResourceVersion.updated_at, ResourceVersion.deleted)
    query = select(*columns, cast(ResourceVersion.document, Text)).where(
        ResourceVersion.resource_id == now.id, ResourceVersion.version == version
    )
    return [
        now._replace(version=number, updated_at=updated_at, deleted=deleted, body=body)
        for number, updated_at, deleted, body in db.session.execute(query)
    ]


def replace(actor: Actor, document: Json, fhir_id: str, expected_version: int | None) -> tuple[Stored, bool]:
    """A new version of a resource, or the first under this id; and whether it is the first.

    Raises what ``create`` raises, ``NotFound`` where it is there and not to be seen, or ``Stale``.
    """
    type_name = document["resourceType"]
    turns.lock([f"{type_name}/{fhir_id}"])
    try:
        before = _locked(queries.visible_resources(actor, "u"), type_name, fhir_id)
    except NotFound:
        if expected_version is not None:
            raise Stale from None
        if type_name == patients.TYPE or queries.is_taken(type_name, fhir_id):
            raise  # of patients the ids are ours; what is taken by somebody else is not told of
        return create(actor, document, fhir_id), True
    _ensure_version(before, expected_version)
    _ensure_writable(actor, {str(before.patient_id)} if before.patient_id else set())
    body = _with_meta(document, fhir_id, before.version + 1, now := clock.now())
    _ensure_valid([body])
    _ensure_rows_kept(type_name, fhir_id, body)
    if type_name == patients.TYPE and before.patient_id:
        with keeping_rows():
            patients.change(actor, body, fhir_id, expected_version)
    else:
        _register(actor, [body])
    [(entries, sight)] = _examined(actor, [body])
    stored = before._replace(
        version=before.version + 1,
        updated_at=now,
        deleted=False,
        patient_id=sight.patient_id,
        body=_text(body),
    )
    _write_over(stored, sight, entries)
    queries.ensure_reached(actor, [stored.id], "u")
    return stored, False


def patch(actor: Actor, type_name: str, fhir_id: str, operations: Any, expected_version: int | None) -> Stored:
    """A new version of a resource with the operations of a JSON Patch applied.

    Raises ``NotFound``, ``Gone``, what ``patched`` raises, and what ``replace`` raises.
    """
    turns.lock([f"{type_name}/{fhir_id}"])
    before = read(actor, type_name, fhir_id, "u")
    _ensure_version(before, expected_version)
    document = patched(decode(before.body or ""), operations)
    stored, _ = replace(actor, document, fhir_id, before.version)
    return stored


def _write_over(stored: Stored, sight: Sight, entries: Sequence[Entry]) -> None:
    """Write the next version of a resource; what it was becomes a former one."""
    db.session.execute(KEEP, {"new_id": new_id(), "id": stored.id})
    db.session.execute(REPLACE, stored._asdict() | sight._asdict() | {"document": stored.body})
    db.session.execute(FORGET_VALUES, {"id": stored.id})
    _index([(stored, entries)])


ROWS_KEPT = ContextVar("rows_kept", default=False)
"""Whether whoever changes the row of a patient writes their resource too."""


@contextmanager
def keeping_rows() -> Iterator[None]:
    """Inside the block, changes of patients' rows do not write their resources: that comes after it."""
    token = ROWS_KEPT.set(True)
    try:
        yield
    finally:
        ROWS_KEPT.reset(token)


def follow(patient: Patient) -> None:
    """Write the resource of a patient whose row is new or has changed, whoever sees it."""
    if not ROWS_KEPT.get():
        with unattended():
            _follow([patient])


def _follow(rows: Sequence[Patient]) -> None:
    """The same for several: those that have none yet, in as many statements as one."""
    there = {one.fhir_id: one for one in _patients_kept([str(row.id) for row in rows])}
    others = patients.taken_in([row.id for row in rows if str(row.id) in there])
    new: list[tuple[Stored, Sight, list[Entry]]] = []
    for row in rows:
        before = there.get(str(row.id))
        if before and before.version == row.version:
            continue
        known = decode(before.body) if before and before.body else None
        document = patients.document_of(row, known, others.get(row.id, {}))
        body = _with_meta(document, str(row.id), row.version, now := clock.now())
        made = Stored(
            before.id if before else new_id(), patients.TYPE, str(row.id), row.version, now, False, row.id, _text(body)
        )
        sight, entries = Sight(row.id, False, is_sensitive(body)), entries_of(body)
        if before:
            _write_over(made, sight, entries)
        else:
            new.append((made, sight, entries))
    if new:
        _insert([(made, sight) for made, sight, _ in new])
        patients.adopt([made.fhir_id for made, _, _ in new])
        _index([(made, entries) for made, _, entries in new])


def follow_directory(*ids: UUID) -> None:
    """Write the resources of accounts, clinicians, sites and organisations that are new or have changed; without ids,
    of all that there are."""
    with unattended():
        _follow_directory([*directory.entries(ids or None)])


def _follow_directory(own: Sequence[directory.Own]) -> int:
    """Write those of the resources that are not here as their rows say; how many."""
    if not own:
        return 0
    there = {(one.type, one.fhir_id): one for one in _kept_of(own)}
    new: list[tuple[Stored, Sight, list[Entry]]] = []
    count = 0
    for one in own:
        before = there.get((one.type, one.fhir_id))
        document = decode(before.body) if before and before.body else {"resourceType": one.type}
        if all(document.get(name) == value for name, value in one.elements.items()):
            continue
        version = before.version + 1 if before else 1
        body = _with_meta(document | one.elements, one.fhir_id, version, now := clock.now())
        made = Stored(before.id if before else new_id(), one.type, one.fhir_id, version, now, False, None, _text(body))
        count += 1
        if before:
            _write_over(made, OPEN, entries_of(body))
        else:
            new.append((made, OPEN, entries_of(body)))
    if new:
        _insert([(made, sight) for made, sight, _ in new])
        _index([(made, entries) for made, _, entries in new])
    return count


def _kept_of(own: Sequence[directory.Own]) -> list[Stored]:
    keys = [(one.type, one.fhir_id) for one in own]
    query = select(*queries.COLUMNS).where(tuple_(Resource.type, Resource.fhir_id).in_(keys))
    return [Stored._make(row) for row in db.session.execute(query)]


def _ensure_rows_kept(type_name: str, fhir_id: str, body: Json | None) -> None:
    """Raise ``KeptElsewhere`` where a row says otherwise than the document, or the document is to go."""
    if type_name not in directory.TYPES or not (entry_id := uuid_of(fhir_id)):
        return
    for one in directory.entries([entry_id]):
        if one.type == type_name and (
            body is None or any(body.get(name) != one.elements[name] for name in one.elements)
        ):
            raise KeptElsewhere


def _patients_kept(fhir_ids: Sequence[str]) -> list[Stored]:
    query = select(*queries.COLUMNS).where(Resource.type == patients.TYPE, Resource.fhir_id.in_(fhir_ids))
    return [Stored._make(row) for row in db.session.execute(query)]


def catch_up(only: Collection[UUID] | None = None) -> int:
    """Write the resources whose rows came or changed by other ways; how many, in all organisations or ``only`` some.

    Rows that somebody changes meanwhile are left to them.
    """
    count = 0
    for organization_id in db.session.scalars(patients.EACH, {"only": None if only is None else [*only]}).all():
        enter(Scope(organization_id))
        while some := patients.missed():
            _follow(some)
            db.session.commit()
            count += len(some)
        count += _follow_directory([*directory.entries()])
        db.session.commit()
    enter(None)
    return count


def delete(actor: Actor, type_name: str, fhir_id: str, expected_version: int | None) -> Stored:
    """Hide a resource; its versions can be read. What is hidden stays so. Raises ``NotFound`` or ``Stale``."""
    if type_name == patients.TYPE:
        raise NotHere("A patient's record is not deleted.")
    before = _locked(queries.visible_resources(actor, "d"), type_name, fhir_id)
    _ensure_version(before, expected_version)
    if before.deleted:
        return before
    _ensure_rows_kept(type_name, fhir_id, None)
    _ensure_writable(actor, {str(before.patient_id)} if before.patient_id else set())
    stored = before._replace(version=before.version + 1, updated_at=clock.now(), deleted=True, body=None)
    db.session.execute(KEEP, {"new_id": new_id(), "id": before.id})
    db.session.execute(HIDE, stored._asdict())
    db.session.execute(FORGET_VALUES, {"id": before.id})
    return stored


def _locked(query: Select[Resource], type_name: str, fhir_id: str) -> Stored:
    """The resource, which stays as it is until the transaction ends. Raises ``NotFound``."""
    query = queries.named(query.with_for_update(of=Resource), type_name, fhir_id)
    return _touched(db.session.execute(query).first(), type_name)


def _touched(row: Row[Any] | None, type_name: str) -> Stored:
    """What was found, named in the trail. Raises ``NotFound``."""
    if row is None:
        audit.touch(type_name, None)
        raise NotFound
    stored = Stored._make(row)
    _touch(stored)
    return stored


def touch_all(stored: Sequence[Stored]) -> None:
    """Say in the trail which resources they were, and whose."""
    for one in stored:
        _touch(one)


def _touch(stored: Stored) -> None:
    """Say in the trail which resource it was, and whose."""
    audit.touch(stored.type, stored.id, patient_id=stored.patient_id)


def _ensure_version(before: Stored, expected_version: int | None) -> None:
    if expected_version not in (None, before.version):
        raise Stale


def _with_meta(document: Json, fhir_id: str, version: int, now: datetime) -> Json:
    """The document with what the server says of it; other elements of ``meta`` are the client's."""
    meta = document.get("meta")
    if "meta" in document and not (meta and isinstance(meta, dict)):
        return document | {"id": fhir_id}  # wrong, as the validation will say
    stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    own = (meta or {}) | {"versionId": str(version), "lastUpdated": stamp}
    return document | {"id": fhir_id, "meta": own}


def _examined(actor: Actor, bodies: Sequence[Json]) -> list[tuple[list[Entry], Sight]]:
    """What each resource is found by, and whose it is. Raises ``PatientUnknown``."""
    found = [entries_of(body) for body in bodies]
    named = [_patients_in(body, entries) for body, entries in zip(bodies, found, strict=True)]
    own = {body["id"] for body in bodies if body["resourceType"] == patients.TYPE and patients.is_complete(body)}
    known = own | _ensure_writable(actor, {one for some in named for one in some or ()} - own)
    return [(entries, _sight(body, some, known)) for body, entries, some in zip(bodies, found, named, strict=True)]


def _text(body: Json) -> str:
    return encode(body).decode()


def _ensure_valid(bodies: Sequence[Json]) -> None:
    """Raise ``InvalidResource`` with everything that is wrong with the first that is."""
    for body in bodies:
        if issues := validate(body):
            raise InvalidResource(issues)


def _patients_in(body: Json, entries: Sequence[Entry]) -> list[str] | None:
    """The ids of the patients whose compartment a resource is in, whom it is about before who only wrote or said it.

    None for a type that is in nobody's.
    """
    if body["resourceType"] == patients.TYPE:
        return [body["id"]]
    parameters = table("compartments")["Patient"].get(body["resourceType"])
    if parameters is None:
        return None
    named = [one for one in entries if one.parameter in parameters and one.target_type == "Patient"]
    return [one.target_id for one in sorted(named, key=lambda one: one.parameter not in ABOUT) if one.target_id]


def _sight(body: Json, named: Sequence[str] | None, known: set[str]) -> Sight:
    """Whose a resource is that speaks of these patients, of whom some are known here."""
    if named is None:
        return OPEN
    patient_id = next((UUID(one) for one in named if one in known), None)
    return Sight(patient_id, False, is_sensitive(body))


def _ensure_writable(actor: Actor, patient_ids: set[str]) -> set[str]:
    """Those in whose record the actor may write; all must be known, and to be seen, but for service clients."""
    possible = {one for one in map(uuid_of, patient_ids) if one}
    known = {str(one) for one in queries.writable_patients(actor, possible)}
    if Role.SERVICE not in actor.roles and len(known) < len(patient_ids):
        raise PatientUnknown
    return known


def _index(found: Sequence[tuple[Stored, Sequence[Entry]]]) -> None:
    """Write the values by which resources are found."""
    rows = [
        common | {name: value for name, value in zip(Entry._fields, entry, strict=True) if value is not None}
        for stored, entries in found
        if (common := {"resource_id": stored.id, "type": stored.type, "subject_id": subject_of(entries)})
        for entry in entries
    ]
    if not rows:
        return
    values = {"organization_id": scope_organization(), "rows": ROW.encode(rows).decode()}
    db.session.connection().exec_driver_sql(ADD_VALUES, values)
