"""Taxonomy of the methods: data, training, constraint and target, as surveys of preference optimization sort them.

The four dimensions are those of a survey (2503.11701): data strategy, learning framework, constraint mechanism, model
property. Their values under the first three are read off a method's own parts; its sub-branches are RECALLED, and the
target is what the method's paper sets out to mend, written down here.
"""

from __future__ import annotations

from collections.abc import Mapping

from equipoise.core.objectives.catalog import Row
from equipoise.play.capabilities import StepContinuation
from equipoise.play.component import parts
from equipoise.play.method import Method
from equipoise.play.state import INITIAL

FEEDBACK = {
    "pairs": "pairs",
    "unpaired": "single labels",
    "lists": "lists",
    "scores": "scores",
    "demonstrations": "demonstrations",
    None: "own labels",
}

TARGETS: Mapping[str, str] = {
    name: target
    for target, names in {
        "cycles": "inpo egpo omd online_ipo ipo_md nash_md nash_md_pg nash_ema_pg onpo mpo sppo sppo_single sppo_hard "
        "spo dno dno_prct gpo apo",
        "coverage": "spac vpo_offline hypo rpo",
        "over-optimisation": "ipo ipo_mean constrained rlp_uml rlp_spg rlp_uml_ppo rlp_spg_ppo",
        "displacement": "irpo cpo orpo asft asft_aligned flex_dpo apo_zero apo_down exo_pair nca_pair",
        "length": "simpo alpha_po cpo_simpo dpo_norm hinge_norm",
        "noisy labels": "cdpo rdpo cream osp upo aot",
        "few labels": "spa spo_degree rdpo_rationale rorpo rsimpo reward_augmented subject_rpo",
        "distribution shift": "srpo wpo rso rso_hinge_norm rso_hinge iterative_dpo online_dpo sail sail_dpp sail_ddp "
        "copg copg_offline",
        "exploration": "xpo vpo",
        "token credit": "tdpo1 tdpo2 sparse_po sparse_po_independent mapo rto tpo tpo_trees mcts_dpo itool itool_dpo",
        "diversity": "f_dpo_js f_dpo_forward_kl f_dpo_alpha",
        "several users": "maxmin fspo dpa",
        "unlearning": "npo npo_rt npo_kl simnpo gradient_ascent d2o unlikelihood",
        "forgetting": "ofs_dpo cofs_dpo",
        "no reward model": "dpo dpo_reference_free slic hinge cpl cpl_bc cpl_kl cpl_ranking",
        "rewards of sets": "dragon dragon_unpaired",
        "no preferences": "seppo spin spin_hinge sapo sapo_hinge sapo_orpo self_consuming dstc dstc_kto",
        "unpaired labels": "kto bco bco_udm bco_pair apo_zero_unpaired aot_unpaired",
        "strength of a preference": "odpo dpo_offset plackett_luce",
        "policy gradients": "p3o ppo rloo reinforce zpg zbcpg",
    }.items()
    for name in names.split()
}


def axes_of(method: Method, aim: str, row: Row | None) -> dict[str, str]:
    """A method's value on each axis, of `report.methods.axes`.

    aim    the equilibrium that it converges to, "" if it is none.
    row    of its objective in the catalogue, if it has one.
    """
    return {
        "feedback": _feedback(method),
        "granularity": _granularity(method),
        "paradigm": _paradigm(method),
        "aim": _aim(method, aim),
        "reference": _reference(method),
        "divergence": _divergence(method, row),
        "target": TARGETS.get(method.name, "preferences"),
    }


def _feedback(method: Method) -> str:
    needs = method.needs
    asked = "several rewards" if needs.named_scores else "rewards" if needs.scores else "verdicts"
    recorded = [FEEDBACK[needs.records]] if needs.records or not needs.oracle else []
    return " and ".join([*recorded, *[asked] * needs.oracle])


def _granularity(method: Method) -> str:
    reads = method.objective.reads if method.objective else None
    searched = any(StepContinuation in part.capabilities for part in parts(method.players))
    if searched or (reads and "step" in reads.token_weights):
        return "steps"
    return "tokens" if reads and reads.tokens else "responses"


def _paradigm(method: Method) -> str:
    """Offline: recorded responses alone. Self-play: samples too, judged by the data alone. Online: by an oracle, or by
    the policy."""
    if method.needs.oracle or method.needs.records is None:
        return "online"
    return "self-play" if method.players.sampled else "offline"


def _aim(method: Method, aim: str) -> str:
    if aim:
        return "Nash policy"
    if method.needs.named_scores:
        return "several rewards"
    labels = method.objective is not None and method.objective.reads.labels
    if labels and not method.anchors and method.needs.records == "demonstrations":
        return "imitation"
    return "unlearning" if TARGETS.get(method.name) == "unlearning" else "preferred responses"


def _reference(method: Method) -> str:
    kinds = {"fixed" if policy == INITIAL else "moving" for policy in method.anchors.values()}
    return " and ".join(sorted(kinds)) or "none"


def _divergence(method: Method, row: Row | None) -> str:
    if not method.anchors or row is None:
        return "none"
    return (
        f"{row.divergence}, token KL"
        if method.objective and method.objective.reads.divergences
        else row.divergence
    )
