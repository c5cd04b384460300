"""Capabilities for further responses to a row: mismatched, revised, degraded; and responses as texts."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from equipoise.play.rows import Rows
from equipoise.play.state import State


@runtime_checkable
class MismatchedPrompts(Protocol):
    """mismatched prompt-response pairs for a KL estimate (KTO)."""

    def unrelated(self, state: State, rows: Rows) -> Rows:
        """Append to each row's labelled response one recorded for another prompt, to be scored after this prompt.
        Its reward, 0, is a placeholder.

        For text a seeded derangement of the rows; in a table every such response, with its probability as a factor of
        the weight. With a single prompt, responses are paired within it.
        """
        ...


@runtime_checkable
class BothRoles(Protocol):
    """revision prompts, which show the policy an earlier answer to improve (SRPO)."""

    def both_roles(self, rows: Rows) -> Rows:
        """Six columns for a pair: both responses after the prompt, then each as a revision of each."""
        ...


@runtime_checkable
class Degradations(Protocol):
    """progressively degraded responses (SPO)."""

    def degraded(self, rows: Rows, degrees: int) -> Rows:
        """Columns 0 and 1, then degrees - 1 versions of each with progressively more content removed."""
        ...


@runtime_checkable
class ResponseTexts(Protocol):
    """responses as texts (RLP, DNO-Prct)."""

    def texts(self, rows: Rows) -> list[list[str]]:
        """The responses as an oracle reads them, [N][K]."""
        ...
