"""`fedimg server`: a coordinator's process, its public set, the models that it has released, and drift across its sites."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedimg.cli.console import progress, verb_parser
from fedimg.cli.server import drift, models
from fedimg.errors import DataError

_PAGE = "127.0.0.1:8450"


def run(argv: Sequence[str]) -> int:
    parser = verb_parser(
        "server", "Serve a federation: sites dial in, and the runs that were asked for are done."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="start|token|public|models|drift")
    about = "serve the members and do the queued runs, until ended"
    start = actions.add_parser("start", help=about, description=about)
    start.add_argument("folder", type=Path, help="a federation's folder, of `fedimg provision init`")
    start.add_argument("--listen", metavar="HOST:PORT", help="where that is not the address that sites dial")
    start.add_argument(
        "--page", metavar="HOST:PORT|off", default=_PAGE, help=f"of the federation page, default {_PAGE}"
    )
    about = "print the federation page's access token"
    token = actions.add_parser("token", help=about, description=about)
    token.add_argument("folder", type=Path)
    token.add_argument("--new", action="store_true", help="make another one; who is logged in is logged out")
    about = "give the server a public test set: the rows of a source that are split=public"
    public = actions.add_parser("public", help=about, description=about)
    public.add_argument("folder", type=Path)
    public.add_argument("overrides", nargs="*", metavar="key=value", help="data=dicom data.path=…")
    models.add_to(actions)
    drift.add_to(actions)
    arguments = parser.parse_args(argv)
    done = {"start": _start, "token": _token, "public": _public, "models": models.run, "drift": drift.run}
    return done[arguments.action](arguments)


def _start(arguments: Any) -> int:
    from fedimg.process_log import logger
    from fedimg.process_signals import ending_on_signals
    from server.serving import Coordinator

    with ending_on_signals() as ending:
        page = None if arguments.page == "off" else arguments.page
        Coordinator(arguments.folder, logger("server"), arguments.listen, page).serve(ending)
    return 0


def _token(arguments: Any) -> int:
    from fedimg.web.access import AccessToken
    from server.federation_folder import FederationFolder
    from server.page.serving import token_path

    token = AccessToken(token_path(FederationFolder(arguments.folder).root))
    sys.stdout.write((token.renew() if arguments.new else token.read()) + "\n")
    return 0


def _public(arguments: Any) -> int:
    from fedimg.config import keys

    keys.check(arguments.overrides)
    from fedimg import sources, taking_in
    from fedimg.config import compose
    from fedimg.home import SiteHome
    from server.federation_folder import PUBLIC, FederationFolder

    root = FederationFolder(arguments.folder).root / PUBLIC
    config = compose(arguments.overrides)
    # the home of nobody's patients: it has no ledger, and joins no run
    home = SiteHome.open(root) if (root / "home.json").exists() else SiteHome.create(root, simulated=True)
    manifests = sources.load(config.data, root / "source", config.sites, config.seed)
    if sources.PUBLIC not in manifests:
        raise DataError("a source with public examples", "one without", "mark rows of its table split=public")
    taking_in.bind(root, config)
    with progress() as report:
        taken = taking_in.take_in(
            home,
            manifests[sources.PUBLIC],
            config.deid,
            PUBLIC,
            lambda done, total: report("reading", done, total),
        )
    sys.stdout.write(f"{taken.released} public examples at {root}\n")
    return 0
