"""Films of meshes and skeletons: what is drawn, how long it lasts, that sound and pictures stay together, and that outputs stay small."""

from __future__ import annotations

import base64
import io
import re

import jaxtyping
import matplotlib.pyplot as plt
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image, ImageSequence

from paper_utils import animation, experiment, film, report
from paper_utils.animation import ColourScale, Framing, draw_filmstrip, mesh_film, skeleton_film
from paper_utils.film import Film

QUAD = torch.tensor([[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]])
QUAD_FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])
VIEW = Framing((0.0, 0.0, 0.0), 4.0)
BONES = [(0, 1), (1, 2)]


def moving_square(frames=30, size=32, fps=30.0):
    pictures = np.full((frames, size, size, 3), 255, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        left = round(number * (size - 8) / max(frames - 1, 1))
        picture[12:20, left : left + 8] = (200, 40, 40)
    return Film(pictures, fps)


def tone(seconds, rate=16_000, hz=440.0):
    return 0.5 * torch.sin(2 * torch.pi * hz * torch.arange(round(seconds * rate)) / rate)


@pytest.fixture
def without_video(monkeypatch):
    monkeypatch.setattr(film, "has_video", lambda: False)


needs_video = pytest.mark.skipif(not film.has_video(), reason="PyAV is not installed (the optional extra `video`)")


# -------------------------------------------------------------------------------------------------------------- drawing


def test_a_mesh_appears_where_it_is_and_moves_where_it_goes():
    moves = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    pictures = mesh_film(QUAD + moves[:, None], QUAD_FACES, 25, framing=VIEW, size=32).pictures
    covered = (pictures < 255).any(-1)
    assert covered[0].sum() == 16 * 16
    rows, columns = np.nonzero(covered[0])
    for frame, (right, down) in ((1, (8, 0)), (2, (0, -8))):
        moved = np.nonzero(covered[frame])
        assert (moved[0].mean() - rows.mean(), moved[1].mean() - columns.mean()) == (down, right)


def test_a_turned_mesh_shows_its_width_and_hides_its_back():
    front = mesh_film(QUAD[None], QUAD_FACES, 25, framing=VIEW, size=64).pictures
    turned = mesh_film(QUAD[None], QUAD_FACES, 25, framing=Framing((0.0, 0.0, 0.0), 4.0, yaw_deg=60), size=64).pictures
    behind = mesh_film(QUAD[None], QUAD_FACES, 25, framing=Framing((0.0, 0.0, 0.0), 4.0, yaw_deg=180), size=64).pictures
    width = [(picture[0, 32] < 255).any(-1).sum() for picture in (front, turned)]
    assert width[1] == pytest.approx(width[0] / 2, abs=1)
    assert (behind == 255).all()


def test_pictures_do_not_depend_on_the_batch_the_unit_or_the_call(monkeypatch):
    vertices = QUAD + torch.linspace(0, 0.5, 7)[:, None, None]
    first = mesh_film(vertices, QUAD_FACES, 25, size=24).pictures
    np.testing.assert_array_equal(first, mesh_film(vertices, QUAD_FACES, 25, size=24).pictures)
    in_kilometres = mesh_film(vertices / 1e6, QUAD_FACES, 25, size=24).pictures
    assert np.abs(first.astype(int) - in_kilometres).max() <= 1
    monkeypatch.setattr(animation, "PIXELS_AT_ONCE", 1)
    np.testing.assert_array_equal(first, mesh_film(vertices, QUAD_FACES, 25, size=24).pictures)


def test_colours_of_vertices_are_seen_and_a_scale_clips_at_its_ends():
    scale = ColourScale(0.0, 2.0, "distance (mm)")
    low, high, beyond, middle = (scale.colours(torch.full((1, 4), value)) for value in (0.0, 2.0, 9.0, 1.0))
    assert torch.equal(high, beyond)
    assert not torch.equal(low, high)
    shown = mesh_film(QUAD[None], QUAD_FACES, 25, framing=VIEW, size=32, colours=middle).pictures[0, 16, 16]
    # Viridis in the middle is a blue green: least red.
    assert shown.argmin() == 0
    half_red = torch.tensor([[1.0, 0.0, 0.0]] * 4)
    assert (
        mesh_film(QUAD[None], QUAD_FACES, 25, framing=VIEW, size=32, colours=half_red).pictures[0, 16, 16].argmax() == 0
    )


def test_a_framing_around_points_holds_them_all_with_its_margin():
    points = torch.randn(5, 40, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3.0, 2.0])
    for yaw in (0.0, 35.0):
        placed = Framing.around(points, yaw_deg=yaw, margin=0.1).pixels(points, (100, 100))[..., :2]
        assert placed.min().item() == pytest.approx(10, abs=1e-3)
        assert placed.max().item() == pytest.approx(90, abs=1e-3)


