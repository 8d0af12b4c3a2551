"""Who acts for a patient: parents, guardians, whoever a patient or a court names. The rule is SQL (migration 0007)."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Select, exists, func, or_, select, text, tuple_, update

from medical.audit import service as audit
from medical.identity.models import RoleGrant, User
from medical.identity.permissions import Role
from medical.people import queries, service
from medical.people.errors import (
    NoPatientAccount,
    NotYours,
    ProxyDecided,
    ProxyExists,
    SharedContact,
    ToOneself,
    TooYoung,
)
from medical.people.models import Patient, PatientProxy
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import db, flush_or_raise
from medical.platform.errors import FieldProblem, InvalidRequest, NotFound
from medical.platform.ids import new_id


class Basis(StrEnum):
    """Why somebody may act for a patient; the first two end at the clinic's age limit."""

    PARENT = "parent"
    GUARDIAN = "guardian"
    INCAPACITY = "incapacity"
    CONSENT = "consent"


UNTIL_AGE_LIMIT = frozenset({Basis.PARENT, Basis.GUARDIAN})
CHILD = text(
    "SELECT (now() AT TIME ZONE o.time_zone)::date < CAST(:birth_date AS date)"
    " + make_interval(years => o.proxy_age_limit) FROM organization o WHERE o.id = current_organization()"
)


def propose_proxy(
    actor: Actor,
    patient_id: UUID,
    *,
    user_id: UUID,
    basis: Basis,
    scopes: Sequence[str],
    proof: str | None,
    starts_at: datetime | None,
    ends_at: datetime | None,
) -> PatientProxy:
    """Somebody to act for a patient: at once where a grown-up patient says so, else once a second person approves.

    Raises ``NotFound``, ``NotYours``, ``TooYoung``, ``ToOneself``, ``NoPatientAccount``, ``SharedContact``,
    ``ProxyExists`` or ``InvalidRequest``.
    """
    patient = service.get_visible_patient(actor, patient_id)
    begins = starts_at or clock.now()
    if ends_at and ends_at <= begins:
        raise InvalidRequest([FieldProblem("/ends_at", "must lie after starts_at")])
    by_themselves = not actor.roles & queries.DESK
    if by_themselves:
        _ensure_may_consent(actor, patient, basis)
    if user_id in (patient.user_id, actor.user_id):
        raise ToOneself
    _ensure_own_contact(patient, basis, _patient_account(user_id))
    proxy = PatientProxy(
        id=new_id(),
        patient_id=patient_id,
        user_id=user_id,
        basis=basis,
        scopes=sorted(set(scopes)),
        proof=proof,
        starts_at=begins,
        ends_at=ends_at,
        proposed_by=actor.user_id,
    )
    if by_themselves:
        proxy.approved_by, proxy.approved_at = actor.user_id, clock.now()
    db.session.add(proxy)
    flush_or_raise({"uq_patient_proxy_patient_id_user_id": ProxyExists})
    audit.touch("patient-proxy", proxy.id, patient_id=patient_id)
    return proxy


def _ensure_may_consent(actor: Actor, patient: Patient, basis: Basis) -> None:
    """Raise ``NotYours`` unless the caller is the patient and consents, and ``TooYoung`` for a child."""
    if patient.user_id != actor.user_id or basis is not Basis.CONSENT:
        raise NotYours("You can name somebody to act for yourself, by consent; the clinic does the rest.")
    if db.session.scalar(CHILD, {"birth_date": patient.birth_date}):
        raise TooYoung


def _patient_account(user_id: UUID) -> str:
    """The email of an active account with the role of a patient. Raises ``NotFound`` or ``NoPatientAccount``."""
    patient_role = exists().where(RoleGrant.user_id == User.id, RoleGrant.role == Role.PATIENT)
    found = db.session.execute(select(User.email, User.active, patient_role).where(User.id == user_id)).first()
    if found is None:
        raise NotFound("There is no such user in your organisation.")
    email, *fit = found
    if not all(fit):
        raise NoPatientAccount
    return str(email)


def _ensure_own_contact(patient: Patient, basis: Basis, proxy_email: str) -> None:
    """Raise ``SharedContact`` when what is sent to a child would reach who acts for it."""
    own = {(patient.email or "").lower()}
    if patient.user_id:
        own.add(db.session.scalars(select(User.email).where(User.id == patient.user_id)).one())
    if basis in UNTIL_AGE_LIMIT and proxy_email in own:
        raise SharedContact


