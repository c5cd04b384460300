"""Names of the gates that a run passes, their limits, and what may be allowed with `--allow NAME`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A check with a name.

    limit     of what is measured; None where it depends on the run.
    refuses   whether a run that does not pass ends unless the gate is allowed; False: it is told, and goes on.
    what      what is measured, and why.        remedy   what to do.
    """

    name: str
    limit: float | None = None
    refuses: bool = True
    what: str
    remedy: str


_ALL = (
    Gate(
        name="load_gate",
        what="the loaded policy gives the log-probs that its folder's own files give; otherwise another policy would "
        "be trained than the one that was named",
        remedy="check the model folder",
    ),
    Gate(
        name="checkpoint_gate",
        what="the first checkpoint, as plain transformers and PEFT read it, gives the policy's log-probs; otherwise "
        "what the run saves is not what it trains",
        remedy="check the free space and the model folder",
    ),
    Gate(
        name="step_zero",
        what="before a round's first step, the largest log-ratio of the policy to its own anchor, in nats per token: "
        "0 up to rounding (1e-4 in fp32, 5e-2 in bf16); otherwise the anchors belong to another policy",
        remedy="delete the folder anchors of the run, and resume",
    ),
    Gate(
        name="truncation",
        limit=0.5,
        what="share of the used rows with an answer cut at data.max_length, which then teach no end",
        remedy="raise data.max_length",
    ),
    Gate(
        name="refused_rows",
        limit=0.5,
        what="share of the rows read that were refused: what is left may not represent the data",
        remedy="read the reasons in the ledger above, or mend the data",
    ),
    Gate(
        name="reward_context",
        what="tokens of the longest prompt with a response of sampling.max_new_tokens, as the reward model counts "
        "them, against its context length: a longer response could not be judged, after it was paid for",
        remedy="lower sampling.max_new_tokens or data.max_prompt_length, or take a reward model with a longer context",
    ),
    Gate(
        name="support",
        limit=1.0,
        what="after each evaluated round, how far its policy is outside the support of the reference and the recorded "
        "responses, as a share of what is allowed: mass outside an enumerable game, the reference's surprisal per "
        "token, responses that do not end, their length. A run that leaves it ends there, and delivers the last "
        "evaluated round that did not; sample, evaluate, compare and export take that one. Demonstrations may lie "
        "anywhere",
        remedy="raise the objective's KL weight or pessimism, or lower train.lr",
    ),
    Gate(
        name="few_steps",
        limit=50,
        refuses=False,
        what="optimizer steps of a fit (of the whole run where a round is a few gradient steps, and in the built-in "
        "game): with fewer, a policy hardly moves, and a learning rate's warm-up and schedule mean little",
        remedy="lower train.batch, or raise train.epochs or, where rounds are gradient steps, play.rounds",
    ),
    Gate(
        name="no_sample_ended",
        limit=0.0,
        refuses=False,
        what="share of a round's first sampled responses that ended by themselves: at 0 the policy cannot stop, or "
        "sampling.max_new_tokens is too small",
        remedy="check the end-of-sequence tokens of the model, or raise sampling.max_new_tokens",
    ),
    Gate(
        name="engine_logprobs",
        what="where vLLM samples: log-probs of a few responses, in nats per token, against the policy's own scores of "
        "them, each time that weights are handed over; beyond what precision explains (1e-3 in fp32, 5e-2 in bf16) the "
        "engine holds other weights than the policy",
        remedy="check which model the server was started with; after a reload of all weights: let Equipoise start the "
        "server (leave sampling.servers out), train an adapter, or take sampling.engine=torch",
    ),
)
GATES = {gate.name: gate for gate in _ALL}

# Kinds of what a run depends on, which a resumed run must find as they were.
INPUTS = {
    "changed_model": "the model's weights or configuration (of an adapter, its base's too)",
    "changed_tokenizer": "the tokenizer's files",
    "changed_template": "the chat template, or what it writes (a template may write the date)",
    "changed_oracle": "the oracle: a rule's file or a file that it imports from its folder, a module's distribution, a "
    "reward model's folder, or a teacher's settings",
    "changed_data": "a data file",
    "changed_rows": "the rows as tokens, where no file is seen to differ",
    "changed_format": "the layout of run folders, or a folder that does not say what it depends on",
}
CODE = "config_code"  # an oracle that is code and that only a configuration file names
ALLOWABLE = (*GATES, *INPUTS, CODE)
