"""XML as EPU writes it, read safely: no document type, no entities, bounded size; z:Ref resolved, namespaces dropped.

EPU serialises with .NET's DataContract serialiser (https://learn.microsoft.com/dotnet/framework/wcf/feature-details/):
an element with `z:Id="7"` may be stood for elsewhere by an empty one with `z:Ref="7"`, and element names may end in a
hash that changes with the build. Namespaces differ between versions; only local names are compared.
"""

from __future__ import annotations

import re

# Entities, external or nested, need a document type; `_refuse_document_type` sees to it that there is none.
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.text.findings import read_text

LARGEST_DM_BYTES = 64 * 1024 * 1024
"""A GridSquare file takes about 4 kB per hole, an EpuSession file 0.2 MB, an Atlas file 1 MB."""
LARGEST_IMAGE_XML_BYTES = 4 * 1024 * 1024
"""The XML beside an image takes 11 to 17 kB."""
MOST_MARKUP = 2_000_000
"""Most elements' ends, starts and attributes of a file, counted together; 133 for each hole in a GridSquare file."""

MOST_LOOKS = 10_000_000
"""Children that are gone through in all questions about a document, those behind references as often as they are named:
a small file can name one large element from everywhere. A GridSquare file of 1,000 holes takes 400,000."""

_LONGEST_CHAIN = 8
_LONGEST_PATH = 1000
_DOCUMENT_TYPE = re.compile("<!DOCTYPE|<!ENTITY", re.IGNORECASE)


@dataclass
class _Looks:
    """How many children have been gone through."""

    count: int = 0


class NotWholeError(FileFormatError):
    """The file is no text or its XML is not well-formed: damaged, or still being written."""


@dataclass(frozen=True)
class XmlDocument:
    """One parsed file; every question takes an element and names below it, and follows references on the way."""

    path: Path
    root: Element
    """Tags and attributes of all elements are local names."""
    targets: dict[str, Element]
    """z:Id -> the element."""
    looks: _Looks = field(default_factory=_Looks, compare=False, repr=False)

    def count_looks(self, children: int) -> None:
        """Count children that are gone through. Raises FileFormatError for more than MOST_LOOKS in all."""
        self.looks.count += children
        if self.looks.count > MOST_LOOKS:
            raise FileFormatError(
                self.path,
                None,
                "z:Ref must not stand for one large element again and again. Got that instead.",
            )

    def resolved(self, element: Element) -> Element:
        """The element itself, or the one it stands for. Raises FileFormatError for a reference to nothing."""
        for _ in range(_LONGEST_CHAIN):
            reference = element.get("Ref")
            if reference is None:
                return element
            target = self.targets.get(reference)
            if target is None:
                raise FileFormatError(
                    self.path,
                    None,
                    f"{element.tag}: a z:Ref must name the z:Id of another element. Got {reference[:40]!r} instead.",
                )
            element = target
        raise FileFormatError(
            self.path,
            None,
            f"{element.tag}: a z:Ref must lead to an element. Got more than {_LONGEST_CHAIN} in a row instead.",
        )

    def child(self, element: Element, *names: str) -> Element | None:
        """The first element at a path of names below, None where there is none."""
        element = self.resolved(element)
        for name in names:
            self.count_looks(len(element))
            below = element.find(name)
            if below is None:
                return None
            element = self.resolved(below)
        return element

    def text(self, element: Element, *names: str) -> str | None:
        """The text at a path of names below; None where the element is missing, nil or empty."""
        found = self.child(element, *names)
        if found is None or found.text is None:
            return None
        return found.text.strip() or None

    def pairs(self, element: Element | None, prefix: str) -> Iterator[tuple[str | None, Element | None]]:
        """Key and value of each serialised dictionary entry whose name starts with the prefix (hash ignored)."""
        self.count_looks(0 if element is None else len(element))
        for entry in () if element is None else element:
            if entry.tag.startswith(prefix):
                entry = self.resolved(entry)
                yield self.text(entry, "key"), self.child(entry, "value")


