"""The demo clinic: made-up people and a month of their appointments, in an empty database."""

from flask import current_app
from sqlalchemy import select, text

from medical.audit import service as audit
from medical.audit.events import Action
from medical.cli.demo import clinic, diary, records
from medical.config import Mode
from medical.identity import service as identity
from medical.identity.models import Organization, User
from medical.platform.db import db, enter
from medical.platform.logging import get_logger
from medical.platform.refusal import Refused

PATIENTLY = text(
    "SELECT set_config(name, '0', true) FROM unnest(ARRAY['lock_timeout', 'statement_timeout',"
    " 'idle_in_transaction_session_timeout']) AS name"
)
"""On a slow machine the program works on the records for longer than a transaction may be idle."""
ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('demo clinic', 0))")

log = get_logger(__name__)


def seed_if_empty() -> list[tuple[str, str, str]]:
    """Make the demo clinic where there is no organisation yet; role, email and password of its accounts.

    All of it or nothing. Accounts that an earlier start made are told again while they are active; in
    a database that somebody else began, nothing is made and nothing told. The values are plain, so
    that a process can take them that has none of this loaded. Raises ``Refused`` outside demo mode.
    """
    if current_app.extensions["settings"].mode is not Mode.DEMO:
        raise Refused("the demo clinic has passwords that everybody knows: it is made in demo mode only (--demo)")
    try:
        db.session.execute(PATIENTLY)
        db.session.execute(ONE_AT_A_TIME)
        if identity.registration_scope() is None:  # the first organisation of an installation takes registrations
            _seed()
            db.session.commit()
        return active_accounts()
    finally:
        db.session.rollback()
        enter(None)


def ensure_absent() -> None:
    """Raise ``Refused`` when the database has demo accounts that could sign in: everybody knows their passwords."""
    try:
        if active_accounts():
            raise Refused(
                "this database holds the demo clinic, whose passwords everybody knows:"
                " start with --demo, or use another database or another folder with --data"
            )
    finally:
        db.session.rollback()
        enter(None)


def active_accounts() -> list[tuple[str, str, str]]:
    """Role, email and password of the demo accounts that can sign in."""
    scope = identity.registration_scope()
    if scope is None:
        return []
    enter(scope)
    query = select(User.email).join(Organization, Organization.id == User.organization_id)
    active = set(db.session.scalars(query.where(Organization.name == clinic.NAME, User.active)))
    accounts = [(str(role), clinic.email_of(role), clinic.password_of(role)) for role in clinic.ACCOUNTS]
    return [account for account in accounts if account[1] in active]


def _seed() -> None:
    organization_id = identity.ensure_organization(clinic.NAME)
    doctors, types = clinic.add_staff(), clinic.add_types()
    clinic.add_hours(doctors, types, days_back=diary.DAYS_BACK + 1)
    people = clinic.add_patients()
    patient_ids = [one for one, lives in people if lives]
    clinic.add_ward(patient_ids)
    appointments = diary.fill(types, doctors, patient_ids)
    kept = records.fill(organization_id, [one for one, _ in people])
    audit.touch("organization", organization_id)
    audit.record(Action.ORGANIZATION_SEEDED, "success")
    log.info("demo_clinic_made", appointments=appointments, records=kept)
