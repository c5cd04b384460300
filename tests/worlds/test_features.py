"""What a learned reward reads of text, packed and padded."""

from __future__ import annotations

import torch
import transformers
from torch.testing import assert_close

from equipoise.data.collate import Response
from equipoise.playground import model_path
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scorer import backbone
from equipoise.worlds.text.features import mean_hidden


def test_means_are_of_the_states_after_each_token_of_a_response():
    policy = CausalPolicy.load(
        model_path(), transformers.AutoTokenizer.from_pretrained(model_path()), device="cpu"
    )
    pairs = [
        ((1, 5, 6), [Response((8, 9, 2), ""), Response((7,), "", lead=(3, 4))]),
        ((1, 5), [(8, 2), (9, 9, 9, 2)]),
        ((1, 5, 6), [(8, 9, 3), (8, 9, 2)]),
    ]
    found = mean_hidden(policy, pairs, None)
    for place, (prompt, group) in enumerate(pairs):
        for column, response in enumerate(group):
            lead, ids = (response.lead, response.ids) if isinstance(response, Response) else ((), response)
            row = torch.tensor([[*prompt, *lead, *ids]])
            with torch.no_grad():
                states = backbone(policy.model)(input_ids=row).last_hidden_state[0]
            assert_close(found[place, column], states[-len(ids) :].mean(dim=0), rtol=1e-4, atol=1e-5)
    assert_close(mean_hidden(policy, pairs, 1), found, rtol=1e-4, atol=1e-5)
    policy.scorer.max_packed_length = 0  # padded rows
    assert_close(mean_hidden(policy, pairs, 2), found, rtol=1e-4, atol=1e-5)
