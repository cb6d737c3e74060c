"""Voices and faces of the same people from one folder in the official layout; who is missing is counted and listed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from paper_utils.data import matching_lists as ml
from paper_utils.data import trial_builders
from paper_utils.data import voices_and_faces as vf
from paper_utils.data import voxceleb as vx
from paper_utils.data.voice_features import FrontEnd
from paper_utils.data.voxceleb_speakers import LIST_COLUMNS, META_COLUMNS, read_meta

# Identifier, name, gender, nationality, recordings, pictures. Parts: A-B val, C-E test, F-Z train.
PEOPLE = [
    ("id10005", "Aaron_Yoo", "m", "USA", 1, 2),
    ("id10078", "Barbara_Eden", "f", "USA", 2, 1),
    ("id10170", "Cliff_Curtis", "m", "New Zealand", 2, 3),
    ("id10270", "Eartha_Kitt", "f", "USA", 1, 1),
    ("id10143", "Charles_S._Dutton", "m", "USA", 1, 1),  # left out by the published split
    ("id10309", "Zulay_Henao", "f", "USA", 1, 2),  # first by identifier, last by name
    ("id10310", "Fanny_Ardant", "f", "Norway", 2, 1),
    ("id10311", "Farrah_Abraham", "f", "USA", 2, 0),  # no pictures
    ("id10312", "Fawad_Khan", "m", "Pakistan", 0, 2),  # no recordings
    ("id10313", "Felicia_Day", "f", "USA", 0, 0),  # neither
]
SETTINGS = FrontEnd(activity="none")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder that papers 02 and 03 are read from, small."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    root.mkdir()
    lines = [f"{i}\t{name}\t{gender}\t{nation}\tdev\n" for i, name, gender, nation, _, _ in PEOPLE]
    (root / "vox1_meta.csv").write_text("\t".join(META_COLUMNS) + "\n" + "".join(lines))
    for number, (identifier, name, _, _, recordings, pictures) in enumerate(PEOPLE):
        for clip in range(recordings):
            path = root / "wav" / identifier / f"video{clip}" / "00001.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * rng.standard_normal(8000), 16_000, subtype="PCM_16")
        for picture in range(pictures):
            path = root / "VGG_ALL_FRONTAL" / name / f"{picture + 1:08d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((80, 80, 3), 10 * number, np.uint8)).save(path)
    return root


def test_people_with_both_modalities_get_the_same_number_in_both(data):
    parts = vf.read(data, front_end=SETTINGS)
    assert list(parts) == ["train", "val", "test"]
    train = parts["train"]
    assert train.people.vggface_names == ("Fanny_Ardant", "Zulay_Henao")
    assert train.voices.identity_names == train.faces.identity_names == train.people.vggface_names
    assert [path.split("/")[0] for path in train.voices.paths.tolist()] == ["id10309", "id10310", "id10310"]
    assert train.voices.identities.tolist() == [1, 0, 0]
    assert train.faces.identities.tolist() == [0, 1, 1]
    levels = train.faces.images(torch.arange(3))[:, 0, 0, 0] * 127.5 + 127.5
    assert levels.round().tolist() == [60, 50, 50]  # the pictures are those of the people
    assert parts["test"].people.vggface_names == ("Cliff_Curtis", "Eartha_Kitt")


def test_who_is_missing_is_counted_and_listed(data):
    (data / "wav" / "id00012" / "v").mkdir(parents=True)
    soundfile.write(data / "wav" / "id00012" / "v" / "00001.wav", np.zeros(100), 16_000)
    (data / "wav" / "readme.txt").write_text("x")
    shutil.copytree(data / "VGG_ALL_FRONTAL" / "Zulay_Henao", data / "VGG_ALL_FRONTAL" / "Some_Body")
    (data / "VGG_ALL_FRONTAL" / "Fawad_Khan" / "face.png").write_bytes(b"x")
    parts = vf.read(data, front_end=SETTINGS)
    report = parts["train"].report
    assert (report.people, report.recordings, report.images, report.published) == (2, 3, 3, 924)
    assert report.without_images == ("id10311 Farrah_Abraham",)
    assert report.without_recordings == ("id10312 Fawad_Khan",)
    assert report.without_both == ("id10313 Felicia_Day",)
    assert report.unknown_speakers == ("id00012",)
    assert report.unknown_faces == ("Some_Body",)
    assert report.skipped_recordings == ("readme.txt",)
    assert report.skipped_images == ("Fawad_Khan/face.png",)
    assert str(report).splitlines() == [
        "vox1_meta, train: 2 people (papers 02 and 03: 924), 3 recordings, 3 images",
        "  people without images: 1: id10311 Farrah_Abraham",
        "  people without recordings: 1: id10312 Fawad_Khan",
        "  people with neither: 1: id10313 Felicia_Day",
        "  folders of recordings of nobody in the table: 1: id00012",
        "  folders of images of nobody in the table: 1: Some_Body",
        "  other entries among the recordings: 1: readme.txt",
        "  other entries among the images: 1: Fawad_Khan/face.png",
    ]
    assert report.table()["count"].tolist() == [1, 1, 1, 0, 1, 1, 1, 1]
    assert parts["test"].report.dropped == ("id10143",)
    assert parts["test"].report.without_images == ()


def test_samples_carry_covariates_as_in_the_world(data):
    test = vf.read(data, ["test"], front_end=SETTINGS)["test"]
    voices, faces = test.load_voices(), test.load_faces()
    assert voices.identities.tolist() == [0, 0, 1]
    assert voices.covariates["sex"].tolist() == [1, 1, 0]
    assert faces.images.shape == (4, 3, 64, 64)
    assert faces.covariates["sex"].tolist() == [1, 1, 1, 0]
    names = test.covariate_names["nationality"]
    assert [names[code] for code in faces.covariates["nationality"].tolist()] == ["New Zealand"] * 3 + ["USA"]
    some = test.load_faces(torch.tensor([3, 0]))
    assert (some.identities.tolist(), some.covariates["sex"].tolist()) == ([1, 0], [0, 1])
    assert test.name == "vox1_meta, test"


def test_stored_features_are_taken_where_they_are(data):
    vx.write_features(vx.read_wav(data / "wav", front_end=SETTINGS), data / "fbank")
    # The authors' features may lie under names instead of identifiers.
    shutil.move(data / "fbank" / "id10270", data / "fbank" / "Eartha_Kitt")
    stored = vf.read(data, ["test"])["test"]
    sound = vf.read(data, ["test"], front_end=SETTINGS)["test"]
    assert stored.voices.front_end is None
    assert sound.voices.front_end == SETTINGS
    both = [
        {int(i): part.voices.features(row) for row, i in enumerate(part.voices.identities)} for part in (stored, sound)
    ]
    assert both[0].keys() == both[1].keys() == {0, 1}
    assert all(torch.equal(both[0][person], both[1][person]) for person in (0, 1))


def test_published_lists_may_say_the_split(data):
    table = read_meta(data / "vox1_meta.csv")
    chosen = ("id10005", "id10270", "id10078")
    rows = [next(p for p in PEOPLE if p[0] == identifier) for identifier in chosen]
    lines = [f"{','.join(row[:4])},{'none' if row[0] == 'id10078' else 'test'}\n" for row in rows]
    (data / "vox1_test.csv").write_text(",".join(LIST_COLUMNS) + "\n" + "".join(lines))
    test = vf.read(data, ["test"], front_end=SETTINGS, lists=True)["test"]
    assert test.people.vggface_names == ("Aaron_Yoo", "Eartha_Kitt")
    assert test.report.dropped == ("id10078",)
    assert test.report.unknown_speakers == ()
    assert test.people.nationalities == table.nationalities
    with pytest.raises(
        FileNotFoundError, match=r"data: missing vox1_train\.csv, vox1_val\.csv; expected vox1_meta\.csv"
    ):
        vf.read(data, front_end=SETTINGS, lists=True)


@pytest.mark.parametrize("stored", [False, True])
def test_lists_name_rows_of_the_data(stored, data, tmp_path):
    if stored:
        vx.write_features(vx.read_wav(data / "wav", front_end=SETTINGS), data / "fbank")
    test = vf.read(data, ["test"], front_end=None if stored else SETTINGS)["test"]
    listing, _ = trial_builders.build_matching(
        test.voice_items, test.face_items, test.covariates, direction="v2f", rng=np.random.default_rng(0)
    )
    path = tmp_path / ml.list_name("match", "v2f")
    ml.write_list(path, listing)
    again = ml.read_matching(path, test.people)
    again.check_files(test.voices.root, test.faces.source.root, voice_suffix=".npy" if stored else ".wav")
    probes, gallery = test.rows_of(again)
    # A similarity that knows the person: every positive wins.
    voice, face = test.voices.identities.numpy()[probes], test.faces.identities.numpy()[gallery]
    similarity = (voice[:, None] == face[None]).astype(float)
    assert (similarity[again.probe, again.positive] == 1).all()
    assert (similarity[again.probe[:, None], again.negatives] == 0).all()
    other, _ = trial_builders.build_verification(
        test.voice_items, test.face_items, test.covariates, direction="f2v", rng=np.random.default_rng(0)
    )
    probes, gallery = test.rows_of(other)
    same = (
        test.faces.identities.numpy()[probes][other.probe] == test.voices.identities.numpy()[gallery][other.candidate]
    )
    np.testing.assert_array_equal(same, other.same)


def test_items_that_the_data_lacks_are_counted(data):
    test = vf.read(data, ["test"], front_end=SETTINGS)["test"]
    listing = trial_builders.build_retrieval(test.voice_items, test.face_items, direction="f2v")
    (data / "VGG_ALL_FRONTAL" / "Cliff_Curtis" / "00000002.jpg").unlink()
    smaller = vf.read(data, ["test"], front_end=SETTINGS)["test"]
    with pytest.raises(
        ValueError,
        match=r"reterival_f2v_test: pictures: 1 of 4 are not in vox1_meta, test: Cliff_Curtis/00000002\.jpg; complete",
    ):
        smaller.rows_of(listing)


def test_missing_files_are_all_named(data):
    with pytest.raises(ValueError, match="parts: expected some of train, val, test, found dev"):
        vf.read(data, ["dev", "test"])
    (data / "vox1_meta.csv").unlink()
    shutil.rmtree(data / "wav")
    with pytest.raises(
        FileNotFoundError, match=r"data: missing vox1_meta\.csv, wav \(or fbank\); expected vox1_meta\.csv"
    ):
        vf.read(data)


def test_a_part_of_one_person_is_refused_with_the_reason(data):
    shutil.rmtree(data / "VGG_ALL_FRONTAL" / "Zulay_Henao")
    with pytest.raises(
        ValueError,
        match=r"vox1_meta, train: 1 of 5 people have both recordings and images, expected at least two \(2 lack images, 1 recordings, 1 both\)",
    ):
        vf.read(data, front_end=SETTINGS)


def test_damaged_files_are_named_when_a_batch_meets_them(data):
    test = vf.read(data, ["test"], front_end=SETTINGS)["test"]
    (data / "wav" / "id10270" / "video0" / "00001.wav").write_bytes(b"RIFF")
    (data / "VGG_ALL_FRONTAL" / "Eartha_Kitt" / "00000001.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(ValueError, match=r"wav/id10270/video0/00001\.wav: not readable as audio"):
        test.load_voices()
    with pytest.raises(ValueError, match=r"Eartha_Kitt/00000001\.jpg: not a whole JPEG"):
        test.load_faces()


def test_some_of_each_are_of_everybody_and_by_chance():
    identities = torch.tensor([2, 0, 2, 2, 0, 2, 5, 2])
    chosen = [vf.some_of_each(identities, 2, np.random.default_rng(seed)) for seed in range(40)]
    for rows in chosen:
        assert identities[rows].tolist() == [0, 0, 2, 2, 5]
        assert len(rows.unique()) == 5
    assert {int(row) for rows in chosen for row in rows} == set(range(8))
    assert torch.equal(chosen[3], vf.some_of_each(identities, 2, np.random.default_rng(3)))
    assert sorted(vf.some_of_each(identities, 100, np.random.default_rng(0)).tolist()) == list(range(8))
