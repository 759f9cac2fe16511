"""Local training at a site: open, fused over virtual clients, and private."""

from fedimg.models.losses import cross_entropy
from fedimg.training.algorithm import ASIDE, CORRECTED, KEPT, AlgorithmConfig
from fedimg.training.device import select_device
from fedimg.training.fused import FusedTraining, train_open_fused
from fedimg.training.kept import Frozen, Mask, head_of, kept_parameters
from fedimg.training.local import (
    Batch,
    Course,
    LocalTraining,
    State,
    class_weighted,
    local_step,
    minibatches,
    number_of_steps,
    permutation,
    train_along,
    train_open,
)
from fedimg.training.parts import Part, part_of_round, train_open_part
from fedimg.training.private import private_update, step_along, train_private
from fedimg.training.scoring import scores

__all__ = [
    "ASIDE",
    "CORRECTED",
    "KEPT",
    "AlgorithmConfig",
    "Batch",
    "Course",
    "Frozen",
    "FusedTraining",
    "LocalTraining",
    "Mask",
    "Part",
    "State",
    "class_weighted",
    "cross_entropy",
    "head_of",
    "kept_parameters",
    "local_step",
    "minibatches",
    "number_of_steps",
    "part_of_round",
    "permutation",
    "private_update",
    "scores",
    "select_device",
    "step_along",
    "train_along",
    "train_open",
    "train_open_fused",
    "train_open_part",
    "train_private",
]
