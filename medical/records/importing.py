"""Records of other systems taken in, many at once: what is wrong is told and left out, the rest is kept."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import NAMESPACE_URL, UUID, uuid5

from sqlalchemy import select, tuple_
from sqlalchemy.dialects.postgresql import insert

from medical.audit import service as audit
from medical.audit.events import Action
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import db, scope_organization
from medical.platform.errors import AppError
from medical.platform.ids import new_id
from medical.records import conditions, patients, service
from medical.records.codec import decode
from medical.records.errors import InvalidResource, UnreadableResource
from medical.records.models import RecordImport, Resource
from medical.records.queries import COLUMNS
from medical.records.service import Draft, Stored
from medical.records.transactions import Act, carry_out
from medical.records.validation import validate

Json = dict[str, Any]
OWN_META = frozenset({"versionId", "lastUpdated"})
"""What the server says of a version itself."""


class Refusal(NamedTuple):
    """What was left out, and why."""

    number: int
    """Which entry or line of its file, from 0."""
    resource: str
    code: str
    problems: list[str]


class Tally(NamedTuple):
    """What came of some resources."""

    kept: int = 0
    unchanged: int = 0
    """They are here already, as they are."""
    refused: tuple[Refusal, ...] = ()

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(self.kept + other.kept, self.unchanged + other.unchanged, (*self.refused, *other.refused))


def progress(digest: bytes, name: str) -> RecordImport:
    """How far a file has been taken in, by the SHA-256 of its content; nobody else goes on with it meanwhile."""
    values = {"id": new_id(), "organization_id": scope_organization(), "digest": digest, "name": name}
    new = insert(RecordImport).values(values | dict.fromkeys(("done", "kept", "refused"), 0))
    db.session.execute(new.on_conflict_do_nothing())
    query = select(RecordImport).where(RecordImport.digest == digest).with_for_update()
    return db.session.scalars(query.execution_options(populate_existing=True)).one()


def note(what: RecordImport, tally: Tally, *, until: int, last: bool) -> None:
    """Note how far it is, and write the trail; the caller commits."""
    what.done, what.kept, what.refused = until, what.kept + tally.kept, what.refused + len(tally.refused)
    what.finished_at = clock.now() if last else None
    audit.record(Action.RECORDS_IMPORTED, "success")


def by_themselves(actor: Actor, resources: Sequence[tuple[int, Json]]) -> Tally:
    """Resources under their own ids, each kept, or as it is here already, or refused."""
    mapped = [(number, _with_own_ids(one)) for number, one in resources]
    return _all_or_each(actor, mapped, _keep)


def acts_by_themselves(actor: Actor, acts: Sequence[tuple[int, Act]]) -> Tally:
    """Entries of a batch: what is refused undoes nothing of the others."""
    return _all_or_each(actor, acts, _carry_out)


def acts_together(actor: Actor, acts: Sequence[Act]) -> Tally:
    """Entries of a transaction, all or none; a patient who is here by an identifier is that one."""
    savepoint = db.session.begin_nested()
    try:
        tally = _carry_out(actor, _patients_found(acts, actor))
    except AppError as refusal:
        savepoint.rollback()
        return Tally(refused=tuple(_told(acts, refusal)))
    savepoint.commit()
    return tally


def _told(acts: Sequence[Act], refusal: AppError) -> Iterator[Refusal]:
    """Everything that is wrong with a transaction: the entries that are invalid, or why it is refused as a whole."""
    wrong = False
    for one in acts:
        if one.resource and (issues := validate(one.resource)):
            wrong = True
            yield _refusal(one.number, one.resource, InvalidResource(issues))
    if not wrong:
        yield Refusal(0, "Bundle", refusal.code, [refusal.detail])


def _all_or_each(actor: Actor, items: Sequence[tuple[int, Any]], act: Callable[[Actor, Sequence[Any]], Tally]) -> Tally:
    """All at once, which is quick; where that is refused, one half after the other."""
    savepoint = db.session.begin_nested()
    try:
        tally = act(actor, [one for _, one in items])
    except AppError as refusal:
        savepoint.rollback()
        if len(items) > 1:
            half = len(items) // 2
            return _all_or_each(actor, items[:half], act).plus(_all_or_each(actor, items[half:], act))
        number, one = items[0]
        return Tally(refused=(_refusal(number, (one.resource or {}) if isinstance(one, Act) else one, refusal),))
    savepoint.commit()
    return tally


def _refusal(number: int, resource: Json, refusal: AppError) -> Refusal:
    problems = [refusal.detail]
    if isinstance(refusal, InvalidResource):
        problems = [f"{one.expression}: {one.diagnostics}" for one in refusal.issues]
    name = "/".join(str(resource[part]) for part in ("resourceType", "id") if part in resource)
    return Refusal(number, name, refusal.code, problems)


def _carry_out(actor: Actor, acts: Sequence[Act]) -> Tally:
    done = carry_out(actor, acts)
    there = sum(act.method == "POST" and one.status == 200 for act, one in zip(acts, done, strict=True))
    return Tally(len(done) - there, there)


def _keep(actor: Actor, resources: Sequence[Json]) -> Tally:
    """Write those that are not here, and new versions of those that are here otherwise."""
    keys = [(one["resourceType"], one["id"]) for one in resources]
    if len(set(keys)) < len(keys):
        raise UnreadableResource("The same resource comes twice.")
    query = select(*COLUMNS).where(tuple_(Resource.type, Resource.fhir_id).in_(keys))
    there = {(one.type, one.fhir_id): one for one in map(Stored._make, db.session.execute(query))}
    new = [one for one, key in zip(resources, keys, strict=True) if key not in there]
    changed = [one for one, key in zip(resources, keys, strict=True) if key in there and not _same(one, there[key])]
    kept = service.create_many(actor, [Draft(one, one["id"]) for one in new])
    kept += [service.replace(actor, one, one["id"], None)[0] for one in changed]
    for patient_id in {one.patient_id for one in kept}:
        audit.touch("Bundle", None, patient_id=patient_id)
    return Tally(len(kept), len(resources) - len(kept))


def _same(document: Json, stored: Stored) -> bool:
    """Whether the resource is here as it is, but for what the server says of a version."""
    return stored.body is not None and _own(document) == _own(decode(stored.body))


def _own(document: Json) -> Json:
    meta = {name: value for name, value in document.get("meta", {}).items() if name not in OWN_META}
    return {name: value for name, value in document.items() if name != "meta"} | ({"meta": meta} if meta else {})


def _with_own_ids(resource: Json) -> Json:
    """The resource with the ids that it and the patients it speaks of have here: of patients they are UUIDs."""
    named: Json = _renamed(resource)
    if resource["resourceType"] == patients.TYPE:
        return named | {"id": _patient_id(resource["id"])}
    return named


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: f"Patient/{_patient_id(one.removeprefix('Patient/'))}"
            if key == "reference" and isinstance(one, str) and one.startswith("Patient/")
            else _renamed(one)
            for key, one in value.items()
        }
    return [_renamed(one) for one in value] if isinstance(value, list) else value


def _patient_id(fhir_id: str) -> str:
    """The id itself where it is a UUID, else one that is made of it, always the same in an organisation."""
    try:
        UUID(fhir_id)
    except ValueError:
        return str(uuid5(NAMESPACE_URL, f"{scope_organization()}/Patient/{fhir_id}"))
    return fhir_id


def _patients_found(acts: Sequence[Act], actor: Actor) -> list[Act]:
    """The acts; those that would register somebody who is here by an identifier find them instead."""
    asked = {
        (patients.TYPE, _condition(one)): act.number
        for act in acts
        if act.method == "POST" and act.type == patients.TYPE and not act.if_none_exist
        for one in (act.resource or {}).get("identifier", ())
        if one.get("system") and one.get("value")
    }
    found = {
        asked[condition]: condition[1]
        for condition, there in conditions.match_many(actor, asked).items()
        if there is not None
    }
    return [act._replace(if_none_exist=found.get(act.number, act.if_none_exist)) for act in acts]


def _condition(identifier: Json) -> str:
    """A query that finds who has an identifier."""
    escaped = [re.sub(r"([\\,$|])", r"\\\1", str(identifier[part])) for part in ("system", "value")]
    return "identifier=" + quote("|".join(escaped), safe=":/|")
