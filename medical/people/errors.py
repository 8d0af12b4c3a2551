"""Why something about people is refused."""

from medical.platform.errors import Conflict, Forbidden


class PossibleDuplicate(Conflict):
    """Probably the same person; `candidates` says who. Repeat with `confirm_new: true` to go on."""

    code, title = "possible_duplicate", "Probably registered already"
    detail = "Somebody very like this is registered already; look at the candidates, or repeat with confirm_new."


class PatientIdTaken(Conflict):
    """A patient who comes with an id has one that somebody of another organisation has."""

    code, title = "patient_id_taken", "Id taken"
    detail = "Another clinic of this installation has a patient with this id."


class PatientMerged(Conflict):
    """The patient turned out to be another one, who is worked with instead."""

    code, title = "patient_merged", "Patient was merged"
    detail = "This patient was merged into another one: see merged_into."


class BothHaveAccounts(Conflict):
    """Each of two patients has an account; one of them must be given up first."""

    code, title = "both_have_accounts", "Both have accounts"
    detail = "Both patients have an account of their own; deactivate one, and merge them then."


class BothBusy(Conflict):
    """Two patients have visits at the same time, which one patient cannot have."""

    code, title = "both_busy", "Visits at the same time"
    detail = "Both patients have visits at the same time: cancel or move one of them first."


class MergeUndone(Conflict):
    """The merge was taken back already, or what it was about has been merged further."""

    code, title = "merge_undone", "Merge cannot be undone"
    detail = "This merge was undone before, or its patient was merged into another one since: undo that first."


class IdentifierTaken(Conflict):
    """Another patient has one of these identifiers."""

    code, title = "identifier_taken", "Identifier taken"
    detail = "Another patient has one of these identifiers."


class ClinicianExists(Conflict):
    """The user is a clinician already."""

    code, title = "clinician_exists", "Clinician exists"
    detail = "This user is a clinician already."


class LocationExists(Conflict):
    """Another location has this name."""

    code, title = "location_exists", "Location exists"
    detail = "Another location has this name."


class RoomExists(Conflict):
    """Another room of the site has this name."""

    code, title = "room_exists", "Room exists"
    detail = "Another room of this location has this name."


class DeviceExists(Conflict):
    """Another device of the site has this name."""

    code, title = "device_exists", "Device exists"
    detail = "Another device of this location has this name."


class ContactFieldsOnly(Forbidden):
    """Patients change their contact details; the clinic changes the rest."""

    code, title = "contact_fields_only", "Contact details only"
    detail = "You may change email, phone and address; ask the clinic to change the rest."


class OwnRecord(Forbidden):
    """Staff see their own record as patients, not as staff."""

    code, title = "own_record", "Your own record"
    detail = "Your own record is open to you in the role of a patient, not as staff."


class NotYours(Forbidden):
    """Only care that one has oneself, by a visit or an assignment, can be given to a colleague."""

    code, title = "not_yours", "Not yours to give"
    detail = "You can give a colleague the care of patients you care for yourself, for 90 days at most."


class ToOneself(Forbidden):
    """Nobody gives themselves a relationship, or reviews what they did."""

    code, title = "to_oneself", "Not for oneself"
    detail = "Somebody else must do this for you."


class NotACarer(Conflict):
    """The user is not an active clinician or nurse."""

    code, title = "not_a_carer", "Neither clinician nor nurse"
    detail = "This user is not an active clinician or nurse."


class CareEnded(Conflict):
    """The relationship has ended already."""

    code, title = "care_ended", "Care has ended"
    detail = "This relationship has ended already."


class TooYoung(Forbidden):
    """The clinic's age limit says from when patients decide themselves."""

    code, title = "too_young", "Too young"
    detail = "Patients below the clinic's age limit do not name who acts for them; ask the clinic."


class NoPatientAccount(Conflict):
    """Who acts for a patient does so with a patient's account."""

    code, title = "no_patient_account", "No patient's account"
    detail = "This user has no active account with the role of a patient."


class SharedContact(Conflict):
    """What is sent to a child must not reach its parents' account."""

    code, title = "shared_contact", "Shared contact"
    detail = "The patient and who acts for them have the same email; give the patient one of their own, or none."


class ProxyExists(Conflict):
    """This user acts for the patient already, or is proposed to."""

    code, title = "proxy_exists", "Proxy exists"
    detail = "This user acts for the patient already, or waits for approval."


class ProxyDecided(Conflict):
    """It has been approved or revoked already."""

    code, title = "proxy_decided", "Decided already"
    detail = "This has been approved or revoked already."


class AlreadyReviewed(Conflict):
    """Somebody has reviewed this already."""

    code, title = "already_reviewed", "Reviewed already"
    detail = "Somebody has reviewed this already."
