"""A released bundle at work on original studies of a hospital: which series, what it says, where, and the objects for it."""

from fedimg.prediction.loading import Model, load
from fedimg.prediction.predicting import predict
from fedimg.prediction.results import Analysis, Found, Prediction, Region
from fedimg.prediction.routing import Routed, routed
from fedimg.prediction.writing import Outputs, write_outputs

__all__ = [
    "Analysis",
    "Found",
    "Model",
    "Outputs",
    "Prediction",
    "Region",
    "Routed",
    "load",
    "predict",
    "routed",
    "write_outputs",
]
