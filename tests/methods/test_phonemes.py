"""Paper 10: measurements, splits, ridge against scikit-learn, networks side by side, the release's test and its leak, the careful test."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from paper_utils import training
from paper_utils.data.phones import PhoneTokens
from paper_utils.data.subject_tables import SubjectTable
from paper_utils.methods import phonemes as ph
from paper_utils.metrics import predictability

# ---------------------------------------------------------------------------------------------------- measurements


def faces(count=3, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 65, 3))) * 30


def test_there_are_96_measurements_of_65_landmarks_two_of_them_twice():
    kinds = [m.kind for m in ph.AMS.values()]
    assert list(ph.AMS) == list(range(1, 97))
    assert [kinds.count(kind) for kind in ("distance", "ratio", "angle")] == [50, 28, 18]
    labels = {int(name) for m in ph.AMS.values() for names in (*m.readings, *m.over) for name in names}
    assert min(labels) >= 1
    assert max(labels) <= ph.LANDMARKS
    values = ph.anthropometry(faces())
    for twin, first in ph.DUPLICATES.items():
        torch.testing.assert_close(values[:, twin - 1], values[:, first - 1])
    assert len(ph.FLAME_LANDMARKS) == len(ph.MASK_LANDMARKS) == len(set(ph.FLAME_LANDMARKS)) == 65


def test_measurements_are_what_their_formulas_say():
    points = faces()
    at = {label: points[:, label - 1].numpy() for label in range(1, 66)}

    def distance(a, b):
        return np.linalg.norm(at[a] - at[b], axis=1)

    found = dict(zip((13, 31, 58, 75, 89), ph.anthropometry(points, (13, 31, 58, 75, 89)).T.numpy(), strict=True))
    np.testing.assert_allclose(found[13], distance(32, 38))
    np.testing.assert_allclose(found[31], distance(60, 54))
    np.testing.assert_allclose(found[58], distance(32, 38) / distance(60, 54))
    np.testing.assert_allclose(found[75], distance(60, 54) / distance(28, 31))
    u, v = at[32] - at[31], at[38] - at[31]
    cosine = (u * v).sum(1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
    np.testing.assert_allclose(found[89], np.degrees(np.arccos(cosine)))


@settings(max_examples=10)
@given(st.integers(0, 50), st.floats(0.5, 2.0))
def test_ratios_and_angles_do_not_depend_on_size_or_position(seed, scale):
    points = faces(2, seed)
    moved = scale * points + torch.tensor([3.0, -20.0, 7.0], dtype=torch.float64)
    scale_free = range(51, 97)
    torch.testing.assert_close(ph.anthropometry(moved, scale_free), ph.anthropometry(points, scale_free))
    torch.testing.assert_close(ph.anthropometry(moved, range(1, 51)), scale * ph.anthropometry(points, range(1, 51)))


def test_signed_angles_are_plain_ones_or_360_minus_them_and_mirroring_swaps_them():
    points = faces(40)
    plain = ph.anthropometry(points, range(79, 97))
    signed = ph.anthropometry(points, range(79, 97), signed=True)
    folded = torch.minimum(signed, 360 - signed)
    torch.testing.assert_close(folded, plain)
    assert 0.2 < (signed > 180).double().mean() < 0.8
    # Turning all points about an angle's own reference direction does not change on which side it lies.
    reference = torch.tensor(ph.ANGLE_REFERENCES[0], dtype=torch.float64)
    axis = reference / reference.norm()
    cross = torch.linalg.cross(torch.eye(3, dtype=torch.float64), axis.expand(3, 3))
    turned = points @ torch.matrix_exp(0.7 * cross)
    torch.testing.assert_close(ph.anthropometry(turned, (79,), signed=True), signed[:, :1])


def test_landmarks_of_registered_faces_are_their_vertices():
    flame = torch.arange(5023.0)[None, :, None].expand(1, -1, 3)
    assert ph.landmarks_of(flame)[0, :2, 0].tolist() == [2570.0, 2569.0]
    mask = torch.arange(6790.0)[None, :, None].expand(1, -1, 3)
    points = ph.landmarks_of(mask, "mask")[0, :, 0]
    assert points[0] == 5732
    assert points[16] == (4842 + 4955) / 2
    with pytest.raises(ValueError, match="flame topology has 5023, found 6790"):
        ph.landmarks_of(mask)
    with pytest.raises(ValueError, match="topology: expected 'flame' or 'mask'"):
        ph.landmarks_of(mask, "bfm")


def test_wrong_measurements_are_refused():
    with pytest.raises(ValueError, match="measurements 1 to 96, found \\[97\\]"):
        ph.anthropometry(faces(), (1, 97))
    with pytest.raises(ValueError, match="distances, which pixels do not give"):
        ph.anthropometry(faces(), unit="pixels")
    assert ph.anthropometry(faces(), range(51, 97), unit="pixels").shape == (3, 46)


def test_phones_have_classes_and_unknown_ones_are_listed():
    assert ph.phone_classes(["IY1", "ey", "M", "jh"]) == ("vowel", "diphthong", "nasal", "affricate")
    with pytest.raises(ValueError, match="phones without a class: 17, SIL"):
        ph.phone_classes(["P", "17", "SIL"])
    assert ph.phone_classes(["17"], {"17": "plosive"}) == ("plosive",)
    assert ph.class_ordered(["P", "AA", "M", "IY"]) == ["IY", "AA", "M", "P"]


# --------------------------------------------------------------------------------------------------------- splits


@given(st.integers(4, 40), st.integers(2, 4), st.integers(0, 5))
def test_folds_are_even_in_every_stratum(count, folds, seed):
    strata = np.repeat([0, 1], count)
    fold = ph.subject_folds(2 * count, folds, np.random.default_rng(seed), strata=strata)
    for stratum in (0, 1):
        sizes = np.bincount(fold[strata == stratum], minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_too_few_subjects_for_the_folds_are_named():
    with pytest.raises(ValueError, match=r"10 folds need .* found 7; take fewer folds or more subjects"):
        ph.subject_folds(7, 10, np.random.default_rng(0))


def test_the_released_split_trains_on_seventy_percent_of_its_evaluation_tokens():
    subjects = np.repeat(np.arange(100), 5)
    overlap, shared = {}, {}
    for kind in ph.SPLITS:
        rng = np.random.default_rng(0)
        splits = [ph.token_split(subjects, kind, rng) for _ in range(40)]
        overlap[kind] = np.mean([np.isin(test, train).mean() for train, test in splits])
        shared[kind] = np.mean([np.isin(subjects[test], subjects[train]).mean() for train, test in splits])
    assert overlap["released"] == pytest.approx(0.7, abs=0.02)
    assert overlap["tokens"] == overlap["subjects"] == 0
    assert shared["subjects"] == 0
    assert shared["tokens"] > 0.98
    with pytest.raises(ValueError, match="kind: expected one of released, tokens, subjects"):
        ph.token_split(subjects, "mine", np.random.default_rng(0))
    with pytest.raises(ValueError, match="leaves nobody to test"):
        ph.token_split(subjects[:25], "subjects", np.random.default_rng(0))


# ---------------------------------------------------------------------------------------------------------- ridge


def planted(count=120, values=30, columns=4, share=0.5, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, values))
    signal = features @ rng.normal(size=(values, columns)) / np.sqrt(values)
    return features, np.sqrt(share) * signal + np.sqrt(1 - share) * rng.normal(size=(count, columns))


@pytest.mark.parametrize("values", [30, 200])  # fewer and more than subjects
def test_ridge_agrees_with_scikit_learn_pair_by_pair(values):
    features, targets = planted(values=values)
    folds = ph.subject_folds(len(features), 5, np.random.default_rng(0))
    found = ph.ridge_cross_validated(features, targets, folds, penalties=(0.7,))
    expected = np.empty_like(targets)
    for fold in range(5):
        train, test = folds != fold, folds == fold
        mean, sd = features[train].mean(0), features[train].std(0)
        for column in range(4):
            model = Ridge(alpha=0.7 * values).fit((features[train] - mean) / sd, targets[train, column])
            expected[test, column] = model.predict((features[test] - mean) / sd)
    np.testing.assert_allclose(found.prediction, expected, atol=1e-8)


def chosen_by_formula(x, y, penalties):
    """Ridge weights for the penalty with the least generalised cross-validation score, both written down naively."""
    best = (np.inf, None)
    for penalty in penalties:
        hat = x @ np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T)
        freedom = (1 + np.trace(hat)) / len(x)
        if freedom > ph.MOST_FREEDOM and penalty != max(penalties):
            continue
        best = min(best, (((y - hat @ y) ** 2).sum() / (1 - freedom) ** 2, penalty))
    return np.linalg.solve(x.T @ x + best[1] * np.eye(x.shape[1]), x.T @ y), best[1]


@pytest.mark.parametrize("values", [30, 200])  # fewer and more than subjects
def test_the_penalty_is_the_one_of_the_formula(values):
    features, _ = planted(values=values)
    features *= 0.9 ** np.arange(values)  # in a few directions, as voices vary
    features = features @ np.random.default_rng(1).normal(size=(values, values))
    noise = np.random.default_rng(2).normal(size=(120, 4))
    signal = features @ np.random.default_rng(3).normal(size=(values, 4))
    targets = signal / signal.std(0) * [0.0, 0.5, 1.0, 3.0] + noise  # from nothing to find to nearly nothing else
    folds = ph.subject_folds(len(features), 5, np.random.default_rng(0))
    found = ph.ridge_cross_validated(features, targets, folds)
    expected, chosen = np.empty_like(targets), set()
    for fold in range(5):
        train, test = folds != fold, folds == fold
        mean, sd = features[train].mean(0), features[train].std(0)
        x, held_out = (features[train] - mean) / sd, (features[test] - mean) / sd
        for column in range(4):
            centre = targets[train, column].mean()
            weights, penalty = chosen_by_formula(x, targets[train, column] - centre, np.array(ph.PENALTIES) * values)
            expected[test, column] = held_out @ weights + centre
            chosen.add(penalty)
    assert len(chosen) > 1  # else nothing was chosen
    np.testing.assert_allclose(found.prediction, expected, atol=1e-8)


def test_folds_in_which_a_target_does_not_vary_are_left_out_with_a_warning():
    features, targets = planted(columns=3)
    folds = ph.subject_folds(len(features), 5, np.random.default_rng(0))
    plain = ph.ridge_cross_validated(features, targets, folds)
    targets[:, 1] = np.where(
        folds == 2, targets[:, 1], 0.7
    )  # alike among all who train the model of fold 2, and in the other folds
    with pytest.warns(UserWarning, match="ridge: 1 folds of 1 targets were left out"):
        found = ph.ridge_cross_validated(features, targets, folds)
    np.testing.assert_array_equal(found.errors[[0, 2]], plain.errors[[0, 2]])
    np.testing.assert_allclose(found.prediction[folds == 2, 1], 0.7)
    targets[:, 1] = 0.7
    with pytest.raises(ValueError, match="the same for all subjects"):
        ph.ridge_cross_validated(features, targets, folds)


def test_a_column_does_not_know_what_else_is_fitted():
    features, targets = planted()
    folds = ph.subject_folds(len(features), 5, np.random.default_rng(0))
    together = ph.ridge_cross_validated(features, targets, folds)
    alone = ph.ridge_cross_validated(features, targets[:, 2:3], folds)
    np.testing.assert_allclose(together.prediction[:, 2:3], alone.prediction, atol=1e-10)
    np.testing.assert_allclose(together.errors[2], alone.errors[0])
    few = ph.ridge_cross_validated(features, targets, folds, keep=1)
    assert few.prediction.shape == (120, 1)
    np.testing.assert_allclose(few.errors, together.errors)


def test_predictions_do_not_know_the_held_out_subjects():
    features, targets = planted()
    folds = ph.subject_folds(len(features), 5, np.random.default_rng(0))
    before = ph.ridge_cross_validated(features, targets, folds).prediction
    changed = targets.copy()
    changed[folds == 3] += 100
    after = ph.ridge_cross_validated(features, changed, folds).prediction
    np.testing.assert_allclose(after[folds == 3], before[folds == 3])
    assert np.abs(after[folds != 3] - before[folds != 3]).max() > 1


@pytest.mark.parametrize("values", [30, 200])
def test_ridge_finds_signal_and_hardly_harms_without(values):
    features, targets = planted(count=300, values=values, share=0.6)
    folds = ph.subject_folds(len(features), 5, np.random.default_rng(0))
    assert ph.ridge_cross_validated(features, targets, folds).errors.max() < (0.6 if values == 30 else 0.95)
    noise = np.random.default_rng(1).normal(size=(300, 200))
    null = ph.ridge_cross_validated(features, noise, folds).errors
    assert 0.99 < null.mean() < 1.05


def test_ridge_refuses_missing_values_and_constant_targets():
    features, targets = planted()
    folds = ph.subject_folds(len(features), 5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="the same for all subjects"):
        ph.ridge_cross_validated(features, np.ones_like(targets), folds)
    features[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        ph.ridge_cross_validated(features, targets, folds)


def test_kernel_ridge_learns_by_heart():
    features, targets = planted(share=0.0)
    own = ph.kernel_ridge(features, targets, features, penalty=1e-6)
    np.testing.assert_allclose(own, targets, atol=1e-3)
    apart = ph.kernel_ridge(features[:60], targets[:60], features[60:], penalty=1e-6)
    assert ((apart - targets[60:]) ** 2).mean() > 0.9


# -------------------------------------------------------------------------------------------------------- networks


def filled(state):
    """Weights of the reference, see its README."""
    filled = {}
    for number, (name, value) in enumerate(state.items()):
        w = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * (0.7 + 0.013 * number) + number)
        if not value.ndim:
            filled[name] = value
            continue
        if name.endswith("running_var"):
            w = 1 + w / 2
        elif name.endswith("weight") and value.ndim == 1:
            w = 1 + w / 5
        elif value.ndim > 1:
            w = w * math.sqrt(2 / value[0].numel())
        else:
            w = w / 10
        filled[name] = w.view(value.shape)
    return filled


def test_mnasnet_is_torchvisions(reference):
    stored = np.load(reference / "phonemes" / "mnasnet.npz")
    network = ph.MnasNet(3, dropout=0.0, momentum=3e-4).double()
    state = network.state_dict()
    assert [f"{name} {tuple(value.shape)}" for name, value in state.items()] == stored["names"].tolist()
    network.load_state_dict(filled(state))
    x = torch.sin(torch.arange(2 * 64 * 32, dtype=torch.float64) * 0.37).view(2, 1, 64, 32)
    with torch.no_grad():
        evaluated = network.eval()(x)[0]
        trained = network.train()(x)[0]
    np.testing.assert_allclose(evaluated[:, 0, :, 0], stored["evaluation"], rtol=1e-9)
    np.testing.assert_allclose(trained[:, 0, :, 0], stored["training"], rtol=1e-6)
    np.testing.assert_allclose(network.layers[15].running_mean[:8], stored["running_mean"], rtol=1e-9)


def test_the_papers_estimator_has_3103017_parameters_stage_by_stage():
    network = ph.MnasNet()
    counts = [sum(p.numel() for p in layer.parameters()) for layer in network.layers]
    assert [counts[i] for i in range(8, 14)] == [11_472, 33_096, 217_680, 209_184, 1_611_456, 605_440]
    assert sum(p.numel() for p in network.parameters()) == 3_103_017


@pytest.mark.parametrize("kind", ["mnasnet", "light"])
def test_members_are_networks_of_their_own(kind):
    def build(members, seed):
        if kind == "mnasnet":
            return ph.MnasNet(2, width=0.25, members=members, dropout=0.0, seed=seed).double()
        return ph.LightNet(24, 2, width=0.125, members=members, seed=seed).double()

    x = torch.randn(4, 3, 24, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for member, seed in enumerate((5, 7, 9)):
        together, alone = build(3, [5, 7, 9]), build(1, [seed])
        for name, value in ph.member_state(together, member).items():
            torch.testing.assert_close(value, alone.state_dict()[name], msg=name)
        for trained in (True, False):
            value, confidence = together.train(trained)(x)
            own, own_confidence = alone.train(trained)(x[:, member : member + 1])
            torch.testing.assert_close(value[:, member], own[:, 0])
            if confidence is not None:
                torch.testing.assert_close(confidence[:, member], own_confidence[:, 0])
                assert (confidence > 0).all()
    with pytest.raises(ValueError, match="seed: expected one a member \\(3\\), found 2"):
        build(3, [1, 2])


def test_confidence_is_an_inverse_variance_up_to_a_factor():
    residual = torch.tensor([0.5, 2.0]).view(1, 1, 2, 1)
    confidence = torch.ones(1, 1, 2, 1, requires_grad=True)
    optimum = 1 / residual**2
    ph.member_losses(residual, optimum.requires_grad_(), torch.zeros(1, 1, 2)).sum().backward()
    torch.testing.assert_close(optimum.grad, torch.zeros_like(optimum), atol=1e-6, rtol=0)
    assert ph.member_losses(residual, None, torch.zeros(1, 1, 2)).item() == pytest.approx((0.25 + 4) / 2)
    assert ph.member_losses(residual, confidence, torch.zeros(1, 1, 2)).item() == pytest.approx((0.25 + 4) / 2)


def test_the_released_momentum_leaves_the_running_statistics_where_they_began():
    assert ph.statistics_learned(3e-4, 1100) == pytest.approx(0.281, abs=1e-3)
    batches = [torch.randn(16, 1, 24, 16, generator=torch.Generator().manual_seed(i)) * 3 + 1 for i in range(20)]
    network = ph.LightNet(24, width=0.125, momentum=3e-4)
    with torch.no_grad():
        for batch in batches:
            network(batch)
    stem = network.layers[1]
    moved = 1 - float(1 - ph.statistics_learned(3e-4, len(batches)))
    assert float(stem.running_mean.abs().max()) < 0.1
    ph.recompute_statistics(network, batches)
    mean = torch.stack([network.layers[0](batch[:, 0]).mean((0, 2)) for batch in batches]).mean(0)
    torch.testing.assert_close(stem.running_mean, mean.detach(), atol=1e-4, rtol=1e-4)
    assert float(stem.running_mean.abs().max()) > 0.1 > moved
    assert stem.momentum == 3e-4


def speech(subjects=24, tokens=3, seed=0, share=0.8):
    """Tokens of people whose two measurements are written into the features."""
    rng = np.random.default_rng(seed)
    measures = rng.normal(size=(subjects, 2))
    row = np.repeat(np.arange(subjects), tokens)
    features = torch.from_numpy(rng.normal(size=(len(row), 8, 12))).float()
    features[:, :, 0] += 2 * share * torch.from_numpy(measures[row, 0]).float()[:, None]
    return features, torch.from_numpy(measures[row]).float(), row


def jobs_of(row, columns, folds=2):
    return [
        ph.Job(np.flatnonzero(row % folds != f), np.flatnonzero(row % folds == f), columns, seed=f)
        for f in range(folds)
    ]


QUICK = dataclasses.replace(ph.SMALL, width=0.125, epochs=6, batch_size=16)


def test_training_side_by_side_is_training_one_by_one():
    features, targets, row = speech()
    config = dataclasses.replace(QUICK, epochs=1, validation_share=0.2, checks=3)
    jobs = jobs_of(row, (0, 1))
    together = ph.train_members(features, targets, row, jobs, config, training.launch("cpu"))
    for job, expected in zip(jobs, together, strict=True):
        (alone,) = ph.train_members(features, targets, row, [job], config, training.launch("cpu"))
        np.testing.assert_allclose(alone, expected, atol=2e-4)


def test_pairs_may_be_mixed_freely():
    features, targets, row = speech()
    half = jobs_of(row, (0,))
    mixed = [
        half[0],
        dataclasses.replace(half[0], columns=(1,)),
        dataclasses.replace(half[1], train=half[1].train[:20]),
    ]
    config = dataclasses.replace(QUICK, network="mnasnet", width=0.125, epochs=1, batch_size=12)
    found = ph.train_members(features, targets, row, mixed, config, training.launch("cpu"))
    assert [len(one) for one in found] == [len(job.test) for job in mixed]
    assert np.isfinite(np.concatenate(found)).all()
    assert np.abs(found[0] - found[1]).max() > 1e-5  # the same network, other targets


def test_a_trained_network_predicts_new_people_what_is_in_the_voice_and_not_what_is_not():
    features, targets, row = speech(subjects=80)
    jobs = jobs_of(row, (0, 1))
    config, seen = dataclasses.replace(QUICK, epochs=25, learning_rate=1e-2), {}
    predictions = ph.train_members(
        features, targets, row, jobs, config, training.launch("cpu"), progress=seen.__setitem__
    )
    rows = np.concatenate([job.test for job in jobs])
    people, average = ph.subject_average(np.concatenate(predictions), row[rows])
    truth = targets.numpy()[::3][people]
    errors = predictability.normalised_error(truth, average, np.zeros_like(truth))
    assert errors[0] < 0.6
    assert errors[1] > 0.8
    assert len(seen) >= config.checks
    assert all(losses.shape == (2,) and np.isfinite(losses).all() for losses in seen.values())


def test_every_member_keeps_the_state_of_its_own_lowest_loss():
    network = ph.LightNet(12, width=0.125, members=2)
    best = ph._Best(network, 2)
    for step, losses in enumerate(([3.0, 3.0], [2.0, 4.0], [5.0, 1.0])):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(step)
        best.keep(network, torch.tensor(losses))
    assert best.loss.tolist() == [2.0, 1.0]
    for name, value in best.network.named_parameters():
        first, second = value.view(2, -1)
        assert first.unique().tolist() == [1.0], name
        assert second.unique().tolist() == [2.0], name


class Killed(Exception):
    pass


def test_a_killed_training_ends_where_it_would_have(tmp_path):
    features, targets, row = speech()
    jobs = jobs_of(row, (0,))
    config = dataclasses.replace(QUICK, epochs=2, checks=4)
    whole = ph.train_members(features, targets, row, jobs, config, training.launch("cpu"))

    def kill(step, _):
        if step >= 4:
            raise Killed

    def train(**options):
        path = tmp_path / "run.pt"
        return ph.train_members(
            features, targets, row, jobs, config, training.launch("cpu"), checkpoint=path, every_steps=1, **options
        )

    with pytest.raises(Killed):
        train(progress=kill)
    seen = {}
    for resumed, expected in zip(train(progress=seen.__setitem__), whole, strict=True):
        np.testing.assert_array_equal(resumed, expected)
    assert min(seen) >= 4  # it did not begin anew


def test_wrong_jobs_and_configurations_are_named():
    features, targets, row = speech()
    fabric = training.launch("cpu")
    first, second = jobs_of(row, (0,))
    with pytest.raises(ValueError, match="nothing to train"):
        ph.train_members(features, targets, row, [], QUICK, fabric)
    with pytest.raises(ValueError, match="equally many columns, found \\[1, 2\\]"):
        ph.train_members(features, targets, row, [first, dataclasses.replace(second, columns=(0, 1))], QUICK, fabric)
    with pytest.raises(ValueError, match="job 0 has 36 tokens to train and 0 to test"):
        ph.train_members(features, targets, row, [dataclasses.replace(first, test=first.test[:0])], QUICK, fabric)
    with pytest.raises(ValueError, match="network: expected one of mnasnet, light, found 'resnet'"):
        ph.TrainConfig(network="resnet")
    with pytest.raises(ValueError, match="validation_share must lie in"):
        ph.TrainConfig(validation_share=1.0)
    one_person = dataclasses.replace(first, train=first.train[:3])
    with pytest.raises(ValueError, match="leaves nobody to train on"):
        ph.train_members(features, targets, row, [one_person], dataclasses.replace(QUICK, validation_share=0.5), fabric)


# ---------------------------------------------------------------------------------------------- the release's test


def decoupled(subjects=60, tokens=4, seed=0):
    """Voices that tell who speaks, and faces that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    row = np.repeat(np.arange(subjects), tokens)
    voice = rng.normal(size=(subjects, 20))[row] + 0.4 * rng.normal(size=(len(row), 20))
    return voice, rng.normal(size=(subjects, 30))[row], row


