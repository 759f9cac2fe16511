"""The coordinator's public set by groups of patients: its own data, so that nothing is charged."""

from __future__ import annotations

from fedimg.breakdown import Breakdown
from fedimg.evaluation import Subgroups, by_group
from fedimg.server_round import Server, public_outputs


def breakdowns_public(server: Server, *, bootstrap: int, seed: int) -> tuple[Breakdown, ...]:
    """The global model by group; none without a public set, without groups, or where nothing is known of its images."""
    if (public := server.public) is None or public.groups is None or not len(public.labels):
        return ()
    if not isinstance(server.measure, Subgroups):
        return ()
    outputs, labels = public_outputs(server), public.labels.numpy()
    return by_group.of_outputs(
        server.measure, outputs, labels, public.first_image, public.groups, bootstrap=bootstrap, seed=seed
    )
