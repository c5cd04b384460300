"""Reward models trained during a run, from the initial policy's body: `reward_models` inside a run folder."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from equipoise.models.errors import ModelError
from equipoise.oracles.checked import Checked
from equipoise.oracles.learned.bottleneck import Bottleneck, kl_warmup
from equipoise.oracles.models.reward import load_oracle
from equipoise.play.capabilities import RewardData
from equipoise.play.rows import Rows
from equipoise.play.state import Floats
from equipoise.policy.files import whole
from equipoise.reward_models.batches import padded
from equipoise.reward_models.fit import Batch, Fitting, Remedies, fit
from equipoise.reward_models.folder import save
from equipoise.reward_models.head import Head
from equipoise.reward_models.model import RewardModel
from equipoise.reward_models.pairs import LabelledPair, tokenised
from equipoise.reward_models.start import begin
from equipoise.reward_models.texts import Texts
from equipoise.reward_models.train import automatic_rate
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.text.folder.run_folder import RunFolder
from equipoise.worlds.text.judging import Judge

log = logging.getLogger(__name__)
CODE = 16  # width of the bottleneck's codes


@dataclass(kw_only=True)
class RunRewards:
    """Trains reward models into `rewards/NAME` of the run folder, each once, and scores with the last one.

    base    checkpoint of the initial policy, whose body a reward model begins with.
    """

    folder: RunFolder
    base: Path
    _held: tuple[Path, Judge] | None = None

    def trained(self, name: str, make: Callable[[int], RewardData]) -> Path:
        """Folder of the reward model of this name; trained by the first process if it is not there."""
        out = self.folder.journal.folder / "rewards" / name
        seed = self.folder.seeds("rewards", name)
        data = None if self.folder.ranks.agreed(out.exists) else make(seed)

        def train() -> None:
            if data is not None:
                self._train(out, data, seed)
            self.folder.journal.manifest.ensure(out)

        self.folder.once(train)
        self.folder.journal.manifest.verify(out)
        return out

    def _train(self, out: Path, data: RewardData, seed: int) -> None:
        beginning = begin(self.base, Head(), seed=seed)
        model = beginning.model.to(self.folder.accelerator.device)
        pairs = labelled_pairs(data.pairs, beginning.texts)
        fitting = Fitting(epochs=data.epochs, batch=data.batch, lr=automatic_rate(beginning))
        remedies = None
        if data.views is not None and data.bottleneck:
            steps = data.epochs * math.ceil(len(pairs) / data.batch)
            views = Views(view_tokens(data.views, beginning.texts), data.bottleneck, steps, seed, model)
            remedies = views.remedies()
        fit(model, pairs, fitting=fitting, seed=seed, remedies=remedies)
        with whole(out) as draft:
            draft.mkdir(parents=True)
            save(beginning.finish().eval(), beginning.texts, draft)

    def scores(self, rows: Rows, reward: Path) -> tuple[Floats, Judge]:
        """([N, K] rewards, the judge that gave them and knows which are missing)."""
        if self._held is None or self._held[0] != reward:
            oracle = Checked(load_oracle(reward, device=self.folder.accelerator.device))
            self._held = (reward, Judge(oracle=oracle, ranks=self.folder.ranks))
        judge = self._held[1]
        return judge.rewards(rows), judge


def labelled_pairs(rows: Rows, texts: Texts) -> list[LabelledPair]:
    """Pairs of rows, tokenised as the reward model reads them; those it cannot read are left out, with a warning.

    Raises TrainingError if none is left.
    """
    assert rows.prob is not None
    found, unread = [], 0
    for number, (prompt, group, prob, weight) in enumerate(
        zip(rows.prompts, rows.responses, rows.prob, rows.weight, strict=True)
    ):
        pair = LabelledPair(
            id=str(number),
            group=repr(prompt.ids),
            prompt=prompt.context,
            first=group[0].text,
            second=group[1].text,
            prob=(float(prob),),
            weight=float(weight),
        )
        try:
            found.append(tokenised(pair, texts, Head()))
        except ModelError:
            unread += 1
    if not found:
        raise TrainingError("no pair is left that the run's reward model can read")
    if unread:
        log.warning("%d pairs are left out: the run's reward model cannot read them", unread)
    return found


def view_tokens(rows: Rows, texts: Texts) -> list[tuple[list[int], list[int]]]:
    """Disjoint pairs of responses to one prompt, as tokens. Raises TrainingError if there are fewer than two."""
    views = []
    for prompt, group in zip(rows.prompts, rows.responses, strict=True):
        for first, second in zip(group[::2], group[1::2], strict=False):
            try:
                views.append(
                    (texts.answer(prompt.context, first.text), texts.answer(prompt.context, second.text))
                )
            except ModelError:
                continue
    if len(views) < 2:
        raise TrainingError(
            "an information bottleneck needs two pairs of responses that the reward model can read"
        )
    return views


class Views:
    """RLP-UML's loss next to that of the pairs: lambda L_MIB of the last layer's states on drawn pairs of views.

    views        tokens of two responses to one prompt.
    steps        of the whole training, for the warm-up of the KL terms.
    """

    def __init__(
        self,
        views: Sequence[tuple[list[int], list[int]]],
        bottleneck: float,
        steps: int,
        seed: int,
        model: RewardModel,
    ) -> None:
        self.views, self.bottleneck, self.steps, self.step = views, bottleneck, steps, 0
        self.draw = torch.Generator().manual_seed(seed)
        width = int(model.body.config.hidden_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.shared = Bottleneck(width, CODE).to(model.device)

    def remedies(self) -> Remedies:
        return Remedies(extra=self.loss, parameters=list(self.shared.parameters()), within=self.within)

    @contextmanager
    def within(self, model: RewardModel, step: int) -> Iterator[None]:
        """Notes the step, by which the KL terms are warmed up."""
        self.step = step
        yield

    def loss(self, model: RewardModel, batch: Batch) -> Tensor:
        """[n] the loss, the same for each pair of the batch."""
        count = max(2, min(len(batch.pairs), len(self.views)))
        at = torch.randint(len(self.views), (count,), generator=self.draw).tolist()
        texts = [self.views[i][side] for side in (0, 1) for i in at]
        states = model.read(*padded(texts, model.pad), states=True).states
        assert states is not None
        first, second = states.float().chunk(2)
        loss = self.shared(first, second, self.draw, divergence=kl_warmup(self.step / self.steps))
        return self.bottleneck * loss.expand(len(batch.pairs))
