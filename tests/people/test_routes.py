"""Patients, clinicians and locations over HTTP."""

from tests.clinic import Clinic


class TestRegisterPatient:
    """A patient is registered at the desk."""

    def test_gets_a_record_number(self, clinic: Clinic) -> None:
        """The answer names the patient and where to find them."""
        patient = clinic.patient(family_name="Okafor")
        assert patient["mrn"].startswith("P")
        assert clinic.admin.get(f"/patients/{patient['id']}").get_json() == patient
