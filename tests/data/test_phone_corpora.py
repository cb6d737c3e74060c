"""Phones and subjects: tokens cut out of speech, tables of measurements, TIMIT, TextGrid folders, paper 10's own layout, faults."""

import dataclasses
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from paper_utils.audio_files import write_wav
from paper_utils.data import alignments, forced_alignment
from paper_utils.data import phones as ph
from paper_utils.data.speech import Alignment, Voices

RATE = 16_000


def voices(phones=("SIL", "P", "AA", "SIL"), bounds=(0.0, 0.1, 0.2, 0.5, 0.6), frames=61, bands=8, people=(3, 5)):
    """Log-mel whose band 0 is the frame's number, so that a token shows where it was cut."""
    log_mel = torch.randn(frames * len(people), bands, generator=torch.Generator().manual_seed(0))
    log_mel[:, 0] = torch.arange(frames).repeat(len(people))
    names = tuple(dict.fromkeys(phones))
    return Voices(
        log_mel=log_mel,
        starts=torch.arange(len(people) + 1) * frames,
        hop_ms=10.0,
        identities=torch.tensor(people),
        phone_names=names,
        phones=torch.tensor([names.index(p) for p in phones] * len(people), dtype=torch.int16),
        phone_starts=torch.arange(len(people) + 1) * len(phones),
        boundaries_s=torch.tensor(bounds * len(people)),
        name="made up",
    )


# ---------------------------------------------------------------------------------------------------------- tokens


def test_tokens_are_cut_at_equal_parts_of_the_phone():
    made = voices()
    tokens = ph.phone_tokens(made, 3)
    assert tokens.phone_names == ("P", "AA")
    assert tokens.phones.tolist() == [0, 1, 0, 1]
    assert tokens.subjects.tolist() == [3, 3, 5, 5]
    torch.testing.assert_close(tokens.seconds, torch.tensor([0.1, 0.3, 0.1, 0.3]))
    # AA lasts from frame 20 to 50: its thirds have their middles at 25, 35 and 45.
    expected = made.log_mel[[25, 35, 45]]
    expected = (expected - expected.mean(1, keepdim=True)) / (expected.std(1, correction=0, keepdim=True) + 1e-6)
    torch.testing.assert_close(tokens.features[1], expected, atol=1e-4, rtol=1e-4)


def test_padded_tokens_show_how_long_a_phone_lasts_and_stretched_ones_do_not():
    made = voices()
    padded = ph.phone_tokens(made, 32, layout="padded")
    shown = (padded.features != 0).any(2).sum(1)
    assert shown.tolist() == [10, 30, 10, 30]
    assert (ph.phone_tokens(made, 32).features != 0).any(2).all()
    cropped = ph.phone_tokens(made, 20, layout="padded")
    torch.testing.assert_close(cropped.features[1], padded.features[1, :20])


def test_only_the_phones_that_were_asked_for_are_cut():
    tokens = ph.phone_tokens(voices(), 3, phones=("AA",))
    assert tokens.phone_names == ("AA",)
    assert len(tokens) == 2
    with pytest.raises(ValueError, match="no token of IY; leave them out"):
        ph.phone_tokens(voices(), 3, phones=("AA", "IY"))
    with pytest.raises(ValueError, match="layout: expected 'stretched' or 'padded'"):
        ph.phone_tokens(voices(), 3, layout="mine")


def test_level_does_not_reach_the_tokens():
    made = voices()
    louder = dataclasses.replace(made, log_mel=made.log_mel + 3.0)
    torch.testing.assert_close(ph.phone_tokens(made).features, ph.phone_tokens(louder).features, atol=1e-4, rtol=1e-4)


def test_an_alignment_past_the_end_of_its_sound_is_refused():
    with pytest.raises(ValueError, match=r"recording 0: its alignment ends 0.1\d+ s past its sound"):
        ph.phone_tokens(voices(frames=45))


