"""Why a booking or another act on a diary is refused."""

from medical.platform.errors import Conflict, Forbidden


class SlotTaken(Conflict):
    """Somebody else has this time with the clinician."""

    code, title = "slot_taken", "Time taken"
    detail = "The clinician is taken at this time; look for another free slot."


class PatientBusy(Conflict):
    """The patient has another appointment at this time."""

    code, title = "patient_busy", "Patient busy"
    detail = "The patient has another appointment at this time."


class RoomTaken(Conflict):
    """The visit needs a room, and at this time none is free where it would be."""

    code, title = "room_taken", "No room"
    detail = "No room is free there at this time; look for another free slot."


class DeviceTaken(Conflict):
    """The visit needs a device, and at this time none of its kind is free where it would be."""

    code, title = "device_taken", "No device"
    detail = "A device that this type of appointment needs is not free there at this time; look for another free slot."


class OutsideAvailability(Conflict):
    """The clinician does not work then, or not for this type of appointment."""

    code, title = "outside_availability", "Outside availability"
    detail = "The clinician has no availability for this type of appointment over the whole of this time."


class TooSoon(Conflict):
    """The start is past, or nearer than the type's notice allows."""

    code, title = "too_soon", "Too soon"
    detail = "The start is past, or nearer than this type of appointment allows."


class BeyondHorizon(Conflict):
    """The start is farther ahead than the type allows."""

    code, title = "beyond_horizon", "Too far ahead"
    detail = "The start is farther ahead than this type of appointment allows."


class InvalidTransition(Conflict):
    """The appointment's status does not allow this move."""

    code, title = "invalid_transition", "Not from this status"
    detail = "The appointment's status does not allow this."


class AppointmentTypeExists(Conflict):
    """Another appointment type has this name."""

    code, title = "appointment_type_exists", "Appointment type exists"
    detail = "Another appointment type has this name."


class HolidayExists(Conflict):
    """The site has a day of its own on this date."""

    code, title = "holiday_exists", "Holiday exists"
    detail = "This location has a day of its own on this date already."


class NationalHoliday(Conflict):
    """National holidays come from the calendar and are not removed one by one."""

    code, title = "national_holiday", "National holiday"
    detail = "This day comes from the calendar; to work on it, add a day with `closed: false`."


class NotYourDiary(Forbidden):
    """Clinicians act on their own diary, patients for themselves."""

    code, title = "not_your_diary", "Not your diary"
    detail = "Clinicians act on their own diary, patients for themselves; ask the desk."
