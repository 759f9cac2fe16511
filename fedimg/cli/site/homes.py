"""`fedimg site init`, `log`, `open`: a hospital's home folder."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import print_json, print_table, say
from fedimg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fedimg.home import SiteHome
    from fedimg.privacy.ledger import LedgerTerms
    from fedimg.privacy.policy import SitePolicy

_EPSILON_MAX = 10.0
_DELTA = 1e-5  # of a ledger whose site says nothing else
# What a home holds only after its ledger was made.
_OF_WORK = (
    "ledger.sqlite",
    "ledger.sqlite-wal",
    "ledger-backup.sqlite",
    "restored.json",
    "plans",
    "outbox",
    "receipts.jsonl",
    "operator.log",
)


def init(arguments: Any) -> int:
    if arguments.patients < 1:
        raise ConfigError(
            "--patients of at least 1", str(arguments.patients), "declare the site's rounded size"
        )
    if arguments.site is not None:
        return _further(arguments)
    from fedimg import shared_site
    from fedimg.durable import write_durably
    from fedimg.privacy.ledger import Ledger

    written, policy = _policy(arguments.patients)
    terms = _terms(arguments, policy)
    state = shared_site.state_folder()
    with shared_site.alone(state):
        if not arguments.another_site:
            shared_site.check_only(state, arguments.home)
        home = _home(arguments.home)
        write_durably(home.policy, written)
        shared_site.note(state, shared_site.FirstHome.of(home.root, home.signing_key.public_bytes))
        Ledger.create(home.ledger, home.signing_key, terms).disconnect()
    sys.stdout.write(
        f"home {arguments.home}\nledger: ε ≤ {terms.epsilon_max:g} at δ = {terms.delta:g} for all runs together\n"
        f"public key {home.signing_key.public_bytes.hex()}\nread and edit {home.policy}\n"
    )
    return 0


def _further(arguments: Any) -> int:
    """A home for another study of a site: refused unless the site's ledger is there and verifies."""
    from fedimg.durable import write_durably
    from fedimg.home import SiteHome
    from fedimg.privacy.stated import statement_of

    if arguments.epsilon_max is not None or arguments.delta is not None:
        raise ConfigError(
            "no --epsilon-max and no --delta beside --site",
            "one of them",
            "leave it out: what the site's ledger promises was fixed when it was opened",
        )
    written, policy = _policy(arguments.patients)
    first = SiteHome.open(arguments.site)
    statement = statement_of(first.ledger, first.signing_key)
    root = arguments.home
    begun = (root / "home.json").exists() and not (root / "policy.yaml").exists()
    home = SiteHome.open(root) if begun else SiteHome.create_beside(root, first)
    if home.ledger != first.ledger:
        raise DataError("a home of this site", "one of another site", "name another folder")
    write_durably(home.policy, written)
    terms = statement.terms
    if terms.delta > policy.largest_delta * (1 + 1e-9):
        say(
            f"the site's ledger promises δ = {terms.delta:g}, more than 1/(10 · patients) of this study; each run's "
            f"own δ is held to {policy.largest_delta:.3g}"
        )
    sys.stdout.write(
        f"home {root}\nledger of {first.ledger.parent}: ε ≤ {terms.epsilon_max:g} at δ = {terms.delta:g} for all runs "
        f"together; spent or reserved {statement.epsilon_spent:.4g}, left {statement.epsilon_left:.4g}\n"
        f"public key {home.signing_key.public_bytes.hex()}\nread and edit {home.policy}\n"
    )
    return 0


def _policy(patients: int) -> tuple[str, SitePolicy]:
    """The shipped policy for a site of this declared size, as text and as read."""
    import yaml

    from fedimg.privacy.policy import SitePolicy

    template = (files("sites") / "policies" / "default.yaml").read_text("utf-8")
    written = re.sub(r"(?m)^declared_patients: *\d+", f"declared_patients: {patients}", template, count=1)
    policy = SitePolicy.from_mapping(yaml.safe_load(written))
    if policy.declared_patients != patients:
        raise ConfigError("a shipped policy with declared_patients", "none", "install fedimg again")
    return written, policy


