"""Who may do what: the whole policy of roles on one screen.

A permission says that a role may do this kind of act at all. On whose rows is decided by the
domain's policy and queries: clinicians on their own diary, patients for themselves.
"""

from enum import StrEnum

from medical.audit.permissions import Permission as Audit
from medical.identity.permissions import Permission as Account
from medical.identity.permissions import Role
from medical.people.permissions import Permission as People
from medical.platform import authz
from medical.records.permissions import Permission as Record
from medical.scheduling.permissions import Permission as Diary
from medical.smart.permissions import Permission as Smart

EVERYBODY = {Account.SESSION_OWN}
ORIENTATION = {
    Account.ORGANIZATION_READ,
    Diary.APPOINTMENT_TYPE_READ,
    Diary.HOLIDAY_READ,
    People.CLINICIAN_READ,
    People.LOCATION_READ,
}
ACCOUNTS = {
    Account.SERVICE_CLIENT_MANAGE,
    Account.SERVICE_CLIENT_READ,
    Account.SESSION_END_ANY,
    Smart.SMART_APP_MANAGE,
    Account.USER_ASSIGN_ROLE,
    Account.USER_CREATE,
    Account.USER_DEACTIVATE,
    Account.USER_READ,
    Account.USER_RESET_OTP,
    Account.USER_UPDATE,
}
SET_UP = {
    Account.ORGANIZATION_UPDATE,
    People.CLINICIAN_CREATE,
    People.LOCATION_CREATE,
    People.PATIENT_MERGE,
    Diary.APPOINTMENT_TYPE_CREATE,
    Diary.HOLIDAY_EDIT,
}
PATIENTS = {People.PATIENT_CREATE, People.PATIENT_READ, People.PATIENT_SEARCH, People.PATIENT_UPDATE}
LAUNCHING = {Smart.SMART_APP_LAUNCH, Smart.SMART_APP_READ}
CARING = {People.BREAK_GLASS_OPEN, People.CARE_READ, People.PROXY_READ}
GIVING_CARE = {People.CARE_ASSIGN, People.CARE_END, People.CARE_READ}
PROXIES = {People.PROXY_PROPOSE, People.PROXY_READ, People.PROXY_REVOKE}
APPROVAL = {People.PROXY_APPROVE}
REVIEW = {People.BREAK_GLASS_REVIEW}
EXPLAINING = {People.ACCESS_EXPLAIN}
RECORDS = {Record.RECORD_EDIT, Record.RECORD_READ}
HOURS = {Diary.AVAILABILITY_READ, Diary.AVAILABILITY_EDIT}
BOOKING = {
    Diary.SLOT_READ,
    Diary.APPOINTMENT_BOOK,
    Diary.APPOINTMENT_CANCEL,
    Diary.APPOINTMENT_CHECK_IN,
    Diary.APPOINTMENT_READ,
    Diary.APPOINTMENT_RESCHEDULE,
}
FEEDS = {Diary.CALENDAR_FEED_EDIT, Diary.CALENDAR_FEED_READ}
VISIT = {Diary.APPOINTMENT_START, Diary.APPOINTMENT_COMPLETE}
MISSED = {Diary.APPOINTMENT_NO_SHOW}
DECIDING = {
    Diary.APPOINTMENT_APPROVE,
    Diary.APPOINTMENT_CANCEL_LATE,
    Diary.APPOINTMENT_ENTER_IN_ERROR,
    Diary.APPOINTMENT_OVERBOOK,
    Diary.APPOINTMENT_REINSTATE,
}
TRAIL = {Audit.ACCESS_LOG_READ, Audit.AUDIT_READ}

POLICY: dict[Role, frozenset[StrEnum]] = {
    Role.ADMIN: frozenset().union(
        EVERYBODY,
        ORIENTATION,
        ACCOUNTS,
        SET_UP,
        PATIENTS,
        GIVING_CARE,
        PROXIES,
        APPROVAL,
        EXPLAINING,
        HOURS,
        BOOKING,
        FEEDS,
        VISIT,
        MISSED,
        DECIDING,
        LAUNCHING,
    ),
    Role.CLINICIAN: frozenset().union(
        EVERYBODY,
        ORIENTATION,
        PATIENTS,
        CARING,
        GIVING_CARE,
        REVIEW,
        RECORDS,
        {Record.RECORD_DELETE},
        HOURS,
        BOOKING,
        FEEDS,
        VISIT,
        MISSED,
        DECIDING,
        LAUNCHING,
    ),
    Role.NURSE: frozenset().union(
        EVERYBODY,
        ORIENTATION,
        PATIENTS,
        CARING,
        RECORDS,
        {Diary.AVAILABILITY_READ},
        BOOKING,
        FEEDS,
        VISIT,
        MISSED,
        DECIDING,
        LAUNCHING,
    ),
    Role.RECEPTIONIST: frozenset().union(
        EVERYBODY, ORIENTATION, PATIENTS, PROXIES, HOURS, BOOKING, FEEDS, MISSED, DECIDING, LAUNCHING
    ),
    Role.PATIENT: frozenset().union(
        EVERYBODY,
        ORIENTATION,
        {People.PATIENT_READ, People.PATIENT_UPDATE, Audit.ACCESS_LOG_READ},
        PROXIES,
        {Record.RECORD_READ},
        BOOKING,
        FEEDS,
        LAUNCHING,
    ),
    Role.AUDITOR: frozenset().union(EVERYBODY, EXPLAINING, REVIEW, TRAIL),
    Role.SERVICE: frozenset().union(
        EVERYBODY, ORIENTATION, PATIENTS, RECORDS, {Record.RECORD_DELETE, Record.RECORD_EXPORT}, HOURS, BOOKING, MISSED
    ),
}
"""What each role allows. Of a service client's it is the most: its token allows those of its scopes alone."""

PUBLIC = {
    "auth.login",
    "auth.refresh",
    "me.register",
    "authorize.ask",
    "authorize.decide",
    "authorize.sign_in",
    "oauth.introspect",
    "oauth.issue_token",
    "oauth.revoke",
    "oauth.show_metadata",
    "fhir.show_smart_configuration",
    "well_known.show_keys",
    "calendars.read",
    "fhir.show_capabilities",
    "health.live",
    "health.ready",
    "health.show_metrics",
    "docs.show_document",
    "docs.show_page",
    "docs.show_asset",
}
"""Endpoints that need no sign-in."""


def install() -> None:
    """Make this table the policy of the program."""
    authz.use_policy({role: frozenset(map(str, permissions)) for role, permissions in POLICY.items()})
