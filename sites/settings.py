"""What a site's process is told, in a YAML file of its own: where its home is, and where it computes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from fedimg.config import strict
from fedimg.errors import ConfigError


@dataclass(frozen=True)
class SiteSettings:
    """A site's process.

    Attributes:
        home: its home folder; a relative one is meant from the file's own folder.
        device: where tensors live; "auto" takes a GPU where there is one. threads: of torch.
        address: host:port to dial, where it is not the one in the federation's bundle.
    """

    home: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1
    address: str | None = None

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigError("threads of at least 1", f"{self.threads}", "set threads")

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
        return cls(str(whole), settings.device, settings.threads, settings.address)
