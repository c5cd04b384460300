"""One optimizer step is one mean, however it is cut: micro-batches, ranks, weights, soft labels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from equipoise.core import Scores, reduce
from equipoise.core.objectives import Dpo, Ipo

BETA = 0.5


def step_batch() -> tuple[Tensor, Tensor]:
    """Eight comparisons of two responses with three features each, and unequal weights."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(8, 2, 3, generator=generator, dtype=torch.float64)
    return features, torch.tensor([1.0, 2.0, 0.5, 0.0, 3.0, 1.0, 1.5, 0.25], dtype=torch.float64)


def losses(model: nn.Module, features: Tensor) -> Tensor:
    logp = model(features).squeeze(-1)
    scores = Scores(logp=logp, anchors={"reference": torch.zeros_like(logp)})
    return Dpo(beta=BETA)(scores).value


def linear() -> nn.Linear:
    model = nn.Linear(3, 1).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.3, -0.2, 0.7]]))
        model.bias.zero_()
    return model


def gradient(shares: list[list[int]], ranks: int) -> tuple[float, Tensor]:
    """Loss and gradient of the step when rank r holds the micro-batches shares[r] of those sizes."""
    features, weight = step_batch()
    model, loss, start = linear(), 0.0, 0
    for rank in shares:
        for size in rank:
            rows = slice(start, start + size)
            part = reduce.mean(losses(model, features[rows]), weight[rows], total=weight.sum(), ranks=ranks)
            (part / ranks).backward()  # what averaging gradients over ranks does
            loss += part.item() / ranks
            start += size
    assert start == 8
    return loss, model.weight.grad


@pytest.mark.parametrize(
    "shares, ranks",
    [([[8]], 1), ([[1] * 8], 1), ([[3, 5]], 1), ([[4], [4]], 2), ([[1, 1, 1, 1], [4]], 2), ([[1], [7]], 2)],
)
def test_the_step_is_the_same_however_it_is_cut(shares, ranks):
    features, weight = step_batch()
    model = linear()
    values = losses(model, features)
    expected = sum(w * v for w, v in zip(weight, values, strict=True)) / weight.sum()
    expected.backward()
    loss, grad = gradient(shares, ranks)
    assert loss == pytest.approx(expected.item(), rel=1e-14)
    assert torch.allclose(grad, model.weight.grad, rtol=1e-13, atol=1e-15)


def one_rank(rank: int, folder: Path) -> None:
    """One of two processes: its share of the step, gradients averaged by torch's own data parallelism."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    features, weight = step_batch()
    model = nn.parallel.DistributedDataParallel(linear())
    mine = slice(0, 3) if rank == 0 else slice(3, 8)  # unequal shares of one step
    total = weight[mine].sum()
    dist.all_reduce(total)
    loss = reduce.mean(losses(model, features[mine]), weight[mine], total=total, ranks=2)
    loss.backward()
    torch.save((loss.detach(), model.module.weight.grad), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_that_average_gradients_take_the_same_step(tmp_path):
    commands = [[sys.executable, __file__, str(rank), str(tmp_path)] for rank in range(2)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    loss, grad = gradient([[8]], 1)
    assert (ranks[0][0] + ranks[1][0]).item() / 2 == pytest.approx(loss, rel=1e-14)
    for _, averaged in ranks:
        assert torch.allclose(averaged, grad, rtol=1e-13, atol=1e-15)


def test_without_weights_it_is_the_plain_mean():
    assert reduce.mean(torch.tensor([1.0, 2.0, 6.0])).item() == 3.0


def test_a_weight_of_zero_is_a_deleted_row():
    values = torch.tensor([1.0, 5.0, 3.0])
    assert reduce.mean(values, torch.tensor([1.0, 0.0, 1.0])).equal(reduce.mean(values[[0, 2]]))


@pytest.mark.parametrize("weight", [torch.zeros(2), torch.tensor([1.0, float("nan")]), -torch.ones(2)])
def test_weights_that_cannot_be_averaged_are_refused(weight):
    with pytest.raises(ValueError, match="nothing to average"):
        reduce.mean(torch.ones(2), weight)


def test_a_soft_label_is_the_expectation_over_both_orders():
    # IPO(tau = 1/2) at gap 3: hard orders (3 - 1)^2 = 4 and (-3 - 1)^2 = 16; p = 3/4 gives 3 + 4 = 7
    logp = torch.tensor([[3.0, 0.0]])
    scores = Scores(logp=logp, anchors={"reference": torch.zeros(1, 2)}, prob=torch.tensor([0.75]))
    result = reduce.expected(Ipo(tau=0.5), scores)
    assert result.value.tolist() == [7.0]
    assert result.metrics["margin"].tolist() == [3.0]


def test_a_certain_label_is_the_plain_objective():
    logp = torch.tensor([[3.0, 0.0]])
    anchors = {"reference": torch.zeros(1, 2)}
    hard = Ipo(tau=0.5)(Scores(logp=logp, anchors=anchors)).value
    for prob in (None, torch.ones(1)):
        scores = Scores(logp=logp, anchors=anchors, prob=prob)
        assert reduce.expected(Ipo(tau=0.5), scores).value.equal(hard)
    # a label of 0 is the other order
    turned = Scores(logp=logp.flip(1), anchors=anchors, prob=torch.zeros(1))
    assert reduce.expected(Ipo(tau=0.5), turned).value.equal(hard)


def test_weights_of_another_shape_are_refused(no_shape_types):
    with pytest.raises(ValueError, match="weight has shape"):
        reduce.mean(torch.ones(3), torch.ones(1))


if __name__ == "__main__":
    one_rank(int(sys.argv[1]), Path(sys.argv[2]))
