"""Members of an ensemble behave as the networks they were made from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paper_utils.nn.ensemble import Ensemble


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))


def test_outputs_are_those_of_the_members():
    members = [network(seed) for seed in range(4)]
    ensemble = Ensemble(members)
    own = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ensemble(own), torch.stack([m(x) for m, x in zip(members, own, strict=True)]))
    torch.testing.assert_close(ensemble(own[0], shared=True), torch.stack([m(own[0]) for m in members]))


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_members_trained_together_go_the_way_they_go_alone(optimizer):
    options = {"lr": 0.05, "weight_decay": 1e-3}
    data = torch.randn(3, 40, 6, generator=torch.Generator().manual_seed(1))
    ensemble = Ensemble([network(seed) for seed in range(3)])
    together = optimizer(ensemble.parameters(), **options)
    for step in range(20):
        together.zero_grad()
        ensemble(data[:, step : step + 16]).square().mean((1, 2)).sum().backward()
        together.step()
    for index in range(3):
        alone = network(index)
        single = optimizer(alone.parameters(), **options)
        for step in range(20):
            single.zero_grad()
            alone(data[index, step : step + 16]).square().mean().backward()
            single.step()
        state = ensemble.member_state(index)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6)


def test_a_member_that_becomes_nan_leaves_the_others_alone():
    ensemble = Ensemble([network(seed) for seed in range(3)])
    optimizer = torch.optim.SGD(ensemble.parameters(), lr=0.1)
    inputs = torch.ones(3, 4, 6)
    inputs[1] = torch.nan
    ensemble(inputs).mean((1, 2)).sum().backward()
    optimizer.step()
    finite = [all(torch.isfinite(v).all() for v in ensemble.member_state(i).values()) for i in range(3)]
    assert finite == [True, False, True]


def test_state_round_trip_and_loading_a_member():
    ensemble, other = Ensemble([network(0), network(1)]), Ensemble([network(2), network(3)])
    other.load_state_dict(ensemble.state_dict())
    x = torch.ones(1, 6)
    torch.testing.assert_close(other(x, shared=True), ensemble(x, shared=True))
    alone = network(9)
    alone.load_state_dict(ensemble.member_state(1))
    torch.testing.assert_close(alone(x), ensemble(x, shared=True)[1])


def test_faults_are_named():
    with pytest.raises(ValueError, match="at least one network"):
        Ensemble([])
    with pytest.raises(ValueError, match="member 1 has other parameter shapes"):
        Ensemble([nn.Linear(3, 2), nn.Linear(3, 4)])
    with pytest.raises(ValueError, match="batch normalisation"):
        Ensemble([nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))])
    with pytest.raises(ValueError, match="first dimension of 2"):
        Ensemble([network(0), network(1)])(torch.zeros(3, 5, 6))
