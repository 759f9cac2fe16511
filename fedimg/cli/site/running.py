"""`fedimg site admit`, `start`, `approve`: a site in a federation."""

from __future__ import annotations

import sys
from typing import Any

from fedimg.cli.console import print_json, print_table, progress
from fedimg.errors import ConfigError, DataError, FedimgError


def admit(arguments: Any) -> int:
    """Fill a home from a source, as a simulation fills those of its virtual sites."""
    from fedimg.config import keys

    keys.check(arguments.overrides)  # before anything heavy is imported
    from fedimg import sources, taking_in
    from fedimg.config import compose
    from fedimg.home import SiteHome
    from fedimg.operator_log import read_operator_log

    home = SiteHome.open(arguments.home)
    alone = [] if arguments.share is not None else ["sites=1"]
    config = compose([*alone, *arguments.overrides])
    manifests = sources.load(config.data, home.root / "source", config.sites, config.seed)
    names = sorted(name for name in manifests if name != sources.PUBLIC)
    name = arguments.share or (names[0] if len(names) == 1 else None)
    if name not in names:
        raise ConfigError(
            f"--share with one of {', '.join(names)}" if names else "a source with examples of a site",
            str(name or "none"),
            "name this site's share of the source",
        )
    taking_in.bind(home.root, config)
    told = len(read_operator_log(home.root))
    with progress() as report:
        taken = taking_in.take_in(
            home, manifests[name], config.deid, name, lambda done, total: report("reading", done, total)
        )
    held = {reason.value.replace("_", " "): n for reason, n in taken.quarantined.items() if n}
    reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(held.items()))
    sys.stdout.write(
        f"{taken.released} of {taken.released + sum(held.values())} inputs released in this home"
        f"{f'; held back: {reasons}' if reasons else ''}\n"
    )
    if len(read_operator_log(home.root)) > told:
        sys.stdout.write(f"see `fedimg site log {arguments.home}`\n")
    return 0


def start(arguments: Any) -> int:
    """Until the process is told to end."""
    from fedimg.process_log import logger
    from fedimg.process_signals import ending_on_signals
    from sites.serving import attend
    from sites.settings import SiteSettings

    with ending_on_signals() as ending:
        attend(SiteSettings.load(arguments.config), ending, logger("site"))
    return 0


def approve(arguments: Any) -> int:
    """What a person sees once: the plan's digest, its ε, and the digest of the code that will run here."""
    from fedimg.home import SiteHome
    from fedimg.record import code
    from sites.offers import Offered, Offers

    home = SiteHome.open(arguments.home)
    offers, program = Offers(home), code.installed()

    def row(one: Offered) -> dict[str, Any]:
        terms = one.terms
        private = terms.privacy.mode != "none"
        try:
            extensions = terms.extensions
        except FedimgError as fault:  # it cannot run here, and is listed all the same
            extensions = {fault.found: "not installed here"}
        return {
            "run": one.run,
            "state": one.state,
            "plan": terms.digest,
            "privacy": terms.privacy.mode,
            "epsilon": terms.privacy.epsilon if private else None,
            "delta": terms.privacy.delta if private else None,
            "sites_a_patient": terms.privacy.max_sites_per_patient,
            "sums": terms.secagg.name,
            "model": terms.model.name,
            "task": terms.model.task,
            "rounds": terms.rounds,
            "steps": terms.privacy.local_steps,
            "evaluations": terms.privacy.evaluations,
            "by_group": list(terms.subgroups.attributes),
            "extensions": extensions,
            "code": program["digest"],
        }

    if arguments.plan is not None:
        rows = [row(offers.approve(arguments.plan, program["digest"])) | {"state": "approved"}]
    else:
        rows = [row(one) for one in offers.all()]
    if arguments.json:
        print_json(rows)
        return 0
    columns = [
        "run",
        "state",
        "plan",
        "privacy",
        "epsilon",
        "delta",
        "sites_a_patient",
        "sums",
        "model",
        "rounds",
        "steps",
        "evaluations",
    ]
    print_table([{**one, "plan": one["plan"][:12]} for one in rows], columns)
    for one in rows:
        if one["by_group"]:
            sys.stdout.write(f"{one['run']}: is evaluated by {', '.join(one['by_group'])} too\n")
        for name, digest in one["extensions"].items():
            sys.stdout.write(f"{one['run']}: runs the extension {name}, {digest}\n")
    _print_budget(home, program)
    return 0


def decline(arguments: Any) -> int:
    from fedimg.home import SiteHome
    from sites.offers import Offers

    Offers(SiteHome.open(arguments.home)).decline(arguments.run)
    sys.stdout.write(f"{arguments.run}: declined; a running process does not join it any more\n")
    return 0


def close(arguments: Any) -> int:
    """For a run that its coordinator does not end."""
    from fedimg.home import SiteHome
    from sites import closing
    from sites.enrolment import Enrolment

    home = SiteHome.open(arguments.home)
    asked = Enrolment(home).requested()
    if asked is None:
        raise DataError("a site that is a member of a federation", "one that is not", "fedimg provision csr")
    closing.close(home, asked.name, arguments.run)
    sys.stdout.write(
        f"{arguments.run}: over at this site, for good; see `fedimg ledger show {arguments.home}`\n"
    )
    return 0


def _print_budget(home: Any, program: dict[str, str]) -> None:
    from fedimg.privacy.stated import statement_of

    if home.ledger.exists():
        statement = statement_of(home.ledger, home.signing_key)
        sys.stdout.write(
            f"this site's ledger: ε ≤ {statement.terms.epsilon_max:g} for all runs, left {statement.epsilon_left:.4g}\n"
        )
    sys.stdout.write(f"runs here as fedimg {program['fedimg']}, code {program['digest']}\n")