def test_the_leak_makes_every_pair_predictable_where_nothing_is():
    voice, face, row = decoupled()
    declared = {}
    for split in ph.SPLITS:
        errors = ph.repeated_errors(voice, face, row, split, rng=np.random.default_rng(0))
        declared[split] = ph.release_test(errors)[0].mean()
        assert errors.shape == (10, 30)
    assert declared["released"] > 0.95
    assert declared["released"] >= declared["tokens"] > 0.5
    assert declared["subjects"] < 0.1


def test_the_best_half_of_the_repetitions_is_declared_predictable_more_often():
    voice, face, row = decoupled(seed=1)
    errors = ph.repeated_errors(voice, face, row, "subjects", rng=np.random.default_rng(0), penalty=3.0)
    shares = [ph.release_test(errors, keep=keep)[0].mean() for keep in (1.0, 0.75, 0.5)]
    assert shares == sorted(shares)
    assert shares[-1] > shares[0]


# ------------------------------------------------------------------------------------------------ the careful test


def people(count=150, share=0.4, seed=0, phones=("AA", "P")):
    """AA tells the first of three measurements, P tells none."""
    rng = np.random.default_rng(seed)
    measures = rng.normal(size=(count, 3))
    age = rng.uniform(20, 80, count)
    tokens = []
    for number in range(len(phones)):
        voice = rng.normal(size=(count, 2, 6))
        if number == 0:
            voice[:, :, 0] = (np.sqrt(share) * measures[:, 0] + np.sqrt(1 - share) * rng.normal(size=count))[:, None]
        tokens.append(voice)
    features = torch.from_numpy(np.concatenate(tokens)).float()
    subjects = torch.arange(count).repeat(len(phones)) + 7
    speech = PhoneTokens(
        features, torch.arange(len(phones)).repeat_interleave(count), subjects, torch.ones(len(features)), tuple(phones), "planted"
    )  # fmt: skip
    table = SubjectTable(np.arange(count) + 7, np.zeros(count, int), measures, ("a", "b", "c"), {"age": age})
    return speech, table