def test_a_skeleton_is_drawn_between_its_joints_in_two_and_three_dimensions():
    flat = torch.tensor([[[-1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]])
    deep = torch.cat((flat, torch.zeros(1, 3, 1)), dim=2)
    pictures = [skeleton_film(joints, BONES, 25, framing=VIEW, size=64).pictures for joints in (flat, deep)]
    np.testing.assert_array_equal(*pictures)
    dark = (pictures[0][0] < 200).all(-1)
    assert dark[32, 20:32].all()  # to the left of the middle
    assert dark[20:32, 32].all()  # and up
    assert not dark[35:, :].any()
    flipped = skeleton_film(flat, BONES, 25, framing=VIEW, size=64, y_down=True).pictures[0]
    assert (flipped[36:44, 31:33] < 200).any()


def test_bones_have_their_colours_and_near_ones_cover_far_ones():
    joints = torch.tensor([[[-1.0, 0, 0], [1.0, 0, 0], [0, -1.0, 1.0], [0, 1.0, 1.0]]])
    crossing = skeleton_film(joints, [(2, 3), (0, 1)], 25, framing=VIEW, size=64, colours=["red", "blue"])
    assert crossing.pictures[0, 32, 32].argmax() == 0
    assert crossing.pictures[0, 32, 22].argmax() == 2
    names = ["pelvis", "left_hip", "right_hip"]
    assert len(set(animation.side_colours(names, [(0, 0), (0, 1), (0, 2)]))) == 3


def test_a_head_is_a_ring_between_its_two_joints():
    joints = torch.tensor([[[0.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    picture = skeleton_film(joints, [(0, 1)], 25, framing=VIEW, size=64, head=(1, 2)).pictures[0]
    assert (picture[24, 32] == 255).all()  # its middle is empty
    ring = (picture[24] < 200).all(-1).nonzero()[0]
    assert ring.min() == pytest.approx(24, abs=2)
    assert ring.max() == pytest.approx(40, abs=2)


def test_a_trail_shows_where_a_joint_came_from():
    joints = torch.zeros(20, 3, 2)
    joints[:, 1, 0], joints[:, 2, 0] = torch.linspace(-1.5, 1.5, 20), torch.linspace(-1.5, 1.5, 20)
    joints[:, 2, 1] = 0.5
    plain, trailed = (
        skeleton_film(joints, [(1, 2)], 20, framing=VIEW, size=64, trail=trail, trail_s=0.5) for trail in ((), (2,))
    )
    more = ((plain.pictures != trailed.pictures).any(-1)).sum((1, 2))
    assert more[0] == 0
    assert more[-1] > 10


# ---------------------------------------------------------------------------------------------------- strips and pairs


def test_a_filmstrip_has_a_row_for_each_film_and_times_above_the_columns():
    films = {"recorded": moving_square(31), "generated": moving_square(31)}
    fig = draw_filmstrip(films, frames=4, title="Squares", scale=ColourScale(0, 1, "distance (mm)"))
    panels = [ax for ax in fig.axes if ax.images]
    assert len(panels) == 8
    assert [ax.get_title() for ax in panels[:4]] == ["0.00 s", "0.33 s", "0.67 s", "1.00 s"]
    assert [panels[0].get_ylabel(), panels[4].get_ylabel()] == ["recorded", "generated"]
    np.testing.assert_array_equal(panels[1].images[0].get_array(), films["recorded"].pictures[10])
    assert fig.axes[-1].get_ylabel() == "distance (mm)"
    assert len([ax for ax in draw_filmstrip(films, frames=[3, 5]).axes if ax.images]) == 4
    plt.close("all")


def test_films_side_by_side_keep_their_pictures_and_the_first_sound():
    left, right = moving_square(), moving_square().with_sound(tone(1.0), 16_000)
    both = animation.beside({"a": left, "b": right})
    height = both.pictures.shape[1] - 32
    np.testing.assert_array_equal(both.pictures[:, height:, :32], left.pictures)
    np.testing.assert_array_equal(both.pictures[:, height:, 32:], right.pictures)
    assert (both.pictures[0, :height] < 128).any()  # the labels
    assert both.sample_rate == 16_000


# ----------------------------------------------------------------------------------------------------------------- sound


@pytest.mark.parametrize(
    ("seconds", "note"), [(1.0, ""), (1.02, ""), (2.0, "The sound of 2.00 s was cut"), (0.5, "filled with silence")]
)
def test_sound_is_fitted_to_the_film_and_the_note_tells(seconds, note):
    heard = moving_square().with_sound(tone(seconds), 16_000)
    assert len(heard.sound) == 16_000
    assert note in heard.note
    assert bool(note) == bool(heard.note)
    common = min(16_000, round(16_000 * seconds))
    torch.testing.assert_close(heard.sound[:common], tone(seconds)[:common])
    assert not heard.sound[common:].any()


def test_a_cut_takes_pictures_and_sound_of_the_same_time():
    whole = moving_square(60).with_sound(torch.linspace(-1, 1, 32_000), 16_000)
    part = whole.cut(0.5, 1.5)
    np.testing.assert_array_equal(part.pictures, whole.pictures[15:45])
    torch.testing.assert_close(part.sound, whole.sound[8000:24_000])


# ----------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("fps", [12.5, 24.0, 30.0, 60.0])
def test_a_gif_lasts_as_long_as_the_film_and_shows_its_frames(tmp_path, fps):
    shown = moving_square(45, fps=fps)
    (path,) = shown.save(tmp_path / "square.gif")
    with Image.open(path) as picture:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
        picture.seek(picture.n_frames - 1)
        last = np.asarray(picture.convert("RGB")).astype(int)
        assert picture.info["loop"] == 0
    assert sum(durations) == pytest.approx(1000 * shown.seconds, abs=10)
    assert min(durations) >= 20  # browsers slow down what is faster
    kept = 44 if fps <= 50 else 44 // 2 * 2
    assert np.abs(last - shown.pictures[kept]).max() < 12


def test_a_gif_with_sound_has_the_sound_beside_it(tmp_path):
    gif, wav = moving_square().with_sound(tone(1.0), 16_000).save(tmp_path / "square.gif")
    assert (gif.name, wav.name) == ("square.gif", "square.wav")
    samples, rate = soundfile.read(wav)
    assert rate == 16_000
    np.testing.assert_allclose(samples, tone(1.0), atol=1e-4)


def decoded(source):
    import av

    with av.open(source) as container:
        rate = container.streams.video[0].average_rate
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    sound, sound_rate = np.zeros(0), 0
    if isinstance(source, io.BytesIO):
        source.seek(0)
    with av.open(source) as container:
        if container.streams.audio:
            frames = list(container.decode(audio=0))
            # Samples before the edit list's start have negative times: players leave them out.
            start = [frame for frame in frames if frame.pts >= 0]
            sound, sound_rate = np.concatenate([frame.to_ndarray()[0] for frame in start]), start[0].sample_rate
    return np.stack(pictures), float(rate), sound, sound_rate


@needs_video
@pytest.mark.parametrize("rate", [16_000, 22_000])
def test_an_mp4_holds_all_frames_and_the_sound_in_time(tmp_path, rate):
    click = torch.zeros(rate)
    click[rate // 2 : rate // 2 + rate // 100] = tone(0.01, rate, 1000.0)
    shown = moving_square(30, size=33, fps=29.97).with_sound(click, rate)
    (path,) = shown.save(tmp_path / "square.mp4")
    pictures, fps, sound, sound_rate = decoded(str(path))
    assert fps == pytest.approx(29.97, abs=1e-3)
    assert pictures.shape == (30, 34, 34, 3)  # odd sides are filled up
    assert np.abs(pictures[:, :33, :33].astype(float) - shown.pictures).mean() < 6
    assert abs(np.abs(sound).argmax() / sound_rate - 0.505) < 0.02
    (again,) = shown.save(tmp_path / "again.mp4")
    assert again.read_bytes() == path.read_bytes()


@needs_video
def test_without_a_suffix_a_film_becomes_an_mp4(tmp_path):
    assert [path.name for path in moving_square().save(tmp_path / "square")] == ["square.mp4"]


@pytest.mark.usefixtures("without_video")
def test_without_a_suffix_and_video_a_film_becomes_a_gif(tmp_path):
    assert [path.name for path in moving_square().save(tmp_path / "square")] == ["square.gif"]
    with pytest.raises(ModuleNotFoundError, match=r"paper-utils\[video\]"):
        moving_square().save(tmp_path / "square.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["square.gif"]


def test_a_failed_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "square.gif"
    moving_square().save(path)
    before = path.read_bytes()

    def fail(_):
        raise RuntimeError("interrupted")

    monkeypatch.setattr(film, "_watched", fail)
    with pytest.raises(RuntimeError, match="interrupted"):
        moving_square(50).save(path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["square.gif"]


# ------------------------------------------------------------------------------------------------------------- notebooks


def embedded(page, kind):
    return base64.b64decode(re.search(rf"data:{kind};base64,([^\"]+)", page).group(1))


@needs_video
def test_a_player_holds_a_video_an_alternative_text_and_the_note():
    page = moving_square().with_sound(tone(2.0), 16_000).play('a "red" square', width=320).data
    assert 'aria-label="a &quot;red&quot; square"' in page
    assert 'width="320"' in page
    assert "was cut to the film" in page
    assert 'src="http' not in page
    pictures, _, sound, _ = decoded(io.BytesIO(embedded(page, "video/mp4")))
    assert len(pictures) == 30
    assert np.abs(sound).max() > 0.3
    assert "autoplay muted loop" in moving_square().play("a square").data


@pytest.mark.usefixtures("without_video")
def test_without_video_a_player_holds_a_gif_and_the_sound():
    page = moving_square().with_sound(tone(1.0, 22_000), 22_000).play("a red square").data
    with Image.open(io.BytesIO(embedded(page, "image/gif"))) as picture:
        assert sum(frame.info["duration"] for frame in ImageSequence.Iterator(picture)) == 1000
    samples, rate = soundfile.read(io.BytesIO(embedded(page, "audio/mpeg")))
    assert len(samples) / rate == pytest.approx(1.0, abs=0.15)
    assert np.abs(samples).max() > 0.3


@pytest.mark.parametrize("video", [pytest.param(True, marks=needs_video), False])
def test_a_player_stays_under_its_limit_or_says_what_to_do(video, monkeypatch):
    monkeypatch.setattr(film, "has_video", lambda: video)
    noise = np.random.default_rng(0).integers(0, 255, (10, 64, 64, 3), dtype=np.uint8)
    busy = Film(noise, 10.0)
    generous, tight = busy.play("noise", kilobytes=10_000).data, busy.play("noise", kilobytes=25).data
    assert len(tight) <= 25_000 < len(generous)
    with pytest.raises(ValueError, match=r"10 frames of 64 x 64 pixels do not fit 1 kB .* cut\(begin_s, end_s\)"):
        busy.play("noise", kilobytes=1)


def test_ten_seconds_of_a_talking_head_fit_a_notebook():
    grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 30), torch.linspace(-1, 1, 30), indexing="xy"), dim=-1)
    number = torch.arange(900).view(30, 30)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    faces = torch.cat((torch.stack((a, b, d), -1).view(-1, 3), torch.stack((a, d, c), -1).view(-1, 3)))
    time = torch.arange(300)[:, None, None] / 30
    height = (
        1
        - (grid**2).sum(-1)
        + 0.2 * torch.sin(9 * time) * torch.exp(-20 * ((grid + torch.tensor([0.0, 0.5])) ** 2).sum(-1))
    )
    vertices = torch.cat((grid.expand(300, -1, -1, -1), height[..., None]), dim=-1).flatten(1, 2)
    shown = mesh_film(vertices, faces, 30, size=120, smooth=1).with_sound(tone(10.0), 16_000)
    assert len(shown.play("a moving cap").data) <= 250_000


# ------------------------------------------------------------------------------------------------------------ the frame


@pytest.mark.usefixtures("without_video")
def test_animations_are_saved_and_listed_like_figures_and_removed_when_stale(tmp_path):
    run = experiment.start("01")
    run.save_animation(moving_square().with_sound(tone(1.0), 16_000), "old", "What <it> shows.")
    run.finish()
    assert report.write(tmp_path) == []
    page = (tmp_path / "results" / "report.html").read_text()
    assert '<img src="../figures/01_covariate_matching/old.gif" alt="What &lt;it&gt; shows.">' in page
    assert '<audio controls src="../figures/01_covariate_matching/old.wav"' in page
    run = experiment.start("01")
    run.save_animation(moving_square(), "new", "caption")
    run.finish()
    assert [path.name for path in (tmp_path / "figures" / "01_covariate_matching").iterdir()] == ["new.gif"]


@needs_video
def test_the_report_plays_a_video(tmp_path):
    run = experiment.start("01")
    run.save_animation(moving_square(), "square", "A square.")
    run.finish()
    report.write(tmp_path)
    assert (
        '<video controls src="../figures/01_covariate_matching/square.mp4"'
        in (tmp_path / "results" / "report.html").read_text()
    )


# ---------------------------------------------------------------------------------------------------------------- faults


BROKEN = QUAD.expand(5, -1, -1).clone()
BROKEN[3, 1, 0] = torch.nan


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Film.of([], 25), "there are no frames"),
        (lambda: Film(np.zeros((0, 8, 8, 3), np.uint8), 25.0), "at least one"),
        (
            lambda: Film.of([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], 25),
            r"frame 1 has shape \(8, 9, 3\), the first one \(8, 8, 3\)",
        ),
        (lambda: moving_square(fps=0.0), "fps must be a positive number of frames a second, found 0"),
        (lambda: moving_square(fps=-5.0), "fps must be a positive"),
        (lambda: moving_square(fps=float("nan")), "fps must be a positive"),
        (lambda: mesh_film(BROKEN, QUAD_FACES, 25), "vertices: 1 of 60 numbers are NaN or infinite, first in row 3"),
        (lambda: mesh_film(QUAD[None][:0], QUAD_FACES, 25), "there are no frames"),
        (lambda: mesh_film(QUAD[None], QUAD_FACES + 1, 25), "the mesh has 4 vertices"),
        (lambda: mesh_film(QUAD[None], QUAD_FACES, 25, size=2), "at least 8 pixels"),
        (lambda: mesh_film(0 * QUAD[None], QUAD_FACES, 25), "do all points coincide"),
        (lambda: ColourScale(1.0, 1.0, "mm"), "low < high"),
        (lambda: skeleton_film(torch.full((2, 3, 3), torch.nan), BONES, 25), "joints: 18 of 18 numbers"),
        (lambda: skeleton_film(torch.zeros(2, 3, 3), [(0, 3)], 25), "joints 0 to 2, found joints"),
        (lambda: skeleton_film(torch.zeros(2, 3, 3), [], 25), "at least one bone"),
        (lambda: skeleton_film(torch.rand(2, 3, 3), BONES, 25, colours=["red"]), "each of 2 bones, found 1"),
        (lambda: moving_square().with_sound(torch.zeros(0), 16_000), "sound: expected"),
        (lambda: moving_square().with_sound(torch.full((9,), torch.nan), 16_000), "found a peak of nan"),
        (lambda: moving_square().with_sound(2 * torch.ones(9), 16_000), "found a peak of 2"),
        (lambda: moving_square().cut(0.5, 2.0), "begin < end <= 1.00 s"),
        (lambda: moving_square().play("  "), "say in `alt`"),
        (lambda: moving_square().save("square.avi"), "ends in .mp4 or .gif"),
        (
            lambda: animation.beside({"a": moving_square(), "b": moving_square(20)}),
            "'a': 30 frames at 30 a second, 'b': 20 frames",
        ),
        (lambda: animation.beside({"a": moving_square(), "b": moving_square(size=40)}), "of one height"),
        (lambda: draw_filmstrip({}), "there are none"),
        (lambda: draw_filmstrip({"a": moving_square()}, frames=[30]), "some of 0 to 29"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_colours_that_do_not_fit_are_refused():
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="colours"):
        mesh_film(QUAD[None], QUAD_FACES, 25, colours=torch.zeros(3, 3))
