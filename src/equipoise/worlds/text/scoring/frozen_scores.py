"""Frozen scores (anchor log-probs): computed once, stored, and checked at step 0."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from equipoise.data.collate import row_length
from equipoise.play.capabilities import TokenWeighting
from equipoise.play.rows import Rows
from equipoise.policy import checkpoint
from equipoise.policy.protocol import Measured
from equipoise.policy.scoring import anchor_store, value_regression
from equipoise.policy.scoring.anchor_store import AnchorStore
from equipoise.policy.scoring.critic import score_values, value_head
from equipoise.policy.scoring.microbatch import Comparison
from equipoise.worlds.text.features import mean_hidden
from equipoise.worlds.text.folder.run_folder import RunFolder
from equipoise.worlds.text.held_model import HeldModel
from equipoise.worlds.text.ranks import Places
from equipoise.worlds.text.scoring import token_weights

# Log-ratio to its own anchor at step 0, in nats per token: fp32 sums differ by rounding between batch shapes
# (measured below 3e-6 on tiny models, it grows with the logits' size); bf16 keeps 8 bits of mantissa.
STEP_ZERO_BOUND = {"fp32": 1e-4, "bf16": 5e-2}


def pairs_of(rows: Rows) -> list[Comparison]:
    """Each row's prompt ids and responses, as the anchor store takes them."""
    return [(p.ids, list(group)) for p, group in zip(rows.prompts, rows.responses, strict=True)]


