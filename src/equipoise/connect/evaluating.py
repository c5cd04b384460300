"""Evaluation and saving inside training, as Hugging Face's arguments say it: eval_steps, save_steps, the best model."""

from __future__ import annotations

from typing import Any

from equipoise.connect.meanings import OFF, Translation, flag, number, short, whole

BEST = {
    "loss": "loss",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "accuracy": "accuracy",
}
DEFAULT_STEPS = 500  # of Hugging Face's arguments
NAMES = (
    "eval_strategy",
    "evaluation_strategy",
    "eval_steps",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "load_best_model_at_end",
    "metric_for_best_model",
    "greater_is_better",
    "early_stopping_patience",
)


def evaluating(t: Translation, *, alone: bool = False) -> None:
    """Translate when a policy is evaluated and saved during training, and which one is kept as the best.

    alone   whether the trainer takes eval_steps without eval_strategy as `steps`; otherwise it then evaluates nothing.
    """
    strategy = t.take("eval_strategy", "evaluation_strategy")
    steps = t.take("eval_steps")
    if strategy is None and alone and steps is not None:
        strategy = "steps"
    _every(t, "eval", strategy, steps, "evaluate.steps")
    strategy = t.take("save_strategy", default="steps")
    steps = t.take("save_steps")
    if strategy == "best":
        t.put("evaluate.best", "loss", "save_strategy: best")
    elif steps is not None or strategy not in ("steps", *OFF):
        _every(t, "save", strategy, steps, "train.save_steps")
    limit = t.take("save_total_limit")
    if limit not in OFF and "train.save_steps" in t.settings:
        t.put("train.keep", whole(limit), f"save_total_limit: {limit}")
    _best(t)


def _every(t: Translation, what: str, strategy: Any, steps: Any, ours: str) -> None:
    """Steps between evaluations, or between saved policies."""
    if strategy in OFF:
        if steps is not None:
            t.ignored.append(f"{what}_steps: {short(steps)}")
        return
    said = f"{what}_strategy: {short(strategy)}"
    if str(strategy) != "steps":
        t.lack(said, f"steps are counted here: set {ours} to the optimizer steps of an epoch")
        return
    every = number(DEFAULT_STEPS if steps is None else steps)
    if every < 1 or every != int(every):
        t.lack(
            f"{what}_steps: {short(steps)}", f"a share of all steps there: set {ours} to a number of steps"
        )
        return
    t.put(ours, int(every), f"{said}, {what}_steps: {int(every)}")


def _best(t: Translation) -> None:
    """The best model's metric, and after how many evaluations without a better one training ends."""
    wanted, metric = flag(t.take("load_best_model_at_end", default=False)), t.take("metric_for_best_model")
    higher, patience = t.take("greater_is_better"), t.take("early_stopping_patience")
    if not wanted and patience in OFF and "evaluate.best" not in t.settings:
        t.ignored += [f"metric_for_best_model: {short(metric)}"] if metric is not None else []
        return
    t.settings.pop("evaluate.best", None)
    said = f"metric_for_best_model: {short(metric or 'loss')}"
    name = BEST.get(str(metric or "loss").removeprefix("eval_"))
    if name is None:
        t.lack(said, "not measured here: set evaluate.best to accuracy, margin, loss or win_rate")
    elif higher is not None and flag(higher) != (name != "loss"):
        t.lack(
            f"greater_is_better: {short(higher)}",
            f"of {name} here {'lower' if name == 'loss' else 'higher'} is better",
        )
    elif "evaluate.steps" not in t.settings:
        t.lack(said, "the best one is chosen among evaluations: set evaluate.steps, then evaluate.best")
    else:
        t.put("evaluate.best", name, f"load_best_model_at_end, {said}")
        t.notes.append("the best policy is written in addition to the last one, to checkpoints/best")
        if patience not in OFF:
            t.put("evaluate.patience", whole(patience), f"early_stopping_patience: {short(patience)}")
