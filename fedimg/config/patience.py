"""How long a coordinator waits: three numbers, and no more of them."""

from __future__ import annotations

from dataclasses import dataclass

from fedimg.errors import ConfigError


@dataclass(frozen=True)
class FederationConfig:
    """How long a coordinator waits for its sites, in a run between machines; a simulation waits for nobody.

    Attributes:
        deadline_s: seconds that a site may have for one message of a round, counted from the last bytes that moved.
        patience_s: seconds that a run waits for enough sites before it stops, to be resumed.
        start_with: so many sites must have joined before round 1; None: all members.
    """

    deadline_s: float = 600.0
    patience_s: float = 86400.0
    start_with: int | None = None

    def __post_init__(self) -> None:
        for name in ("deadline_s", "patience_s"):
            if not 1 <= getattr(self, name) <= 1e7:
                raise ConfigError(
                    f"federation.{name} from 1 to 10⁷ seconds",
                    f"{getattr(self, name):g}",
                    f"set federation.{name}",
                )
        if self.start_with is not None and self.start_with < 1:
            raise ConfigError(
                "federation.start_with of at least 1, or null",
                f"{self.start_with}",
                "set federation.start_with",
            )
