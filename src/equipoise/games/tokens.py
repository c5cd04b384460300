"""Sequential exact games: enumerated responses that are token sequences.

tree = TokenTree(words=("a", "b", "."), eos=2, length=3)
policy = TokenPolicy(tree, logits)                     logits of the next token, one row per prefix
policy.tabular()                                       the same policy over whole responses

Every formula of this package reads a distribution over responses, so each can be compared with its token-by-token
implementation. The token-level Markov decision process is solved in `token_mdp`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from equipoise.core.dims import Strategy
from equipoise.games.tabular import TabularPolicy

TokenTable: TypeAlias = Float[Tensor, "X S V"]
PerPosition: TypeAlias = Float[Tensor, "X A L"]
PerResponse: TypeAlias = Int[Tensor, "A"]
Positions: TypeAlias = Int[Tensor, "A L"]

MOST_RESPONSES = 100_000


@dataclass(frozen=True, kw_only=True)
class TokenTree:
    """Token tree: all sequences over a small vocabulary that end with EOS or have the maximal length.

    words     V distinct token names; a token's id is its index.
    length    L >= 1, maximal number of tokens, EOS included.
    eos       id of the token that ends a response; None: every response has length L.

    Sequences, tuples of token ids, are ordered by length and then lexicographically. S is the number of
    proper prefixes (the empty one is number 0), A that of responses. Raises ValueError for invalid arguments, or more
    than 100,000 responses.
    """

    words: tuple[str, ...]
    length: int
    eos: int | None = None

    def __post_init__(self) -> None:
        if not self.words or len(set(self.words)) != len(self.words):
            raise ValueError(f"words must be distinct and non-empty, got {self.words!r}")
        if self.length < 1:
            raise ValueError(f"length must be at least 1, got {self.length!r}")
        if self.eos is not None and not 0 <= self.eos < len(self.words):
            raise ValueError(f"eos must be a token id below {len(self.words)}, got {self.eos!r}")
        going = self.levels[-1].stop  # an edge leads to a response unless it leads to another prefix
        count = going * len(self.words) - (going - 1)
        if count > MOST_RESPONSES:
            raise ValueError(f"{count} responses are too many to enumerate; reduce length or words")

    @cached_property
    def levels(self) -> tuple[slice, ...]:
        """Index ranges of the prefixes of 0, 1, .. L - 1 tokens."""
        branches = len(self.words) - (self.eos is not None)
        ends = list(accumulate(branches**k for k in range(self.length)))
        return tuple(slice(low, high) for low, high in zip([0, *ends], ends, strict=False))

    @cached_property
    def prefixes(self) -> tuple[tuple[int, ...], ...]:
        """The S proper prefixes, after which another token follows."""
        level: list[tuple[int, ...]] = [()]
        prefixes = list(level)
        for _ in range(self.length - 1):
            level = [(*s, v) for s in level for v in range(len(self.words)) if v != self.eos]
            prefixes += level
        return tuple(prefixes)

    @cached_property
    def _edges(self) -> tuple[tuple[int, ...], ...]:
        """Every prefix followed by every token."""
        return tuple((*s, v) for s in self.prefixes for v in range(len(self.words)))

    @cached_property
    def responses(self) -> tuple[tuple[int, ...], ...]:
        """The A complete responses."""
        going = set(self.prefixes)
        return tuple(edge for edge in self._edges if edge not in going)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The A response names: their words, separated by spaces."""
        return tuple(" ".join(self.words[v] for v in response) for response in self.responses)

    @cached_property
    def child(self) -> Int[Tensor, "S V"]:
        """Index of the next node: of a prefix, or S + that of a response."""
        number = {sequence: i for i, sequence in enumerate(self.prefixes + self.responses)}
        return torch.tensor([number[edge] for edge in self._edges]).view(-1, len(self.words))

    @cached_property
    def lengths(self) -> PerResponse:
        """Response lengths |y|, EOS included."""
        return torch.tensor([len(response) for response in self.responses])

    @cached_property
    def mask(self) -> Bool[Tensor, "A L"]:
        """True where a response has a token."""
        return torch.arange(self.length) < self.lengths[:, None]

    @cached_property
    def _steps(self) -> tuple[Positions, Positions]:
        """Prefix index and token of each response at each position; 0 after its end."""
        number = {prefix: i for i, prefix in enumerate(self.prefixes)}
        places = range(self.length)
        prefix = [[number[y[:k]] if k < len(y) else 0 for k in places] for y in self.responses]
        token = [[y[k] if k < len(y) else 0 for k in places] for y in self.responses]
        return torch.tensor(prefix), torch.tensor(token)

    def along(self, table: TokenTable) -> PerPosition:
        """Gather a token table along every response: [X, A, L], entry k is table[y_<k, y_k].

        Positions outside `mask` are 0, so the sum over the last dimension is the sum over the response's own
        tokens. Differentiable. Raises ValueError for a wrong shape.
        """
        self.check("table", table)
        prefix, token = self._steps
        return table[:, prefix, token].where(self.mask, 0)

    def backup(self, edge: TokenTable, leaf: Strategy) -> TokenTable:
        """Backward recursion in logs, from the responses to the empty prefix: q(s, v) for all prefixes s and tokens v.

            q(s, v) = edge(s, v) + value(s v),    value(s) = log sum_v q(s, v),    value(y) = leaf(y)

        edge    [X, S, V] log weight of a token.       leaf    [X, A] log weight of a response.

        So softmax(q) is the next-token distribution of the distribution over responses that is proportional to
        exp( leaf(y) + sum_k edge(y_<k, y_k) ), and the value of the empty prefix is its log-normaliser.
        Differentiable if every value is finite. Raises ValueError for a wrong shape.
        """
        self.check("edge", edge)
        value, rows = leaf, []
        for level in reversed(self.levels):
            rows.append(edge[:, level] + value[:, self.child[level] - level.stop])
            value = torch.cat([rows[-1].logsumexp(dim=2), value], dim=1)
        return torch.cat(rows[::-1], dim=1)

    def check(self, what: str, table: Tensor) -> None:
        """Raise ValueError unless the table is [prompts, prefixes, words]."""
        shape = (len(self.prefixes), len(self.words))
        if table.ndim != 3 or tuple(table.shape[1:]) != shape:
            raise ValueError(
                f"{what} must be [prompts, {shape[0]} prefixes, {shape[1]} words], got {tuple(table.shape)}"
            )


