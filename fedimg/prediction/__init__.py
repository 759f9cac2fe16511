"""A released bundle at work on original studies of a hospital: which series, what it says, where, and the objects for it."""

from fedimg.prediction.loading import Model, load
from fedimg.prediction.predicting import predict
from fedimg.prediction.results import Analysis, Found, Prediction, Region
from fedimg.prediction.routing import Routed, Words, routed, rules_of
from fedimg.prediction.writing import Outputs, write_outputs

__all__ = [
    "Analysis",
    "Found",
    "Model",
    "Outputs",
    "Prediction",
    "Region",
    "Routed",
    "Words",
    "load",
    "predict",
    "routed",
    "rules_of",
    "write_outputs",
]