def test_the_careful_test_finds_the_planted_pair_and_no_other():
    tests = ph.pair_tests(*people(), folds=5, permutations=499)
    assert tests.errors.shape == (2, 3)
    assert tests.rejected().tolist() == [[True, False, False], [False, False, False]]
    assert tests.p_values[0, 0] == pytest.approx(1 / 500)
    assert tests.paired_p[0, 0] < 1e-3
    assert tests.effect[0, 0] > 0.2
    assert tests.rank_correlation[0, 0] > 0.4
    np.testing.assert_allclose(tests.model_loss.sum(0) / tests.baseline_loss.sum(0), tests.errors)
    assert abs(tests.null.mean() - 1) < 0.03


def test_the_shared_null_is_that_of_each_measurements_own_permutations():
    speech, table = people(count=60)
    tests = ph.pair_tests(speech, table, folds=5, permutations=400)
    own = np.random.default_rng(3)
    scores = ph.target_scores(table)
    shuffled = np.stack([scores[own.permutation(60), 1] for _ in range(400)], axis=1)
    means, _ = speech.subject_means(table.subjects)
    folds = ph.subject_folds(60, 5, np.random.default_rng(1))
    null = ph.ridge_errors(means, shuffled, folds)
    for level in (0.1, 0.5, 0.9):
        assert np.quantile(null[0], level) == pytest.approx(np.quantile(tests.null[0], level), abs=0.03)