def test_subject_means_average_tokens_and_leave_holes():
    tokens = ph.PhoneTokens(
        torch.tensor([1.0, 3.0, 10.0, 20.0]).view(4, 1, 1).repeat(1, 2, 2), torch.tensor([0, 0, 0, 1]), torch.tensor([9, 9, 4, 4]),
        torch.ones(4), ("AA", "P"), "made up",
    )  # fmt: skip
    means, counts = tokens.subject_means(np.array([4, 9, 2]))
    assert counts.tolist() == [[1, 2, 0], [1, 0, 0]]
    np.testing.assert_allclose(means[0, :, 0], [10.0, 2.0, np.nan])
    assert np.isnan(means[1, 1]).all()
    assert tokens.of("P").subjects.tolist() == [4]
    with pytest.raises(ValueError, match="no token of 'IY'; there are AA P"):
        tokens.of("IY")


# -------------------------------------------------------------------------------------------------------- subjects

TABLE = "speaker,sex,age,site,nose,jaw\n5,F,30,north,1.5,9\n3,m,40,south,2.5,\n8,female,50,north,3.5,7\n"


def written(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_table_of_measurements_is_read(tmp_path):
    table = ph.read_measurements(written(tmp_path, TABLE), covariates=("age", "site"))
    assert table.names == ("nose", "jaw")
    assert table.subjects.tolist() == [5, 3, 8]
    assert table.sex.tolist() == [0, 1, 0]
    assert table.covariates["site"].tolist() == [0, 1, 0]
    assert np.isnan(table.values[1, 1])
    assert table.of_sex("woman").subjects.tolist() == [5, 8]
    with pytest.raises(ValueError, match="no woman among 1 subjects"):
        table.of_sex("man").of_sex("woman")


def test_paper_10s_table_is_read(tmp_path):
    text = "ID," + ",".join(map(str, range(1, 97))) + "\n12," + ",".join(f"{i / 96:.3f}" for i in range(96)) + "\n"
    table = ph.read_measurements(written(tmp_path, text, "AMs_final.csv"))
    assert table.names == tuple(map(str, range(1, 97)))
    assert table.subjects.tolist() == [12]
    assert table.sex.tolist() == [-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no column None; found a, b; say subject="),
        ("speaker,nose\n1,2\n1,3\n", "stand there twice: \\[1\\]"),
        ("speaker,nose\n1,two\n", "line 2, column 'nose': expected a number, found 'two'"),
        ("speaker,sex,nose\n1,x,2\n", "sex: expected F or M .* found 'x'"),
        ("speaker,nose\nanna,2\n", "speaker 'anna' is no whole number"),
        ("speaker\n1\n", "no column of measurements"),
        ("speaker,nose\n", "found no rows"),
    ],
)
def test_damaged_tables_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        ph.read_measurements(written(tmp_path, text))


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.csv: no such file; expected a CSV"):
        ph.read_measurements(tmp_path / "none.csv")


def test_speakers_without_measurements_are_refused_or_listed(tmp_path):
    table = ph.read_measurements(written(tmp_path, TABLE), covariates=("age", "site"))
    tokens = ph.phone_tokens(voices(), 2)  # speakers 3 and 5; the jaw of 3 is missing
    with pytest.raises(ValueError, match=r"1 of 2 speakers have no .* measurements in table.csv: 3; measure them"):
        ph.matched(tokens, table)
    speech, kept, lost = ph.matched(tokens, table, missing="drop")
    assert lost == ("3",)
    assert kept.subjects.tolist() == [5]
    assert speech.subjects.unique().tolist() == [5]
    with pytest.raises(ValueError, match="no subject in common"):
        ph.matched(tokens, table.take(np.array([2])), missing="drop")
    with pytest.raises(ValueError, match="missing: expected 'raise' or 'drop'"):
        ph.matched(tokens, table, missing="zero")


