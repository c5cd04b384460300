"""Every component of a method's axes and every oracle, listed once with an example. A new row buys the whole suite.

`exempt` says, in a sentence, which check an example is not held to; the suites see to it that it would fail there.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from equipoise.core.auxiliary_heads import SparseMasks
from equipoise.oracles.learned.feature_reward import Fitting
from equipoise.play.needs import LISTS, PAIRS_WITH_RATIONALES, SCORED_LISTS
from equipoise.play.pairings.best_along import BestAlong
from equipoise.play.pairings.confidence_weighted import ConfidenceWeighted
from equipoise.play.pairings.constrained import Constrained
from equipoise.play.pairings.curated import Curated
from equipoise.play.pairings.greedy_split import GreedySplit
from equipoise.play.pairings.learned_reward import ByLearnedReward
from equipoise.play.pairings.max_min import MaxMin
from equipoise.play.pairings.ranking import Matches, Neighbours
from equipoise.play.pairings.recorded import (
    AsRecorded,
    Degraded,
    InBothRoles,
    PreferredFirst,
    TargetBeatsOwn,
    WithChosen,
)
from equipoise.play.pairings.replay_buffer import Buffered, Replayed
from equipoise.play.pairings.response_rewards import ByReward
from equipoise.play.pairings.sampled import (
    BestWorst,
    Pairs,
    Scored,
    ScoredByMixture,
    Tournament,
    WithThird,
)
from equipoise.play.pairings.score_margin import ScoreMargin
from equipoise.play.pairings.self_labelled import ImplicitRewardLabels
from equipoise.play.pairings.self_tested import SelfTested
from equipoise.play.pairings.unpaired import AgainstOwnSamples, Labelled, MatchedPrompts, WithUnrelated
from equipoise.play.pairings.votes import Votes
from equipoise.play.players.by_domain import ByDomain
from equipoise.play.players.code_and_tests import CodeAndTests
from equipoise.play.players.curriculum import Deficient, EasyToHard
from equipoise.play.players.directed import Directed
from equipoise.play.players.perturbed import PerturbedPlayer
from equipoise.play.players.recorded import (
    Demonstrations,
    Recorded,
    RecordedThenSampled,
    Segments,
    Targets,
)
from equipoise.play.players.rejection import Accepting, Rejected
from equipoise.play.players.sampled import Mixed, Several, Written
from equipoise.play.players.tree_search import TreePaths, TreeSearch
from equipoise.play.players.unpaired import DispreferredResponses, UnpairedResponses
from equipoise.play.state import INITIAL, START, UNIFORM, Past
from equipoise.play.updates.basic import (
    Averaged,
    Descend,
    Extragradient,
    Extrapolated,
    Magnetic,
    MirrorStep,
    Optimistic,
    Refit,
    WithRecorded,
)
from equipoise.play.updates.demonstrations import WithDemonstrations
from equipoise.play.updates.fast_slow import CrossDomainFastSlow, FastSlow
from equipoise.play.updates.live_reference import (
    ExtrapolatedLogitsRefit,
    LiveRefit,
    StepWeighted,
    TokenWeighted,
)
from equipoise.play.updates.pool import Pooled
from equipoise.play.updates.ppo import TeacherRewards, TokenAdvantages
from equipoise.play.updates.reward_relearning import Restarted
from equipoise.play.updates.zeroth_order import ZerothOrder


@dataclass(frozen=True, kw_only=True)
class Row:
    """One example of a component.

    example   the component.
    method    of an update: the method whose other choices it is played with.
    exempt    check or world -> why it does not hold there.
    """

    example: Any
    method: str = ""
    exempt: Mapping[str, str] = field(default_factory=dict)


EXACT_ONLY = {"text": "exact games only"}
TINY = Fitting(steps=5, batch=8, width=4, code=2)

PLAYERS = [
    Row(example=Written(by=START, samples=2)),
    Row(example=Written(by=Past(), samples=2)),
    Row(example=Written(by=UNIFORM, samples=2), exempt=EXACT_ONLY),
    Row(example=Written(by=START, samples=3, temperature=0.5, top_k=2)),
    Row(example=Mixed(samples=2, mixture=0.3)),
    Row(example=Several(by=((START, 2), (INITIAL, 1)))),
    Row(example=PerturbedPlayer(samples=1, mu=0.5)),
    Row(example=PerturbedPlayer(samples=2, mu=0.5, block=2)),
    Row(example=Recorded()),
    Row(example=Recorded(own=1, parts=2)),
    Row(example=Recorded(needs=LISTS)),
    Row(example=Recorded(needs=SCORED_LISTS)),
    Row(
        example=Recorded(needs=PAIRS_WITH_RATIONALES),
        exempt={"table": "an exact game records pairs and no rationales"},
    ),
    Row(example=Demonstrations()),
    Row(example=Targets(own=2)),
    Row(example=Segments(longest=3)),
    Row(example=RecordedThenSampled(samples=3)),
    Row(
        example=Targets(own=2, parts=2, teacher=True), exempt={"table": "no server answers for an exact game"}
    ),
    Row(
        example=Directed(samples=2, template="{values} {prompt}", words=("black", "mint")),
        exempt={"table": "an exact game judges by a matrix and has no named scores"},
    ),
    Row(example=Rejected(samples=2, candidates=3)),
    Row(example=Accepting(samples=2), exempt=EXACT_ONLY),
    Row(example=TreeSearch(mark="", depth=3, iterations=2, outcome="win_rate")),
    Row(example=TreeSearch(level="response", mark="", depth=0, iterations=2, outcome="win_rate", branch=4)),
    Row(
        example=TreePaths(samples=3, branch=3, mark="", depth=5, nodes=60, outcome="win_rate"),
    ),
    Row(example=UnpairedResponses()),
    Row(example=DispreferredResponses()),
    Row(example=DispreferredResponses(own=2)),
    Row(example=ByDomain(stay=1, parts=2)),
    Row(example=EasyToHard(stages=2)),
    Row(
        example=Deficient(
            base=TreeSearch(mark="", depth=2, iterations=1, outcome="win_rate", self_evaluation=False),
            share=0.5,
        )
    ),
    Row(example=CodeAndTests(codes=2, tests=3, ask_both="{prompt}")),
]

BY_PLACE = {"permutation in text": "what is drawn for a row is addressed by its place"}
NO_NAMES = {"table": "an exact game judges by a matrix and has no named scores"}
OF_ITS_BASE = {"width": "its base passes rows of every width on, and pairs are what it takes"}

PAIRINGS = [
    Row(example=AsRecorded()),
    Row(example=TargetBeatsOwn()),
    Row(example=WithChosen()),
    Row(example=PreferredFirst()),
    Row(example=InBothRoles(), exempt=OF_ITS_BASE),
    Row(example=InBothRoles(base=Pairs())),
    Row(example=Degraded(degrees=3), exempt=OF_ITS_BASE),
    Row(example=Degraded(base=TargetBeatsOwn(), degrees=3), exempt=OF_ITS_BASE),
    Row(example=Buffered(size=20)),
    Row(example=Replayed()),
    Row(example=Replayed(base=WithThird(), shares=(0.5,))),
    Row(example=Replayed(base=InBothRoles(base=Pairs()))),
    Row(example=Pairs()),
    Row(example=Pairs(labels="bernoulli", equal=True)),
    Row(example=Pairs(labels="own")),
    Row(example=Pairs(every=True, rewards=True)),
    Row(example=Tournament()),
    Row(example=Scored()),
    Row(example=Scored(opponents=2, scores="logit"), exempt=BY_PLACE),
    Row(example=Scored(with_itself=True)),
    Row(example=ScoredByMixture(mixture=0.3), exempt=BY_PLACE),
    Row(example=BestWorst()),
    Row(example=BestWorst(keep="match")),
    Row(example=BestWorst(keep="rates", with_itself=True)),
    Row(example=WithThird()),
    Row(example=WithThird(third="last")),
    Row(example=WithThird(third="first")),
    Row(example=Matches()),
    Row(example=Matches(tournament=True)),
    Row(example=Neighbours()),
    Row(example=ScoreMargin(high=3.0, margin=0.1, own_margin=0.1)),
    Row(example=ImplicitRewardLabels()),
    Row(example=ImplicitRewardLabels(consistency="corpus")),
    Row(example=ImplicitRewardLabels(consistency="prompt")),
    Row(example=Labelled()),
    Row(example=Labelled(balanced=True)),
    Row(example=WithUnrelated(), exempt=BY_PLACE),
    Row(example=MatchedPrompts()),
    Row(example=AgainstOwnSamples()),
    Row(example=MaxMin(), exempt=NO_NAMES),
    Row(example=MaxMin(eta=0.5), exempt=NO_NAMES),
    Row(example=Votes()),
    Row(example=Votes(votes=3)),
    Row(example=ByReward()),
    Row(example=ByReward(normalise=True, cap=10.0)),
    Row(example=ByLearnedReward(every=1, own=2, bottleneck=0.5, fitting=TINY)),
    Row(example=ByLearnedReward(every=1, own=3, confidence=0.3, fitting=TINY)),
    Row(example=ConfidenceWeighted(fitting=TINY)),
    Row(example=GreedySplit()),
    Row(example=GreedySplit(paired=False)),
    Row(example=Curated()),
    Row(example=Curated(gamma=2.0, draw=False)),
    Row(example=Constrained(thresholds={"host": 1.0}), exempt=NO_NAMES),
    Row(example=Constrained(thresholds={"doctor": 1.0, "host": 0.0}, constraint="equal"), exempt=NO_NAMES),
    Row(example=BestAlong(), exempt=NO_NAMES),
    Row(example=SelfTested(codes=2)),
    Row(example=SelfTested(codes=2, labels="single"), exempt=BY_PLACE),
]

UPDATES = [
    Row(example=Refit(), method="dpo"),
    Row(example=Descend(rate=0.2), method="rloo"),
    Row(example=WithRecorded(base=Descend(rate=0.2), offline=0.5, parts=2), method="sail_ddp"),
    Row(example=WithRecorded(offline=0.0), method="sail"),
    Row(example=MirrorStep(), method="omd"),
    Row(example=Extragradient(), method="egpo"),
    Row(example=Optimistic(), method="onpo"),
    Row(example=Extrapolated(alpha=0.4), method="apo"),
    Row(example=Magnetic(base=Descend(rate=0.2), every=2), method="mpo"),
    Row(example=Averaged(base=Descend(rate=0.2), decay=0.4), method="nash_ema_pg"),
    Row(example=Magnetic(base=Averaged(), every=1), method="dpo"),
    Row(example=Pooled(), method="seppo", exempt={"table": "an exact game offers no draw from the pool"}),
    Row(example=LiveRefit(), method="tdpo1"),
    Row(example=ExtrapolatedLogitsRefit(), method="spa"),
    Row(example=LiveRefit(network=SparseMasks(common=True), network_rate=2.0), method="sparse_po"),
    Row(
        example=TokenWeighted(base=LiveRefit()),
        method="mapo",
    ),
    Row(example=StepWeighted(mark=""), method="tpo"),
    Row(example=TokenAdvantages(base=Descend(rate=0.2), tau=0.1), method="ppo"),
    Row(
        example=TokenAdvantages(base=Descend(rate=0.2), tau=0.1, critic="regression"),
        method="ppo",
    ),
    Row(example=TeacherRewards(base=TokenAdvantages(tau=0.01)), method="rto"),
    Row(example=Restarted(base=Descend(rate=0.2), every=1), method="rloo"),
    Row(
        example=WithDemonstrations(real=0.4),
        method="self_consuming",
        exempt={"table": "a table's rows carry no lengths, and the loss is a mean over tokens"},
    ),
    Row(example=FastSlow(rate=0.5), method="ofs_dpo"),
    Row(example=CrossDomainFastSlow(base=FastSlow(rate=0.5), stay=1, recall=3), method="cofs_dpo"),
    Row(example=ZerothOrder(alpha=0.1, mu=0.5), method="zpg"),
    Row(
        example=ZerothOrder(alpha=0.1, mu=0.5, block=2, link="thurstone"),
        method="zbcpg",
        exempt={"moves in text": "a language model with two weights moved answers as before"},
    ),
]

COMPONENTS = [*PLAYERS, *PAIRINGS, *UPDATES]


def named(rows: list[Row]) -> dict[str, Row]:
    """The rows by a short name of their example, numbered where several examples are of one class."""
    names: dict[str, Row] = {}
    for row in rows:
        name = type(row.example).__name__
        others = sum(known.partition("-")[0] == name for known in names)
        names[f"{name}-{others + 1}" if others else name] = row
    return names


def classes(package: ModuleType) -> Iterator[type]:
    """The public concrete classes that the modules of a package define: no protocols."""
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for name, value in vars(module).items():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and not name.startswith("_") and not vars(value).get("_is_protocol", False):
                yield value


def missing(package: ModuleType, base: type | None, listed: list[Row]) -> list[str]:
    """Names of the package's classes built on `base` of which no example is listed."""
    known = {type(row.example) for row in listed}
    return [c.__name__ for c in classes(package) if (base is None or base in c.__mro__) and c not in known]
