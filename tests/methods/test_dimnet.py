"""DIMNet: sizes of the published networks, what the shared classifier ties together, batches, resuming, and the pair methods."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from paper_utils import training
from paper_utils.data.samples import LabelledImages
from paper_utils.data.speech import Voices
from paper_utils.methods import dimnet as dn
from paper_utils.metrics import cross_modal
from paper_utils.nn.voice_encoder import VoiceEncoder
from paper_utils.open_set import Split

BANDS, PEOPLE = 6, 24
SMALL = dn.TrainConfig(
    encoders=dn.EncoderConfig(BANDS, 1, 4, 1 / 32),
    steps=60,
    batch_size=24,
    learning_rate=0.1,
    schedule="one-cycle",
    clip_norm=2.0,
    crop_frames=(10, 16),
)


def planted(*, shared: bool = True, people: int = PEOPLE, seed: int = 0) -> dn.Meetings:
    """People with one number that colours their voice and their face: recordings of uneven length, pictures of 8 pixels."""
    rng = np.random.default_rng(seed)
    sex = np.arange(people) % 2
    trait = 2.0 * sex - 1 + 0.3 * rng.standard_normal(people)
    other = trait if shared else trait[rng.permutation(people)]
    who = np.arange(people).repeat(3)
    lengths = 12 + np.arange(len(who)) % 7
    frames = np.concatenate([np.full((n, BANDS), other[w]) for n, w in zip(lengths, who, strict=True)])
    frames = frames * np.linspace(-1, 1, BANDS) + 0.3 * rng.standard_normal(frames.shape)
    images = trait[who][:, None, None, None] * np.linspace(-1, 1, 8)[:, None] + 0.3 * rng.standard_normal(
        (len(who), 1, 8, 8)
    )
    ids = torch.from_numpy(who + 100)
    labels = {"sex": torch.from_numpy(sex[who]), "nationality": torch.from_numpy(who % 3)}
    silent = torch.arange(len(who) + 1)
    voices = Voices(
        torch.from_numpy(frames).float(), torch.from_numpy(np.cumsum([0, *lengths])), 10.0, ids, ("SIL",), torch.zeros(len(who), dtype=torch.int16),
        silent, torch.arange(2 * len(who)).float(), "planted voices", labels,
    )  # fmt: skip
    return dn.Meetings(voices, LabelledImages(torch.from_numpy(images).float(), ids, "planted faces", dict(labels)))


SPLIT = Split(tuple(range(100, 116)), tuple(range(116, 124)), seed=5)


@pytest.fixture(scope="module")
def fabric():
    return training.launch("cpu")


# ------------------------------------------------------------------------------------------------------ the networks


def test_full_networks_have_the_parameters_of_the_layer_table() -> None:
    networks = dn.EncoderConfig().build(_full_size(), seed=0)
    count = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    assert count == {"voice": 2_670_720, "face": 1_846_912}
    assert sum(p.numel() for p in dn.Classifiers({"identity": 924}, 64).parameters()) == 64 * 924


def _full_size() -> dn.Meetings:
    data = planted()
    voices = dataclasses.replace(data.voices, log_mel=torch.zeros(len(data.voices.log_mel), 64))
    return dn.Meetings(voices, dataclasses.replace(data.faces, images=torch.zeros(len(data.faces), 3, 8, 8)))


def test_the_face_network_halves_the_picture_five_times() -> None:
    face, sides = dn.FaceEncoder(width=1 / 16).eval(), []
    x = torch.zeros(1, 3, 128, 128)
    for layer in face.model:
        x = layer(x)
        if isinstance(layer, torch.nn.Conv2d):
            sides.append(x.shape[-1])
    assert sides == [64, 32, 16, 8, 4]
    assert face(torch.zeros(2, 3, 30, 20)).shape == (2, 64)  # any size
    assert torch.equal(face(torch.zeros(1, 3, 128, 128)), x.mean((2, 3)))


def test_one_width_scales_both_networks() -> None:
    for build, at in ((lambda w: dn.FaceEncoder(width=w), 0), (lambda w: VoiceEncoder(width=w), 0)):
        widths = [build(w).model[at].out_channels for w in (1.0, 0.5, 0.125)]
        assert widths[0] == 2 * widths[1] == 8 * widths[2]


def test_encoders_refuse_other_data() -> None:
    with pytest.raises(ValueError, match="64 mel bands and 3 channels, but the data have 6 and 1"):
        dn.EncoderConfig().build(planted(), seed=0)
    with pytest.raises(ValueError, match="expected 3 channels"):
        dn.FaceEncoder()(torch.zeros(1, 1, 8, 8))


# -------------------------------------------------------------------------------------------------------- the loss


def test_loss_is_the_weighted_sum_of_cross_entropies_of_both_modalities() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = {
        m: {c: torch.randn(5, k, generator=generator) for c, k in (("identity", 7), ("sex", 2))} for m in dn.MODALITIES
    }
    labels = {m: {"identity": torch.arange(5), "sex": torch.tensor([0, 1, 1, 0, 1])} for m in dn.MODALITIES}
    found = dn.covariate_loss(logits, labels, {"identity": 1.0, "sex": 0.25})
    expected = 0.0
    for m in dn.MODALITIES:
        for c, weight in (("identity", 1.0), ("sex", 0.25)):
            chosen = torch.log_softmax(logits[m][c], 1)[torch.arange(5), labels[m][c]]
            expected -= weight * chosen.mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    one = dn.covariate_loss({"face": logits["face"]}, labels, {"sex": 1.0})
    assert one.item() == pytest.approx(functional.cross_entropy(logits["face"]["sex"], labels["face"]["sex"]).item())


def test_shared_classifiers_are_one_and_separate_ones_two() -> None:
    shared, apart = (dn.Classifiers({"sex": 2}, 4, shared=flag) for flag in (True, False))
    assert shared.weight("sex", "voice") is shared.weight("sex", "face")
    assert not torch.equal(apart.weight("sex", "voice"), apart.weight("sex", "face"))
    same = torch.ones(1, 4)
    logits = shared({"voice": same, "face": same})
    assert torch.equal(logits["voice"]["sex"], logits["face"]["sex"])
    assert all(layer.bias is None for layer in shared.modules() if isinstance(layer, torch.nn.Linear))


def test_variants_are_the_papers_sets_of_covariates() -> None:
    names = {name: {c for c, _ in dn.DIMNet.variant(name).weights} for name in dn.VARIANTS}
    letters = {"I": "identity", "G": "sex", "N": "nationality"}
    assert names == {name: {letters[letter] for letter in name} for name in names}
    assert len(names) == 7
    with pytest.raises(ValueError, match="expected one of I, G, N"):
        dn.DIMNet.variant("GI")
    with pytest.raises(ValueError, match="sex: 0"):
        dn.DIMNet((("identity", 1.0), ("sex", 0.0)))
    with pytest.raises(ValueError, match="permuted"):
        dn.DIMNet.variant("G", permuted=True)


def test_contrastive_loss_is_that_of_a_softmax_without_the_same_person() -> None:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    stranger = ~torch.eye(3, dtype=torch.bool)
    assert dn.contrastive_loss(torch.zeros(3, 3), stranger).item() == pytest.approx(math.log(3))
    stranger[0, 1] = stranger[1, 0] = False  # rows 0 and 1 are one person
    rows = [(0, [0, 2]), (1, [1, 2]), (2, [0, 1, 2])]
    expected = np.mean(
        [
            torch.logsumexp(side[i, kept], 0).item() - side[i, i].item()
            for side in (logits, logits.T)
            for i, kept in rows
        ]
    )
    assert dn.contrastive_loss(logits, stranger).item() == pytest.approx(expected, rel=1e-6)


# ------------------------------------------------------------------------------------------------------- the batches


def test_batches_are_functions_of_the_step_and_go_through_all_items() -> None:
    data = planted()
    batches, again = (dn.Batches(data, SPLIT, SMALL) for _ in range(2))
    for modality in dn.MODALITIES:
        seen = torch.cat([batches.rows(modality, step) for step in range(2)])
        assert sorted(seen.tolist()) == data.rows(modality, SPLIT.train).tolist()
        rows = batches.rows(modality, 7)
        assert torch.equal(batches.inputs(modality, rows, 7), again.inputs(modality, again.rows(modality, 7), 7))
    assert not torch.equal(batches.rows("voice", 0), batches.rows("face", 0))


def test_crops_have_one_random_length_a_batch_and_lie_inside_their_recordings() -> None:
    data = planted()
    count = len(data.voices.log_mel)
    numbered = dataclasses.replace(
        data.voices, log_mel=torch.arange(count, dtype=torch.float32)[:, None].repeat(1, BANDS)
    )
    batches = dn.Batches(dn.Meetings(numbered, data.faces), SPLIT, SMALL)
    lengths = set()
    for step in range(30):
        rows = batches.rows("voice", step)
        crops = batches.inputs("voice", rows, step)[:, 0]
        lengths.add(crops.shape[1])
        assert (crops.diff(dim=1) == 1).all()
        assert (crops[:, 0] >= numbered.starts[rows]).all()
        assert (crops[:, -1] < numbered.starts[rows + 1]).all()
    assert lengths == {10, 11, 12}  # the shortest recording has 12 frames


def test_flips_happen_to_half_of_the_pictures() -> None:
    data = planted()
    batches = dn.Batches(data, SPLIT, SMALL)
    flipped = []
    for step in range(40):
        rows = batches.rows("face", step)
        flipped.append((batches.inputs("face", rows, step) != data.faces.images[rows]).flatten(1).any(1))
    assert torch.cat(flipped).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_pairs_are_items_of_one_person() -> None:
    data = planted()
    batches = dn.Batches(data, SPLIT, SMALL)
    people, rng = batches.people(3), batches.rng("pairs", 3)
    for modality, side in (("voice", data.voices), ("face", data.faces)):
        chosen = batches.item_of(modality, people, rng)
        assert (side.identities[chosen].numpy() - 100 == people).all()


def test_permuted_labels_are_a_permutation_of_people_and_only_for_faces() -> None:
    data = planted()
    batches = dn.Batches(data, SPLIT, SMALL)
    method = dn.DIMNet.variant("I", permuted=True)
    voice, face = (method._labels(batches, m, "identity") for m in dn.MODALITIES)
    assert torch.equal(voice, batches.labels("voice", "identity"))
    pairs = torch.stack([batches.labels("face", "identity"), face]).unique(dim=1)
    assert pairs.shape[1] == 17  # 16 people and "nobody"
    assert (pairs[0] != pairs[1]).sum() > 8


# ------------------------------------------------------------------------------------------------------- the training


def accuracy(trained: dn.Trained, data: dn.Meetings) -> float:
    items = dn.unseen(trained, data)
    return (
        cross_modal.pair_wins(items.scores, items.voice_people, items.face_people, len(items.people)).accuracy().value
    )


def test_a_planted_trait_is_matched_on_new_people_only_with_a_shared_classifier(fabric) -> None:
    data = planted()
    shared = [
        accuracy(dn.fit(fabric, data, dataclasses.replace(SPLIT, seed=s), dn.DIMNet.variant("G"), SMALL), data)
        for s in range(3)
    ]
    apart = [
        accuracy(
            dn.fit(fabric, data, dataclasses.replace(SPLIT, seed=s), dn.DIMNet.variant("G", shared=False), SMALL), data
        )
        for s in range(3)
    ]
    assert min(shared) > 0.7  # eight people, four of each sex: 11/14 for somebody who knows the sex
    assert np.mean(apart) < np.mean(shared) - 0.15


def test_alternating_updates_see_as_many_batches_and_move_one_encoder_at_a_time() -> None:
    data = planted()
    method = dn.DIMNet.variant("I", alternating=True)
    assert method.updates(SMALL) == 2 * SMALL.steps
    batches = dn.Batches(data, SPLIT, SMALL)
    modules = method.build(data, SPLIT, SMALL)
    method.loss(modules, batches, 0).backward()
    assert modules["voice"].model[0].weight.grad is not None
    assert modules["face"].model[0].weight.grad is None
    joint = dn.DIMNet.variant("I").loss(modules, batches, 4)
    turns = method.loss(modules, batches, 8) + method.loss(modules, batches, 9)
    assert turns.item() == pytest.approx(joint.item(), rel=1e-5)  # the same two batches


@pytest.mark.parametrize(
    "method", [dn.DIMNet.variant("IG"), dn.SVHF(), dn.Contrastive()], ids=lambda m: type(m).__name__
)
def test_a_killed_run_resumes_to_the_same_bits(fabric, tmp_path, method) -> None:
    data = planted()
    short = dataclasses.replace(SMALL, steps=8)
    whole = dn.fit(fabric, data, SPLIT, method, short)

    class Killed(Exception):
        pass

    class Fragile:
        updates, build = method.updates, method.build

        def loss(self, modules, batches, step):
            if step == 5:
                raise Killed
            return method.loss(modules, batches, step)

    checkpoint = tmp_path / "run.pt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Run, "_is_due", lambda self, _: self.step == 4)
        with pytest.raises(Killed):
            dn.fit(fabric, data, SPLIT, Fragile(), short, checkpoint=checkpoint)
    assert checkpoint.exists()
    resumed = dn.fit(fabric, data, SPLIT, method, short, checkpoint=checkpoint)
    assert np.array_equal(whole.history["loss"], resumed.history["loss"])
    for name, module in whole.modules.items():
        for a, b in itertools.zip_longest(module.state_dict().values(), resumed.modules[name].state_dict().values()):
            assert torch.equal(a, b)


def test_a_job_is_trained_once(fabric, monkeypatch) -> None:
    job = dn.Job(dn.DIMNet.variant("G"), planted(), (SPLIT,), dataclasses.replace(SMALL, steps=3))
    (first,) = job.run(fabric)
    monkeypatch.setattr(dn, "fit", lambda *_, **__: pytest.fail("trained again"))
    (second,) = job.run(fabric)
    assert np.array_equal(first.history["loss"], second.history["loss"])
    assert np.array_equal(dn.unseen(first, job.data).voice, dn.unseen(second, job.data).voice)


# ------------------------------------------------------------------------------------------------------- unseen people


def test_embeddings_of_uneven_recordings_equal_those_one_by_one(fabric) -> None:
    data = planted()
    trained = dn.fit(fabric, data, SPLIT, dn.DIMNet.variant("G"), dataclasses.replace(SMALL, steps=2))
    items = dn.unseen(trained, data)
    rows = data.rows("voice", SPLIT.test)
    for place, row in enumerate(rows.tolist()):
        whole = data.voices[row].log_mel.T[None]
        with torch.no_grad():
            alone = trained.modules["voice"](whole)[0].double().numpy()
        assert items.voice[place] == pytest.approx(alone, abs=1e-5)
    assert (items.people[items.voice_people] == data.voices.identities[rows].numpy()).all()
    assert np.abs(items.scores).max() <= 1 + 1e-12
    few = dn.unseen(trained, data, per_person=1)
    assert few.voice_people.tolist() == few.face_people.tolist() == list(range(8))


def test_posteriors_are_the_softmax_of_the_shared_head(fabric) -> None:
    data = planted()
    trained = dn.fit(fabric, data, SPLIT, dn.DIMNet.variant("IG"), dataclasses.replace(SMALL, steps=2))
    items = dn.unseen(trained, data)
    voice, face = dn.posteriors(trained, items, "sex")
    logits = trained.modules["heads"]({"face": torch.from_numpy(items.face).float()})["face"]["sex"]
    assert face == pytest.approx(torch.softmax(logits, 1).detach().numpy(), abs=1e-5)
    assert voice.sum(1) == pytest.approx(np.ones(len(voice)))
    for covariate in ("identity", "nationality"):
        with pytest.raises(ValueError, match="no classifier for it"):
            dn.posteriors(trained, items, covariate)


def with_nationalities(codes: list[int]) -> dn.Meetings:
    """`planted`, where person 100 + i has the nationality `codes[i]`."""
    data = planted()
    sides = [
        dataclasses.replace(s, covariates={**s.covariates, "nationality": torch.tensor(codes)[s.identities - 100]})
        for s in (data.voices, data.faces)
    ]
    return dn.Meetings(*sides)


def test_classes_are_the_values_of_the_training_people() -> None:
    # The sixteen training people have the values 1, 4 and 7; test people also 0 and 9.
    data = with_nationalities([1, 4, 7, 4] * 4 + [0, 1, 4, 7, 9, 9, 4, 0])
    assert data.learned("nationality", SPLIT) == (1, 4, 7)
    assert data.classes("nationality", SPLIT) == 3
    for modality in dn.MODALITIES:
        labels = data.labels(modality, "nationality", SPLIT)[::3]
        assert labels.tolist() == [0, 1, 2, 1] * 4 + [-1, 0, 1, 2, -1, -1, 1, -1]
    assert data.learned("identity", SPLIT) == tuple(range(100, 116))
    whole = planted()  # all values in training: classes are the values
    assert torch.equal(whole.labels("face", "nationality", SPLIT), whole.faces.covariates["nationality"])


def test_values_that_training_never_saw_are_never_expected(fabric) -> None:
    data = with_nationalities([1, 4, 7, 4] * 4 + [0, 1, 4, 7, 9, 9, 4, 0])
    job = dn.Job(dn.DIMNet.variant("N"), data, (SPLIT,), dataclasses.replace(SMALL, steps=3))
    (trained,) = job.run(fabric)
    assert trained.modules["heads"].weight("nationality", "voice").shape == (3, 4)
    assert trained.learned == {"nationality": (1, 4, 7)}
    items = dn.unseen(trained, data)
    for modality, found in zip(dn.MODALITIES, dn.posteriors(trained, items, "nationality"), strict=True):
        assert found.shape[1] == 8
        assert (found[:, [0, 2, 3, 5, 6]] == 0).all()
        logits = trained.modules["heads"]({modality: torch.from_numpy(getattr(items, modality)).float()})[modality]
        expected = torch.softmax(logits["nationality"], 1).detach().numpy()
        assert found[:, [1, 4, 7]] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("probe", dn.MODALITIES)
def test_svhf_decides_all_triples_in_both_orders(fabric, probe) -> None:
    data = planted()
    trained = dn.fit(fabric, data, SPLIT, dn.SVHF(probe=probe), dataclasses.replace(SMALL, steps=3))
    wins = dn.svhf_wins(trained, data, per_person=2)
    items = dn.unseen(trained, data, per_person=2)
    sides = [(items.voice, items.voice_people), (items.face, items.face_people)]
    (query, asked), (candidate, people) = sides if probe == "voice" else sides[::-1]
    query, candidate = torch.from_numpy(query).float(), torch.from_numpy(candidate).float()
    expected = np.zeros((8, 8))
    with torch.no_grad():
        for q, who in enumerate(asked):
            for m, g in itertools.product(np.flatnonzero(people == who), range(len(people))):
                if people[g] != who:
                    rows = torch.tensor([q, q]), torch.tensor([m, g]), torch.tensor([g, m])
                    first, second = trained.modules["judge"](query, candidate, *rows)
                    margin = (first[0] - first[1]) - (second[0] - second[1])
                    expected[who, people[g]] += float(margin > 0) / 8
    assert wins.wins == pytest.approx(expected)
    assert wins.skipped() == 0


def test_the_judge_looks_at_three_features_side_by_side() -> None:
    judge = dn.Judge(4, 6, 5, seed=0)
    probes, candidates = (torch.randn(n, 4, generator=torch.Generator().manual_seed(n)) for n in (2, 3))
    rows = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0, 1], [2, 2]]), torch.tensor([[2, 0], [1, 0]])
    found = judge(probes, candidates, *rows)
    together = torch.cat([probes[rows[0]], candidates[rows[1]], candidates[rows[2]]], dim=-1)
    assert torch.allclose(found, judge.rest(judge.streams(together)), atol=1e-6)


def test_pair_methods_learn_the_planted_trait_from_encoders_trained_alone(fabric) -> None:
    data = planted(people=40)
    split = Split(tuple(range(100, 130)), tuple(range(130, 140)), seed=1)
    alone = dn.Job(dn.DIMNet.variant("I", shared=False), data, (split,), SMALL)
    for method in (dn.SVHF(), dn.Contrastive()):
        job = dn.Job(method, data, (split,), SMALL, start=alone)
        (trained,) = job.run(fabric)
        if isinstance(method, dn.SVHF):
            assert dn.svhf_wins(trained, data).accuracy().value > 0.65
        else:
            assert accuracy(trained, data) > 0.65


def test_a_job_starts_from_the_encoders_of_another_one(fabric) -> None:
    data, none = planted(), dataclasses.replace(SMALL, steps=1, learning_rate=1e-12)
    alone = dn.Job(dn.DIMNet.variant("I", shared=False), data, (SPLIT,), dataclasses.replace(SMALL, steps=3))
    (before,) = alone.run(fabric)
    (after,) = dn.Job(dn.Contrastive(), data, (SPLIT,), none, start=alone).run(fabric)
    (fresh,) = dn.Job(dn.Contrastive(), data, (SPLIT,), none).run(fabric)
    weights = [run.modules["face"].state_dict() for run in (after, fresh)]
    trained = before.modules["face"].state_dict()["model.0.weight"]
    assert torch.allclose(weights[0]["encoder.model.0.weight"], trained)
    assert not torch.allclose(weights[1]["encoder.model.0.weight"], trained)


# ------------------------------------------------------------------------------------------------------------- faults


def test_people_without_a_face_or_a_voice_are_counted() -> None:
    data = planted()
    with pytest.raises(ValueError, match="found 1 without a face and 0 without a voice"):
        dn.Meetings(data.voices, data.faces.of(list(range(101, 124))))


def test_unknown_people_and_covariates_are_named() -> None:
    data = planted()
    with pytest.raises(ValueError, match=r"nothing of the training people \[900\]"):
        dn.Batches(data, Split((100, 101, 900), (110, 111), seed=0), SMALL)
    with pytest.raises(ValueError, match="no covariate 'age'; there are sex, nationality"):
        data.labels("face", "age", SPLIT)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dn.TrainConfig(schedule="cosine"), "'steps' or 'one-cycle'"),
        (lambda: dn.TrainConfig(crop_frames=(5, 3)), "1 <= shortest <= longest"),
        (lambda: dn.SVHF(probe="text"), "'voice' or 'face'"),
        (lambda: dn.Contrastive(scale=0.0), "scale: expected a positive number"),
        (lambda: dn.Classifiers({"sex": 1}, 4), r"sex \(1\)"),
        (lambda: dn.FaceEncoder(width=0.0), "to be positive"),
    ],
)
def test_impossible_settings_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_diverged_embeddings_are_reported(fabric) -> None:
    data = planted()
    trained = dn.fit(fabric, data, SPLIT, dn.DIMNet.variant("G"), dataclasses.replace(SMALL, steps=1))
    with torch.no_grad():
        trained.modules["face"].model[-1].bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="face embeddings are not finite"):
        dn.unseen(trained, data)


def test_the_schedule_of_the_paper_and_the_short_one() -> None:
    parameter = [torch.nn.Parameter(torch.zeros(1))]

    def rates(config, steps):
        optimizer, schedule = config.optimise(parameter, steps)
        found = []
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    paper = rates(dn.TrainConfig(steps=28), 28)
    assert paper == pytest.approx([0.1] * 16 + [0.01] * 8 + [0.001] * 4)
    cycle = rates(dn.TrainConfig(steps=50, schedule="one-cycle", learning_rate=0.2), 50)
    assert max(cycle) == pytest.approx(0.2)
    assert cycle.index(max(cycle)) in (9, 10)
    assert cycle[0] == pytest.approx(0.02)
    assert cycle[-1] < 0.001
