"""Federated algorithms for sites that differ: each in a file that reads as its paper, both halves in it.

    site     `begin`: state, what the coordinator sent → where training starts, and what corrects its gradients
             `end`:   state, what training moved       → what is sent, and the next state
    server   `instructed`, `apply`: a round's mean → the next model, and what sites are told

A site's state is of the last round whose answer the coordinator has taken into the model, which every message says
(`states`). Where privacy is on, it is made of what the site's noised sums were and of nothing else about patients,
except for personal models that never leave (`personal`).
"""

from fedimg.heterogeneity.server import HeterogeneityServer
from fedimg.heterogeneity.site import RoundAtSite, begin, to_evaluate
from fedimg.heterogeneity.states import RoundStates, states_of

__all__ = ["HeterogeneityServer", "RoundAtSite", "RoundStates", "begin", "states_of", "to_evaluate"]
