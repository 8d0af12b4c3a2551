"""What apps are told about how to begin. Source: https://hl7.org/fhir/smart-app-launch/conformance.html (2.2)."""

from typing import Any

from medical.smart.schemas import OTHER_SCOPES
from medical.smart.token_routes import endpoints

CAPABILITIES = (
    "launch-ehr",
    "launch-standalone",
    "client-public",
    "client-confidential-symmetric",
    "client-confidential-asymmetric",
    "context-ehr-patient",
    "context-standalone-patient",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
    "permission-v1",
    "permission-v2",
)
SCOPES = ["patient/*.cruds", "user/*.cruds", "system/*.cruds", *OTHER_SCOPES]


def document(here: str) -> dict[str, Any]:
    """The document `smart-configuration` of the server at this address."""
    return endpoints(here) | {"scopes_supported": SCOPES, "capabilities": CAPABILITIES}
