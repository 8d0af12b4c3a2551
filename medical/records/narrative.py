"""Narrative: the XHTML by which people read a resource. Source: https://hl7.org/fhir/R4/narrative.html#xhtml."""

import re
from html.entities import name2codepoint
from typing import Any
from xml.parsers import expat

XHTML = "http://www.w3.org/1999/xhtml"
ELEMENTS = frozenset(
    [
        "a",
        "abbr",
        "acronym",
        "address",
        "b",
        "bdi",
        "bdo",
        "big",
        "blockquote",
        "br",
        "caption",
        "center",
        "cite",
        "code",
        "col",
        "colgroup",
        "dd",
        "del",
        "dfn",
        "div",
        "dl",
        "dt",
        "em",
        "font",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "img",
        "ins",
        "kbd",
        "li",
        "ol",
        "p",
        "pre",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "tt",
        "u",
        "ul",
        "var",
    ]
)
"""Those of HTML 4.0 (chapters 7 to 11, but 4, and 15) that FHIR allows, besides links and images."""
ATTRIBUTES = frozenset(
    [
        "abbr",
        "accesskey",
        "align",
        "alt",
        "axis",
        "bgcolor",
        "border",
        "cellhalign",
        "cellpadding",
        "cellspacing",
        "cellvalign",
        "char",
        "charoff",
        "charset",
        "cite",
        "class",
        "clear",
        "color",
        "colspan",
        "compact",
        "coords",
        "datetime",
        "dir",
        "face",
        "frame",
        "headers",
        "height",
        "href",
        "hreflang",
        "hspace",
        "id",
        "lang",
        "longdesc",
        "name",
        "noshade",
        "nowrap",
        "rel",
        "rev",
        "rowspan",
        "rules",
        "scope",
        "shape",
        "size",
        "span",
        "src",
        "start",
        "style",
        "summary",
        "tabindex",
        "title",
        "type",
        "valign",
        "value",
        "vspace",
        "width",
        "xml:lang",
        "xml:space",
        "xmlns",
    ]
)
SAFE = ("http:", "https:", "mailto:", "data:image/", "tel:")
"""Schemes of links and images; without one they are relative."""
ENTITY = re.compile(r"&([a-zA-Z][a-zA-Z0-9]*);")
XML_ENTITIES = frozenset(("amp", "lt", "gt", "quot", "apos"))


class _Unsafe(Exception):
    """Something in the narrative is not allowed."""


def narrative_problem(div: str) -> str | None:
    """What is wrong with the XHTML of a narrative, or nothing (txt-1)."""
    parser = expat.ParserCreate()
    parser.StartElementHandler = _Elements().begin
    parser.StartDoctypeDeclHandler = parser.ProcessingInstructionHandler = _refuse
    try:
        parser.Parse(ENTITY.sub(_character, div), True)
    except expat.ExpatError:
        return "must be well-formed XHTML"
    except _Unsafe as error:
        return f"txt-1: {error}"
    return None


class _Elements:
    """The elements as they begin; the first must be a div."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if not self.begun and (name != "div" or attributes.get("xmlns", XHTML) != XHTML):
            raise _Unsafe("must be a div of XHTML")
        self.begun = True
        if name not in ELEMENTS:
            raise _Unsafe("has an element that is not allowed")
        for attribute, value in attributes.items():
            if attribute not in ATTRIBUTES:
                raise _Unsafe("has an attribute that is not allowed")
            if attribute in ("href", "src", "cite", "longdesc") and not _is_safe(value):
                raise _Unsafe("has a link that is not allowed")


def _is_safe(link: str) -> bool:
    """Whether a link is relative, or of a scheme that runs nothing."""
    plain = "".join(link.split()).lower()
    scheme, colon, _ = plain.partition(":")
    return not colon or not scheme.replace("+", "").replace("-", "").isalnum() or plain.startswith(SAFE)


def _refuse(*_: Any) -> None:
    raise _Unsafe("must have no document type and no processing instructions")


def _character(entity: re.Match[str]) -> str:
    """A named character of HTML as the character itself; what XML knows, and what nobody knows, as it is."""
    name = entity[1]
    return entity[0] if name in XML_ENTITIES or name not in name2codepoint else chr(name2codepoint[name])
