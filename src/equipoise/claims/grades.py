"""How much a claim's verdict is worth as evidence for its sentence, whichever way it goes.

A grade judges the experiment, not the method: a refutation may be an A. It is given by hand, with its reason, by
one rule for all (`MEANING`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Letter: TypeAlias = Literal["A", "B", "C"]

MEANING: Mapping[Letter, str] = {
    "A": "the rule could have failed, the comparison is the sentence's own, with intervals over seeds or an exact "
    "identity that is the sentence itself, and fresh seeds do not turn the verdict.",
    "B": "true of what was run, but weak: one setting or data set, an identity and a little data, a stage smaller than "
    "the sentence, or settings changed after figures had been seen.",
    "C": "no evidence: the heart cannot fail, nothing was learnt yet, or an artefact decides.",
}


@dataclass(frozen=True)
class Grade:
    """A letter of `MEANING` and why this claim has it."""

    letter: Letter
    reason: str


def _grades(letter: Letter, reasons: Mapping[str, str]) -> dict[str, Grade]:
    return {name: Grade(letter, reason) for name, reason in reasons.items()}


GRADES: Mapping[str, Grade] = {
    **_grades(
        "A",
        {
            "duality_identity": "an exact identity that is the sentence itself.",
            "hypo_partial_coverage": "exact bandits and random games, with a family where it should not help, best of "
            "a grid for each.",
            "npo_slow_collapse": "theory's constants are predicted and met; both rates could have come out otherwise.",
            "rdpo_label_flips": "the same data for all, four rates and three sizes; one beta.",
            "inpo_fixed_point": "an identity, but of the loss that runs, and the sentence is that identity.",
            "inpo_last_iterate": "exact rounds on cycles and random games; a policy that stays or cycles fails.",
            "inpo_sampled_pairs": "the shipped loss on drawn labels alone; a constant step fails by the same rule.",
            "nash_md_last_iterate": "exact rounds on cycles and random games; a constant step fails by the same rule.",
            "reward_depends_on_writer": "both models learnt from the same pairs, with transitive games as control.",
            "on_policy_negative_gradients": "equal labels and steps, tuned rates, paired seeds; one shape of reward.",
            "gradient_entanglement": "a pair at a time, followed to a nat of margin, against a naive rule.",
            "loss_entailment": "exact at random points, and the sentence is that order.",
            "kto_card": "exact, and the sentence is that identity.",
            "dno_monotone": "an identity, and a refutation of what is read into it.",
            "sppo_raises_chosen": "losses at equal margins, paired data sets: a refutation.",
            "asft_raises_chosen": "losses at equal margins, paired data sets: a refutation.",
            "spac_three_rounds": "every round minimised exactly, paired data sets: a refutation.",
            "rso_accepted": "the sampler's law is exact; models are trained on pairs of its limit.",
            "gpm_cycles": "exact and quantitative, on exact labels.",
            "rto_credit": "tuned rates, an exact critic as control, the teacher's error shown; five tokens.",
            "mcts_dpo_step_pairs": "equal numbers of sampled steps, paired seeds, responses of the same trees too.",
            "sail_bilevel": "equal labels and paired worlds, the learner with the term on and off: a refutation.",
        },
    ),
    **_grades(
        "B",
        {
            "ldr_label_noise": "one data set and one network, large effects; a learning rate of the method's card.",
            "comp_sum_bounds": "random distributions with every score allowed, where the minimisability gaps are 0.",
            "smooth_adversarial": "one small network, a weight below the theory's; attacks of 20 steps.",
            "contrastive_temperature": "one data set of small images, a small encoder, few steps.",
            "isogclr_long_tail": "one data set of small images, 300 steps; the mechanism is exact.",
            "p2c_classification": "one data set, preferences by its continuous measure and not by people.",
            "ibcl_preferences": "one data set, linear models.",
            "dual_head_distillation": "one data set, one size of student.",
            "spac_coverage": "tables alone, an objective derived here, a threshold set after a power had been seen.",
            "spac_shipped_defaults": "five families of small bandits, chosen with the defaults.",
            "spac_lucky_arm": "one data set made by hand.",
            "spac_safe_for_every_lambda": "three families of small bandits; what is forgiven was set on pilot seeds.",
            "d2o_negatives_only": "small bandits; settings were changed with figures known.",
            "osp_strengths": "a noisy judge on small bandits.",
            "kto_wrong_thumbs": "log-linear policies; the betas were set with figures of other seeds known.",
            "kto_unequal_thumbs": "one pair of numbers, and a measure that an offset common to all does not move.",
            "srpo_robustness": "the heart is the algebra of the loss; win rates under shift are the open part.",
            "ofs_forgetting": "compared after convergence, where nobody can differ in domain.",
            "sapo_against_spin": "one step size for all, which SPIN does not bear at beta 0.1.",
            "f_dpo_divergences": "the first half is Lagrange duality; nothing is trained.",
            "rpo_partial_coverage": "one bandit whose reference and betas were changed after figures.",
            "three_d_properties": "settings were changed after figures; what on-policy pairs do turns with the seeds.",
            "tpo_on_step_trees": "equal divergence and paired seeds; steps are independent, so step weights can find "
            "nothing.",
            "sparse_po_masks": "six words of which one decides; the result hangs on one constant.",
            "bco_mismatched_thumbs": "exact games; the paper's own quantity is another one.",
            "convergence_classes": "real methods, two cycles and one start.",
            "egpo_against_baselines": "the authors' games, exact gradients in tables.",
            "onpo_last_iterate": "two cycles, exact.",
            "mpo_plain_nash": "two cycles, exact.",
            "apo_acceleration": "follows a formula that played rounds are held against.",
            "regret_self_play": "an identity and textbook rates.",
            "regret_loss": "real training on unseen losses; starts that do not find FTRL do not count.",
            "refined_regret": "simulated MDPs with a tuning derived here; settings after pilots.",
            "simulator_free_regret": "simulated MDPs with a tuning derived here; settings after a pilot.",
            "spa_few_labels": "log-linear policies and one size of the labelled part.",
            "cream_noise": "log-linear policies whose extrapolation plays the model's over-confidence.",
            "upo_noisy_labels": "the estimator was exchanged after a first run had failed.",
            "xpo_explores": "one bandit; alpha was chosen after a first run.",
            "vpo_optimism_pessimism": "bandits; the online half is XPO's design.",
            "p3o_shift_invariance": "half an identity; the rival is no full PPO.",
            "copg_off_policy": "the paper's own toy; its rival is uncorrected too.",
            "linear_alignment": "trees of four tokens whose principle is made by hand.",
            "r3_mixture": "worlds whose true quality is built from the mixture's own parts.",
            "maxmin_worst_group": "linear rewards, two groups.",
            "constrained_proxy_points": "a quadratic true score of two proxies.",
            "dpa_front": "linear rewards and a log-linear policy.",
            "pal_new_users": "users who are mixtures of ideal points, as the model assumes.",
            "fspo_unseen_users": "synthetic users with one direction of taste.",
            "rlp_on_distribution": "trained reward models; values are compared at equal temperature, not at equal KL.",
            "itool_fragments": "simulated requests; step sizes after a first run.",
            "dstc_minimax": "simulated tables of passes.",
            "reward_augmented_goals": "log-linear policies with true scores.",
            "self_consuming_curation": "closed forms of the theorem's own loop.",
            "regret_preferences": "grids; their number was raised after a first run.",
            "cpl_control": "one environment of two dimensions, five seeds, data that cover its states.",
            "cmorl_front": "exact, on two maps of one kind; that linear preferences miss inner points is geometry.",
            "sim_oprl_queries": "star MDPs of our own with one decision; the arm that nobody tried tempts too little.",
            "diffusion_dpo_ink": "digits of 8x8 pixels, one reward; the recipe had been seen on another seed.",
            "ddim_inpo_inversion": "digits of 8x8 pixels, one reward, one beta for both kinds of noise.",
            "ncp_dpo_encoder": "digits of 8x8 pixels, one reward, one beta for both spaces.",
            "seppo_anchor": "digits of 8x8 pixels, one set of winners, one beta.",
            "subject_rpo_early_stopping": "digits of 8x8 pixels, a class in the place of a prompt.",
            "dragon_sets": "digits of 8x8 pixels, one set of exemplars; its classifier and features are of pixels.",
        },
    ),
    **_grades(
        "C",
        {
            "spac_saddle": "the algorithm against the formula that it was derived from.",
            "rationale_data_efficiency": "the tiny model leaves its grammar when it learns rationales.",
            "spo_degree": "four optimizer steps and two seeds.",
        },
    ),
}