def test_landmarks_in_mm_and_in_pixels(tmp_path):
    columns = [f"{axis}{i}" for i in (1, 2) for axis in "xyz"]
    path = written(tmp_path, "speaker," + ",".join(columns) + "\n7,1,2,3,4,5,6\n")
    assert ph.read_landmarks(path, unit="mm").points.tolist() == [[[1, 2, 3], [4, 5, 6]]]
    flat = written(tmp_path, "speaker,x1,y1,x2,y2\n7,1,2,4,5\n", "flat.csv")
    found = ph.read_landmarks(flat, unit="pixels")
    assert found.points.tolist() == [[[1, -2, 0], [4, -5, 0]]]
    assert found.unit == "pixels"
    with pytest.raises(ValueError, match="missing z1, z2"):
        ph.read_landmarks(flat, unit="mm")
    with pytest.raises(ValueError, match="unit: expected 'mm' or 'pixels', found 'cm'"):
        ph.read_landmarks(flat, unit="cm")
    holes = written(tmp_path, "speaker,x1,y1\n7,1,\n", "holes.csv")
    with pytest.raises(ValueError, match="line 2: a coordinate is missing"):
        ph.read_landmarks(holes, unit="pixels")


# ----------------------------------------------------------------------------------------------------------- TIMIT


def sine(seconds):
    return 0.3 * np.sin(2 * np.pi * 300 * np.arange(round(RATE * seconds)) / RATE)


def timit(root, case=str.upper, seconds=0.6):
    """Two speakers with two sentences each, in the official format."""
    rows = "0 1600 h#\n1600 2400 pcl\n2400 3200 p\n3200 6400 aa\n6400 7200 dx\n7200 8000 iy\n8000 9600 h#\n"
    for region, speaker in (("dr1", "fcjf0"), ("dr4", "mabc1")):
        folder = root / case("train") / case(region) / case(speaker)
        folder.mkdir(parents=True)
        for sentence in ("sa1", "sx2"):
            soundfile.write(folder / case(f"{sentence}.wav"), sine(seconds), RATE, format="NIST", subtype="PCM_16")
            (folder / case(f"{sentence}.phn")).write_text(rows)
            (folder / case(f"{sentence}.txt")).write_text("0 9600 Papa leads.\n")
    return root


@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_timit_is_read_in_either_case(tmp_path, case):
    corpus = ph.read_timit(timit(tmp_path, case), parts=("TRAIN",))
    assert corpus.speakers == ("FCJF0", "MABC1")
    assert corpus.sex.tolist() == [0, 1]
    assert len(corpus.voices) == 4
    assert corpus.texts[0] == "Papa leads."
    assert corpus.voices[0].alignment.phones == ("SIL", "P", "AA", "D", "IY", "SIL")
    np.testing.assert_allclose(corpus.voices[0].alignment.boundaries_s, [0, 0.1, 0.2, 0.4, 0.45, 0.5, 0.6], atol=1e-6)
    tokens = ph.phone_tokens(corpus.voices)
    assert sorted(tokens.phone_names) == ["AA", "D", "IY", "P"]
    assert tokens.features.shape[1:] == (5, 40)
    assert ph.read_timit(tmp_path, parts=("TRAIN",), folding="61").voices.phone_names[0].isupper()


