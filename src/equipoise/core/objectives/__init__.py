"""Objectives: one file per family, one frozen keyword-only callable per method; `catalog` lists them."""

from equipoise.core.objectives.base import Objective
from equipoise.core.objectives.catalog import CATALOG
from equipoise.core.objectives.logistic import Cdpo, Dpo
from equipoise.core.objectives.spac import Spac
from equipoise.core.objectives.squared import Inpo, Ipo, IpoMean

__all__ = ["CATALOG", "Cdpo", "Dpo", "Inpo", "Ipo", "IpoMean", "Objective", "Spac"]