def approve_proxy(actor: Actor, patient_id: UUID, proxy_id: UUID) -> PatientProxy:
    """The second person's word; from now on the proxy holds. Raises ``NotFound``, ``ToOneself`` or ``ProxyDecided``."""
    pending = (
        PatientProxy.approved_at.is_(None),
        PatientProxy.revoked_at.is_(None),
        PatientProxy.proposed_by != actor.user_id,
        PatientProxy.user_id != actor.user_id,
    )
    values = {"approved_by": actor.user_id, "approved_at": clock.now()}
    return _decide(actor, patient_id, proxy_id, pending, values)


def revoke_proxy(actor: Actor, patient_id: UUID, proxy_id: UUID, reason: str) -> PatientProxy:
    """End it now: the desk, the patient, or who acts for them. Raises ``NotFound`` or ``ProxyDecided``."""
    proxy = _get(actor, patient_id, proxy_id)
    concerned = actor.roles & queries.DESK or proxy.user_id == actor.user_id or _is_own(actor, patient_id)
    if not concerned:
        raise NotYours("The desk, the patient and who acts for them can end this.")
    values = {"revoked_by": actor.user_id, "revoked_at": clock.now(), "revoke_reason": reason}
    return _decide(actor, patient_id, proxy_id, (PatientProxy.revoked_at.is_(None),), values)


def _decide(
    actor: Actor, patient_id: UUID, proxy_id: UUID, conditions: Sequence[Any], values: dict[str, Any]
) -> PatientProxy:
    """Change a proxy that is as ``conditions`` say, with one statement."""
    change = update(PatientProxy).where(PatientProxy.id == proxy_id, PatientProxy.patient_id == patient_id, *conditions)
    changed = db.session.scalars(
        change.values(values).returning(PatientProxy), execution_options={"populate_existing": True}
    ).first()
    proxy = changed or _get(actor, patient_id, proxy_id)
    audit.touch("patient-proxy", proxy.id, patient_id=patient_id)
    if changed is None:
        raise ToOneself if _undecided(proxy) else ProxyDecided
    return proxy


def _undecided(proxy: PatientProxy) -> bool:
    return proxy.approved_at is None and proxy.revoked_at is None


def _is_own(actor: Actor, patient_id: UUID) -> bool:
    return patient_id in set(db.session.scalars(select(func.own_patients(actor.user_id))))


def _visible(actor: Actor) -> Select[PatientProxy]:
    """The proxies this actor may see: the desk all, who cares for the patient, the patient, who acts for them."""
    query = select(PatientProxy)
    if actor.roles & queries.DESK:
        return query
    of_own = PatientProxy.patient_id.in_(select(func.own_patients(actor.user_id)))
    of_cared = PatientProxy.patient_id.in_(select(func.cared_patients(actor.user_id)))
    return query.where(or_(PatientProxy.user_id == actor.user_id, of_own, of_cared))


def _get(actor: Actor, patient_id: UUID, proxy_id: UUID) -> PatientProxy:
    query = _visible(actor).where(PatientProxy.patient_id == patient_id, PatientProxy.id == proxy_id)
    audit.touch("patient-proxy", proxy_id, patient_id=patient_id)
    proxy = db.session.scalars(query).first()
    if proxy is None:
        raise NotFound
    return proxy


def list_proxies(
    actor: Actor, patient_id: UUID, limit: int, after: tuple[datetime, UUID] | None
) -> Sequence[PatientProxy]:
    """Who acts, acted or may come to act for a visible patient, newest first, one more if more follow."""
    service.get_visible_patient(actor, patient_id)
    return _page(_visible(actor).where(PatientProxy.patient_id == patient_id), limit, after)


def own_proxies(actor: Actor, limit: int, after: tuple[datetime, UUID] | None) -> Sequence[PatientProxy]:
    """For whom the caller acts, acted or may come to act, newest first, one more if more follow."""
    return _page(select(PatientProxy).where(PatientProxy.user_id == actor.user_id), limit, after)


def _page(query: Select[PatientProxy], limit: int, after: tuple[datetime, UUID] | None) -> Sequence[PatientProxy]:
    if after:
        query = query.where(tuple_(PatientProxy.proposed_at, PatientProxy.id) < after)
    rows = db.session.scalars(
        query.order_by(PatientProxy.proposed_at.desc(), PatientProxy.id.desc()).limit(limit + 1)
    ).all()
    for proxy in rows[:limit]:
        audit.touch("patient-proxy", proxy.id, patient_id=proxy.patient_id)
    return rows
