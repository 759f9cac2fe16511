"""What a site's process is told, in a YAML file of its own: where its home is, and where it computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import yaml

from fedimg.config import strict
from fedimg.errors import ConfigError
from fedimg.federation.manifest import split_address
from fedimg.web.serving import is_loopback


@dataclass(frozen=True)
class SiteSettings:
    """A site's process.

    Attributes:
        home: its home folder; a relative one is meant from the file's own folder.
        device: where tensors live; "auto" takes a GPU where there is one. threads: of torch.
        address: host:port to dial, where it is not the one in the federation's bundle.
        metrics: host:port on which Prometheus reads this site's numbers; null for nowhere.
        metrics_beyond_loopback: they may be read from other machines, with the token in HOME/metrics.token.
    """

    home: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1
    address: str | None = None
    metrics: str | None = None
    metrics_beyond_loopback: bool = False

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigError("threads of at least 1", f"{self.threads}", "set threads")
        if self.metrics is not None:
            host, _ = split_address(self.metrics)
            if not (is_loopback(host) or self.metrics_beyond_loopback):
                raise ConfigError(
                    "metrics on an address of this machine alone, such as 127.0.0.1:9464",
                    "one that others can reach",
                    "change it, or set metrics_beyond_loopback: true",
                )

    @classmethod
    def load(cls, file: Path) -> SiteSettings:
        """Raises ConfigError for a file that is none, or names a key that does not exist."""
        try:
            found = yaml.safe_load(file.read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(
                "a site's settings in YAML", type(error).__name__, "see sites/example.yaml"
            ) from None
        if not isinstance(found, dict):
            raise ConfigError("a site's settings as key: value", "something else", "see sites/example.yaml")
        settings = strict.build(cls, found)
        home = Path(settings.home)
        whole = home if home.is_absolute() else file.resolve().parent / home
        return replace(settings, home=str(whole))
