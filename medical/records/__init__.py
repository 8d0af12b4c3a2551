"""Patients' records: FHIR R4 resources, kept whole, versioned for ever, and found by search."""