def test_permuted_subjects_are_rejected_at_the_level():
    speech, table = people(count=80)
    scores = ph.target_scores(table)
    rng = np.random.default_rng(5)
    dealt = np.hstack([scores[rng.permutation(80)] for _ in range(100)])
    tests = ph.pair_tests(speech, table, folds=5, permutations=199, others={"dealt": dealt, "itself": scores})
    p = predictability.permutation_p(tests.others["dealt"], tests.null)
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.03)
    np.testing.assert_allclose(tests.others["itself"], tests.errors)


def test_a_covariate_of_both_sides_is_taken_out():
    rng = np.random.default_rng(0)
    speech, table = people(share=0.0)
    age = table.covariates["age"]
    both = dataclasses.replace(table, values=(age[:, None] - 50) / 10 + rng.normal(size=table.values.shape))
    heard = speech.features.clone()
    heard[:150, :, 1] = torch.from_numpy((age - 50) / 10).float()[:, None]
    hears_age = dataclasses.replace(speech, features=heard)
    confounded = ph.pair_tests(hears_age, both, folds=5, permutations=499)
    adjusted = ph.pair_tests(hears_age, both, folds=5, permutations=499, covariates=ph.design(both, ("age",)))
    assert confounded.rejected()[0].all()
    assert not adjusted.rejected().any()
    assert not confounded.rejected()[1].any()


