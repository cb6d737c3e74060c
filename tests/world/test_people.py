"""The population: marginals, dependencies, the closed form of the link, and switches that change what they name and nothing else."""

import dataclasses

import numpy as np
import pytest

from paper_utils.metrics import canonical
from paper_utils.world import people as pp
from paper_utils.world.face import PARAMETERS

SIZE = 4096


@pytest.fixture(scope="module")
def crowd():
    return pp.Population(seed=3, size=SIZE).people()


def same(first, second, *, but=()):
    """Names of the fields in which two groups of people differ, `but` left out."""

    def equal(a, b):
        if dataclasses.is_dataclass(a):
            return all(equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
        return np.array_equal(np.asarray(a), np.asarray(b))

    names = [f.name for f in dataclasses.fields(first) if f.name not in but]
    return [name for name in names if not equal(getattr(first, name), getattr(second, name))]


def within(values, groups):
    """Values without the mean of their group."""
    out = np.array(values, dtype=float)
    for group in np.unique(groups):
        out[groups == group] -= out[groups == group].mean(0)
    return out


def test_tables_name_parameters_of_the_head():
    names = {*pp.SEX_EFFECT, *pp.AGE_EFFECT, *pp.GROUP_EFFECT, *pp.WIDTHS, *pp.HEIGHTS, *pp.UNLINKED}
    assert names <= set(PARAMETERS)
    linked = {name for weights in pp.ANATOMY.values() for name in weights}
    assert linked <= {*PARAMETERS, "size"}
    assert not linked & set(pp.UNLINKED)


def test_a_person_is_the_same_however_he_is_asked_for():
    population = pp.Population(seed=1, size=5000)
    picked = population.people([4000, 3, 1500])
    assert picked.identity.tolist() == [4000, 3, 1500]
    assert same(picked, population.people().take([4000, 3, 1500])) == []
    assert same(population.people([3]), pp.Population(seed=1, size=4).people([3])) == []


def test_a_million_people_cost_nothing_until_asked_for():
    last = pp.Population(size=1_000_000).people([999_999])
    assert len(last) == 1
    assert last.identity[0] == 999_999


def test_seeds_make_different_people_and_the_same_seed_the_same(crowd):
    assert same(crowd, pp.Population(seed=3, size=SIZE).people()) == []
    assert "face" in same(crowd, pp.Population(seed=4, size=SIZE).people())


def test_marginals_are_the_documented_ones(crowd):
    share = np.bincount(crowd.nationality, minlength=6) / SIZE
    np.testing.assert_allclose(share, pp.NATIONALITY_PRIOR, atol=0.03)
    assert abs(crowd.sex.mean() - 0.5) < 0.03
    assert 18 <= crowd.age.min() < 22
    assert 70 < crowd.age.max() <= 80
    men = crowd.stature_cm[crowd.sex == 1]
    assert abs(men.mean() - 176.5) < 1
    assert abs(men.std() - 7) < 0.5


def test_age_depends_on_nationality(crowd):
    means = [crowd.age[crowd.nationality == n].mean() for n in range(6)]
    assert max(means) - min(means) > 4


def test_sex_moves_faces_by_the_published_difference(crowd):
    for name, half in pp.SEX_EFFECT.items():
        column = PARAMETERS.index(name)
        values = within(crowd.face[:, column], crowd.nationality)
        found = values[crowd.sex == 1].mean() - values[crowd.sex == 0].mean()
        assert abs(found - 2 * half) < 0.5, name


def test_tracts_and_pitch_have_the_published_means(crowd):
    men, women = crowd.sex == 1, crowd.sex == 0
    tract = crowd.speakers.pharynx_cm + crowd.speakers.oral_cm
    assert abs(tract[men].mean() - 17.5) < 0.1
    assert abs(tract[women].mean() - 14.9) < 0.1
    young = np.abs(crowd.age - 25) < 5
    assert abs(np.log(crowd.speakers.f0_hz[men & young]).mean() - np.log(120)) < 0.04
    assert (
        abs(crowd.speakers.f0_hz[women & young].mean() / crowd.speakers.f0_hz[men & young].mean() - 2 ** (8.9 / 12))
        < 0.08
    )
    residual = np.log(crowd.speakers.f0_hz / pp.typical_f0(crowd.voice_sex, crowd.voice_age))
    assert abs(residual.std() - 0.10) < 0.005


@pytest.mark.parametrize("link", [0.3, 0.6, 1.0])
def test_tract_and_face_correlate_as_the_closed_form_says(link):
    population = pp.Population(seed=5, size=SIZE, voice_face_link=link)
    crowd = population.people()
    both = np.corrcoef(crowd.anatomy.T, crowd.residual.T)[: len(pp.ANATOMY), len(pp.ANATOMY) :]
    np.testing.assert_allclose(both, population.true_correlation(), atol=4 / np.sqrt(SIZE))


def test_cavities_have_variance_one_at_every_link():
    for link in (0.0, 0.5, 1.0):
        crowd = pp.Population(seed=5, size=SIZE, voice_face_link=link).people()
        np.testing.assert_allclose(crowd.anatomy.std(0), 1, atol=0.05)


def test_full_link_makes_the_tract_a_function_of_the_face():
    crowd = pp.Population(seed=2, size=500, voice_face_link=1.0).people()
    weights, *_ = np.linalg.lstsq(crowd.residual, crowd.anatomy, rcond=None)
    np.testing.assert_allclose(crowd.residual @ weights, crowd.anatomy, atol=1e-9)


def test_link_zero_makes_voice_and_face_independent():
    crowd = pp.Population(seed=6, size=600, voice_face_link=0.0).people()
    voice = np.column_stack([crowd.anatomy, np.log(crowd.speakers.f0_hz), crowd.speakers.oral_cm])
    face = np.column_stack([crowd.face[:, :8], crowd.log_size, crowd.sex, crowd.age])
    assert canonical.permutation_p_value(voice, face, rng=np.random.default_rng(0)) > 0.05
    assert abs(np.corrcoef(crowd.sex, crowd.voice_sex)[0, 1]) < 0.12


def test_the_default_link_is_seen_by_the_same_permutation_test_inside_a_sex():
    crowd = pp.Population(seed=6, size=600).people()
    p = canonical.permutation_p_value(crowd.anatomy, crowd.face[:, :8], rng=np.random.default_rng(0), strata=crowd.sex)
    assert p < 0.01


def test_sex_only_world_shares_sex_and_nothing_inside_a_sex():
    crowd = pp.Population.sex_only(seed=7, size=600).people()
    np.testing.assert_array_equal(crowd.sex, crowd.voice_sex)
    assert abs(np.corrcoef(crowd.age, crowd.voice_age)[0, 1]) < 0.12
    voice = np.column_stack([crowd.anatomy, np.log(crowd.speakers.f0_hz)])
    p = canonical.permutation_p_value(voice, crowd.face[:, :10], rng=np.random.default_rng(1), strata=crowd.sex)
    assert p > 0.05


def test_the_link_changes_voices_and_leaves_faces_alone():
    linked, loose = (pp.Population(seed=8, size=300, voice_face_link=k).people() for k in (0.6, 0.0))
    assert set(same(linked, loose)) == {"voice_sex", "voice_age", "accent", "anatomy", "speakers"}
    weaker = pp.Population(seed=8, size=300, voice_face_link=0.2).people()
    assert set(same(linked, weaker)) == {"anatomy", "speakers"}


def test_equal_tracts_leave_only_the_source_to_differ():
    crowd = pp.Population(seed=9, size=300, equal_tracts=True).people()
    for name in pp.TRACT:
        assert np.ptp(getattr(crowd.speakers, name)) < 1e-12, name
    assert np.ptp(crowd.speakers.f0_hz) > 100


def test_unlinked_parameters_are_uncorrelated_with_every_cavity_but_for_shared_growth():
    truth = pp.Population(voice_face_link=1.0).true_correlation()
    alone = [PARAMETERS.index(n) for n in pp.UNLINKED if n not in (*pp.WIDTHS, *pp.HEIGHTS)]
    np.testing.assert_allclose(truth[:, alone], 0, atol=1e-12)


def test_accent_is_that_of_the_nationality_in_about_nine_of_ten(crowd):
    expected = pp.NATIVE_ACCENT + (1 - pp.NATIVE_ACCENT) * (np.array(pp.NATIONALITY_PRIOR) ** 2).sum()
    assert abs((crowd.accent == crowd.nationality).mean() - expected) < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"voice_face_link": 1.2}, r"voice_face_link must lie in \[0, 1\], found 1.2"),
        ({"voice_face_link": float("nan")}, "voice_face_link"),
        ({"size": 0}, "expected 1 to 1,000,000 people, found 0"),
        ({"size": 2_000_000}, "found 2000000"),
        ({"shared": ("sex", "height")}, "unknown covariates height; valid: sex, age, nationality"),
        ({"asymmetry": -1.0}, "must not be negative"),
        ({"seed": -1}, "must not be negative"),
    ],
)
def test_wrong_switches_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        pp.Population(**options)


def test_people_outside_the_population_and_empty_requests_are_refused():
    population = pp.Population(size=10)
    with pytest.raises(IndexError, match=r"must lie in \[0, 10\), found 3 to 10"):
        population.people([3, 10])
    with pytest.raises(ValueError, match="no people were asked for"):
        population.people([])
    with pytest.raises(ValueError, match="no people were chosen"):
        population.people([1]).take([])
