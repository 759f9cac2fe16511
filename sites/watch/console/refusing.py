"""Errors of the library as answers: what is not there, and what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from fedimg.errors import DataError
from fedimg.web.refusal import Refused

_T = TypeVar("_T")


def known_or_refused(read: Callable[[], _T]) -> _T:
    """What is read; DataError becomes 404."""
    try:
        return read()
    except DataError as fault:
        raise Refused(HTTPStatus.NOT_FOUND, _text(fault)) from None


def done_or_refused(act: Callable[[], None]) -> None:
    """Of something that is there: DataError becomes 409."""
    try:
        act()
    except DataError as fault:
        raise Refused(HTTPStatus.CONFLICT, _text(fault)) from None


def _text(fault: DataError) -> str:
    return f"Expected {fault.expected}; found {fault.found}."