def test_damaged_timit_is_named(tmp_path):
    root = timit(tmp_path / "good")
    with pytest.raises(FileNotFoundError, match="no folder TEST; found TRAIN"):
        ph.read_timit(root)
    with pytest.raises(FileNotFoundError, match="expected the folder of TIMIT"):
        ph.read_timit(tmp_path / "nowhere")
    long = timit(tmp_path / "long", seconds=0.5)
    with pytest.raises(ValueError, match=r"SA1.WAV: its alignment ends at 0.600 s, the recording at 0.500 s"):
        ph.read_timit(long, parts=("TRAIN",))
    folder = root / "TRAIN" / "DR1" / "FCJF0"
    (folder / "SA1.PHN").write_text("0 1600 h#\n1500 2400 p\n")
    with pytest.raises(ValueError, match="begins before the line above it ends"):
        ph.read_timit(root, parts=("TRAIN",))
    (folder / "SA1.PHN").write_text("0 1600 h#\n1600 2400 zz\n")
    with pytest.raises(ValueError, match="'zz' are not among the 61 labels"):
        ph.read_timit(root, parts=("TRAIN",))
    (folder / "SA1.WAV").unlink()
    (folder / "SA1.PHN").write_text("0 1600 h#\n1600 2400 p\n")
    with pytest.raises(FileNotFoundError, match=r"there is no SA1.WAV beside it"):
        ph.read_timit(root, parts=("TRAIN",))


SPKRINFO = """; comment
CJF0   F   1   TRN  03/03/86  06/17/60  5'4"   WHT  BS
ABC1   M   4   TRN  02/14/86  ??/??/??  6'0"   ???  HS   somebody said something
XYZ0   M   4   TST  02/14/86  01/01/50  ?'??"  WHT  HS
"""


def test_heights_of_timit_are_a_physical_target(tmp_path):
    table = ph.read_spkrinfo(written(tmp_path, SPKRINFO, "SPKRINFO.TXT"), ("FCJF0", "MABC1"))
    assert table.names == ("height_cm",)
    assert table.subjects.tolist()[:2] == [0, 1]
    assert table.subjects[2] not in (0, 1)
    np.testing.assert_allclose(table.values[:2, 0], [64 * 2.54, 72 * 2.54])
    assert np.isnan(table.values[2, 0])
    assert table.covariates["age"][0] == pytest.approx(25.7, abs=0.1)
    assert np.isnan(table.covariates["age"][1])
    corpus = ph.read_timit(timit(tmp_path / "timit"), parts=("TRAIN",))
    _, kept, lost = ph.matched(ph.phone_tokens(corpus.voices), table)
    assert len(kept) == 2
    assert lost == ()


def test_damaged_spkrinfo_is_named(tmp_path):
    with pytest.raises(ValueError, match="line 1: expected 'ID sex DR use"):
        ph.read_spkrinfo(written(tmp_path, "CJF0 F 1 TRN 03/03/86\n", "s.txt"), ("FCJF0",))
    with pytest.raises(ValueError, match=r"none of its speakers .FCJF0, MABC1, MXYZ0 .... is in the corpus"):
        ph.read_spkrinfo(written(tmp_path, SPKRINFO, "s.txt"), ("FAAA0",))


# ------------------------------------------------------------------------------------------------- TextGrid folders


def grids(root, labels=("", "P", "AA1", ""), seconds=0.6):
    alignment = Alignment(("SIL", "P", "AA", "SIL"), np.array([0.0, 0.1, 0.2, 0.5, 0.6]))
    grid = alignments.textgrid_of(alignment)
    rows = [
        dataclasses.replace(row, label=label) for row, label in zip(grid.tier("phones").intervals, labels, strict=True)
    ]
    grid = dataclasses.replace(grid, tiers=(alignments.Tier("phones", tuple(rows)),))
    for speaker in ("anna", "bert"):
        for folder in ("audio", "grids"):
            (root / folder / speaker).mkdir(parents=True, exist_ok=True)
        write_wav(root / "audio" / speaker / "one.wav", torch.from_numpy(sine(seconds)), RATE)
        alignments.write_textgrid(root / "grids" / speaker / "one.TextGrid", grid)
    return root / "audio", root / "grids"


def test_folders_of_textgrids_are_read(tmp_path):
    corpus = ph.read_textgrids(*grids(tmp_path), sex={"anna": "F"})
    assert corpus.speakers == ("anna", "bert")
    assert corpus.sex.tolist() == [0, -1]
    assert corpus.voices[1].alignment.phones == ("SIL", "P", "AA", "SIL")
    table = ph.read_measurements(written(tmp_path, "speaker,nose\nbert,2\nanna,1\n"), speakers=corpus.speakers)
    assert table.subjects.tolist() == [1, 0]


