"""Changes to a resource, named one by one. Source: RFC 6902, https://hl7.org/fhir/R4/http.html#patch."""

from typing import Any

from medical.records.errors import PatchRefused, UnreadableResource

Json = dict[str, Any]
KEPT = ("resourceType", "id")
"""What a patch does not change."""


def patched(document: Json, operations: Any) -> Json:
    """A copy of the document with the operations of a JSON Patch applied, all of them.

    Raises ``UnreadableResource`` for what is no JSON Patch, and ``PatchRefused`` for one that does not fit.
    """
    import jsonpatch  # late: few processes patch
    import jsonpointer

    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise UnreadableResource("A JSON Patch is a list of operations.")
    try:
        made = jsonpatch.JsonPatch(operations).apply(document)
    except jsonpatch.InvalidJsonPatch:
        raise UnreadableResource("Each operation of a JSON Patch has an op, a path, and what these need.") from None
    except jsonpatch.JsonPatchTestFailed:
        raise PatchRefused("A test of the patch fails: the resource is not what it was written for.") from None
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, KeyError, IndexError):
        raise PatchRefused from None
    if not isinstance(made, dict) or any(made.get(name) != document.get(name) for name in KEPT):
        raise PatchRefused("A patch changes neither the id nor the type of a resource.")
    return made
