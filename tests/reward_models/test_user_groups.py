"""Groups of users by EM, max-min play and ideal points: properties on small hand-made populations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn.functional import logsigmoid
from typer.testing import CliRunner

from equipoise import oracles
from equipoise.claims.rewards.maxmin import Population
from equipoise.cli.app import app
from equipoise.games.tabular import TabularPolicy
from equipoise.games.utilities import best_policy, expected, max_min
from equipoise.oracles.protocol import OracleError
from equipoise.playground import LanguageGame, pairs, reference_policy
from equipoise.reward_models.users.groups import (
    expectation_maximisation,
    first_shares,
    fit_linear_groups,
    held_out_log_loss,
    label_likelihood,
    linear_reward,
    posterior,
)
from equipoise.reward_models.users.ideal_points import (
    Pal,
    PalSettings,
    fit_pal,
    fit_user,
    hinge_loss,
    logistic_loss,
)
from equipoise.run.oracle_training.reward_training import resolve, train_oracle
from reward_models.tiny import decoder, written


def population(cosine: float = -0.9, pairs: int = 30) -> tuple[Population, tuple[torch.Tensor, ...]]:
    rng = np.random.default_rng(3)
    people = Population.drawn(cosine, rng)
    return people, people.labels(pairs, rng)


def test_a_linear_reward_is_at_the_minimum() -> None:
    _, (difference, prob, _) = population()
    weight = torch.rand(len(prob), dtype=torch.float64)
    found = linear_reward(difference, prob, weight, 0.7).requires_grad_(True)
    spread = difference.square().mean(dim=0).sqrt()
    z = difference @ found
    loss = (weight * (-prob * logsigmoid(z) - (1 - prob) * logsigmoid(-z))).sum()
    (loss + 0.35 * (spread * found).square().sum()).backward()
    assert found.grad is not None and float(found.grad.abs().max()) < 1e-6


def test_the_first_start_is_user_modulo_k_and_random_ones_are_of_equal_size() -> None:
    assert first_shares(5, 2).argmax(dim=1).tolist() == [0, 1, 0, 1, 0]
    drawn = first_shares(10, 2, seed=4)
    assert drawn.sum(dim=0).tolist() == [5, 5] and not torch.equal(drawn, first_shares(10, 2))


def test_posterior_by_hand() -> None:
    logp = torch.tensor([[-1.0, -2.0], [-1.0, -3.0], [-4.0, -1.0]], dtype=torch.float64)
    user, prior = torch.tensor([0, 0, 1]), torch.tensor([0.5, 0.5], dtype=torch.float64)
    hard, found = posterior(logp, user, prior, hard=True)
    assert hard.tolist() == [[1, 0], [0, 1]] and found == pytest.approx(-3.0)
    soft, marginal = posterior(logp, user, prior, hard=False)
    assert float(soft[0, 0]) == pytest.approx(1 / (1 + np.exp(-3)))
    assert marginal == pytest.approx(
        np.log((np.exp(-2) + np.exp(-5)) / 2) + np.log((np.exp(-4) + np.exp(-1)) / 2)
    )


@pytest.mark.parametrize("hard", [True, False])
def test_the_likelihood_does_not_fall_over_em_steps(hard: bool) -> None:
    _, (difference, prob, user) = population(0.0, 10)
    weights = torch.zeros(2, difference.shape[1], dtype=torch.float64)

    def maximise(shares: torch.Tensor) -> torch.Tensor:
        for k in range(2):
            weights[k] = linear_reward(difference, prob, shares[:, k], 1e-6)
        return label_likelihood(difference @ weights.T, prob)

    history = expectation_maximisation(
        maximise, user, first_shares(40, 2, 1), iterations=12, hard=hard
    ).history
    assert len(history) > 2 and (np.diff(history) > -1e-6).all()


def test_em_finds_hidden_groups_and_held_out_loss_prefers_two() -> None:
    people, (difference, prob, user) = population()
    rng = np.random.default_rng(9)
    unseen, truth, whose = people.labels(10, rng)
    ones = torch.ones_like(prob)
    fits = {k: fit_linear_groups(difference, prob, ones, user, k, starts=3) for k in (1, 2)}
    groups = fits[2].mixture.shares.argmax(dim=1)
    assert set(zip(groups.tolist(), people.group.tolist(), strict=True)) in (
        {(0, 0), (1, 1)},
        {(0, 1), (1, 0)},
    )
    losses = [
        float(held_out_log_loss(f.logits(unseen), truth, whose, f.mixture.shares).mean())
        for f in fits.values()
    ]
    assert losses[1] < losses[0] - 0.1
    with pytest.raises(ValueError, match="40 users cannot form 41 groups"):
        fit_linear_groups(difference, prob, ones, user, 41)


def test_one_group_is_ordinary_reward_training() -> None:
    _, (difference, prob, user) = population()
    ones = torch.ones_like(prob)
    fitted = fit_linear_groups(difference, prob, ones, user, 1).weights[0]
    torch.testing.assert_close(fitted, linear_reward(difference, prob, ones, 1.0))


def test_max_min_policy_against_a_grid_of_weights() -> None:
    people, _ = population(-0.5)
    reference, beta = TabularPolicy(torch.zeros(people.utilities.shape[1:], dtype=torch.float64)), 0.5
    found = max_min(people.utilities, reference, beta)

    def value(share: float) -> float:
        policy = best_policy(people.utilities, torch.tensor([share, 1 - share]).double(), reference, beta)
        logs = policy.log_probs()
        kl = float((logs.exp() * (logs - reference.log_probs())).sum(dim=1).mean())
        return float(expected(people.utilities, policy).min()) - beta * kl

    best = max(value(k / 400) for k in range(401))
    assert float(found.utilities.min()) - beta * found.kl == pytest.approx(best, abs=2e-3)
    assert float(found.weights.sum()) == pytest.approx(1)


def test_a_single_reward_loses_more_the_more_groups_disagree() -> None:
    lost = []
    for cosine in (0.9, 0.0, -0.9):
        people, (difference, prob, _) = population(cosine)
        one = linear_reward(difference, prob, torch.ones_like(prob), 1.0)
        reference = TabularPolicy(torch.zeros(people.utilities.shape[1:], dtype=torch.float64))
        table = torch.einsum("xaf,f->xa", people.features, one)[None]
        single = best_policy(table, torch.ones(1).double(), reference, 0.5)
        ideal = best_policy(people.utilities, torch.tensor([0.0, 1.0]).double(), reference, 0.5)
        lost.append(float((expected(people.utilities, ideal) - expected(people.utilities, single))[1]))
    assert lost[0] < lost[1] < lost[2]


@pytest.fixture(scope="module")
def pal() -> Pal:
    torch.manual_seed(0)
    return Pal(5, 3, PalSettings(prototypes=2, latent=4)).requires_grad_(False)


def test_ideal_points_by_their_formulas(pal: Pal) -> None:
    features, prompts = torch.randn(2, 5).double(), torch.randn(2, 5).double()
    weights = torch.tensor([[0.3, 0.7], [1.0, 0.0]]).double()
    latent = features @ pal.project.weight.T + pal.project.bias
    ideal = weights @ pal.prototypes
    torch.testing.assert_close(pal(features, prompts, weights), -(latent - ideal).norm(dim=1))
    turn = torch.linalg.qr(torch.randn(4, 4).double())[0]
    turned = Pal(5, 3, pal.settings).requires_grad_(False)
    turned.load_state_dict(pal.state_dict())
    turned.project.weight.copy_(turn @ pal.project.weight)
    turned.project.bias.copy_(turn @ pal.project.bias)
    turned.prototypes.copy_(pal.prototypes @ turn.T)
    torch.testing.assert_close(turned(features, prompts, weights), pal(features, prompts, weights))
    assert (pal.weights().sum(dim=1) - 1).abs().max() < 1e-12 and (pal.weights() > 0).all()


def test_rewards_are_zero_at_the_ideal_point_alone_and_swapping_negates(pal: Pal) -> None:
    ideal = torch.tensor([0.3, 0.7]).double() @ pal.prototypes
    there = torch.linalg.lstsq(pal.project.weight, (ideal - pal.project.bias)[:, None]).solution[:, 0]
    weights = torch.tensor([[0.3, 0.7]]).double()
    assert float(pal(there[None], there[None], weights)) == pytest.approx(0, abs=1e-5)
    pairs, prompts = torch.randn(6, 2, 5).double(), torch.randn(6, 5).double()
    for settings in (pal.settings, PalSettings(form="b", latent=4), PalSettings(distance="angle", latent=4)):
        model = Pal(5, 3, settings).requires_grad_(False)
        forward, backward = (model.logits(p, prompts, weights.expand(6, -1)) for p in (pairs, pairs.flip(1)))
        torch.testing.assert_close(forward, -backward)


def test_losses_of_a_pair_by_hand() -> None:
    """-log s(z) and max(1 - z, 0), of either answer in its share of the label."""
    z, prob = torch.tensor([0.5, 2.0, -0.5]).double(), torch.tensor([1.0, 0.0, 0.75]).double()
    torch.testing.assert_close(
        hinge_loss(z, prob), torch.tensor([0.5, 3.0, 0.75 * 1.5 + 0.25 * 0.5]).double()
    )
    won, lost = np.log1p(np.exp([-0.5, -2.0, 0.5])), np.log1p(np.exp([0.5, 2.0, -0.5]))
    expected = torch.tensor([won[0], lost[1], 0.75 * won[2] + 0.25 * lost[2]])
    torch.testing.assert_close(logistic_loss(z, prob), expected)
    with pytest.raises(ValueError, match="loss must be one of logistic, hinge"):
        PalSettings(loss="exponential")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("form", "loss"), [("a", "logistic"), ("b", "logistic"), ("a", "hinge"), ("b", "hinge")]
)
def test_a_new_user_is_found_at_the_right_prototype(form: str, loss: str) -> None:
    draw = torch.Generator().manual_seed(0)
    tastes = torch.tensor([[2.0, 0, 0], [-2.0, 0, 0]]).double()
    pairs = torch.randn(600, 2, 3, generator=draw).double()
    user = torch.arange(600) % 6
    margin = (pairs * tastes[user % 2][:, None]).sum(dim=2)
    prob = (margin[:, 0] > margin[:, 1]).double()
    prompts = torch.zeros(600, 3).double()
    settings = PalSettings(form=form, loss=loss, latent=3, steps=250)  # type: ignore[arg-type]
    model = fit_pal(pairs, prompts, user, prob, torch.ones(600).double(), settings)
    own = model.logits(pairs, prompts, model.weights()[user])
    assert float(((own > 0) == (prob > 0.5)).double().mean()) > 0.9
    shown = pairs[:12]
    says = (shown[:, 0, 0] < shown[:, 1, 0]).double()  # as users 1, 3 and 5
    weights = fit_user(model, shown, prompts[:12], says)
    wins = model.logits(pairs, prompts, weights.expand(600, -1)) > 0
    assert float((wins == (pairs[:, 0, 0] < pairs[:, 1, 0])).double().mean()) > 0.85
    assert fit_user(model, shown[:0], prompts[:0], says[:0]).tolist() == [0.5, 0.5]


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(a tiny decoder, pairs of six users of the playground's two groups, pairs of a seventh)."""
    folder = tmp_path_factory.mktemp("votes")
    made = pairs(LanguageGame("groups"), 400, coverage="uniform", reference=reference_policy(), seed=2)
    known = [row | {"user_id": f"u{k % 6}"} for k, row in enumerate(made[:240])]
    new = [row | {"user_id": "new"} for row in made[240:260]]
    files = written(folder / "known.jsonl", known), written(folder / "new.jsonl", new)
    return decoder(folder / "model"), *files


