"""The list of methods, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from equipoise.methods.aot import AOT, AOT_UNPAIRED
from equipoise.methods.apo import APO
from equipoise.methods.bco import BCO, BCO_UDM
from equipoise.methods.cdpo import CDPO
from equipoise.methods.constrained import CONSTRAINED
from equipoise.methods.copg import COPG, COPG_OFFLINE
from equipoise.methods.cpl import CPL, CPL_BC, CPL_KL, CPL_RANKING
from equipoise.methods.d2o import D2O
from equipoise.methods.dno import DNO
from equipoise.methods.dno_prct import DNO_PRCT
from equipoise.methods.dpa import DPA
from equipoise.methods.dpo import DPO
from equipoise.methods.dragon import DRAGON, DRAGON_UNPAIRED
from equipoise.methods.dstc import DSTC, DSTC_KTO
from equipoise.methods.egpo import EGPO, OMD
from equipoise.methods.f_dpo import F_DPO_ALPHA, F_DPO_FORWARD_KL, F_DPO_JS
from equipoise.methods.fspo import FSPO
from equipoise.methods.gpo import GPO
from equipoise.methods.hinge import HINGE, HINGE_NORM, SLIC
from equipoise.methods.hypo import HYPO
from equipoise.methods.inpo import INPO
from equipoise.methods.ipo import IPO, IPO_MEAN
from equipoise.methods.itool import ITOOL, ITOOL_DPO, SFT_EASY_TO_HARD
from equipoise.methods.kto import APO_ZERO_UNPAIRED, KTO
from equipoise.methods.lists import PLACKETT_LUCE, TPO, TPO_TREES
from equipoise.methods.maxmin import MAXMIN
from equipoise.methods.mcts_dpo import MCTS_DPO
from equipoise.methods.mpo import MPO
from equipoise.methods.nash_md import NASH_EMA_PG, NASH_MD, NASH_MD_PG
from equipoise.methods.npo import GRADIENT_ASCENT, NPO, NPO_KL, NPO_RT, SIMNPO
from equipoise.methods.odds import ASFT, ASFT_ALIGNED, ORPO, UNLIKELIHOOD
from equipoise.methods.odpo import ODPO
from equipoise.methods.ofs_dpo import COFS_DPO, OFS_DPO
from equipoise.methods.online_dpo import ITERATIVE_DPO, ONLINE_DPO
from equipoise.methods.online_ipo import IPO_MD, ONLINE_IPO
from equipoise.methods.onpo import ONPO
from equipoise.methods.osp import OSP
from equipoise.methods.own_labels import CREAM, SPA
from equipoise.methods.p3o import P3O
from equipoise.methods.pair_losses import APO_DOWN, APO_ZERO, BCO_PAIR, DISCOPOP, EXO_PAIR, NCA_PAIR
from equipoise.methods.policy_gradients import REINFORCE, RLOO, SPO
from equipoise.methods.ppo import PPO
from equipoise.methods.rationale import RDPO_RATIONALE, RORPO, RSIMPO
from equipoise.methods.reference_free import ALPHA_PO, CPO, CPO_SIMPO, DPO_NORM, DPO_REFERENCE_FREE, SIMPO
from equipoise.methods.reward_augmented import REWARD_AUGMENTED
from equipoise.methods.rlp import RLP_SPG, RLP_SPG_PPO, RLP_UML, RLP_UML_PPO
from equipoise.methods.robust import DPO_OFFSET, RDPO
from equipoise.methods.rpo import FLEX_DPO, IRPO, RPO
from equipoise.methods.rso import RSO, RSO_HINGE, RSO_HINGE_NORM
from equipoise.methods.rto import RTO
from equipoise.methods.sail import SAIL, SAIL_DDP, SAIL_DPP
from equipoise.methods.sapo import SAPO, SAPO_HINGE, SAPO_ORPO
from equipoise.methods.self_consuming import SELF_CONSUMING
from equipoise.methods.seppo import SEPPO
from equipoise.methods.sft import SFT
from equipoise.methods.spac import SPAC
from equipoise.methods.sparse_po import MAPO, SPARSE_PO, SPARSE_PO_INDEPENDENT
from equipoise.methods.spin import SPIN, SPIN_HINGE
from equipoise.methods.spo_degree import SPO_DEGREE, with_degrees
from equipoise.methods.sppo import SPPO, SPPO_HARD, SPPO_SINGLE
from equipoise.methods.srpo import SRPO
from equipoise.methods.subject_rpo import SUBJECT_RPO
from equipoise.methods.tdpo import TDPO1, TDPO2
from equipoise.methods.upo import UPO
from equipoise.methods.wpo import WPO
from equipoise.methods.xpo import VPO, VPO_OFFLINE, XPO
from equipoise.methods.zpg import ZBCPG, ZPG
from equipoise.name_lookup import known_name
from equipoise.play.method import Method

OFFLINE = (
    SPAC,
    DPO,
    CDPO,
    IPO,
    IPO_MEAN,
    FSPO,
    VPO_OFFLINE,
    SPIN,
    SEPPO,
    SPIN_HINGE,
    HYPO,
    SRPO,
    RLP_UML,
    RLP_SPG,
    RLP_UML_PPO,
    RLP_SPG_PPO,
    SAPO,
    SAPO_HINGE,
    SAPO_ORPO,
    OFS_DPO,
    COFS_DPO,
    TDPO1,
    TDPO2,
    SPARSE_PO,
    SPARSE_PO_INDEPENDENT,
    MAPO,
    SPA,
    CREAM,
    SPO_DEGREE,
    REWARD_AUGMENTED,
    RDPO_RATIONALE,
    RORPO,
    RSIMPO,
    PLACKETT_LUCE,
    CPL_RANKING,
    TPO,
    COPG_OFFLINE,
    SFT,
    SFT_EASY_TO_HARD,
)
PAIR_LOSSES = (
    RDPO,
    F_DPO_JS,
    F_DPO_FORWARD_KL,
    F_DPO_ALPHA,
    RPO,
    IRPO,
    FLEX_DPO,
    DPO_OFFSET,
    ODPO,
    WPO,
    DPO_NORM,
    HINGE_NORM,
    EXO_PAIR,
    NCA_PAIR,
    BCO_PAIR,
    APO_ZERO,
    APO_DOWN,
    DISCOPOP,
    ASFT_ALIGNED,
    AOT,
    CPL_KL,
)
REFERENCE_FREE = (
    SIMPO,
    ALPHA_PO,
    CPO,
    CPO_SIMPO,
    ORPO,
    ASFT,
    UNLIKELIHOOD,
    SLIC,
    HINGE,
    DPO_REFERENCE_FREE,
    CPL,
    CPL_BC,
)
UNARY = (
    KTO,
    APO_ZERO_UNPAIRED,
    BCO,
    BCO_UDM,
    AOT_UNPAIRED,
    NPO,
    NPO_RT,
    NPO_KL,
    GRADIENT_ASCENT,
    SIMNPO,
    D2O,
)
TO_REGULARISED_NASH = (INPO, EGPO, OMD, ONLINE_IPO, IPO_MD, NASH_MD, NASH_MD_PG, NASH_EMA_PG)
TO_PLAIN_NASH = (ONPO, MPO, SPPO, SPPO_SINGLE, SPPO_HARD, SPO, DNO, DNO_PRCT, GPO)
TO_A_REWARD = (
    ITERATIVE_DPO,
    MCTS_DPO,
    TPO_TREES,
    APO,
    ONLINE_DPO,
    RSO,
    RSO_HINGE_NORM,
    RSO_HINGE,
    OSP,
    UPO,
    DSTC,
    DSTC_KTO,
    ITOOL,
    ITOOL_DPO,
    XPO,
    VPO,
    SAIL,
    SAIL_DPP,
    SAIL_DDP,
    COPG,
    P3O,
    PPO,
    MAXMIN,
    CONSTRAINED,
    DPA,
    SELF_CONSUMING,
    SUBJECT_RPO,
    DRAGON,
    DRAGON_UNPAIRED,
    RTO,
    RLOO,
    REINFORCE,
    ZPG,
    ZBCPG,
)

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        *OFFLINE,
        *PAIR_LOSSES,
        *REFERENCE_FREE,
        *UNARY,
        *TO_REGULARISED_NASH,
        *TO_PLAIN_NASH,
        *TO_A_REWARD,
    )
}


ADDED: dict[str, Callable[[Method], Method]] = {"degrees": with_degrees}


def get(name: str) -> Method:
    """The method of that name, in any case; `ipo+degrees` is one with an added term.

    Raises KeyError naming the nearest ones, and ValueError for a method that the term cannot be added to.
    """
    base, *added = name.split("+")
    terms = tuple(known_name(term, ADDED, "added term", "equipoise methods") for term in added)
    return _with_terms(known_name(base, METHODS, "method", "equipoise methods"), terms)


@cache
def _with_terms(name: str, terms: tuple[str, ...]) -> Method:
    method = METHODS[name]
    for term in terms:
        method = ADDED[term](method)
    return method


def describe(method: Method) -> dict[str, Any]:
    """A method as plain data: what `equipoise methods --json` lists."""
    return {
        "name": method.name,
        "title": method.title,
        "paper": method.paper,
        "needs": str(method.needs),
        "players": method.players.describe(),
        "pairing": method.pairing.describe(),
        "oracle": "preference oracle" if method.needs.oracle else "recorded labels",
        "objective": type(method.objective).__name__ if method.objective else "none",
        "anchors": dict(method.anchors),
        "update": method.update.describe(),
        "rounds": method.rounds,
        "defaults": method.defaults() | dict(method.train),
        "status": method.status,
        "confidence": method.confidence,
        "notes": method.notes,
    }
