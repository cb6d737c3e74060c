"""Quantizer: equal to the released code step by step, codes that nobody chooses and what is done about them, perplexity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.nn.quantizer import QuantizerConfig, VectorQuantizer, first_equal_rows, perplexity, usage

seeds = st.integers(0, 2**31 - 1)


def made(codes=8, dim=4, seed=0, **fields) -> VectorQuantizer:
    return VectorQuantizer(QuantizerConfig(codes=codes, dim=dim, **fields), seed=seed)


def generator(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def recorded(reference):
    return dict(np.load(reference / "talkshow" / "quantizer.npz"))


@pytest.fixture
def official(recorded):
    dim, codes = recorded["meta"][:2].tolist()
    quantizer = made(codes, dim, unused="official")
    quantizer.codebook.copy_(torch.from_numpy(recorded["embeddings_0"]))
    return quantizer


# ------------------------------------------------------------------------------------------ parity with the released code


def test_evaluation_equals_the_released_code_and_moves_nothing(recorded, official):
    found = official.eval()(torch.from_numpy(recorded["eval_x"]).transpose(1, 2))
    np.testing.assert_array_equal(found.codes, recorded["eval_codes"])
    np.testing.assert_allclose(found.vectors.transpose(1, 2), recorded["eval_quantized"], rtol=1e-4, atol=2e-5)
    np.testing.assert_array_equal(official.codebook, recorded["embeddings_0"])


def test_four_training_steps_equal_the_released_code(recorded, official):
    official.train()
    for step in range(4):
        x = torch.from_numpy(recorded[f"train{step}_x"]).requires_grad_()
        found = official(x.transpose(1, 2))
        upstream = torch.from_numpy(recorded[f"train{step}_upstream"]).transpose(1, 2)
        ((upstream * found.vectors).sum() + 3 * found.commitment).backward()
        for value, name in (
            (found.vectors.transpose(1, 2).detach(), "quantized"),
            (found.commitment.detach(), "commit_loss"),
            (x.grad, "grad_x"),
            (official.codebook, "embeddings"),
            (official.counts, "hidden_size"),
            (official.sums, "hidden_dw"),
        ):
            np.testing.assert_allclose(value, recorded[f"train{step}_{name}"], rtol=1e-4, atol=2e-6, err_msg=name)
        assert int((official.codebook != 0).any(1).sum()) == recorded[f"train{step}_n_nonzero_codes"]


# ------------------------------------------------------------------------------------------------------ what it computes


@given(seeds)
def test_the_nearest_code_is_chosen(seed):
    quantizer, z = made(seed=seed).eval(), torch.randn(5, 7, 4, generator=generator(seed))
    exact = torch.cdist(z.double(), quantizer.codebook.double().expand(5, -1, -1)).argmin(-1)
    torch.testing.assert_close(quantizer(z).codes, exact)


def test_of_equal_codes_the_first_is_chosen():
    quantizer = made(codes=5, dim=2).eval()
    quantizer.codebook[[1, 3, 4]] = torch.tensor([2.0, 2.0])
    assert quantizer(torch.full((3, 2), 2.0)).codes.tolist() == [1, 1, 1]


@pytest.mark.parametrize("codes", [6, 7, 10, 13, 138, 206])
@pytest.mark.parametrize("dim", [17, 64, 129, 256])
def test_of_equal_codes_the_first_is_chosen_however_the_product_rounds(codes, dim):
    quantizer, half = made(codes=codes, dim=dim).eval(), codes // 2
    quantizer.codebook[codes - half :] = quantizer.codebook[:half].clone()
    chance = generator(codes * dim)
    for rows in (1, 3, 22, 100):
        z = quantizer.codebook[torch.randint(codes, (rows,), generator=chance)]
        z = z + 0.1 * quantizer.codebook.std() * torch.randn(rows, dim, generator=chance)
        found = quantizer.assign(z)
        assert found.max() < codes - half
        exact = torch.cdist(z.double(), quantizer.codebook[: codes - half].double()).argmin(1)
        assert torch.equal(found, exact)


@given(seeds, st.integers(2, 40), st.integers(1, 20))
def test_where_no_codes_are_equal_the_smallest_computed_distance_decides(seed, codes, dim):
    quantizer, z = made(codes=codes, dim=dim, seed=seed).eval(), torch.randn(9, dim, generator=generator(seed))
    distances = z.square().sum(1, keepdim=True) + quantizer.codebook.square().sum(1)
    assert torch.equal(quantizer.assign(z), (distances - 2 * z @ quantizer.codebook.T).argmin(1))


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-1, 1)), min_size=1, max_size=30), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))  # fmt: skip
def test_first_equal_rows_by_enumeration(rows, dtype):
    expected = [rows.index(row) for row in rows]
    assert first_equal_rows(torch.tensor(rows, dtype=dtype)).tolist() == expected


def test_zero_and_minus_zero_are_equal_and_nan_equals_nothing():
    table = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [torch.nan, 1.0], [torch.nan, 1.0], [0.0, 1.0]])
    assert first_equal_rows(table).tolist() == [0, 0, 2, 3, 0]


def test_choosing_codes_looks_at_no_value_on_the_way():
    # Tensors without values: a branch on one, for which a compiler or a GPU would have to wait, is an error.
    quantizer = made(codes=12, dim=5).eval().to("meta")
    assert quantizer.assign(torch.empty(3, 7, 5, device="meta")).shape == (3, 7)


def test_gradient_passes_straight_through_and_the_commitment_pulls_towards_the_code():
    quantizer, z = made().eval(), torch.randn(6, 4, generator=generator()).requires_grad_()
    found = quantizer(z)
    found.vectors.sum().backward(retain_graph=True)
    torch.testing.assert_close(z.grad, torch.ones_like(z))
    z.grad = None
    found.commitment.backward()
    torch.testing.assert_close(z.grad, 0.25 * 2 * (z - quantizer.codebook[found.codes]).detach() / z.numel())


@given(seeds)
def test_after_one_update_every_chosen_code_is_the_mean_of_its_vectors(seed):
    quantizer, z = made(seed=seed).train(), torch.randn(64, 4, generator=generator(seed))
    codes = quantizer(z).codes
    for code in codes.unique():
        torch.testing.assert_close(quantizer.codebook[code], z[codes == code].mean(0), rtol=1e-4, atol=1e-5)


def test_codebook_finds_planted_clusters():
    centres = 3 * torch.randn(8, 4, generator=generator(1))
    labels = torch.arange(8).repeat(32)
    quantizer = made(codes=32, decay=0.9).train()
    noise = generator(2)
    for step in range(60):
        z = centres[labels] + 0.05 * torch.randn(256, 4, generator=noise)
        if step == 0:
            quantizer.start_from(z, generator(3))
        quantizer(z)
        quantizer.restart_unused(z, generator(step))
    distance = torch.cdist(centres, quantizer.codebook).min(1).values
    assert distance.max() < 0.1
    assert perplexity(quantizer.eval()(centres[labels]).codes, 32) == pytest.approx(8)


def test_state_continues_exactly():
    data = torch.randn(10, 32, 4, generator=generator(4))
    one, other = made().train(), made(seed=9).train()
    for z in data[:5]:
        one(z)
    other.load_state_dict(one.state_dict())
    for z in data[5:]:
        one(z)
        other(z)
    assert torch.equal(one.codebook, other.codebook)
    assert int(other.updates) == 10


def test_mixed_precision_changes_only_what_comes_in():
    z = torch.randn(64, 4, generator=generator(5)).bfloat16()
    exact, mixed = made().train(), made().train()
    expected = exact(z.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mixed(z)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(mixed.codebook, exact.codebook)
    assert found.vectors.dtype == torch.float32


# --------------------------------------------------------------------------------------------- codes that nobody chooses


def lonely(unused: str) -> tuple[VectorQuantizer, torch.Tensor]:
    """A codebook of which only the first three codes are chosen in the first batch."""
    quantizer = made(codes=8, dim=2, unused=unused).train()
    quantizer.codebook.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], *[[9.0, 9.0 + i] for i in range(5)]]))
    z = torch.tensor([[0.0, 1.1], [1.1, 0.0], [1.0, 1.1]]).repeat(8, 1)
    quantizer(z)
    return quantizer, z


def test_in_the_released_code_unused_codes_fall_onto_the_origin():
    quantizer, _ = lonely("official")
    assert (quantizer.codebook[3:] == 0).all()
    assert quantizer.eval()(torch.full((1, 2), 0.01)).codes.item() == 3, (
        "of the fallen codes only the first can be chosen"
    )


def test_by_default_unused_codes_stay_where_they_are():
    quantizer, _ = lonely("keep")
    assert quantizer.codebook[3:].tolist() == [[9.0, 9.0 + i] for i in range(5)]


def test_a_code_that_went_out_of_use_is_not_drawn_to_zero_by_the_smoothing():
    for unused, kept in (("keep", True), ("official", False)):
        quantizer = made(codes=2, dim=1, decay=0.5, unused=unused).train()
        quantizer.codebook.copy_(torch.tensor([[1.0], [-1.0]]))
        quantizer(torch.tensor([[1.0], [-1.0]]))
        for _ in range(40):
            quantizer(torch.ones(4, 1))
        assert (abs(quantizer.codebook[1].item() + 1) < 0.01) == kept


def test_unused_codes_restart_on_the_given_vectors_and_used_ones_stay():
    quantizer, z = lonely("keep")
    before, fresh = quantizer.codebook.clone(), torch.arange(20.0).reshape(10, 2) + 100
    assert quantizer.restart_unused(fresh, generator()) == 5
    assert torch.equal(quantizer.codebook[:3], before[:3])
    rows = {tuple(row) for row in fresh.tolist()}
    moved = {tuple(row) for row in quantizer.codebook[3:].tolist()}
    assert moved <= rows
    assert len(moved) == 5, "no vector is taken twice while others are left"
    torch.testing.assert_close(quantizer.average_counts[3:], torch.ones(5))
    assert quantizer.restart_unused(fresh, generator()) == 0, "a restarted code counts as used"
    after = quantizer.codebook.clone()
    quantizer(z)
    torch.testing.assert_close(quantizer.codebook[3:], after[3:], rtol=1e-4, atol=1e-4)


def test_restarts_are_a_function_of_the_generator():
    books = []
    for seed in (5, 5, 6):
        quantizer, _ = lonely("keep")
        quantizer.restart_unused(torch.randn(40, 2, generator=generator()), generator(seed))
        books.append(quantizer.codebook)
    assert torch.equal(books[0], books[1])
    assert not torch.equal(books[0], books[2])


def test_restarts_before_the_first_update_survive_it():
    quantizer = made(codes=4, dim=2).train()
    assert quantizer.restart_unused(torch.full((4, 2), 7.0), generator()) == 4
    quantizer(torch.full((6, 2), 7.0))
    torch.testing.assert_close(quantizer.codebook, torch.full((4, 2), 7.0), rtol=1e-4, atol=0.0)


def test_start_from_fewer_vectors_than_codes_uses_all_of_them():
    quantizer = made(codes=8, dim=2)
    quantizer.start_from(torch.arange(6.0).reshape(1, 3, 2), generator())
    assert {tuple(row) for row in quantizer.codebook.tolist()} == {(0, 1), (2, 3), (4, 5)}


# ------------------------------------------------------------------------------------------------- perplexity and faults


@given(st.lists(st.integers(0, 15), min_size=1, max_size=60), seeds)
def test_perplexity_lies_between_one_and_the_codes_in_use_and_ignores_names(codes, seed):
    codes = torch.tensor(codes)
    value = perplexity(codes, 16)
    assert 1 - 1e-9 <= value <= len(codes.unique()) + 1e-9
    renamed = torch.randperm(16, generator=generator(seed))[codes]
    assert perplexity(renamed, 16) == pytest.approx(value)
    assert usage(codes, 16).sum() == len(codes)


def test_faults_are_named():
    with pytest.raises(ValueError, match="codes >= 2"):
        QuantizerConfig(codes=1)
    with pytest.raises(ValueError, match="decay"):
        QuantizerConfig(decay=1.0)
    with pytest.raises(ValueError, match="unused: expected one of keep, official, found 'drop'"):
        QuantizerConfig(unused="drop")
    with pytest.raises(ValueError, match="expected 0 to 7, found 0 to 8"):
        made().lookup(torch.tensor([0, 8]))
    with pytest.raises(ValueError, match="NaN"):
        made().start_from(torch.full((3, 4), torch.nan), generator())
    with pytest.raises(ValueError, match="found 0 rows"):
        made().restart_unused(torch.zeros(0, 4), generator())
    with pytest.raises(ValueError, match="no codes"):
        perplexity(torch.zeros(0, dtype=torch.long), 4)
