"""Names of other trainers' settings: what each is called here, for the message about an unknown setting."""

from __future__ import annotations

from equipoise.connect import axolotl, llama_factory, openrlhf, trl
from equipoise.connect.meanings import Meaning

# settings that are translated together with others
TOGETHER = {
    **dict.fromkeys(
        (
            "per_device_train_batch_size",
            "micro_batch_size",
            "gradient_accumulation_steps",
            "train_batch_size",
        ),
        "is part of train.batch here: comparisons per optimizer step, over all processes",
    ),
    **dict.fromkeys(("lora_r", "r"), "is model.lora_rank here"),
    **dict.fromkeys(("lora_target_modules", "lora_target", "target_modules"), "is model.lora_targets here"),
    **dict.fromkeys(
        ("use_peft", "adapter", "finetuning_type"), "does not exist here: set model.lora_rank above 0"
    ),
    **dict.fromkeys(
        ("loss_type", "pref_loss", "dpo_loss_type", "rl", "stage"),
        "does not exist here: the loss is the method, as in `equipoise align ipo_mean`; see `equipoise methods`",
    ),
    **dict.fromkeys(
        ("label_smoothing", "dpo_label_smoothing"),
        "does not exist here: it is `smoothing` of the method cdpo",
    ),
    **dict.fromkeys(("pref_beta", "rl_beta", "dpo_beta"), "is objective.beta here, of methods that have one"),
    **dict.fromkeys(
        ("pref_ftx", "rpo_alpha", "nll_loss_coef"), "does not exist here: it is alpha of the method irpo"
    ),
    **dict.fromkeys(("reference_free",), "does not exist here: it is the method dpo_reference_free"),
    **dict.fromkeys(("use_weighting", "dpo_use_weighting"), "does not exist here: it is the method wpo"),
    **dict.fromkeys(
        ("f_divergence_type",), "does not exist here: f_dpo_js, f_dpo_forward_kl, f_dpo_alpha are methods"
    ),
    **dict.fromkeys(
        ("desirable_weight", "kto_chosen_weight"), "is objective.desirable of the method kto here"
    ),
    **dict.fromkeys(
        ("undesirable_weight", "kto_rejected_weight"), "is objective.undesirable of the method kto here"
    ),
    **dict.fromkeys(("simpo_gamma",), "is objective.gamma of the method simpo here"),
    **dict.fromkeys(("cpo_alpha",), "is objective.alpha of the methods cpo and cpo_simpo here"),
    **dict.fromkeys(
        ("dataset_name", "dataset", "datasets", "train_dataset"), "is data.path here (or --data)"
    ),
    **dict.fromkeys(("val_set_size", "val_size"), "is data.held_out here, a share of the prompts"),
}
# settings that an import may leave out, but that a person who types one wants to be told about
WHERE = {
    **dict.fromkeys(
        ("report_to", "wandb_project", "logging_steps", "run_name"),
        "does not exist here: every step is a line of metrics.jsonl in the run folder",
    ),
    "eval_steps": "is evaluate.steps here",
    **dict.fromkeys(("eval_strategy", "evaluation_strategy"), "does not exist here: set evaluate.steps"),
    "save_strategy": "does not exist here: set train.save_steps",
    "save_total_limit": "is train.keep here, for the policies that train.save_steps saves",
    **dict.fromkeys(
        ("load_best_model_at_end", "metric_for_best_model"),
        "is evaluate.best here: the best policy is written to checkpoints/best",
    ),
    "greater_is_better": "does not exist here: evaluate.best knows which way is better",
    "early_stopping_patience": "is evaluate.patience here",
    **dict.fromkeys(("eval_dataset", "test_datasets"), "is data.evaluation here"),
    "gradient_checkpointing": "is train.activation_checkpointing here",
    "attn_implementation": "does not exist here: attention is chosen for the model when it is loaded",
    "model_name_or_path": "is model.path here (or --model)",
    "base_model": "is model.path here (or --model)",
}
SYNONYMS = {
    "lr_scheduler": "lr_scheduler_type",
    "num_epochs": "num_train_epochs",
    "epochs": "num_train_epochs",
    **dict.fromkeys(
        ("data.eval", "eval.path", "eval.data", "eval_data", "eval_path", "eval_file", "validation_file"),
        "eval_dataset",
    ),
}


def advice(name: str) -> str | None:
    """What another trainer's setting is here, as the rest of a sentence that begins with its name; None if unknown."""
    name = SYNONYMS.get(name, name).rpartition(".")[2]
    said = WHERE.get(name) or TOGETHER.get(name)
    if said:
        return said
    meaning = _meanings().get(name)
    if meaning is None:
        return None
    if meaning.ours:
        return f"is {meaning.ours} here" + (f": {meaning.why}" if meaning.why else "")
    if meaning.ignored:
        return "does not exist here, and changes nothing that is learned" + (
            f": {meaning.why}" if meaning.why else ""
        )
    return f"does not exist here: {meaning.why}"


def _meanings() -> dict[str, Meaning]:
    """All of them; where names agree, the earlier trainer's meaning."""
    return openrlhf.MEANINGS | axolotl.MEANINGS | llama_factory.MEANINGS | trl.MEANINGS
