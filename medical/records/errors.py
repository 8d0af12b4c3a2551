"""Why an act on a record is refused."""

from collections.abc import Sequence

from medical.platform.errors import AppError, Conflict
from medical.records.validation import Issue


class Gone(AppError):
    """The resource was deleted; its versions are there."""

    status, code, title = 410, "gone", "Deleted"
    detail = "This resource was deleted; its former versions can be read."


class InvalidResource(AppError):
    """The resource is not as FHIR R4 says."""

    status, code, title = 422, "invalid_resource", "Invalid resource"
    detail = "The resource is not valid FHIR R4."

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__()
        self.issues = list(issues)


class UnreadableResource(AppError):
    """The body is no JSON that a resource could be, or another one than the path says."""

    status, code, title = 400, "unreadable_resource", "Not a resource"
    detail = "The body must be one resource of FHIR R4 as JSON."


class PatchRefused(AppError):
    """The changes cannot be made to the resource as it is."""

    status, code, title = 422, "patch_refused", "Patch refused"
    detail = "The patch does not fit the resource: it names what is not there."


class UnknownParameter(AppError):
    """A search parameter that does not exist, or a value that it cannot have."""

    status, code, title = 400, "unknown_parameter", "Cannot be searched so"
    detail = "This cannot be searched for."


class TooManyExports(AppError):
    """The client has as many exports under way as it may."""

    status, code, title = 429, "too_many_exports", "Too many exports"
    detail = "Two exports of yours are under way: wait for one, or delete it."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "60"})


class ExportFailed(AppError):
    """The export was given up; nothing of it can be fetched."""

    status, code, title = 422, "export_failed", "Export given up"
    detail = "The export was given up; ask for it again."


class PatientUnknown(AppError):
    """The resource speaks of a patient who is not here, or whom the caller does not see."""

    status, code, title = 422, "patient_unknown", "Patient not known"
    detail = "The resource is of a patient who is not registered here, or whose record you may not write."


class SeveralMatch(AppError):
    """A condition that should name one resource fits several."""

    status, code, title = 412, "several_match", "Several match"
    detail = "More than one resource fits the condition."


class NothingMatches(AppError):
    """A reference that names a resource by a condition finds none."""

    status, code, title = 412, "nothing_matches", "Nothing matches"
    detail = "A reference of the resource finds nothing."


class NotHere(AppError):
    """Resources of this type are made by other calls."""

    status, code, title = 405, "not_here", "Not made here"
    detail = "Resources of this type are made elsewhere; see the capability statement."


class KeptElsewhere(AppError):
    """What an account, a clinician's entry, a site or the organisation says is changed where these are kept."""

    status, code, title = 422, "kept_elsewhere", "Kept elsewhere"
    detail = "Names, status, specialty, place and time zone of who works here are changed by the JSON API."


class NoteSigned(Conflict):
    """A note that is signed is amended, not signed again."""

    code, title = "note_signed", "Signed already"
    detail = "This note is signed; it can be amended."


class NoteNotSigned(Conflict):
    """Only the last signed state of a note is amended."""

    code, title = "note_not_signed", "Not to be amended"
    detail = "This note is a draft, or another has taken its place already."


class NotYourNote(Conflict):
    """Only who wrote a note signs it."""

    code, title = "not_your_note", "Not your note"
    detail = "Only the author of a note signs it."


class NotAcceptable(AppError):
    """The caller reads other formats than JSON."""

    status, code, title = 406, "not_acceptable", "Only JSON"
    detail = "Resources are answered as application/fhir+json."


class PatientIncomplete(AppError):
    """A patient cannot be registered without a name and a date of birth."""

    status, code, title = 422, "patient_incomplete", "Patient incomplete"
    detail = "To be registered here, a Patient needs a name and a whole date of birth."
