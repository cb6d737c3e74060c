"""What several processes do with one batch, as far as one process can tell; `tests/test_several_processes.py` has the rest."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from paper_utils.nn import whole_batch


@given(processes=st.integers(1, 6), each=st.integers(1, 5))
def test_processes_own_disjoint_rows_that_make_up_the_batch(processes, each):
    batch, parts = torch.arange(processes * each), []
    for rank in range(processes):
        with whole_batch.shared_by(processes, rank):
            parts.append(whole_batch.own(batch))
            assert whole_batch.count(parts[-1]) == len(batch)
    assert torch.equal(torch.stack(parts, dim=1).flatten(), batch)


def test_a_batch_that_does_not_split_evenly_is_refused():
    with whole_batch.shared_by(4, rank=0), pytest.raises(ValueError, match="batch of 6 does not split evenly over 4"):
        whole_batch.own(torch.arange(6))


def test_outside_of_a_shared_batch_everything_stays_as_it_is():
    values = torch.randn(5, 3, requires_grad=True)
    for function in (whole_batch.own, whole_batch.gather, whole_batch.total):
        assert function(values) is values
    assert whole_batch.mean_of_some(values[:, 0], among_all=5) == values[:, 0].mean()
    with pytest.raises(KeyError), whole_batch.shared_by(3, rank=1):
        raise KeyError
    assert whole_batch.sharing() == 1


@given(processes=st.integers(1, 4))
def test_every_pair_belongs_to_the_process_of_its_first_row(processes):
    first, second = torch.cartesian_prod(torch.arange(12), torch.arange(12)).unbind(1)
    found = []
    for rank in range(processes):
        with whole_batch.shared_by(processes, rank):
            here, there = whole_batch.own_pairs(first, second)
            batch = whole_batch.own(torch.arange(12))
        found += list(zip(batch[here].tolist(), there.tolist(), strict=True))
    assert sorted(found) == list(zip(first.tolist(), second.tolist(), strict=True))


def test_coupled_layers_keep_names_parameters_and_what_one_process_computes():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 2))
    x, state = torch.randn(8, 4), network.state_dict()
    outputs = []
    for coupled in (False, True):
        network.load_state_dict(state)
        if coupled:
            parameters = list(network.parameters())
            whole_batch.couple_(network)
            assert all(a is b for a, b in zip(parameters, network.parameters(), strict=True))
            assert network.state_dict().keys() == state.keys()
        torch.manual_seed(1)
        outputs.append(network.train()(x))
    assert torch.equal(*outputs)
    assert isinstance(network[1], nn.BatchNorm1d)


@given(processes=st.sampled_from([2, 4]), probability=st.floats(0.1, 0.9))
def test_dropout_of_all_processes_together_is_that_of_one(processes, probability):
    x = torch.randn(8, 3, 5)
    torch.manual_seed(0)
    whole = nn.functional.dropout(x, probability)
    parts = []
    for rank in range(processes):
        with whole_batch.shared_by(processes, rank):
            torch.manual_seed(0)
            parts.append(whole_batch.dropout(whole_batch.own(x), probability, training=True))
    torch.testing.assert_close(torch.stack(parts, dim=1).flatten(0, 1), whole)