@pytest.mark.slow
def test_groups_are_trained_to_an_oracle_with_a_score_for_each(
    votes: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    model, known, _ = votes
    settings = resolve(
        {"data.path": [str(known)], "groups.counts": [2], "groups.rounds": 1, "train.batch": 128}
    )
    result = train_oracle("groups", str(model), settings, tmp_path / "g")
    assert result.figures["groups"] == 2 and sum(result.figures["users_per_group"]) == 6
    members = json.loads((tmp_path / "g" / "user_groups.json").read_text())
    assert members["groups"] == ["group_1", "group_2"] and set(members["users"]) == {
        f"u{k}" for k in range(6)
    }
    oracle = oracles.load(str(tmp_path / "g"))
    game = LanguageGame("groups")
    scores = oracle.scores([game.prompts[0]] * 3, game.responses[:3])
    assert oracle.attributes == ("group_1", "group_2") and scores.shape == (3, 2)
    torch.testing.assert_close(oracle.score([game.prompts[0]] * 3, game.responses[:3]), scores.mean(dim=1))


@pytest.mark.slow
def test_pal_is_trained_to_an_oracle_and_fits_a_new_user(
    votes: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    model, known, new = votes
    settings = resolve({"data.path": [str(known)], "pal.steps": 20, "pal.prototypes": 3})
    train_oracle("pal", str(model), settings, tmp_path / "p")
    out = tmp_path / "new.yaml"
    command = ["oracle", "fit-user", str(tmp_path / "p"), "--data", str(new), "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    one, everyone = oracles.load(str(out)), oracles.load(str(tmp_path / "p"))
    assert one.attributes == ("new",) and everyone.attributes == ("prototype_1", "prototype_2", "prototype_3")
    game = LanguageGame("groups")
    asked = [game.prompts[0]] * 3, list(game.responses[:3])
    torch.testing.assert_close(one.score(*asked), one.scores(*asked)[:, 0])
    said = json.loads(json.dumps(yaml.safe_load(out.read_text())))
    out.write_text(yaml.safe_dump(said | {"users": ["u1", "new"]}))
    assert oracles.load(str(out)).attributes == ("u1", "new")
    for wrong, message in (
        ({"weights": {"new": [1.0, 1.0, 1.0]}}, "must be 3 numbers"),
        ({"weights": {"new": [float("nan"), 1.0, 0.0]}}, "must be 3 numbers"),
        ({"weights": {"new": [10**400, 1.0, 0.0]}}, "an integer of more than 1,023 bits"),
        ({"weights": [0.5, 0.5, 0.0]}, "weights must be USER"),
        ({"users": 3}, "users must be a list"),
        ({"users": ["nobody"]}, "user 'nobody' has no weights here"),
        ({"more": 1}, "has path, weights and users"),
    ):
        out.write_text(yaml.safe_dump(said | wrong))
        with pytest.raises(OracleError, match=message):
            oracles.load(str(out))
    refused = CliRunner().invoke(app, [*command[:4], str(known), *command[5:], "--overwrite"])
    assert refused.exit_code != 0


def test_what_users_rewards_refuse(votes: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, known, _ = votes
    nameless = written(
        tmp_path / "n.jsonl",
        [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 1
        + [{"prompt": "d", "chosen": "b", "rejected": "c"}],
    )
    for kind, settings, message in (
        ("groups", {"data.path": [str(nameless)]}, "names no annotator"),
        ("groups", {"data.path": [str(known)], "pal.steps": 3}, "settings pal"),
        ("pal", {"data.path": [str(known)], "train.lr": 1e-3}, "train.* does not apply to pal"),
        ("groups", {"data.path": [str(known)], "head.weights": [1.0]}, "do not apply to groups: head"),
        ("bt", {"data.path": [str(known)], "groups.counts": [2]}, r"settings groups\.\* do not apply to bt"),
    ):
        with pytest.raises(ValueError, match=message):
            train_oracle(kind, str(model), resolve(settings), tmp_path / "o")  # type: ignore[arg-type]
        assert not (tmp_path / "o").exists()
