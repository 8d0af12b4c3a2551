"""Whether a resource is as FHIR R4 says: its form, cardinality, choices, datatypes, required codes and invariants.

Everything that is wrong is told, each with where it is. Which types a reference may point at is not looked at: official
examples go beyond that.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from medical.records import invariants
from medical.records.datatypes import RULES
from medical.records.definitions import Property, resource_types, shape_of, table
from medical.records.invariants import Ruled
from medical.records.narrative import narrative_problem
from medical.records.primitives import CHECKS

Json = dict[str, Any]
DEEPEST = 60
"""So deep a resource may be nested; FHIR sets no limit."""
CODED = frozenset({"CodeableConcept", "Coding", "Quantity"})


class Issue(NamedTuple):
    """One thing that is wrong."""

    code: str
    """Of http://hl7.org/fhir/issue-type."""
    expression: str
    """Where, as FHIRPath."""
    diagnostics: str


def validate(resource: Any) -> list[Issue]:
    """Everything that is wrong with a resource; nothing if it is right. Invariants are looked at once the form is."""
    walk = _Walk()
    walk.resource(resource, _name_of(resource) or "Resource", 0)
    return walk.issues or [Issue("invariant", *one) for one in invariants.broken(walk.ruled)]


def _name_of(value: Any) -> str | None:
    """The type of a resource, if it is one."""
    name = value.get("resourceType") if isinstance(value, dict) else None
    return name if isinstance(name, str) and name in resource_types() else None