def _terms(arguments: Any, policy: SitePolicy) -> LedgerTerms:
    """What a new ledger promises. Raises ConfigError for what the policy forbids."""
    import math

    from fedimg.privacy.events import Event
    from fedimg.privacy.ledger import LedgerTerms
    from fedimg.privacy.policy import rounded_down
    from fedimg.privacy.renyi import best_order

    epsilon_max = _EPSILON_MAX if arguments.epsilon_max is None else arguments.epsilon_max
    if not (math.isfinite(epsilon_max) and epsilon_max > 0):
        raise ConfigError("--epsilon-max above 0", f"{epsilon_max:g}", "give a positive number")
    most = policy.largest_delta
    delta = min(_DELTA, most) if arguments.delta is None else arguments.delta
    if not 0 < delta <= most * (1 + 1e-9):
        raise ConfigError(
            f"--delta above 0 and at most {most:.3g}: the smaller of the policy's max_delta = "
            f"{policy.max_delta:g} and 1/(10 · patients) = {0.1 / arguments.patients:.3g}",
            f"{delta:g}",
            f"leave --delta out, or give {rounded_down(most):g} or less",
        )
    # The order is fixed for the ledger's life: best for steps at σ = 1 that sample a tenth.
    return LedgerTerms(epsilon_max, delta, best_order(epsilon_max, delta, [Event(1.0, 0.1, 1)]))


def _home(root: Path) -> SiteHome:
    """A new home, or one whose making was interrupted before its ledger: nothing was ever done in it.

    A home that has worked and has lost its ledger is not one: a new ledger would forget what was spent.
    """
    from fedimg.home import SiteHome

    if (root / "home.json").exists() and not any((root / name).exists() for name in _OF_WORK):
        home = SiteHome.open(root)
        if not home.simulated:
            return home
    return SiteHome.create(root, simulated=False)


def log(arguments: Any) -> int:
    from fedimg.home import SiteHome
    from fedimg.operator_log import read_operator_log

    lines: list[Mapping[str, Any]] = list(read_operator_log(SiteHome.open(arguments.home).root))
    if arguments.json:
        print_json(lines)
    else:
        rows = [row for line in lines for row in _rows(line)]
        print_table(rows, ("time", "step", "kind", "expected", "found", "remedy"))
    return 0


def open_commitments(arguments: Any) -> int:
    """Find this site's part by its key, open it, and write the opening."""
    from fedimg import record
    from fedimg.canonical import encode
    from fedimg.cli.verify import read_bytes, record_file
    from fedimg.crypto.keys import write_secret
    from fedimg.home import SiteHome

    home = SiteHome.open(arguments.home)
    document = record.read(read_bytes(record_file(arguments.record)[0]))
    own = home.signing_key.public_bytes.hex()
    parts = [signed["part"] for signed in document["record"]["sites"] if signed["key"] == own]
    if len(parts) != 1:
        raise DataError(
            "a release record that this site signed", "one that it did not", "name another record"
        )
    write_secret(arguments.out, encode(record.opening(home, parts[0]).to_json()))
    sys.stdout.write(f"{arguments.out}: holds a secret; hand it to the auditor and to nobody else\n")
    return 0


def _rows(line: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line of the log as rows of a table: what was held back is one row a reason."""
    row = {name: line.get(name) for name in ("time", "step", "kind", "expected", "found", "remedy")}
    if "counts" not in line:
        if "where" in line:  # an unexpected fault: its kind and place are all that may be told
            row["found"] = " ".join([str(line.get("errno", "")), f"at {line['where'][-1]}"]).strip()
        return [row]
    from fedimg.intake.report import REMEDIES
    from fedimg.values import Quarantine

    positions = line.get("positions", {})
    rows = []
    for reason, count in line["counts"].items():
        at = f" (inputs {positions[reason]})" if reason in positions else ""
        remedy = REMEDIES[Quarantine(reason)] if reason in set(Quarantine) else ""
        found = f"{count} {str(reason).replace('_', ' ')}{at}"
        rows.append(row | {"expected": "inputs fit for training", "found": found, "remedy": remedy})
    return rows