@dataclass(kw_only=True)
class FrozenScores:
    """Scores of responses under a checkpoint, read from the store if present.

    micro_batch   maximal number of comparisons per forward pass; None: as many as the token budget allows.
    """

    folder: RunFolder
    model: HeldModel
    store: AnchorStore
    micro_batch: int | None

    def score(
        self, round: int, rows: Rows, checkpoint_folder: Path, phase: str = "anchors", *, tokens: bool = False
    ) -> Tensor:
        """Log-probs [N, K], or token log-probs [N, K, T], under a checkpoint."""
        fingerprint, every = self.fingerprint(checkpoint_folder), pairs_of(rows)
        fingerprint = anchor_store.tokenwise(fingerprint) if tokens else fingerprint

        def make(pairs: list[Comparison]) -> tuple[Tensor, Tensor]:
            with (
                self.model.playing(checkpoint_folder) as policy,
                self.folder.progress.phase(round, phase, len(pairs), "comparisons") as shown,
            ):
                shown.tokens, shown.all_tokens = _tokens(every), _tokens(pairs)
                return anchor_store.score(policy, pairs, self.micro_batch, shown.tick, tokens=tokens)

        return self._dealt(fingerprint, every, make)

    def token_weights(
        self, round: int, rows: Rows, by: TokenWeighting, checkpoint_folder: Path
    ) -> np.ndarray:
        """[N, K, T] token weights from a checkpoint's hidden states; stored like an anchor."""
        fingerprint = f"{checkpoint.stored_fingerprint(checkpoint_folder)}|{by!r}"

        def make(pairs: list[Comparison]) -> tuple[Tensor, Tensor]:
            with (
                self.model.playing(checkpoint_folder) as policy,
                self.folder.progress.phase(round, "weights", len(pairs), "comparisons") as shown,
            ):
                weight = token_weights.token_weights(policy, pairs, self.micro_batch or 8, by, shown.tick)
            return weight, (weight != 0).sum(dim=2)

        return self._dealt(fingerprint, pairs_of(rows), make).numpy()

    def token_values(self, round: int, rows: Rows, returns: Tensor, checkpoint_folder: Path) -> Tensor:
        """[N, K, T] values by regression of the returns on a checkpoint's hidden states; by the first process, stored,
        so that every process, and a resumed run, reads the same."""
        pairs = pairs_of(rows)
        about = hashlib.sha256(returns.numpy().tobytes()).hexdigest()
        fingerprint = f"{self.fingerprint(checkpoint_folder)}|values of {about}"

        def make() -> tuple[Tensor, Tensor]:
            with (
                self.model.playing(checkpoint_folder) as policy,
                self.folder.progress.phase(round, "values", 2 * len(pairs), "comparisons") as shown,
            ):
                values = value_regression.regress_values(policy, pairs, returns, self.micro_batch, shown.tick)
            return values, returns  # stored with the regression targets

        self.folder.once(lambda: self.store.get(fingerprint, pairs, make))
        return self.store.get(fingerprint, pairs, make)[0]

    def critic_values(self, round: int, rows: Rows, critic: Path) -> Tensor:
        """[N, K, T] values under a critic's checkpoint; stored like an anchor."""
        fingerprint = f"{self.fingerprint(critic)}|critic {checkpoint.network_digest(critic)}"

        def make(pairs: list[Comparison]) -> tuple[Tensor, Tensor]:
            with (
                self.model.playing(critic) as policy,
                self.folder.progress.phase(round, "values", len(pairs), "comparisons") as shown,
            ):
                head = value_head(policy, critic).to(policy.device)
                return score_values(policy, head, pairs, self.micro_batch, shown.tick)

        return self._dealt(fingerprint, pairs_of(rows), make)

    def features(self, comparisons: Sequence[Comparison], checkpoint_folder: Path) -> Tensor:
        """[N, K, F] mean hidden states of the responses under a checkpoint."""

        def share(own: Places) -> dict[str, Tensor]:
            with self.model.playing(checkpoint_folder) as policy:
                return {"mean": mean_hidden(policy, [comparisons[place] for place in own], self.micro_batch)}

        return self.folder.ranks.rows(len(comparisons), share)["mean"]

    def check_step_zero(self, round: int, rows: Rows, cached: Tensor) -> None:
        """Step-0 check: the live policy, scored one row at a time, must match its own cached anchors on some rows.

        The largest difference, in nats per token, is logged in checks.jsonl. The gate step_zero is closed above the
        bound for the precision: then the anchors are not those of the policy about to be trained.
        """
        policy, journal = self.model.policy, self.folder.journal
        few = rows.take(np.arange(min(len(rows), self.micro_batch or 8)))
        live, length = anchor_store.score(policy, pairs_of(few), 1)
        worst = float(((live - cached[: len(few)]).abs() / length).max())
        bound = STEP_ZERO_BOUND[policy.precision]
        found = Measured(
            name="step_zero",
            measured=worst,
            limit=bound,
            passed=worst <= bound,
            sentence=f"before the first step the policy differs from its own anchor by {worst:.2e} nats per token "
            f"(bound {bound:.0e})"
            + ("" if worst <= bound else ": the stored anchors are not those of this policy"),
        )
        self.folder.gates.judge(found, round)
        if self.folder.accelerator.is_main_process:
            journal.rewind("checks.jsonl", round - 1)
            journal.append("checks.jsonl", {"round": round, "step_zero_log_ratio_per_token": worst})

    def fingerprint(self, checkpoint_folder: Path) -> str:
        """Fingerprint of the checkpoint and of the kernels that score here: a run may be resumed on another machine."""
        return f"{checkpoint.stored_fingerprint(checkpoint_folder)}|{self.model.policy.path}"

    def _dealt(
        self,
        fingerprint: str,
        pairs: list[Comparison],
        make: Callable[[list[Comparison]], tuple[Tensor, Tensor]],
    ) -> Tensor:
        """Stored values of the comparisons; if there are none, each process makes its share and the first writes."""
        ranks, path = self.folder.ranks, self.store.entry(fingerprint, pairs)

        def share(own: Places) -> dict[str, Tensor]:
            logp, length = make([pairs[place] for place in own])
            return {"logp": logp, "length": length}

        if not ranks.agreed(path.exists):
            made = ranks.rows(len(pairs), share)
            ranks.once(lambda: self.store.write(path, fingerprint, **made))
        return self.store.read(path)[0]


def _tokens(pairs: Sequence[Comparison]) -> int:
    return sum(row_length(prompt, response) for prompt, group in pairs for response in group)
