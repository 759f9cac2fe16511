"""Local training at a site: open, fused over virtual clients, and private."""

from fedimg.models.losses import cross_entropy
from fedimg.training.device import select_device
from fedimg.training.fused import FusedTraining, train_open_fused
from fedimg.training.local import (
    Batch,
    LocalTraining,
    State,
    class_weighted,
    local_step,
    minibatches,
    permutation,
    train_open,
)
from fedimg.training.parts import Part, part_of_round, train_open_part
from fedimg.training.private import private_update, step_along, train_private
from fedimg.training.scoring import scores

__all__ = [
    "Batch",
    "FusedTraining",
    "LocalTraining",
    "Part",
    "State",
    "class_weighted",
    "cross_entropy",
    "local_step",
    "minibatches",
    "part_of_round",
    "permutation",
    "private_update",
    "scores",
    "select_device",
    "step_along",
    "train_open",
    "train_open_fused",
    "train_open_part",
    "train_private",
]
