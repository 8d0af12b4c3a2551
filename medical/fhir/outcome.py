"""OperationOutcome: how FHIR tells what went wrong."""

from collections.abc import Sequence
from typing import Any

import msgspec

from medical.platform.errors import AppError
from medical.records.errors import InvalidResource
from medical.records.validation import Issue

Json = dict[str, Any]
FHIR = "application/fhir+json"
CODES = {
    400: "invalid",
    401: "login",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    406: "not-supported",
    409: "conflict",
    410: "deleted",
    412: "conflict",
    413: "too-long",
    415: "not-supported",
    422: "processing",
    429: "throttled",
    503: "transient",
}
"""The issue type of each status, where a refusal does not say it itself."""


def outcome(issues: Sequence[Issue], severity: str = "error") -> Json:
    """An OperationOutcome of these issues."""
    told = [
        {"severity": severity, "code": one.code, "diagnostics": one.diagnostics, "expression": [one.expression]}
        for one in issues
    ]
    return {"resourceType": "OperationOutcome", "issue": told}


def all_ok() -> Json:
    """An OperationOutcome of what is right."""
    issue = {"severity": "information", "code": "informational", "diagnostics": "All is as FHIR R4 says."}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def refusal_document(refusal: AppError, request_id: str) -> tuple[str, bytes]:
    """The refusal as an OperationOutcome: media type and JSON. ``request_id`` finds it in the log."""
    if isinstance(refusal, InvalidResource):
        told = outcome(refusal.issues)
    else:
        code = CODES.get(refusal.status, "exception")
        issue: Json = {"severity": "error", "code": code, "diagnostics": refusal.detail}
        issue["details"] = {"coding": [{"system": "urn:medical-backend:problem", "code": refusal.code}]}
        told = {"resourceType": "OperationOutcome", "issue": [issue]}
        told["issue"] += [
            {"severity": "error", "code": code, "diagnostics": f"{one.pointer}: {one.message}"}
            for one in refusal.errors
        ]
    return FHIR, msgspec.json.encode(told | {"id": request_id[:64]})
