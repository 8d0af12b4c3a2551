"""What an event means, in words for the patient whom it is about."""

from collections.abc import Collection

from medical.audit.events import Action

DONE = {
    Action.ACCOUNT_REGISTERED: "opened an account for you",
    Action.PATIENT_REGISTERED: "registered you as a patient, or looked whether you are one",
    Action.PATIENT_READ: "opened your record",
    Action.PATIENT_SEARCHED: "saw you in a search for patients",
    Action.PATIENT_UPDATED: "changed your details",
    Action.PATIENTS_MERGED: "found that two records were of you, and made them one",
    Action.PATIENTS_UNMERGED: "took back that two records were of you",
    Action.PATIENT_MERGES_READ: "looked whether several records were of you",
    Action.CARE_ASSIGNED: "gave somebody the care of you",
    Action.CARE_READ: "looked who cares for you",
    Action.CARE_ENDED: "ended somebody's care of you",
    Action.GLASS_BROKEN: "opened your record in an emergency, without caring for you",
    Action.GLASS_LISTED: "saw in a list that your record was opened in an emergency",
    Action.GLASS_REVIEWED: "judged whether your record was rightly opened in an emergency",
    Action.PROXY_PROPOSED: "named somebody to act for you",
    Action.PROXY_READ: "looked who acts for you",
    Action.PROXY_APPROVED: "approved that somebody acts for you",
    Action.PROXY_REVOKED: "ended that somebody acts for you",
    Action.ACCESS_EXPLAINED: "looked who may see your record",
    Action.SMART_APP_LAUNCHED: "opened an app for you",
    Action.SMART_APP_SIGNED_IN: "saw you in a list, to choose for whom an app is",
    Action.SMART_APP_ANSWERED: "let an app into your record, or looked whether to",
    Action.TIME_OFF_CREATED: "saw an appointment of yours that falls into time off",
    Action.APPOINTMENT_BOOKED: "booked an appointment for you",
    Action.APPOINTMENT_READ: "looked at an appointment of yours",
    Action.APPOINTMENT_SEARCHED: "saw an appointment of yours in a list",
    Action.APPOINTMENT_HISTORY_READ: "looked at the history of an appointment of yours",
    Action.APPOINTMENT_CHANGED: "changed an appointment of yours",
    Action.APPOINTMENT_CANCELLED: "cancelled an appointment of yours",
    Action.APPOINTMENT_RESCHEDULED: "moved an appointment of yours",
    Action.APPOINTMENT_CHECKED_IN: "noted that you had come to your appointment",
    Action.APPOINTMENT_STARTED: "began a visit of yours",
    Action.APPOINTMENT_FULFILLED: "completed a visit of yours",
    Action.APPOINTMENT_MISSED: "noted that you did not come to your appointment",
    Action.APPOINTMENT_ARRIVED: "noted that you had arrived",
    Action.APPOINTMENT_APPROVED: "approved an appointment that was requested for you",
    Action.APPOINTMENT_DECLINED: "declined an appointment that was requested for you",
    Action.APPOINTMENT_REINSTATED: "put an appointment of yours back",
    Action.APPOINTMENT_ENTERED_IN_ERROR: "noted that an appointment of yours was entered in error",
    Action.APPOINTMENT_OVERBOOKED: "booked an appointment for you beside another one's",
    Action.WAITLIST_JOINED: "put you on the waitlist",
    Action.WAITLIST_READ: "looked at what you wait for",
    Action.WAITLIST_ACCEPTED: "accepted a time that was offered to you",
    Action.WAITLIST_DECLINED: "declined a time that was offered to you",
    Action.WAITLIST_WITHDRAWN: "took you off the waitlist",
    Action.SERIES_BOOKED: "booked a series of appointments for you",
    Action.SERIES_READ: "looked at a series of appointments of yours",
    Action.SERIES_RESCHEDULED: "moved a series of appointments of yours",
    Action.SERIES_CANCELLED: "cancelled a series of appointments of yours",
    Action.RECORD_CREATED: "added to your record",
    Action.RECORD_READ: "read in your record",
    Action.RECORD_SEARCHED: "saw something of your record in a search",
    Action.RECORD_VALIDATED: "looked whether a record is written as it should be",
    Action.RECORDS_IMPORTED: "took your record in from another system",
    Action.RECORDS_EXPORTED: "wrote your record to a file for another system",
    Action.RECORDS_WRITTEN: "read or wrote several things in your record",
    Action.RECORD_UPDATED: "changed something in your record",
    Action.RECORD_DELETED: "took something out of your record",
    Action.RECORD_HISTORY_READ: "read how your record was before",
    Action.CALENDAR_FEED_CREATED: "made a secret address for the calendar of your appointments",
    Action.CALENDAR_FEED_REVOKED: "revoked a secret address for the calendar of your appointments",
    Action.CALENDAR_READ: "made an address by which a calendar program read your appointments",
    Action.AUDIT_READ: "looked at what is noted about your record",
    Action.ACCESS_LOG_READ: "read this list",
}

ROLES = {
    "admin": "administration",
    "clinician": "clinician",
    "nurse": "nurse",
    "receptionist": "reception desk",
    "patient": "patient",
    "auditor": "auditor",
    "service": "a program",
}

REASONS = {
    "EMERGENCY": "an emergency",
    "COVERAGE": "covering for a colleague",
    "PATIENT_REQUEST": "because you asked",
    "OTHER": "another reason",
}


def said_of(action: str, who: str, *, refused: bool, dry_run: bool) -> str:
    """One sentence: who did what, tried to, or asked what would come of it."""
    done = DONE.get(action, f"used your record ({action})")  # type: ignore[call-overload]  # an action is a text
    if refused:
        return f"{who} tried to use your record and was refused ({action})."
    if dry_run:
        return f"{who} looked what would change for you, and changed nothing ({action})."
    return f"{who} {done}."


def name_of(given_name: str | None, family_name: str | None, roles: Collection[str], *, own: bool) -> str:
    """Whoever did it: the patients themselves, somebody by name, or nobody who was signed in."""
    if own:
        return "You"
    if family_name is None:
        return "Somebody who was not signed in"
    title = "Dr " if "clinician" in roles else ""
    return f"{title}{given_name} {family_name}"


def roles_said(roles: Collection[str]) -> str:
    """Roles as they are called in the clinic."""
    return ", ".join(ROLES.get(role, role) for role in roles) or "none"


def reason_said(reason_code: str | None) -> str | None:
    """Why a glass was broken."""
    if reason_code is None:
        return None
    reason = REASONS.get(reason_code, reason_code)
    return f"Emergency access, for {reason}: somebody else judges whether it was right."
