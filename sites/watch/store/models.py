"""Which released models are here, and which of them speaks: one active of each name, others in its shadow or retired."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedimg.errors import DataError
from sites.watch.store import audit
from sites.watch.store.database import Database

Role = Literal["active", "shadow", "retired"]


@dataclass(frozen=True, slots=True)
class Registered:
    """A bundle that was verified here. `said`: what pages show of its metadata."""

    digest: str
    name: str
    version: str
    kind: str
    folder: Path
    role: Role
    said: Mapping[str, Any]


class Models:
    """The model table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, one: Registered, who: str, at: float) -> Role:
        """A bundle that is new here gets its role; one that is known keeps the one it has. What it is then.

        The first of a name is active; a further one begins in the shadow, whatever role was asked for.
        """
        with self._database.change() as change:
            known = change.execute("SELECT role FROM model WHERE digest = ?", (one.digest,)).fetchone()
            if known is not None:
                change.execute("UPDATE model SET folder = ? WHERE digest = ?", (str(one.folder), one.digest))
                return _role(known["role"])
            spoken = change.execute(
                "SELECT 1 FROM model WHERE name = ? AND role = 'active'", (one.name,)
            ).fetchone()
            role: Role = "shadow" if spoken else one.role
            change.execute(
                "INSERT INTO model (digest, name, version, kind, folder, metadata, role, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    one.digest,
                    one.name,
                    one.version,
                    one.kind,
                    str(one.folder),
                    json.dumps(one.said),
                    role,
                    at,
                ),
            )
            audit.note(self._database, who, f"model added, {role}", one.digest, at)
        return role

    def set_role(self, digest: str, role: Role, who: str, at: float) -> None:
        """Make one active (the one that was goes to the shadow), or silent, or retired.

        Raises DataError for a model that is not here.
        """
        with self._database.change() as change:
            row = change.execute("SELECT name, role FROM model WHERE digest = ?", (digest,)).fetchone()
            if row is None:
                raise DataError(
                    "a model of this watcher", "none of that digest", "fedimg watch models SETTINGS"
                )
            if role == "active":
                change.execute(
                    "UPDATE model SET role = 'shadow', since = ? WHERE name = ? AND role = 'active' AND digest <> ?",
                    (at, row["name"], digest),
                )
            change.execute("UPDATE model SET role = ?, since = ? WHERE digest = ?", (role, at, digest))
            audit.note(self._database, who, f"model {role}, was {row['role']}", digest, at)

    def all(self) -> list[Registered]:
        rows = self._database.rows("SELECT * FROM model ORDER BY name, role, version, digest")
        return [
            Registered(
                row["digest"],
                row["name"],
                row["version"],
                row["kind"],
                Path(row["folder"]),
                _role(row["role"]),
                json.loads(row["metadata"]),
            )
            for row in rows
        ]

    def working(self) -> list[Registered]:
        """Those that look at studies: active and in the shadow."""
        return [one for one in self.all() if one.role != "retired"]

    def speaking(self, loaded: Collection[str]) -> dict[str, bool]:
        """Digest → whether it is a shadow, of the models that workers hold.

        Where the active one of a name is not loaded yet, the one that was active before speaks until it is.
        """
        found = {one.digest: one.role == "shadow" for one in self.working() if one.digest in loaded}
        for one in self.working():
            if one.role == "active" and one.digest not in loaded:
                former = self.former(one)
                if former in found:
                    found[former] = False
        return found

    def former(self, one: Registered) -> str | None:
        """Of its name the one that went into the shadow last."""
        row = self._database.row(
            "SELECT digest FROM model WHERE name = ? AND role = 'shadow' AND digest <> ? ORDER BY since DESC LIMIT 1",
            (one.name, one.digest),
        )
        return None if row is None else str(row["digest"])


def _role(text: str) -> Role:
    match text:
        case "active" | "shadow" | "retired":
            return text
    raise DataError("a role of a model", "another word", "restore the store from its backup")