@dataclass(frozen=True, eq=False)
class TokenPolicy:
    """Autoregressive policy pi(v|x, s) = softmax(logits[x, s])[v], the next token after prefix s, in float64.

    logits    [X, S, V]; minus infinity means probability 0. They may carry a gradient.

    Immutable. Raises ValueError for a wrong shape, a NaN, or a prefix without any finite logit.
    """

    tree: TokenTree
    logits: TokenTable

    def __post_init__(self) -> None:
        self.tree.check("logits", self.logits)
        if self.logits.dtype != torch.float64:
            object.__setattr__(self, "logits", self.logits.to(torch.float64))
        best = self.logits.detach().max(dim=2).values  # NaN propagates through max
        if not bool(best.isfinite().all()):
            x, s = (~best.isfinite()).nonzero()[0].tolist()
            raise ValueError(
                f"logits of prompt {x} after {self.tree.prefixes[s]} are NaN or infinite: {self.logits[x, s].tolist()}"
            )

    @classmethod
    def from_sequences(cls, tree: TokenTree, policy: TabularPolicy) -> TokenPolicy:
        """The token policy of a distribution over responses: pi(v|s) = pi(s v ...)/pi(s ...).

        It is unique, except after a prefix of probability 0, where the uniform distribution is used. Raises ValueError
        if the policy is not over the responses of this tree.
        """
        if policy.shape[1] != len(tree.responses):
            raise ValueError(f"policy over {policy.shape[1]} responses, the tree has {len(tree.responses)}")
        leaf = policy.log_probs()
        q = tree.backup(leaf.new_zeros(len(leaf), *tree.child.shape), leaf)
        unreached = q.isneginf().all(dim=2, keepdim=True)
        return cls(tree, q.masked_fill(unreached, 0))

    def conditional(self) -> TokenTable:
        """Next-token log-probs log pi(v|x, s), [X, S, V] in nats."""
        return self.logits.log_softmax(dim=2)

    def token_log_probs(self) -> PerPosition:
        """Token log-probs log pi(y_k|x, y_<k), [X, A, L]: 0 outside `tree.mask`, and the sum over L is log pi(y|x)."""
        return self.tree.along(self.conditional())

    def tabular(self) -> TabularPolicy:
        """The same policy over whole responses, in the tree's order; differentiable in the token logits."""
        return TabularPolicy(self.token_log_probs().sum(dim=2))

    def token_geometric(self, other: TokenPolicy, weight: float) -> TokenPolicy:
        """Token-level mixture pi^(1 - weight) * other^weight, normalised after EVERY PREFIX, weight in [0, 1].

        It is what language models compute when they mix next-token logits, for instance in Nash-MD (2312.00886). It is
        NOT the geometric mixture of the two distributions over responses, `tabular().geometric(...)`, unless L = 1:
        the latter also weighs a token by the agreement of the two on its continuations. Raises ValueError for
        another tree or a weight outside [0, 1].
        """
        if other.tree != self.tree:
            raise ValueError("both policies must be on the same tree")
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must lie in [0, 1], got {weight!r}")
        if weight in (0, 1):  # 0 * -inf is not a number
            return other if weight else self
        return TokenPolicy(self.tree, (1 - weight) * self.conditional() + weight * other.conditional())
