"""fhirclient (SMART Python): its models are strict, so that every element of ours must be in its place."""

import os

from fhirclient import client as smart
from fhirclient.models import capabilitystatement, condition, fhirdate, humanname, observation, patient, slot

settings = {"app_id": "suite", "api_base": os.environ["FHIR_BASE"]}
server = smart.FHIRClient(settings=settings).server
server.session.headers["Authorization"] = f"Bearer {os.environ['FHIR_TOKEN']}"

statement = capabilitystatement.CapabilityStatement(server.request_json("metadata"))
assert statement.fhirVersion == "4.0.1"

made = patient.Patient()
made.name = [humanname.HumanName({"family": "Smart", "given": ["Grace"]})]
made.birthDate = (
    fhirdate.FHIRDate("1980-05-17")
    if not hasattr(fhirdate.FHIRDate, "with_json")
    else (fhirdate.FHIRDate.with_json("1980-05-17"))
)
answer = made.create(server)
assert answer["id"], "an id of the server's"
read = patient.Patient.read(answer["id"], server)
assert read.name[0].family == "Smart"
read.gender = "female"
read.update(server)
found = patient.Patient.where(struct={"family": "Smart"}).perform_resources(server)
assert [one.gender for one in found] == ["female"]

count = 0
for kind in (observation.Observation, condition.Condition):
    for one in kind.where(struct={"_count": "50"}).perform_resources(server):
        assert one.as_json()["resourceType"] == kind.resource_type
        count += 1
assert count > 50, "the demo's records, read by strict models"
times = slot.Slot.where(struct={"status": "free", "_count": "5"}).perform_resources(server)
assert {one.status for one in times} == {"free"}
print("fhirclient got through")  # noqa: T201 - whoever runs it reads this