def test_subjects_who_never_say_a_phoneme_are_left_out_of_it():
    speech, table = people()
    said = (speech.phones == 0) | (speech.subjects >= 40)
    tests = ph.pair_tests(speech.take(said), table, folds=5, permutations=199)
    silent = table.subjects < 40
    assert np.isnan(tests.model_loss[silent, 1]).all()
    assert np.isfinite(tests.model_loss[:, 0]).all()
    assert tests.rejected()[0, 0]
    few = (speech.phones == 0) | (speech.subjects >= 154)
    with pytest.raises(ValueError, match="'P' is said by 3 of 150 subjects, fewer than 5 folds"):
        ph.pair_tests(speech.take(few), table, folds=5, permutations=19)


def test_a_constant_or_missing_measurement_is_named():
    speech, table = people(count=30)
    values = table.values.copy()
    values[:, 1] = 3.0
    with pytest.raises(ValueError, match="b is the same for all 30 subjects"):
        ph.pair_tests(speech, dataclasses.replace(table, values=values), folds=5, permutations=19)
    values[4, 2] = np.nan
    with pytest.raises(ValueError, match="c is not known of everybody"):
        ph.pair_tests(speech, dataclasses.replace(table, values=values), folds=5, permutations=19)


def test_design_refuses_unknown_covariates():
    _, table = people(count=10)
    assert ph.design(table, ("age",)).shape == (10, 1)
    assert ph.design(dataclasses.replace(table, covariates={"site": np.arange(10.0) % 3}), (), ("site",)).shape == (
        10,
        3,
    )
    with pytest.raises(ValueError, match="no covariate 'height'; found age"):
        ph.design(table, ("height",))
    ages = np.where(np.arange(10) < 2, np.nan, 30.0)
    with pytest.raises(ValueError, match="age is not known of 2 subjects"):
        ph.design(dataclasses.replace(table, covariates={"age": ages}), ("age",))


# ---------------------------------------------------------------------------------------------------- movement


def test_movement_is_averaged_over_a_token_first_then_over_tokens():
    measured = np.array([[1.0], [3.0], [5.0], [0.0], [9.0]])
    phones, tokens = np.array([0, 0, 0, 1, -1]), np.array([0, 0, 1, 2, 3])
    found = ph.movement(measured, np.ones((5, 1)), phones, tokens, np.array([2.0]), 2)
    np.testing.assert_allclose(found, [[(1.0 + 4.0) / 2 / 2], [0.5]])
    with pytest.raises(ValueError, match="phonemes \\[2\\] have no frame"):
        ph.movement(measured, np.ones((5, 1)), phones, tokens, np.array([2.0]), 3)
