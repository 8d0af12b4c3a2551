"""Security labels of resources, and which of them keep a resource from those who act for the patient."""

from typing import Any

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
SENSITIVE = frozenset(
    {(CONFIDENTIALITY, code) for code in ("R", "V")}
    | {
        (ACT_CODE, code)
        for code in ("ETH", "GDIS", "HIV", "MST", "PSY", "SCA", "SDV", "SEX", "SPI", "STD", "SUD", "TBOO")
    }
)
"""Restricted and very restricted records, and those that HL7's information sensitivity codes name."""


def is_sensitive(resource: dict[str, Any]) -> bool:
    """Whether a label of the resource says that not everybody who acts for the patient should see it."""
    labels = resource.get("meta", {}).get("security", ())
    return any((one.get("system"), one.get("code")) in SENSITIVE for one in labels)
