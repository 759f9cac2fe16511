"""Runs that a site was offered: their terms, as they came, and whether a person at the site has agreed.

home/runs/RUN/
  offer.json     the terms, and their digest       approved.json   who agreed, when, to which terms and which program
  joined.json    its commitment to its receipts as it joined      ended.part   its answer to the run's end

What a person agrees to once is the plan's digest, its ε, and the digest of the code that runs here: another program or
other terms are to be looked at again. A policy may agree beforehand to runs of at most some ε (`preapproved_epsilon`).
"""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from fedimg.config import agreed
from fedimg.durable import sync_folder, write_durably
from fedimg.errors import DataError, MessageError, PolicyRefused
from fedimg.home import SiteHome
from fedimg.privacy import client_level
from fedimg.privacy.policy import SitePolicy
from fedimg.restored import Restored, check_run
from fedimg.terms import Terms

# Terms of runs to which nobody has said anything: more of them are a coordinator gone wild.
_MOST_OPEN = 200


@dataclass(frozen=True, slots=True)
class Offered:
    """A run that was offered, and where it stands here: "approval", "approved", "ended" or "closed"."""

    run: str
    terms: Terms
    state: str


class Offers:
    """One home's. Raises DataError from each of its methods where a file is not what was written."""

    def __init__(self, home: SiteHome) -> None:
        self._home, self._folder = home, home.root / "runs"

    def keep(self, run: str, terms: Terms) -> None:
        """Durable when this returns. Raises MessageError for other terms under a run's name, or too many offers."""
        known = self.terms(run)
        if known is not None:
            if known.digest != terms.digest:
                raise MessageError("the terms that this run was offered with", "others", "start a new run")
            return
        if sum(one.state == "approval" for one in self.all()) >= _MOST_OPEN:
            raise MessageError(
                f"at most {_MOST_OPEN} runs that nobody here has agreed to",
                "one more",
                "call the coordinator",
            )
        folder = self._folder / run
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(self._folder)
        entry = {"digest": terms.digest, "terms": agreed.plain(terms)}
        write_durably(folder / "offer.json", json.dumps(entry, indent=1) + "\n")

    def terms(self, run: str) -> Terms | None:
        """As they were offered; None for a run that was not."""
        file = self._folder / run / "offer.json"
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
        for folder in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            try:
                terms = self.terms(folder.name)
            except DataError:
                continue  # of another program: it is offered again, or it has ended
            if terms is not None:
                state = "approved" if (folder / "approved.json").exists() else "approval"
                if restored is not None and restored.is_over(folder.name):
                    state = "closed"
                state = "ended" if (folder / "ended.part").exists() else state
                found.append(Offered(folder.name, terms, state))
        return tuple(found)

    def approve(self, plan: str, code: str) -> Offered:
        """Agree to a run by its name or the beginning of its terms' digest, as this program (`code`, hex) runs it.

        Raises:
            PolicyRefused: no such run, the beginning is that of several, or the home was restored since.
        """
        found = [one for one in self.all() if one.run == plan or one.terms.digest.startswith(plan.lower())]
        if len(plan) < 8 or len(found) != 1:
            several = "several" if len(found) > 1 else "none"
            raise PolicyRefused(
                "the name of a run that was offered, or at least 8 letters of its plan's digest",
                several if len(plan) >= 8 else "less",
                "`fedimg site approve HOME` lists the runs that were offered",
            )
        check_run(self._home.root, found[0].run)
        entry = {
            "terms": found[0].terms.digest,
            "code": code,
            "by": getpass.getuser(),
            "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        }
        write_durably(self._folder / found[0].run / "approved.json", json.dumps(entry, indent=1) + "\n")
        return found[0]

    def agreed(self, run: str, terms: Terms, policy: SitePolicy, code: str) -> bool:
        """Whether a person, or the policy beforehand, has agreed to these terms and this program."""
        file = self._folder / run / "approved.json"
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
        return own_noise and terms.privacy.epsilon <= policy.preapproved_epsilon

    def join(self, run: str, receipts: str) -> None:
        """Keep with which commitment to its receipts the site joined last."""
        write_durably(self._folder / run / "joined.json", json.dumps({"receipts": receipts}) + "\n")

    def joined_with(self, run: str) -> str | None:
        """None for a run that the site has not joined."""
        file = self._folder / run / "joined.json"
        return str(json.loads(file.read_text("utf-8"))["receipts"]) if file.exists() else None

    def ended(self, run: str) -> bytes | None:
        """What this site answered at the run's end; None before."""
        file = self._folder / run / "ended.part"
        return file.read_bytes() if file.exists() else None

    def end(self, run: str, answer: bytes) -> None:
        write_durably(self._folder / run / "ended.part", answer)
