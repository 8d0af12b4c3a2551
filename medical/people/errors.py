"""Why something about people is refused."""

from medical.platform.errors import Conflict, Forbidden


class PossibleDuplicate(Conflict):
    """Probably the same person; `candidates` says who. Repeat with `confirm_new: true` to go on."""

    code, title = "possible_duplicate", "Probably registered already"
    detail = "Somebody very like this is registered already; look at the candidates, or repeat with confirm_new."


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


class ContactFieldsOnly(Forbidden):
    """Patients change their contact details; the clinic changes the rest."""

    code, title = "contact_fields_only", "Contact details only"
    detail = "You may change email, phone and address; ask the clinic to change the rest."
