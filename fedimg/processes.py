"""Child processes of a script: what is said where they cannot start, instead of trying for ever.

Children are spawned, not forked (a forked child inherits threads and open ledgers). A spawned child
imports the script that started it, so a script that starts work on its top level starts it in every
child again (Python's `multiprocessing`, "Safe importing of main module").
"""

from __future__ import annotations

import multiprocessing

from fedimg.errors import ConfigError

_REMEDY = (
    'put the script\'s work below `if __name__ == "__main__":`, since each worker process imports the script'
)


def refuse_while_starting() -> None:
    """Raises ConfigError in a child process that is still importing its parent's script."""
    # The flag that multiprocessing itself refuses by, in `_check_not_importing_main`.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError("a call from the script itself", "one from a worker that imports it", _REMEDY)


def never_started() -> ConfigError:
    """For a parent whose fresh children ended before they did anything."""
    return ConfigError(
        "worker processes that start",
        "that they end before their first task",
        f"{_REMEDY}; if it is there already, free memory or use fewer workers",
    )
