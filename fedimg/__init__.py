"""Privacy-preserving federated learning on medical images.

    import fedimg

    run = fedimg.simulate(["privacy.epsilon=3", "sites=8"])
    print(run.summary["test"]["auroc"], run.path)

Importing this package loads nothing heavy; `simulate` brings in what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedimg.config import Config
    from fedimg.simulation import Run

__all__ = ["__version__", "simulate"]
__version__ = "0.1.0"


def simulate(
    config: Config | Sequence[str] = (), progress: Callable[[str, int, int], None] | None = None
) -> Run:
    """Run a whole federation in this process and return its record.

    Args:
        config: a composed `fedimg.config.Config`, or override strings as on the command
            line, for instance `["data=medmnist", "privacy=none"]`.
        progress: called as `progress(stage, done, total)`.

    Raises:
        ConfigError: an override that names no key, or a value that does not fit; a script that calls
            this outside `if __name__ == "__main__":`, which its worker processes would do again.
        FedimgError: whatever a station refuses; see `fedimg.errors`.
    """
    from fedimg.processes import refuse_while_starting

    refuse_while_starting()  # before anything heavy is imported: the answer comes at once
    from fedimg.config import keys

    if isinstance(config, Sequence):
        keys.check(config)
    from fedimg.config import Config, compose
    from fedimg.simulation import simulate as run

    if isinstance(config, Config):
        return run(config, progress)
    return run(compose(config), progress, config)
