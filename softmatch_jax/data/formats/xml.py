"""XML from others, read without anything that XML can refer to."""

from __future__ import annotations

from xml.etree import ElementTree

from softmatch_jax._checks import InputError
from softmatch_jax.data.formats.sources import Source, read_utf8


def parse_xml(source: Source, name: str) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        InputError: It is not UTF-8, not well formed, or declares a document type, through which entities
            would be expanded and files included.
    """
    text = read_utf8(source, name)
    where = f"{source.title}: {name}"
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(
            f"{where} declares a document type or entities, which are not read; export it again."
        )
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise InputError(
            f"{where} is not well-formed XML ({error}); it may be cut short, export it again."
        ) from None
