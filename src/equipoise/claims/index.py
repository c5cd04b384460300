"""The table of claims: name -> the module and the record that hold it. A claim's module is imported when it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module

from equipoise.claims.claim import Claim

# in the order in which they are shown: offline, losses of pairs, lists and tokens, unpaired data, equilibria, rewards
HOMES: Mapping[str, str] = {
    "spac_coverage": "coverage.spac_coverage:COVERAGE",
    "spac_shipped_defaults": "coverage.spac_shipped:SHIPPED",
    "spac_safe_for_every_lambda": "coverage.spac_safety:SAFE",
    "spac_three_rounds": "coverage.spac_safety:THREE_ROUNDS",
    "spac_lucky_arm": "coverage.spac:LUCKY_ARM",
    "spac_saddle": "coverage.spac:SADDLE",
    "hypo_partial_coverage": "coverage.hypo:PARTIAL_COVERAGE",
    "srpo_robustness": "coverage.srpo:ROBUSTNESS",
    "ofs_forgetting": "shared_parameters.forgetting:FORGETTING",
    "sapo_against_spin": "shared_parameters.sapo:AGAINST_SPIN",
    "npo_slow_collapse": "likelihood.npo:SLOW_COLLAPSE",
    "rdpo_label_flips": "rewards.label_flips:LABEL_FLIPS",
    "f_dpo_divergences": "likelihood.f_dpo:DIVERGENCES",
    "rpo_partial_coverage": "coverage.rpo:OVER_OPTIMISATION",
    "loss_entailment": "rewards.loss_entailment:ENTAILMENT",
    "gradient_entanglement": "likelihood.entanglement:ENTANGLED",
    "asft_raises_chosen": "likelihood.asft:RAISES",
    "three_d_properties": "likelihood.three_d:PROPERTIES",
    "tpo_on_step_trees": "tokens.tpo:STEP_TREES",
    "mcts_dpo_step_pairs": "tokens.mcts_dpo:STEP_PAIRS",
    "sparse_po_masks": "tokens.sparse_po:MASKS",
    "rationale_data_efficiency": "tokens.rationale:DATA_EFFICIENCY",
    "spo_degree": "tokens.spo_degree:DEGREE",
    "kto_card": "unpaired.kto:CARD",
    "kto_wrong_thumbs": "unpaired.kto_thumbs:WRONG_THUMBS",
    "kto_unequal_thumbs": "unpaired.kto_thumbs:UNEQUAL_THUMBS",
    "bco_mismatched_thumbs": "unpaired.bco:MISMATCHED",
    "d2o_negatives_only": "unpaired.d2o:NEGATIVES_ONLY",
    "convergence_classes": "convergence.classes:CLASSES",
    "inpo_last_iterate": "convergence.last_iterate:INPO_LAST_ITERATE",
    "inpo_sampled_pairs": "convergence.inpo_sampled:SAMPLED",
    "nash_md_last_iterate": "convergence.last_iterate:NASH_MD_LAST_ITERATE",
    "inpo_fixed_point": "convergence.inpo:FIXED_POINT",
    "egpo_against_baselines": "convergence.egpo:BASELINES",
    "onpo_last_iterate": "convergence.onpo:LAST_ITERATE",
    "mpo_plain_nash": "convergence.mpo:PLAIN_NASH",
    "apo_acceleration": "convergence.apo:ACCELERATION",
    "dno_monotone": "convergence.dno:MONOTONE",
    "sppo_raises_chosen": "likelihood.sppo:RAISES_CHOSEN",
    "regret_self_play": "convergence.regret:SELF_PLAY",
    "regret_loss": "convergence.regret_loss:REGRET_LOSS",
    "refined_regret": "convergence.refined_regret:REFINED_REGRET",
    "simulator_free_regret": "convergence.simulator_free:SIMULATOR_FREE_REGRET",
    "osp_strengths": "rewards.osp:STRENGTHS_CLAIM",
    "spa_few_labels": "rewards.own_labels:FEW_LABELS",
    "cream_noise": "rewards.own_labels:NOISE",
    "upo_noisy_labels": "rewards.own_labels:NOISY_LABELS",
    "rso_accepted": "rewards.rso:ACCEPTED",
    "sail_bilevel": "rewards.sail:BILEVEL",
    "on_policy_negative_gradients": "exploration.on_policy:STUDY",
    "xpo_explores": "exploration.xpo:EXPLORES",
    "vpo_optimism_pessimism": "coverage.vpo:SIGNS_MATTER",
    "p3o_shift_invariance": "rewards.p3o:SHIFT_INVARIANCE",
    "copg_off_policy": "rewards.copg:OFF_POLICY_CLAIM",
    "reward_depends_on_writer": "rewards.writers:WRITERS",
    "gpm_cycles": "rewards.gpm:CYCLES",
    "rto_credit": "tokens.rto:CREDIT",
    "linear_alignment": "tokens.linear_alignment:CLOSED_FORM",
    "r3_mixture": "rewards.relevance_mixture:MIXED_REWARD",
    "maxmin_worst_group": "rewards.maxmin:WORST_GROUP",
    "constrained_proxy_points": "rewards.constrained:PROXY_POINTS",
    "dpa_front": "rewards.dpa:FRONT",
    "pal_new_users": "rewards.pal:NEW_USERS",
    "fspo_unseen_users": "rewards.fspo:UNSEEN_USERS",
    "rlp_on_distribution": "rewards.rlp:ON_DISTRIBUTION",
    "itool_fragments": "tokens.itool:FRAGMENT_PAIRS",
    "dstc_minimax": "rewards.dstc:MINIMAX_CHOICE",
    "reward_augmented_goals": "rewards.reward_augmented:GOALS",
    "self_consuming_curation": "rewards.self_consuming:CURATION",
    "regret_preferences": "rewards.regret_preferences:REGRET",
    "ldr_label_noise": "labels.ldr:NOISE",
    "comp_sum_bounds": "labels.comp_sum:BOUNDS",
    "smooth_adversarial": "labels.comp_sum:ADVERSARIAL",
    "contrastive_temperature": "labels.contrastive:TEMPERATURE",
    "isogclr_long_tail": "labels.contrastive:OWN_TEMPERATURES",
    "p2c_classification": "labels.p2c:CLASSIFICATION",
    "ibcl_preferences": "labels.continual:PREFERENCES",
    "dual_head_distillation": "labels.dual_head:HEADS",
    "duality_identity": "labels.duality:IDENTITY",
    "cpl_control": "control.cpl:CPL_CONTROL",
    "cmorl_front": "control.pareto:CMORL_FRONT",
    "sim_oprl_queries": "control.elicitation:SIM_OPRL",
    "diffusion_dpo_ink": "images.pairs:DIFFUSION_DPO",
    "ddim_inpo_inversion": "images.pairs:DDIM_INPO",
    "ncp_dpo_encoder": "images.pairs:NCP_DPO",
    "seppo_anchor": "images.seppo:SEPPO_ANCHOR",
    "subject_rpo_early_stopping": "images.subject_rpo:EARLY_STOPPING",
    "dragon_sets": "images.dragon:DRAGON_SETS",
}


class _Claims(Mapping[str, Claim]):
    """The claims by name, each imported when it is first asked for: some of them load a language model's library."""

    def __getitem__(self, name: str) -> Claim:
        module, record = HOMES[name].split(":")
        return getattr(import_module(f"equipoise.claims.{module}"), record)

    def __iter__(self) -> Iterator[str]:
        return iter(HOMES)

    def __len__(self) -> int:
        return len(HOMES)


CLAIMS: Mapping[str, Claim] = _Claims()


def get(name: str) -> Claim:
    """The named claim. Raises KeyError naming the nearest for one that is not listed."""
    if name not in HOMES:
        near = get_close_matches(name, HOMES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise KeyError(f"no claim {name!r}{hint} (known: {', '.join(HOMES)})")
    return CLAIMS[name]