class _Walk:
    """A walk through one resource, over the shapes of its types."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []
        self.local: list[tuple[str, str]] = []
        """Where the resource being walked refers to one that it contains, and to which."""
        self.ruled: list[Ruled] = []
        self.within: Json = {}
        self.rules = table("invariants")

    def add(self, code: str, path: str, diagnostics: str) -> None:
        """One more thing that is wrong."""
        self.issues.append(Issue(code, path, diagnostics))

    def resource(self, value: Any, path: str, depth: int, *, contained: bool = False) -> None:
        """A resource, at the top or within another."""
        if (name := _name_of(value)) is None:
            self.add("structure", path, "must be a resource with a `resourceType` of FHIR R4")
            return
        outer, self.local = (self.local, self.within), self.local if contained else []
        self.within = value
        self.object(value, name, path, depth, is_resource=True)
        if not contained and (self.local or "contained" in value) and not self.issues:
            self.issues += _contained_problems(value, path, self.local)
        self.local, self.within = outer

    def object(self, value: Any, type_name: str, path: str, depth: int, *, is_resource: bool = False) -> None:
        """An object of a type, or of an element with its own elements."""
        if not isinstance(value, dict):
            self.add("structure", path, "must be an object")
            return
        if not value:
            self.add("structure", path, "must not be empty")
            return
        if depth > DEEPEST:
            self.add("too-long", path, f"is nested more than {DEEPEST} deep")
            return
        if type_name in self.rules:
            self.ruled.append(Ruled(type_name, value, path, self.within))
        properties, required, choices = shape_of(type_name)
        for key, one in value.items():
            known = properties.get(key)
            if known is not None:
                if known.many:
                    self.list(one, known, f"{path}.{known.element}", depth)
                else:
                    self.value(one, known, f"{path}.{known.element}", depth)
            elif key[:1] == "_" and (known := properties.get(key[1:])) and known.check:
                self.beside(one, value.get(key[1:]), known, f"{path}.{known.element}", depth)
            elif not is_resource or key != "resourceType":
                self.add("structure", path, f"`{key[:64]}` is no element of it")
        for element, names in required:
            if not any(name in value or "_" + name in value for name in names):
                self.add("required", f"{path}.{element}", "is required")
        for element, names in choices:
            if sum(name in value or "_" + name in value for name in names) > 1:
                self.add("structure", f"{path}.{element}", "must be of one type only")

    def list(self, values: Any, known: Property, path: str, depth: int) -> None:
        """All values of an element that repeats."""
        if not isinstance(values, list):
            self.add("structure", path, "must be a list")
        elif not values:
            self.add("structure", path, "must not be an empty list")
        else:
            for n, value in enumerate(values):
                if value is not None or not known.check or len(values) == 1:
                    self.value(value, known, f"{path}[{n}]", depth)

    def value(self, value: Any, known: Property, path: str, depth: int) -> None:
        """One value of an element."""
        if known.check:
            if problem := known.check(value):
                self.add("structure" if value is None or isinstance(value, dict | list) else "value", path, problem)
            elif known.codes and value not in known.codes:
                self.add("code-invalid", path, "is no code of the required value set")
            elif known.type == "xhtml" and (problem := narrative_problem(value)):
                self.add("invariant", path, problem)
        elif known.type == "Resource":
            self.resource(value, path, depth + 1, contained=known.element == "contained")
        else:
            before = len(self.issues)
            self.object(value, known.type, path, depth + 1)
            if len(self.issues) == before:
                self.datatype(value, known, path)

    def beside(self, value: Any, plain: Any, known: Property, path: str, depth: int) -> None:
        """The ids and extensions of primitive values, which stand in ``_name``."""
        if not known.many:
            self.object(value, "Element", path, depth + 1)
            return
        if not isinstance(value, list) or not value:
            self.add("structure", path, "must be a list")
            return
        if isinstance(plain, list) and len(plain) != len(value):
            self.add("structure", path, "must have as many entries as the list beside it")
        for n, one in enumerate(value):
            if one is not None:
                self.object(one, "Element", f"{path}[{n}]", depth + 1)
            elif not isinstance(plain, list) or n >= len(plain) or plain[n] is None:
                self.add("structure", f"{path}[{n}]", "must not be empty")

    def datatype(self, value: Json, known: Property, path: str) -> None:
        """The rules of a general datatype."""
        if known.type == "Reference":
            self.reference(value.get("reference"), path)
        elif (rule := RULES.get(known.type)) and (problem := rule(value)):
            self.add("invariant", path, problem)
        if known.systems and known.type in CODED:
            self.coded(value, known, path)

    def reference(self, reference: str | None, path: str) -> None:
        """A reference: to what is contained, or to a type of resource by id."""
        if not reference:
            return
        if reference.startswith("#"):
            if len(reference) > 1:
                self.local.append((path, reference[1:]))
            return
        parts = reference.partition("/_history/")[0].split("/")
        if ":" in parts[0] or "?" in reference or len(parts) < 2:
            return
        if parts[-2] not in resource_types() or CHECKS["id"](parts[-1]):
            self.add("value", path, "must refer to a type of resource and an id")

    def coded(self, value: Json, known: Property, path: str) -> None:
        """A required binding of a concept: one of its codings is of the value set."""
        codings = value.get("coding", []) if known.type == "CodeableConcept" else [value]
        if known.type == "Quantity" and "code" not in value:
            return
        systems = known.systems or {}
        if codings and not any(one.get("code") in systems.get(one.get("system", ""), ()) for one in codings):
            self.add("code-invalid", path, "has no code of the required value set")


def _contained_problems(resource: Json, path: str, local: list[tuple[str, str]]) -> Iterator[Issue]:
    """The rules dom-2 to dom-5 of contained resources, and ref-1 of references to them."""
    contained = resource.get("contained", [])
    mentioned = {one for _, one in local} | set(_mentioned(resource)) if contained else set()
    for n, one in enumerate(contained):
        at, meta = f"{path}.contained[{n}]", one.get("meta", {})
        if "contained" in one:
            yield Issue("invariant", at, "dom-2: must not contain others")
        if "versionId" in meta or "lastUpdated" in meta:
            yield Issue("invariant", at, "dom-4: must have no version and no time of its own")
        if "security" in meta:
            yield Issue("invariant", at, "dom-5: must have no security label of its own")
        if one.get("id") not in mentioned and "" not in _mentioned(one):
            yield Issue("invariant", at, "dom-3: must be referred to from where it is contained, or refer to it")
    ids = {one.get("id") for one in contained}
    for at, one in local:
        if one not in ids:
            yield Issue("invariant", at, "ref-1: what it refers to is not contained")


def _mentioned(value: Any) -> Iterator[str]:
    """Every text that begins with #, as references to contained resources do, without it; at every depth."""
    if isinstance(value, str):
        if value.startswith("#"):
            yield value[1:]
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _mentioned(one)