def test_unknown_phones_are_listed_with_counts_and_mapped_by_the_users_table(tmp_path):
    folders = grids(tmp_path, ("spn", "pʰ", "ɑː", ""))
    with pytest.raises(
        ValueError, match="not ARPABET: 'spn' \\(2 times\\), 'pʰ' \\(2 times\\), 'ɑː' \\(2 times\\); say what they are"
    ):
        ph.read_textgrids(*folders)
    corpus = ph.read_textgrids(*folders, phone_map={"pʰ": "P", "ɑː": "AA", "spn": None})
    assert corpus.voices[0].alignment.phones == ("SIL", "P", "AA", "SIL")
    with pytest.raises(ValueError, match="phone_map: 'ɑː': 'A': expected ARPABET"):
        ph.read_textgrids(*folders, phone_map={"ɑː": "A"})


def test_damaged_textgrid_folders_are_named(tmp_path):
    audio, folder = grids(tmp_path, seconds=0.4)
    with pytest.raises(ValueError, match=r"one.wav: its alignment ends at 0.600 s, the recording at 0.400 s"):
        ph.read_textgrids(audio, folder)
    path = folder / "anna" / "one.TextGrid"
    whole = path.read_text()
    path.write_text(whole.replace("xmin = 0.2", "xmin = 0.15"))
    with pytest.raises(ValueError, match=r"begins at 0.15 s, before the last one ends"):
        ph.read_textgrids(audio, folder)
    path.write_text(whole.replace("xmin = 0.1", "xmin = -0.1"))
    with pytest.raises(ValueError, match="expected a time of 0 s or later"):
        ph.read_textgrids(audio, folder)
    path.write_text(whole)
    (audio / "anna" / "one.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"no recording for the TextGrid anna.one.TextGrid"):
        ph.read_textgrids(audio, folder)
    with pytest.raises(ValueError, match=r"expected <speaker>/<name>.TextGrid, found none"):
        ph.read_textgrids(audio)


# ------------------------------------------------------------------------------------------- paper 10's own layout


def snippets(root):
    rng = np.random.default_rng(0)
    for sex, letter in (("female", "F"), ("male", "M")):
        for phoneme in ("4", "17"):
            folder = root / sex / phoneme
            folder.mkdir(parents=True)
            for subject in (12, 345):
                for take in range(2):
                    sound = (0.1 * rng.normal(size=8000 + 500 * take)).astype(np.float32)
                    np.save(folder / f"{letter}{subject:06d}_{take}.npy", sound)
    return root


def test_snippets_of_paper_10_are_read(tmp_path):
    tokens = ph.read_snippets(snippets(tmp_path), "woman")
    assert tokens.phone_names == ("17", "4")
    assert len(tokens) == 8
    assert sorted(set(tokens.subjects.tolist())) == [12, 345]
    assert tokens.features.shape == (8, 32, 64)
    shown = (tokens.features != 0).any(2).sum(1)
    assert set(shown.tolist()) == {1 + 8000 // 512, 1 + 8500 // 512}
    inside = tokens.features[0, :16]
    torch.testing.assert_close(inside.mean(1), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(inside.std(1, correction=0), torch.ones(16), atol=1e-4, rtol=0)
    assert len(ph.read_snippets(tmp_path, "man", ("4",), most=3)) == 3


def test_damaged_snippets_are_named(tmp_path):
    root = snippets(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected tokens of a phoneme"):
        ph.read_snippets(root, "woman", ("99",))
    with pytest.raises(ValueError, match="sex: expected one of woman, man, found 'female'"):
        ph.read_snippets(root, "female")
    path = root / "female" / "4" / "F000012_0.npy"
    np.save(path, np.zeros((2, 5000)))
    with pytest.raises(ValueError, match=r"F000012_0.npy: expected finite floating-point samples"):
        ph.read_snippets(root, "woman")
    np.save(path, np.zeros(100))
    with pytest.raises(ValueError, match="100 samples are too few for one window of 1024"):
        ph.read_snippets(root, "woman")
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"not a readable .npy file"):
        ph.read_snippets(root, "woman")
    path.rename(path.with_name("anna.npy"))
    with pytest.raises(ValueError, match=r"expected a name such as F000123_17.npy"):
        ph.token_subject(path.with_name("anna.npy"))


def test_faces_of_paper_10_have_all_x_then_all_y_then_all_z(tmp_path):
    count = ph.MASK_POINTS
    header = "ID," + ",".join(map(str, range(3 * count)))
    row = np.arange(3 * count)
    path = written(tmp_path, f"{header}\n12,{','.join(map(str, row))}\n", "qls.csv")
    subjects, points = ph.read_qls(path)
    assert subjects.tolist() == [12]
    assert points[0, 0].tolist() == [0, count, 2 * count]
    assert points[0, -1].tolist() == [count - 1, 2 * count - 1, 3 * count - 1]
    with pytest.raises(ValueError, match="expected ID and 20370 coordinates, found 3 columns"):
        ph.read_qls(written(tmp_path, "ID,0,1\n1,2,3\n", "short.csv"))
    with pytest.raises(FileNotFoundError, match=r"expected qls.csv"):
        ph.read_qls(tmp_path / "none.csv")


# ------------------------------------------------------------------------------------------------ forced alignment


def test_without_pocketsphinx_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(ImportError, match=r"pip install 'paper-utils\[align\]'.*Montreal Forced Aligner"):
        forced_alignment.align_text(torch.zeros(RATE), "hello")
    with pytest.raises(ValueError, match=r"expected words and 0.1 s of sound"):
        forced_alignment.align_text(torch.zeros(RATE), "...")


class Decoder:
    """Stands for pocketsphinx where it is not installed: "the the" from frame 12 to 40."""

    def __init__(self, **_):
        pass

    def lookup_word(self, word):
        return None if word == "xyzzy" else word

    def __getattr__(self, name):
        return lambda *_, **__: None

    def get_alignment(self):
        def word(name, *phones):
            return type("Word", (list,), {"name": name})(
                SimpleNamespace(name=phone, start=start, duration=duration) for phone, start, duration in phones
            )

        return [
            word("<s>", ("SIL", 0, 12)), word("the", ("DH", 12, 5), ("AH", 17, 8)), word("the(2)", ("DH", 25, 5), ("IY", 30, 10)),
            word("<sil>", ("SIL", 40, 5)), word("</s>", ("SIL", 45, 5)),
        ]  # fmt: skip


def test_an_alignment_is_made_of_what_pocketsphinx_finds(monkeypatch):
    module = ModuleType("pocketsphinx")
    module.Decoder = Decoder
    monkeypatch.setitem(sys.modules, "pocketsphinx", module)
    found = forced_alignment.align_text(torch.zeros(RATE), "The the.")
    assert found.phones == ("SIL", "DH", "AH", "DH", "IY", "SIL")
    np.testing.assert_allclose(found.boundaries_s, [0, 0.12, 0.17, 0.25, 0.3, 0.4, 0.5])
    assert found.words == (("the", 1, 3), ("the", 3, 5))
    with pytest.raises(ValueError, match="not in pocketsphinx's dictionary: xyzzy"):
        forced_alignment.align_text(torch.zeros(RATE), "the xyzzy")
    monkeypatch.setattr(Decoder, "get_alignment", lambda _: None)
    with pytest.raises(ValueError, match="cannot fit 'the' to this recording"):
        forced_alignment.align_text(torch.zeros(RATE), "the")
