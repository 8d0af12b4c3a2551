"""What the patients of the demo clinic have in their records."""

import gzip
from collections.abc import Sequence
from importlib.resources import files
from typing import Any
from uuid import UUID

from medical.records import service
from medical.records.codec import decode
from medical.records.programs import program_of
from medical.records.service import Draft


def fill(organization_id: UUID, patient_ids: Sequence[UUID]) -> int:
    """Keep the records of these patients, who stand as they do in ``demo_patients.json``; how many there are."""
    names = {f"Patient/{number}": f"Patient/{patient_id}" for number, patient_id in enumerate(patient_ids)}
    drafts = [Draft(_named(one, names), one["id"]) for one in shipped()]
    return len(service.create_many(program_of(organization_id), drafts, shipped=True))


def shipped() -> list[dict[str, Any]]:
    """The resources of the file, in which patients are numbers."""
    packed = files("medical.cli").joinpath("demo_records.json.gz").read_bytes()
    kept: list[dict[str, Any]] = decode(gzip.decompress(packed))
    return kept


def _named(value: Any, names: dict[str, str]) -> Any:
    """A copy that refers to the patients by their ids."""
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    if isinstance(value, dict):
        return {key: names.get(one, one) if key == "reference" else _named(one, names) for key, one in value.items()}
    return value
