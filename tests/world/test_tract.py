"""The fast tract against the chain-matrix recursion it replaces, and against physics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.world import tract
from paper_utils.world import tract_tables as tables
from paper_utils.world.speakers import Speakers
from paper_utils.world.tract_spectra import formants, spectral_envelope, vowel_area

C, RHO = tract.SOUND_SPEED, tract.AIR_DENSITY
HZ = np.linspace(20, 8000, 97)
LENGTHS = {"pharynx_cm": 8.8, "oral_cm": 8.7}
# Means of men and women, F1-F3 in Hz (Peterson and Barney 1952, table II).
MEN = {
    "IY": (270, 2290, 3010), "IH": (390, 1990, 2550), "EH": (530, 1840, 2480), "AE": (660, 1720, 2410), "AH": (640, 1190, 2390),
    "AA": (730, 1090, 2440), "AO": (570, 840, 2410), "UH": (440, 1020, 2240), "UW": (300, 870, 2240), "ER": (490, 1350, 1690),
}  # fmt: skip
WOMEN = {
    "IY": (310, 2790, 3310), "IH": (430, 2480, 3070), "EH": (610, 2330, 2990), "AE": (860, 2050, 2850), "AH": (760, 1400, 2780),
    "AA": (850, 1220, 2810), "AO": (590, 920, 2710), "UH": (470, 1160, 2680), "UW": (370, 950, 2670), "ER": (500, 1640, 1960),
}  # fmt: skip


def constants(hz=HZ, **changes):
    return tract.tract_tables_of(torch.as_tensor(hz, dtype=torch.float64), **LENGTHS | changes)


def tensor(values):
    return torch.as_tensor(np.array(values, dtype=float))


# ------------------------------------------------------------------------------------------- the slow way, for reference


def line(hz, friction=1.0):
    jw = 2j * np.pi * hz
    alpha = friction * np.sqrt(jw * 4)
    beta = jw * (406 * np.pi) ** 2 / ((jw + 130 * np.pi) * jw + (30 * np.pi) ** 2) + alpha
    gamma = np.sqrt((130 * np.pi + jw) / (beta + jw))
    return gamma, gamma * (beta + jw)


def piston(area, hz):
    jw = 2j * np.pi * hz
    resistance, mass = 128 * RHO * C / (9 * np.pi**2 * area), 8 * RHO / (3 * np.pi * np.sqrt(np.pi * area))
    return jw * resistance * mass / (resistance + jw * mass)


def tube(area, length, gamma, sigma, pressure, flow):
    ch, sh, unit = np.cosh(sigma * length / C), np.sinh(sigma * length / C), RHO * C * gamma / area
    return ch * pressure + unit * sh * flow, sh / unit * pressure + ch * flow


def slow_nose(velum, hz, length=1.0):
    """Impedance of port and nose, and nostril flow for unit pressure at the port."""
    gamma, sigma = line(hz, tract.Walls().nasal_friction)
    pressure = piston(tables.NASAL_AREAS_CM2[-1], hz) + tract.Walls().nasal_resistance
    flow = np.ones_like(pressure)
    jw = 2j * np.pi * hz
    for k in range(24, -1, -1):
        pressure, flow = tube(tables.NASAL_AREAS_CM2[k], 0.397 * length, gamma, sigma, pressure, flow)
        if k == 5:
            flow = flow + pressure / (1.0 + jw * 5.94e-3 + 1 / (jw * 15.8e-6))
    pressure, flow = tube(velum, 0.8 * length, gamma, sigma, pressure, flow)
    return pressure / flow, 1 / pressure


def slow_response(area, velum, hz, source=None, glottis=None):
    """Chain matrices from the lips to the glottis, impedances from the glottis to the source: the textbook recursion."""
    gamma, sigma = line(hz)
    pressure, flow = piston(area[-1], hz), np.ones_like(hz, dtype=complex)
    nostrils, at_source = 0.0, (pressure, flow)
    for k in range(43, -1, -1):
        if k == 21 and velum:
            impedance, out = slow_nose(velum, hz)
            nostrils = pressure * out
            flow = flow + pressure / impedance
        length = (8.7 if k >= 22 else 8.8) / 22
        pressure, flow = tube(area[k], length, gamma, sigma, pressure, flow)
        if source == k:
            at_source = (pressure, flow)
    voice = (1 + nostrils) / flow + 0.004 / (1 + 1j * hz / 250)
    if source is None:
        return voice, None
    back = np.sqrt(2 * RHO * 8000) / glottis + 2j * np.pi * hz * RHO * 0.3 / glottis
    for k in range(source):
        if k == 22 and velum:
            back = 1 / (1 / back + 1 / slow_nose(velum, hz)[0])
        unit = RHO * C * gamma / area[k]
        th = np.tanh(sigma * ((8.7 if k >= 22 else 8.8) / 22) / C)
        back = unit * (back + unit * th) / (unit + back * th)
    return voice, 1 / (at_source[0] + back * at_source[1])


shapes = st.integers(0, 2**32 - 1).map(lambda s: np.exp(np.random.default_rng(s).normal(0.5, 0.8, 44)))


def check_against_chain_matrices(area, velum, source, glottis, tolerance):
    found = tract.response(
        tensor(area)[None],
        tensor([velum]),
        constants(),
        friction_frames=torch.tensor([0]),
        source=torch.tensor([source]),
        glottis_cm2=tensor([glottis]),
    )
    for fast, slow in zip((found.voice, found.friction), slow_response(area, velum, HZ, source, glottis), strict=True):
        np.testing.assert_allclose(fast[0].numpy(), slow, rtol=tolerance, atol=tolerance * np.abs(slow).max())


@pytest.mark.parametrize("velum", [0.0, 0.3])
@pytest.mark.parametrize("shape", tables.TARGETS)
def test_polynomials_equal_the_chain_matrices(shape, velum):
    area = tables.AREAS_CM2[tables.target_index(shape)]
    for source in (24, 39, 44):
        check_against_chain_matrices(area, velum, source, 0.2, 1e-10)


@given(shapes, st.sampled_from([0.0, 0.002, 0.1, 0.6]), st.integers(23, 44), st.floats(0.05, 0.3))
@settings(max_examples=25, deadline=None)
def test_polynomials_equal_the_chain_matrices_for_jagged_shapes(area, velum, source, glottis):
    """Neighbours differ by a factor of three as a rule, which costs both ways of computing some digits."""
    check_against_chain_matrices(area, velum, source, glottis, 1e-7)


def test_frames_do_not_mix():
    rng = np.random.default_rng(0)
    area = tensor(np.exp(rng.normal(0.5, 0.7, (9, 44))))
    velum = tensor([0, 0.5, 0, 0.01, 0, 0, 0.3, 0, 0])
    at, source = torch.tensor([0, 3, 8]), torch.tensor([30, 44, 24])
    together = tract.response(
        area, velum, constants(), friction_frames=at, source=source, glottis_cm2=tensor([0.1, 0.2, 0.3])
    )
    alone = tract.response(
        area[3:4], velum[3:4], constants(), friction_frames=at[:1], source=source[1:2], glottis_cm2=tensor([0.2])
    )
    torch.testing.assert_close(together.voice[3:4], alone.voice, rtol=1e-12, atol=0)
    torch.testing.assert_close(together.friction[1:2], alone.friction, rtol=1e-12, atol=0)


# ------------------------------------------------------------------------------------------------------------- physics


def test_uniform_tube_resonates_as_a_closed_pipe_with_yielding_walls():
    radius = np.sqrt(3 / np.pi)
    pipe = (2 * np.arange(1, 5) - 1) * C / (4 * (17.5 + 0.85 * radius))
    expected = np.sqrt(pipe**2 + 203**2)
    found = formants(np.full((1, 44), 3.0), Speakers.typical("man"), count=4)[0]
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_without_losses_all_power_leaves_at_the_lips():
    """Power into a lossless tract, Re(p U*), equals the power into the radiation resistance."""
    rigid = tract.Walls(wall_rate=0.0, wall_stiffness=0.0, wall_hz=0.0, friction=0.0, voice_bar=0.0)
    area = tensor(np.exp(np.random.default_rng(1).normal(0.5, 0.5, (3, 44))))
    hz = tensor(np.linspace(100, 7900, 50))
    speaker = tract.tract_tables_of(hz, **LENGTHS, walls=rigid)
    assert torch.allclose(speaker.gamma, torch.ones_like(speaker.gamma))
    pharynx, mouth = (tract._chain(*tract.lattice(a.T.contiguous())) for a in (area[:, :22], area[:, 22:]))
    mouth = tract._evaluate(mouth, speaker.mouth_powers)
    opening = tract.radiation(area[:, -1], hz)
    pressure, flow = mouth[0] * opening + mouth[1], mouth[2] * opening + mouth[3]
    flow = flow * (area[:, 22] / area[:, 21])[:, None]
    inner = tract._evaluate(pharynx, speaker.pharynx_powers)
    at_glottis, into = inner[0] * pressure + inner[1] * flow, inner[2] * pressure + inner[3] * flow
    # Relative impedances: pressure in units of rho c / A44, flow times A1 / A44.
    unit = torch.reciprocal(tract.response(area, torch.zeros(3, dtype=torch.float64), speaker).voice)
    scale = unit / into / (area[:, 0] / area[:, -1])[:, None]
    power = (at_glottis * scale * (into * scale).conj()).real * (area[:, 0] / area[:, -1])[:, None]
    torch.testing.assert_close(power, opening.real, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("vowel", MEN)
def test_tuned_vowels_have_the_formants_of_men(vowel):
    man = Speakers.typical("man")
    np.testing.assert_allclose(formants(vowel_area(vowel, man)[None], man)[0], MEN[vowel], rtol=0.03)


def test_women_follow_by_scaling():
    woman = Speakers.typical("woman")
    found = formants(np.stack([vowel_area(v, woman) for v in WOMEN]), woman)
    error = np.abs(found / np.array(list(WOMEN.values())) - 1).mean()
    assert error < 0.06
    # A man's tract is no explanation of women's formants.
    man = Speakers.typical("man")
    unscaled = formants(np.stack([vowel_area(v, man) for v in WOMEN]), man)
    assert np.abs(unscaled / np.array(list(WOMEN.values())) - 1).mean() > 2 * error


def elasticity(vowel, field):
    man = Speakers.typical("man")
    longer = Speakers(**{**vars(man), field: getattr(man, field) * 1.02})
    base = formants(vowel_area(vowel, man)[None], man, step_hz=2.0)
    return (np.log(formants(vowel_area(vowel, longer)[None], longer, step_hz=2.0) / base) / np.log(1.02))[0]


@pytest.mark.parametrize(
    ("vowel", "field", "expected"),
    [  # measured with an independent chain-matrix prototype
        ("UW", "oral_cm", (-0.31, -0.88, -0.15)),
        ("UW", "pharynx_cm", (-0.27, -0.02, -0.85)),
        ("IY", "pharynx_cm", (-0.20, -0.83, 0.02)),
        ("AA", "oral_cm", (-0.29, -0.55, -0.76)),
        ("EH", "jaw_gain", (0.20, -0.19, -0.04)),
        ("UW", "lip_gain", (0.07, 0.26, 0.0)),
    ],
)
def test_each_cavity_moves_its_own_formants(vowel, field, expected):
    np.testing.assert_allclose(elasticity(vowel, field), expected, atol=0.05)


def test_longer_tracts_lower_all_formants_together():
    """Walls and radiation do not scale with length, so the sum of the elasticities stays a little short of -1."""
    total = elasticity("EH", "oral_cm") + elasticity("EH", "pharynx_cm")
    assert ((total < -0.75) & (total > -1.02)).all()


def test_closed_velum_takes_the_nose_away_exactly():
    area = tensor(tables.AREAS_CM2)
    other = constants(nose_length=1.3, nose_gain=0.5, nostril_gain=2.0)
    shut = torch.full((15,), 0.9 * tract.OPEN_VELUM, dtype=torch.float64)
    assert torch.equal(tract.response(area, shut, constants()).voice, tract.response(area, shut, other).voice)
    open_velum = torch.full((15,), 0.5, dtype=torch.float64)
    assert not torch.allclose(
        tract.response(area, open_velum, constants()).voice, tract.response(area, open_velum, other).voice
    )


def test_opening_the_velum_little_changes_little():
    area = tensor(tables.AREAS_CM2)
    shut = tract.response(area, torch.zeros(15, dtype=torch.float64), constants()).voice.abs()
    ajar = tract.response(area, torch.full((15,), 1.1 * tract.OPEN_VELUM, dtype=torch.float64), constants()).voice.abs()
    assert float((ajar / shut).log().abs().max()) < np.log(10 ** (1.0 / 20))


@pytest.mark.parametrize("closed_at", [None, 43, 38, 28])
def test_single_precision_is_within_a_tenth_of_a_decibel(closed_at):
    area = np.array(tables.AREAS_CM2)
    if closed_at is not None:
        area[:, closed_at] = 3e-4
    at = torch.arange(15)
    source = torch.full((15,), 44 if closed_at is None else closed_at + 1)
    velum = torch.tensor([0.0, 0.3] * 7 + [0.0], dtype=torch.float64)
    levels = []
    for dtype in (torch.float32, torch.float64):
        found = tract.response(
            tensor(area).to(dtype),
            velum.to(dtype),
            constants(np.linspace(0, 8000, 257)).to("cpu", dtype),
            friction_frames=at,
            source=source,
            glottis_cm2=torch.full((15,), 0.2, dtype=dtype),
        )
        levels.append([20 * torch.log10(h.abs().double()) for h in (found.voice, found.friction[:, 1:])])
    for single, double in zip(*levels, strict=True):
        audible = double > double.amax(1, keepdim=True) - 60
        assert float((single - double)[audible].abs().max()) < 0.1


def test_half_as_many_sections_keep_the_formants_roughly():
    man = Speakers.typical("man")
    area = np.stack([vowel_area(v, man) for v in MEN])
    hz = np.arange(5.0, 5000, 5)
    few = tract.tract_tables_of(tensor(hz), **LENGTHS, sections=22)
    pooled = np.exp(np.log(area).reshape(10, 22, 2).mean(-1))
    found = tract.resonances(tract.response(tensor(pooled), tensor(np.zeros(10)), few).voice.abs().numpy(), hz, 3)
    assert np.abs(found / formants(area, man) - 1).mean() < 0.03


def test_lips_close_and_the_vowel_is_gone():
    man = Speakers.typical("man")
    shut = vowel_area("AA", man)
    shut[43] = 3e-4
    hz = np.arange(300.0, 3000, 20)
    gain = spectral_envelope(np.stack([vowel_area("AA", man), shut]), man, hz)
    assert gain[0].mean() - gain[1].mean() > 20


def test_resonances_find_planted_peaks():
    hz = np.arange(0.0, 4000, 10)
    planted = np.array([[503.0, 1497.0, 2502.0], [700.0, 1205.0, np.nan]])
    level = -np.nanmin((hz - planted[..., None]) ** 2, axis=1) / 1e5
    found = tract.resonances(np.exp(level), hz, 3)
    np.testing.assert_allclose(found, planted, atol=0.5)


@pytest.mark.parametrize("bad", [0.0, np.nan, -1.0])
def test_areas_that_are_none_are_refused(bad):
    area = np.full((1, 44), 3.0)
    area[0, 7] = bad
    with pytest.raises(ValueError, match="area: expected finite areas above 0"):
        formants(area, Speakers.typical("man"))


def test_wrong_number_of_sections_is_refused():
    with pytest.raises(ValueError, match="expected 44 sections"):
        tract.response(tensor(np.ones((1, 22))), tensor([0.0]), constants())


def test_unknown_shape_is_named():
    with pytest.raises(ValueError, match="'XX' is unknown; expected one of IY"):
        vowel_area("XX", Speakers.typical("man"))
