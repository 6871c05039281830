"""XML in: a bounded reader for the few small documents that S3 requests carry.

Contract: no document type, entity or processing instruction is accepted (so no XML bombs and no
external references), depth, size and the number of elements are bounded (an element takes far more
memory than its four bytes), S3's namespace, S3 Control's, or none is accepted, and everything that
is not well-formed is MalformedXML. Large documents are parsed in slices, with the event loop let
through in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from xml.parsers import expat

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.s3.xml_write import CONTROL_NAMESPACE, NAMESPACE

_SEPARATOR: Final = " "
_NAMESPACES: Final = frozenset({NAMESPACE, CONTROL_NAMESPACE})
_TYPE: Final = f"http://www.w3.org/2001/XMLSchema-instance{_SEPARATOR}type"


class Element:
    """One element: local name, the text directly inside it, and its children in order. `type`: what
    its attribute xsi:type says, or ""; no document has another that means something."""

    __slots__ = ("children", "name", "text", "type")

    def __init__(self, name: str, kind: str = "") -> None:
        self.name = name
        self.type = kind
        self.text = ""
        self.children: Sequence[Element] = ()

    def only(self, *names: str) -> dict[str, str]:
        """The children as name -> text, each at most once, childless, and of these names."""
        found: dict[str, str] = {}
        for child in self.children:
            if child.name not in names or child.name in found or child.children:
                raise S3Error("MalformedXML")
            found[child.name] = child.text
        return found


class _Builder:
    """expat's callbacks; raises S3Error through the parser."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[tuple[Element, list[Element]]] = []  # with what is inside so far
        self._count = 0  # of elements, attributes and namespaces

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._add(1 + len(attributes))
        namespace, is_qualified, local = name.rpartition(_SEPARATOR)
        if is_qualified and namespace not in _NAMESPACES:
            raise S3Error("MalformedXML")
        element = Element(local, attributes.get(_TYPE, ""))
        if self._open:
            parent, children = self._open[-1]
            if len(self._open) >= limits.S3_XML_DEPTH_MAX or parent.text.strip():
                raise S3Error("MalformedXML")
            parent.text = ""
            children.append(element)
        else:
            self.root = element
        self._open.append((element, []))

    def end(self, _name: str) -> None:
        closed, children = self._open.pop()
        if children:
            closed.children = children

    def text(self, data: str) -> None:
        element, children = self._open[-1]
        if not children:
            element.text += data
        elif data.strip():
            raise S3Error("MalformedXML")

    def namespace(self, _prefix: str | None, _uri: str | None) -> None:
        self._add(1)

    def _add(self, count: int) -> None:
        self._count += count
        if self._count > limits.S3_XML_ELEMENTS_MAX:
            raise S3Error("MalformedXML")


def _refuse(*_anything: Any) -> None:
    raise S3Error("MalformedXML", "Document types and processing instructions are not accepted.")


async def parse(data: bytes, root: str) -> Element:
    """The document's root element, which must be called `root`; S3Error MalformedXML otherwise."""
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.StartNamespaceDeclHandler = builder.namespace
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.ProcessingInstructionHandler = _refuse
    view = memoryview(data)
    slice_bytes = limits.S3_XML_SLICE_BYTES
    try:
        for start in range(0, len(view), slice_bytes):
            if start:
                await asyncio.sleep(0)
            end = min(start + slice_bytes, len(view))
            parser.Parse(view[start:end], False)
            if end - parser.CurrentByteIndex > limits.S3_XML_TOKEN_BYTES_MAX:
                raise S3Error("MalformedXML")
        parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, LookupError):
        raise S3Error("MalformedXML") from None
    if builder.root is None or builder.root.name != root:
        raise S3Error("MalformedXML")
    return builder.root
