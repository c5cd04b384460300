"""Objectives: one file per family, one frozen keyword-only callable per method; `catalog` lists them.

Their docstrings give the formula as an indented block, then under fixed headings, where there is something to say:

Symbols      every letter of the formula, with units and range.
Gradient     what carries it and what is detached.
Properties   minimisers, limits, bounds, invariances, metrics.
Raises       what is refused.
Source       the paper, and how sure: checked against code, the paper's text, RECALLED, DERIVED.
"""

from equipoise.core.objectives.base import Objective
from equipoise.core.objectives.catalog import CATALOG
from equipoise.core.objectives.contrastive import Cpl, CplKl, CplRanking
from equipoise.core.objectives.degradation import DegreeDpo, WithDegrees
from equipoise.core.objectives.f_dpo import AlphaDpo, FDpo, ForwardKlDpo, JensenShannonDpo
from equipoise.core.objectives.fast_slow import FastSlowDpo
from equipoise.core.objectives.hinge import Hinge, HingeNorm, Slic
from equipoise.core.objectives.hybrid import Hypo, Sail
from equipoise.core.objectives.label_margins import MarginLoss
from equipoise.core.objectives.likelihood import Sft
from equipoise.core.objectives.lists import PlackettLuce, Tpo
from equipoise.core.objectives.logistic import (
    AsymmetricRdpo,
    Cdpo,
    Dpo,
    DpoNorm,
    Odpo,
    OffsetDpo,
    Rdpo,
    RsoNorm,
)
from equipoise.core.objectives.margin_shapes import DiscoPop, ExoPair
from equipoise.core.objectives.masked import SparsePo, Tdpo, Tdpo1, Tdpo2
from equipoise.core.objectives.odds import Asft, AsftAligned, Orpo, Unlikelihood
from equipoise.core.objectives.optimism import Vpo, Xpo
from equipoise.core.objectives.pointwise import ApoDown, ApoZero, BcoPair, NcaPair
from equipoise.core.objectives.policy_gradient import Mpo, P3o, Reinforce, Rloo
from equipoise.core.objectives.rationale import RationaleDpo, RationaleOrpo, RationaleSimpo, WithRationale
from equipoise.core.objectives.reference_free import AlphaPo, Cpo, CpoSimpo, ReferenceFreeDpo, Simpo
from equipoise.core.objectives.regression import Copg, Dno, Egpo, Gpo, Sppo, SppoHard
from equipoise.core.objectives.regularised import FlexDpo, Irpo, Rpo
from equipoise.core.objectives.self_annotation import Spa
from equipoise.core.objectives.semi_policy import Seppo
from equipoise.core.objectives.spac import Spac
from equipoise.core.objectives.squared import Inpo, Ipo, IpoMean, NashMd, Onpo
from equipoise.core.objectives.srpo import Srpo
from equipoise.core.objectives.stochastic_order import Aot, AotUnpaired
from equipoise.core.objectives.token_level import Ppo
from equipoise.core.objectives.unlearning import D2o, GradientAscent, Npo, NpoKl, NpoRt, SimNpo
from equipoise.core.objectives.unpaired import ApoZeroUnpaired, Bco, Kto
from equipoise.core.objectives.weighted import Wpo

__all__ = [
    "CATALOG",
    "AlphaDpo",
    "AlphaPo",
    "Aot",
    "AotUnpaired",
    "ApoDown",
    "ApoZero",
    "ApoZeroUnpaired",
    "Asft",
    "AsftAligned",
    "AsymmetricRdpo",
    "Bco",
    "BcoPair",
    "Cdpo",
    "Copg",
    "Cpl",
    "CplKl",
    "CplRanking",
    "Cpo",
    "CpoSimpo",
    "D2o",
    "DegreeDpo",
    "DiscoPop",
    "Dno",
    "Dpo",
    "DpoNorm",
    "Egpo",
    "ExoPair",
    "FDpo",
    "FastSlowDpo",
    "FlexDpo",
    "ForwardKlDpo",
    "Gpo",
    "GradientAscent",
    "Hinge",
    "HingeNorm",
    "Hypo",
    "Inpo",
    "Ipo",
    "IpoMean",
    "Irpo",
    "JensenShannonDpo",
    "Kto",
    "MarginLoss",
    "Mpo",
    "NashMd",
    "NcaPair",
    "Npo",
    "NpoKl",
    "NpoRt",
    "Objective",
    "Odpo",
    "OffsetDpo",
    "Onpo",
    "Orpo",
    "P3o",
    "PlackettLuce",
    "Ppo",
    "RationaleDpo",
    "RationaleOrpo",
    "RationaleSimpo",
    "Rdpo",
    "ReferenceFreeDpo",
    "Reinforce",
    "Rloo",
    "Rpo",
    "RsoNorm",
    "Sail",
    "Seppo",
    "Sft",
    "SimNpo",
    "Simpo",
    "Slic",
    "Spa",
    "Spac",
    "SparsePo",
    "Sppo",
    "SppoHard",
    "Srpo",
    "Tdpo",
    "Tdpo1",
    "Tdpo2",
    "Tpo",
    "Unlikelihood",
    "Vpo",
    "WithDegrees",
    "WithRationale",
    "Wpo",
    "Xpo",
]
