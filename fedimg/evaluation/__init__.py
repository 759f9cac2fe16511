"""How good a model is: on scores held by whoever evaluates, or on noised score histograms of sites."""

from __future__ import annotations

from fedimg.evaluation.cells import histogram_bins
from fedimg.evaluation.histograms import report_from_histograms, score_histograms
from fedimg.evaluation.measure import Measure, measure_of
from fedimg.evaluation.scores import evaluate_scores
from fedimg.evaluation.several import HeadMeasure, Several
from fedimg.evaluation.subgroups import Subgroups, patient_rows

__all__ = [
    "HeadMeasure",
    "Measure",
    "Several",
    "Subgroups",
    "evaluate_scores",
    "histogram_bins",
    "measure_of",
    "patient_rows",
    "report_from_histograms",
    "score_histograms",
]
