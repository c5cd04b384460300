"""Objectives: one file per family, one frozen keyword-only callable per method; `catalog` lists them."""

from equipoise.core.objectives.base import Objective
from equipoise.core.objectives.catalog import CATALOG
from equipoise.core.objectives.chasing import Ofs
from equipoise.core.objectives.hybrid import Hypo, Sail
from equipoise.core.objectives.logistic import Cdpo, Dpo
from equipoise.core.objectives.optimism import Vpo, Xpo
from equipoise.core.objectives.policy_gradient import Mpo, P3o, Reinforce, Rloo
from equipoise.core.objectives.regression import Copg, Dno, Egpo, Gpo, Sppo, SppoHard
from equipoise.core.objectives.spac import Spac
from equipoise.core.objectives.squared import Inpo, Ipo, IpoMean, NashMd, Onpo
from equipoise.core.objectives.srpo import Srpo
from equipoise.core.objectives.token_level import Ppo

__all__ = [
    "CATALOG",
    "Cdpo",
    "Copg",
    "Dno",
    "Dpo",
    "Egpo",
    "Gpo",
    "Hypo",
    "Inpo",
    "Ipo",
    "IpoMean",
    "Mpo",
    "NashMd",
    "Objective",
    "Ofs",
    "Onpo",
    "P3o",
    "Ppo",
    "Reinforce",
    "Rloo",
    "Sail",
    "Spac",
    "Sppo",
    "SppoHard",
    "Srpo",
    "Vpo",
    "Xpo",
]
