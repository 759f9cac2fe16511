"""Runs that a site was offered: their terms, as they came, and whether a person at the site has agreed.

home/runs/RUN/
  offer.json     the terms, and their digest       approved.json   who agreed, when, to which terms and which program
  joined.json    its commitment to its receipts as it joined      ended.part   its answer to the run's end
  declined.json  a person here does not want it

What a person agrees to once is the plan's digest, its ε, and the digest of the code that runs here: another program or
other terms are to be looked at again. A policy may agree beforehand to runs of at most some ε (`preapproved_epsilon`), a
few at a time: each sets its whole cost aside until it ends.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedimg.config import agreed
from fedimg.durable import sync_folder, write_durably
from fedimg.errors import DataError, MessageError, PolicyRefused
from fedimg.home import SiteHome
from fedimg.privacy import client_level
from fedimg.privacy.policy import SitePolicy
from fedimg.restored import Restored, check_run
from fedimg.terms import Terms

# Runs to which nobody has said anything: more of them are a coordinator gone wild.
_MOST_OPEN = 200
# Of runs that a policy agreed to beforehand, so many may be open; more need a person.
_MOST_PREAPPROVED = 3
_OFFER, _APPROVED, _DECLINED, _JOINED, _ENDED = (
    "offer.json",
    "approved.json",
    "declined.json",
    "joined.json",
    "ended.part",
)


@dataclass(frozen=True, slots=True)
class Offered:
    """A run that was offered, and where it stands here: "approval", "approved", "joined", "declined", "closed" or
    "ended".
    """

    run: str
    terms: Terms
    state: str


class Offers:
    """One home's."""

    def __init__(self, home: SiteHome) -> None:
        self._home, self._folder = home, home.root / "runs"

    def keep(self, run: str, terms: Terms) -> None:
        """Durable when this returns. Raises MessageError for other terms under a run's name, or too many offers."""
        known = self.terms(run)
        if known is not None:
            if known.digest != terms.digest:
                raise MessageError("the terms that this run was offered with", "others", "start a new run")
            return
        said = (_APPROVED, _DECLINED, _JOINED, _ENDED)
        if sum(not self._has(other.name, *said) for other in self._folders()) >= _MOST_OPEN:
            raise MessageError(
                f"at most {_MOST_OPEN} runs to which nobody here has said anything",
                "one more",
                "`fedimg site approve HOME RUN`, or `decline`; call the coordinator",
            )
        folder = self._folder / run
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(self._folder)
        entry = {"digest": terms.digest, "terms": agreed.plain(terms)}
        write_durably(folder / _OFFER, json.dumps(entry, indent=1) + "\n")

    def terms(self, run: str) -> Terms | None:
        """As they were offered; None for a run that was not. Raises DataError where they cannot be read."""
        file = self._folder / run / _OFFER
        if not file.exists():
            return None
        try:
            entry = json.loads(file.read_text("utf-8"))
            terms = agreed.read(entry["terms"])
            if terms.digest == entry["digest"]:
                return terms
        except (ValueError, TypeError, KeyError, MessageError):
            pass  # the refusal below is for all of it
        raise DataError(
            "a run's terms as this program reads them",
            "others",
            "have the run offered again: remove its folder below HOME/runs if another fedimg wrote it",
        )

    def all(self) -> tuple[Offered, ...]:
        """Every run that was offered and can be read, oldest name first."""
        found, restored = [], Restored.read(self._home.root)
        for folder in self._folders():
            try:
                terms = self.terms(folder.name)
            except DataError:
                continue  # of another program: it is offered again, or it has ended
            if terms is not None:
                over = restored is not None and restored.is_over(folder.name)
                state = self._state(folder.name)
                found.append(Offered(folder.name, terms, "closed" if over and state != "ended" else state))
        return tuple(found)

    def approve(self, plan: str, code: str) -> Offered:
        """Agree to a run by its name or the beginning of its terms' digest, as this program (`code`, hex) runs it.

        Raises:
            PolicyRefused: no such run, the beginning is that of several, or the home was restored since.
        """
        named = [one for one in self.all() if one.run == plan]
        found = named or [one for one in self.all() if one.terms.digest.startswith(plan.lower())]
        if len(found) != 1 or not (named or len(plan) >= 8):
            raise PolicyRefused(
                "the name of a run that was offered, or at least 8 letters of its plan's digest",
                "what fits several" if len(found) > 1 else "another",
                "`fedimg site approve HOME` lists the runs that were offered",
            )
        check_run(self._home.root, found[0].run)
        entry = {
            "terms": found[0].terms.digest,
            "code": code,
            "by": getpass.getuser(),
            "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        }
        folder = self._folder / found[0].run
        write_durably(folder / _APPROVED, json.dumps(entry, indent=1) + "\n")
        (folder / _DECLINED).unlink(missing_ok=True)
        return found[0]

    def decline(self, run: str) -> None:
        """A person here does not want this run; `approve` takes it back. Raises PolicyRefused for one that is none."""
        if not self._has(run, _OFFER) or self._has(run, _ENDED):
            raise PolicyRefused(
                "a run that was offered and has not ended here", "another", "see `fedimg site approve HOME`"
            )
        folder = self._folder / run
        write_durably(folder / _DECLINED, "{}\n")
        (folder / _APPROVED).unlink(missing_ok=True)
        sync_folder(folder)

    def agreed(self, run: str, terms: Terms, policy: SitePolicy, code: str) -> bool:
        """Whether a person, or the policy beforehand, has agreed to these terms and this program.

        Raises DataError for an approval that is none.
        """
        file = self._folder / run / _APPROVED
        if self._has(run, _DECLINED):
            return False
        if file.exists():
            try:
                entry = json.loads(file.read_text("utf-8"))
                if (entry["terms"], entry["code"]) == (terms.digest, code):
                    return True
            except (ValueError, TypeError, KeyError):
                raise DataError(
                    "a run's approval", "a file that is none", f"remove it and approve {run} again"
                ) from None
        if Restored.read(self._home.root) is not None:
            return False  # a person knows what was done before the home was restored
        own_noise = terms.privacy.mode not in ("none", client_level.MODE)
        if not own_noise or terms.privacy.epsilon > policy.preapproved_epsilon:
            return False
        others = (folder.name for folder in self._folders() if folder.name != run)
        open_ones = sum(self._has(o, _JOINED) and not self._has(o, _APPROVED, _ENDED) for o in others)
        return open_ones < _MOST_PREAPPROVED

    def join(self, run: str, receipts: str) -> str:
        """Keep with which commitment to its receipts the site has joined, and return it: the first one stands.

        Another one would tell the coordinator that files were taken in meanwhile.
        """
        known = self.joined_with(run)
        if known is None:
            write_durably(self._folder / run / _JOINED, json.dumps({"receipts": receipts}) + "\n")
        return receipts if known is None else known

    def joined_with(self, run: str) -> str | None:
        """None for a run that the site has not joined. Raises DataError for a file that is none."""
        file = self._folder / run / _JOINED
        if not file.exists():
            return None
        try:
            return str(json.loads(file.read_text("utf-8"))["receipts"])
        except (ValueError, TypeError, KeyError):
            raise DataError("what this site joined a run with", "a file that is none", "restore it") from None

    def ended(self, run: str) -> bytes | None:
        """What this site answered at the run's end; None before."""
        file = self._folder / run / _ENDED
        return file.read_bytes() if file.exists() else None

    def end(self, run: str, answer: bytes) -> None:
        """Keep the answer: from then on the run is over here."""
        write_durably(self._folder / run / _ENDED, answer)

    def _folders(self) -> list[Path]:
        return sorted(self._folder.iterdir()) if self._folder.is_dir() else []

    def _has(self, run: str, *files: str) -> bool:
        return any((self._folder / run / name).exists() for name in files)

    def _state(self, run: str) -> str:
        said = {_ENDED: "ended", _DECLINED: "declined", _JOINED: "joined", _APPROVED: "approved"}
        return next((state for name, state in said.items() if self._has(run, name)), "approval")
