"""fhirpy: create, read, search, update, transaction, count, references, delete."""

import os

from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import ResourceNotFound

client = SyncFHIRClient(os.environ["FHIR_BASE"], authorization=f"Bearer {os.environ['FHIR_TOKEN']}")

patient = client.resource("Patient", name=[{"family": "Fhirpy", "given": ["Ada"]}], birthDate="1980-05-17")
patient.save()
assert patient.id, "an id of the server's"
read = client.resources("Patient").search(_id=patient.id).get()
assert read["name"][0]["family"] == "Fhirpy"
patient["gender"] = "female"
patient.save()
assert client.reference("Patient", patient.id).to_resource()["gender"] == "female"

code = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
for value in (60, 70, 80):
    client.resource(
        "Observation", status="final", code=code, subject=patient.to_reference(), valueQuantity={"value": value}
    ).save()
found = client.resources("Observation").search(patient=patient.id, code="8867-4").sort("-_lastUpdated").limit(2)
assert [one["valueQuantity"]["value"] for one in found.fetch()] == [80, 70]
assert client.resources("Observation").search(patient=patient.id).count() == 3
assert len(client.resources("Observation").search(patient=patient.id).limit(1).fetch_all()) == 3
with_patient = client.resources("Observation").search(patient=patient.id).include("Observation", "subject").fetch_raw()
assert {one["resource"]["resourceType"] for one in with_patient["entry"]} == {"Observation", "Patient"}

entries = [
    {
        "fullUrl": "urn:uuid:one",
        "resource": {"resourceType": "Organization", "name": "One"},
        "request": {"method": "POST", "url": "Organization"},
    },
    {
        "resource": {"resourceType": "Organization", "name": "Two", "partOf": {"reference": "urn:uuid:one"}},
        "request": {"method": "POST", "url": "Organization"},
    },
]
bundle = client.resource("Bundle", type="transaction", entry=entries)
bundle.save()
assert client.resources("Organization").search(name="Two").first()["partOf"]["reference"].startswith("Organization/")

observation = client.resources("Observation").search(patient=patient.id).first()
observation.delete()
try:
    client.reference("Observation", observation.id).to_resource()
    raise SystemExit("what was deleted is still read")
except ResourceNotFound:
    pass
print("fhirpy got through")  # noqa: T201 - whoever runs it reads this
