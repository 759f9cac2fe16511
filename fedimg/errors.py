"""What can go wrong, as types.

Every message says three things: what was expected, what was found, and what to
do about it. None of them may hold patient data: a message may name a site, a
run position, a DICOM keyword or a configuration key, never a value read from a
patient's file, nor an input path.
"""

from __future__ import annotations


class FedimgError(Exception):
    """An expected failure with a remedy; the command line prints it without a traceback.

    Args:
        expected: the condition that should have held.
        found: what was there instead, free of patient data.
        remedy: what the person reading this can do.
    """

    exit_code = 1

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        self.expected, self.found, self.remedy = expected, found, remedy
        super().__init__(expected, found, remedy)

    def __str__(self) -> str:
        return f"expected {self.expected}; found {self.found}; {self.remedy}"


class ConfigError(FedimgError):
    """A configuration key or value that cannot be used."""

    exit_code = 2


class PolicyRefused(FedimgError):
    """A site's own policy does not allow what the server asked for."""

    exit_code = 3


class BudgetExhausted(PolicyRefused):
    """The privacy budget left at a site does not cover the declared releases."""


class LedgerError(FedimgError):
    """The privacy ledger is missing, short, forked or unreadable: nothing may be released."""

    exit_code = 3


class DataError(FedimgError):
    """Input data that cannot be used as a whole (one bad file is quarantined instead)."""

    exit_code = 4


class ReceiptError(DataError):
    """A released file without a valid receipt: training may not read it."""


class MessageError(FedimgError):
    """Bytes from the network that are not a well-formed message of the agreed plan."""

    exit_code = 5


class FederationError(FedimgError):
    """A round or run that cannot go on, for instance with too few sites answering."""

    exit_code = 5


class TooFewAnswers(FederationError):
    """A round in which fewer sites than are needed have answered as agreed; nothing was changed by it."""


class ModelError(FedimgError):
    """A network that cannot be trained with patient-level privacy."""

    exit_code = 2
