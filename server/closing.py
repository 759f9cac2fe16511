"""The end of a run at its sites: each closes it in its ledger and signs its part of the record.

RUN/parts/NAME.json    a part as it came, once it was found to be that site's, for this run, and sound

A site that cannot be asked stands in the record by what it had declared, unsigned; it is told of the end when it is
back, so that what it had set aside and not spent is free again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from fedimg import record
from fedimg.coordination.finished import Participant
from fedimg.coordination.rounds import History
from fedimg.errors import FedimgError, MessageError
from fedimg.federation.conversation import Ended, Ending
from fedimg.record import SiteFacts, schema
from fedimg.record.checks import Findings
from fedimg.record.site_checks import check_site
from server.gathering import Gathering


@dataclass
class Closing:
    """One run's. `say` hears of parts that were refused."""

    gathering: Gathering
    say: Callable[[str, str], None]
    _parts: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _refused: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        folder = self.gathering.folder.path / "parts"
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in folder.glob("*.json"):
            self._parts[path.stem] = json.loads(path.read_text("utf-8"))

    def open(self) -> tuple[str, ...]:
        """Who has joined and is still to be asked."""
        return tuple(name for name in sorted(self.gathering.joined) if name not in self.answered())

    def answered(self) -> Collection[str]:
        return self._parts.keys() | self._refused

    def questions(self, connected: Mapping[str, str]) -> dict[str, bytes]:
        """To those who are there."""
        question = Ending(self.gathering.terms.run_id).to_bytes()
        return {name: question for name in self.open() if name in connected}

    def take(self, answers: Mapping[str, bytes | None]) -> None:
        """Keep the parts that are sound. A site that answers with another one is not asked again."""
        for name, data in answers.items():
            if data is None:
                continue
            try:
                part = self._checked(name, data)
            except FedimgError as fault:
                self._refused.add(name)
                self.say("part refused", f"{name}: expected {fault.expected}, found {fault.found}")
                continue
            except Exception as fault:  # noqa: BLE001 - a site's bytes: whatever they do here, they are no part
                self._refused.add(name)
                self.say("part refused", f"{name}: {type(fault).__name__}")
                continue
            self.gathering.folder.write(f"parts/{name}.json", json.dumps(part))
            self._parts[name] = part

    def participants(self, history: History) -> dict[str, Participant]:
        """As the record names them."""
        found = {}
        for name, joined in sorted(self.gathering.joined.items()):
            part, left = self._parts.get(name), None
            if part is None:
                after = max((row["round"] for row in history.rows if name in row.get("sites", ())), default=0)
                left = {"after_round": after}
                if joined.plan is not None:
                    left |= {"charged": None, "epsilon": None}
                part = record.unsigned_part(self._facts(name, after))
            found[name] = Participant(joined.plan, part, joined.receipts, joined.battery, left)
        return found

    def _facts(self, name: str, after: int | None = None) -> SiteFacts:
        joined = self.gathering.joined[name]
        return SiteFacts(
            self.gathering.terms.run_id,
            name,
            self.gathering.terms.digest,
            joined.plan,
            cast("Literal['patient', 'image']", joined.unit),
            self.gathering.terms.insecure_seed is not None,
            joined.receipts,
            after,
        )

    def _checked(self, name: str, data: bytes) -> dict[str, Any]:
        """Raises FedimgError unless it is this site's part, of this run, as it signed it, with the plan it joined with."""
        said = Ended.from_bytes(data)
        signed = dict(said.part)
        schema.SIGNED_PART(signed, "a site's part")
        part, plan = signed["part"], self.gathering.joined[name].plan
        own = signed["key"] == self.gathering.roster.identities[name].hex() and part["site"] == name
        stated = part["plan"] == (plan.as_json() if plan is not None else None)
        if (
            not own
            or not stated
            or said.run != self.gathering.terms.run_id
            or part["left_after_round"] is not None
        ):
            raise MessageError("the part of this site, with the plan that it joined with", "another", "")
        found = Findings()
        run = {
            "run": self.gathering.terms.run_id,
            "terms": self.gathering.terms.digest,
            "insecure_test_mode": self.gathering.terms.insecure_seed is not None,
        }
        check_site(found, run, signed, plan, None)
        failed = [check.name for check in found.checks if not check.passed]
        if failed:
            raise MessageError("a part that holds together", ", ".join(failed), "")
        return signed