def read_xml(path: Path, roots: Sequence[str], limit: int = LARGEST_DM_BYTES) -> XmlDocument:
    """Parse a file whose root must be one of `roots` (local names).

    Raises FileFormatError for a file that cannot be read, is too large, declares a document type or has another root;
    NotWholeError when it is no text or the XML is not well-formed.
    """
    try:
        text = read_text(path, limit)
    except FileFormatError as error:
        if error.line is None:
            raise
        # Half a character, or blocks of zeros that a file server has reserved: still being written.
        raise NotWholeError(path, error.line, error.detail) from None
    _refuse_document_type(path, text)
    markup = text.count("<") + text.count("=")
    if markup > MOST_MARKUP:
        raise FileFormatError(
            path, None, f"must have at most {MOST_MARKUP:,} elements and attributes. Got {markup:,} instead."
        )
    try:
        # Text, not bytes: an encoding that the file declares cannot make the parser read something else.
        root = ET.fromstring(text)  # noqa: S314
    except ET.ParseError as error:
        line, column = error.position
        reason = str(error).partition(":")[0]
        raise NotWholeError(
            path,
            line,
            f"must be one whole XML document. Got {reason} at column {column} instead. "
            "Remedy: read it again when the microscope has finished writing it.",
        ) from None
    document = XmlDocument(path, root, _with_local_names(root))
    if root.tag not in roots:
        raise FileFormatError(
            path, None, f"must have the root element {' or '.join(roots)}. Got {root.tag[:80]!r} instead."
        )
    return document


def _refuse_document_type(path: Path, text: str) -> None:
    found = _DOCUMENT_TYPE.search(text)
    if found is not None:
        raise FileFormatError(
            path,
            text.count("\n", 0, found.start()) + 1,
            f"must not declare a document type or entities. Got {found.group()} instead.",
        )


def _with_local_names(root: Element) -> dict[str, Element]:
    """Strip namespaces in place; the elements by their z:Id."""
    targets: dict[str, Element] = {}
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if element.keys():
            attributes = {name.rpartition("}")[2]: value for name, value in element.items()}
            element.attrib = attributes
            if "Id" in attributes:
                targets.setdefault(attributes["Id"], element)
    return targets


def flattened(document: XmlDocument, root: Element) -> dict[str, str]:
    """Every text below an element by its path of local names; z:Ref is not followed.

    A dictionary entry (Key and Value) is named by its key: `CustomData/Dose`. A path that comes again gets `[2]`,
    `[3]`, ... so that nothing is lost. Raises FileFormatError for a path of more than 1000 characters: names and depth
    must not multiply into more memory than the file has.
    """
    texts: dict[str, str] = {}
    repeats: dict[str, int] = {}
    stack = [("", root)]
    while stack:
        path, element = stack.pop()
        # More than once: what is found here is kept.
        document.count_looks(8)
        if len(path) > _LONGEST_PATH:
            raise FileFormatError(
                document.path,
                None,
                f"{path[:40]}...: elements must be nested so that their path has at most {_LONGEST_PATH} characters. "
                "Got more instead.",
            )
        if len(element) == 0:
            text = element.text
            if text is not None and (text := text.strip()):
                texts[path if path not in texts else _unused(path, texts, repeats)] = text
        elif len(element) == 2 and element[0].tag in ("Key", "key") and element[0].text:
            parent = path.rpartition("/")[0]
            stack.append((f"{parent}/{element[0].text}" if parent else element[0].text, element[1]))
        else:
            prefix = path + "/" if path else ""
            stack += [(prefix + child.tag, child) for child in reversed(element)]
    return texts


def _unused(path: str, texts: dict[str, str], repeats: dict[str, int]) -> str:
    count = repeats.get(path, 1) + 1
    while f"{path}[{count}]" in texts:
        count += 1
    repeats[path] = count
    return f"{path}[{count}]"
