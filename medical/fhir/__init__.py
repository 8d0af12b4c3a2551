"""Records as FHIR clients see them: https://hl7.org/fhir/R4/http.html over the verbs of ``medical.records``."""
