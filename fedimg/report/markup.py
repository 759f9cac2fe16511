"""Elements as text. Whatever is not `Markup` already is escaped, so nothing can slip through.

The output is well-formed XML and valid HTML at the same time: a browser and a strict XML
parser read the same tree.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias

# Not allowed in XML, or able to reorder the text around them on the screen.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
# HTML closes these by themselves.
_VOID = frozenset({"br", "img", "input", "link", "meta"})


class Markup(str):
    """Text that is markup already: made by `element` and `join` only."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[str]"


def text(value: str) -> Markup:
    """Plain text, escaped; control and direction-override characters become U+FFFD."""
    return Markup(html.escape(_UNSAFE.sub("\ufffd", value), quote=True))


def join(children: Iterable[str]) -> Markup:
    """Children one after the other, escaping those that are plain text."""
    return Markup("".join(child if isinstance(child, Markup) else text(child) for child in children))


def element(tag: str, *children: Child, **attributes: str | float | None) -> Markup:
    """One element.

    Args:
        children: markup, plain text (escaped), or iterables of both.
        attributes: None leaves one out; a number is written shortly; a trailing underscore
            is dropped (`class_`) and inner ones become hyphens (`stroke_width`).
    """
    parts = [tag]
    for name, value in attributes.items():
        if value is not None:
            written = number(value) if isinstance(value, int | float) else value
            parts.append(f'{name.rstrip("_").replace("_", "-")}="{text(written)}"')
    opening = " ".join(parts)
    if tag in _VOID:
        return Markup(f"<{opening}/>")
    body = join(part for child in children for part in ([child] if isinstance(child, str) else child))
    return Markup(f"<{opening}>{body}</{tag}>")


def number(value: float) -> str:
    """A coordinate with at most two decimals, without needless zeros."""
    written = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if written in {"-0", ""} else written
