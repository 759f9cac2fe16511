"""Weights to begin with, made of images that are nobody's secret: generated, or declared public.

Never of a site's patients: weights that were trained on them without privacy are a release that no ledger knows of,
and every model that begins with them carries it on.
"""

from fedimg.pretraining.fitting import Fitting
from fedimg.pretraining.making import Made, Plan, make

__all__ = ["Fitting", "Made", "Plan", "make"]
