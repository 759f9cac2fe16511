"""The page within the coordinator's process: a thread and a port of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedimg.process_log import Say
from fedimg.web.access import AccessToken
from fedimg.web.frame import Around
from fedimg.web.guard import Guard, Rules
from fedimg.web.serving import PageServer, is_loopback, own_names
from fedimg.web.shell import Shell
from server.federation_folder import FederationFolder
from server.metrics import CoordinatorMetrics
from server.model_registry import ModelRegistry
from server.page import drift_page
from server.page.registry_page import MODELS
from server.page.registry_routes import LINK, registry_api, registry_pages
from server.page.routes import FIRST, api, pages
from server.page.watching import Presence, Watch

TOKEN_FILE = "page.token"  # noqa: S105 - a file's name
LINKS = {FIRST: "/", LINK: MODELS, drift_page.TITLE: drift_page.PATH}
_REMEDY = "name another with --page HOST:PORT, or --page off"


@dataclass(frozen=True)
class Page:
    """What a page is made of.

    Attributes:
        ready: whether the link is served.
    """

    folder: FederationFolder
    metrics: CoordinatorMetrics
    presence: Callable[[], Mapping[str, Presence]]
    say: Say
    ready: Callable[[], bool] = lambda: True

    @contextmanager
    def serve(self, host: str, port: int) -> Iterator[PageServer]:
        """While this lasts; over the federation's TLS pair where others than this machine can reach it.

        Raises:
            ConfigError: the address is taken, or not this machine's.
        """
        with (
            closing(Watch(self.folder, self.presence)) as watch,
            ModelRegistry(self.folder.root) as registry,
        ):
            shell, app = application(self, watch, registry, host, port)
            tls = None if is_loopback(host) else self.folder.tls
            ending = shell.streams.closing.set
            with PageServer(app, host, port, tls=tls, remedy=_REMEDY, ending=ending) as server:
                name = f"[{host}]" if ":" in host else host
                address = f"{'https' if tls else 'http'}://{name}:{server.port}/"
                self.say("page", address=address, token_file=str(token_path(self.folder.root)))
                yield server


def application(
    page: Page, watch: Watch, registry: ModelRegistry, host: str, port: int
) -> tuple[Shell, Guard]:
    """The page's routes behind the shell's guard."""
    state, local = page.folder.state(), is_loopback(host)
    page.metrics.watch(watch.overview)
    rules = Rules(
        AccessToken(token_path(page.folder.root)),
        own_names(host, () if local else state.hosts),
        secure=not local,
        cookie=f"fedimg-{port}",
        open_metrics=local,
        fault=lambda kind: page.say("page fault", about=f"an unexpected {kind}"),
    )
    told, around = "fedimg server token FOLDER", Around(LINKS)
    shell = Shell(state.name, rules, told, page.ready, page.metrics.text, around=around)
    models = registry_api(registry), registry_pages(shell, registry)
    return shell, shell.app(api(watch), pages(shell, watch), *models)


def token_path(root: Path) -> Path:
    return root / TOKEN_FILE
