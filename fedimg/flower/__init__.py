"""The only folder that imports Flower (flwr 1.41; it moves fast, so it is kept behind this seam).

Flower carries bytes. Both ends are ours: a site's answer is made by `client_round.answer`, the coordinator's loop is
`server_round`'s. Flower's own strategies are not used: they go on silently when every client fails.

    ray             virtual sites on Flower's simulation engine
    fleet_server    the coordinator's end of Flower's fleet connection
    fleet_node      a site's end
"""

import os

# Before anything imports flwr, which reads it once: this software calls home nowhere.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
