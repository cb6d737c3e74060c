"""TextGrid and TIMIT files: round trips, parity with Praat, damaged files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper_utils.data import alignments as al
from paper_utils.data.alignments import Interval, TextGrid, Tier
from paper_utils.data.speech import Alignment
from paper_utils.world.speech import utterance

LABELS = ("", "AH0", 'say "hi"', '""', "two words", "1 2.5", "<exists>", "! no comment", "żółć", "line\nbreak", "ʃ")


def grid_of(labels, times, *, points=False):
    """A grid of one tier whose intervals lie between the times."""
    if points:
        rows = tuple(Interval(t, t, label) for t, label in zip(times[1:-1], labels, strict=False))
    else:
        rows = tuple(Interval(a, b, label) for a, b, label in zip(times[:-1], times[1:], labels, strict=True))
    return TextGrid(times[0], times[-1], (Tier("marks" if points else 'a "tier"', rows, points),))


@pytest.fixture
def said():
    return utterance("Yes, the thin judge asked us a question.", rng=np.random.default_rng(2))


# -------------------------------------------------------------------------------------------------------- round trips


@given(
    st.lists(st.sampled_from(LABELS), min_size=1, max_size=8),
    st.lists(st.integers(1, 10**6), min_size=8, max_size=8),
    st.sampled_from(["long", "short"]),
    st.sampled_from(["utf-8", "utf-16"]),
    st.booleans(),
)
@settings(max_examples=80)
def test_textgrids_survive_writing_and_reading(tmp_path_factory, labels, steps, form, encoding, points):
    times = np.concatenate([[0.0], np.cumsum(steps[: len(labels)]) / 7e4]).tolist()
    grid = grid_of(labels, times, points=points)
    path = tmp_path_factory.mktemp("grids") / "a.TextGrid"
    al.write_textgrid(path, grid, form=form, encoding=encoding)
    assert al.read_textgrid(path) == grid


def test_tiers_without_intervals_and_grids_without_tiers_survive(tmp_path):
    for grid in (TextGrid(0.0, 1.5, (Tier("a", ()), Tier("a", (), True))), TextGrid(0.25, 1.5, ())):
        for form in ("long", "short"):
            al.write_textgrid(tmp_path / "a.TextGrid", grid, form=form)
            assert al.read_textgrid(tmp_path / "a.TextGrid") == grid
    short = (tmp_path / "a.TextGrid").read_text().replace("<exists>\n0", "<absent>")
    (tmp_path / "a.TextGrid").write_text(short)
    assert al.read_textgrid(tmp_path / "a.TextGrid") == grid


def test_utterances_survive_the_way_through_a_textgrid(tmp_path, said):
    for form, encoding in [("long", "utf-8"), ("short", "utf-16")]:
        al.write_textgrid(tmp_path / "a.TextGrid", al.textgrid_of(said.alignment), form=form, encoding=encoding)
        back = al.alignment_of(al.read_textgrid(tmp_path / "a.TextGrid"))
        np.testing.assert_array_equal(back.boundaries_s, said.alignment.boundaries_s)
        assert (back.phones, back.stress, back.words) == (
            said.alignment.phones,
            said.alignment.stress,
            said.alignment.words,
        )


def test_utterances_survive_the_way_through_timit_files_to_half_a_sample(tmp_path, said):
    al.write_phn(tmp_path / "A.PHN", said.alignment, words=tmp_path / "A.WRD")
    back = al.read_phn(tmp_path / "A.PHN", words=tmp_path / "A.WRD")
    np.testing.assert_allclose(back.boundaries_s, said.alignment.boundaries_s, atol=0.5 / 16000 + 1e-12)
    assert (back.phones, back.words, back.stress) == (said.alignment.phones, said.alignment.words, ())
    assert (tmp_path / "A.PHN").read_text().splitlines()[0].endswith(" h#")
    assert sum(line.endswith(" pau") for line in (tmp_path / "A.PHN").read_text().splitlines()) == 1


# --------------------------------------------------------------------------------------------------- parity with Praat


def praat_rows(call, grid, tier):
    """Begin, end and label of every interval as Praat sees them."""
    questions = ("Get start time of interval", "Get end time of interval", "Get label of interval")
    count = call(grid, "Get number of intervals", tier)
    return [tuple(call(grid, question, tier, i) for question in questions) for i in range(1, count + 1)]


@pytest.mark.parametrize("form", ["long", "short"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_praat_reads_what_we_write(tmp_path, form, encoding):
    parselmouth = pytest.importorskip("parselmouth")
    grid = grid_of(["", 'say "hi"', "żółć", "", "1 2.5"], [0.0, 0.1, 1 / 3, 0.5, 2 / 3, 1.25])
    al.write_textgrid(tmp_path / "a.TextGrid", grid, form=form, encoding=encoding)
    found = praat_rows(parselmouth.praat.call, parselmouth.read(str(tmp_path / "a.TextGrid")), 1)
    assert found == [(row.begin_s, row.end_s, row.label) for row in grid.tiers[0].intervals]


@pytest.mark.parametrize("command", ["Save as text file", "Save as short text file"])
@pytest.mark.parametrize("label", ["plain", 'say "hi"', "żółć"])
def test_we_read_what_praat_writes(tmp_path, command, label):
    parselmouth = pytest.importorskip("parselmouth")
    call = parselmouth.praat.call
    grid = call("Create TextGrid", 0, 1.25, "words phones bell", "bell")
    call(grid, "Insert boundary", 1, 1 / 3)
    call(grid, "Set interval text", 1, 2, label)
    call(grid, "Insert point", 3, 0.7, "x")
    call(grid, command, str(tmp_path / "a.TextGrid"))
    read = al.read_textgrid(tmp_path / "a.TextGrid")
    assert [tier.name for tier in read.tiers] == ["words", "phones", "bell"]
    assert read.tiers[0].intervals == (Interval(0, 1 / 3, ""), Interval(1 / 3, 1.25, label))
    assert read.tiers[2] == Tier("bell", (Interval(0.7, 0.7, "x"),), True)


# ------------------------------------------------------------------------------------------- the aligner's conventions

MFA = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "speaker 1 - words"
        xmin = 0
        xmax = 1
        intervals: size = 3
        intervals [1]:
            xmin = 0.0
            xmax = 0.2
            text = ""
        intervals [2]:
            xmin = 0.2
            xmax = 0.7
            text = "no"
        intervals [3]:
            xmin = 0.7
            xmax = 1
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "speaker 1 - phones"
        xmin = 0
        xmax = 1
        intervals: size = 5
        intervals [1]:
            xmin = 0.0
            xmax = 0.2
            text = "sil"
        intervals [2]:
            xmin = 0.2
            xmax = 0.4
            text = "N"
        intervals [3]:
            xmin = 0.4
            xmax = 0.7
            text = "OW1"
        intervals [4]:
            xmin = 0.7
            xmax = 0.8
            text = "sp"
        intervals [5]:
            xmin = 0.8
            xmax = 1
            text = ""
"""


def mfa(tmp_path, *changes):
    """Path of the file above with some text replaced."""
    text = MFA
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "mfa.TextGrid"
    path.write_text(text)
    return path


def test_aligner_output_becomes_an_alignment(tmp_path):
    found = al.alignment_of(al.read_textgrid(mfa(tmp_path)))
    assert found.phones == ("SIL", "N", "OW", "SIL")
    assert found.boundaries_s.tolist() == [0, 0.2, 0.4, 0.7, 1]
    assert found.stress == (-1, -1, 1, -1)
    assert found.words == (("no", 1, 3),)
    assert al.alignment_of(al.read_textgrid(mfa(tmp_path, ("OW1", "OW")))).stress == ()
    assert al.alignment_of(al.read_textgrid(mfa(tmp_path)), words=None).words == ()


def test_windows_line_ends_byte_order_marks_and_comments_do_not_matter(tmp_path):
    plain = al.read_textgrid(mfa(tmp_path))
    path = tmp_path / "other.TextGrid"
    for raw in (
        MFA.replace("\n", "\r\n").encode("utf-8-sig"),
        ("\ufeff" + MFA).encode("utf-16-be"),
        MFA.replace("size = 2", 'size = 2 ! "two" tiers 7').encode(),
    ):
        path.write_bytes(raw)
        assert al.read_textgrid(path) == plain


def test_gaps_are_refused_unless_they_are_to_be_silence(tmp_path):
    path = mfa(
        tmp_path,
        ('xmin = 0.4\n            xmax = 0.7\n            text = "OW1"', 'xmin = 0.5\n xmax = 0.7 text = "OW1"'),
    )
    with pytest.raises(ValueError, match=r"tier 'phones': nothing from 0.4 to 0.5 s.*fill_gaps=True"):
        al.alignment_of(al.read_textgrid(path))
    assert al.alignment_of(al.read_textgrid(path), fill_gaps=True).phones == ("SIL", "N", "SIL", "OW", "SIL")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            [("speaker 1 - phones", "speaker 1 - phone")],
            "expected one tier 'phones', found 0; tiers present: 'speaker 1 - words'",
        ),
        ([("speaker 1 - words", "speaker 1 - phones")], "expected one tier 'phones', found 2"),
        ([('"OW1"', '"oʊ"')], "at 0.4 s: 'oʊ' is no ARPABET phone"),
        ([('"OW1"', '"spn"')], "a word unknown to the aligner"),
        ([('"OW1"', '"OW3"')], "'OW3' is no ARPABET phone"),
        (
            [("xmin = 0.2\n            xmax = 0.7", "xmin = 0.3\n            xmax = 0.7")],
            "word 'no' .* does not begin and end",
        ),
    ],
)
def test_grids_that_are_no_alignment_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        al.alignment_of(al.read_textgrid(mfa(tmp_path, *changes)))


def test_a_point_tier_is_no_alignment():
    with pytest.raises(ValueError, match="'marks' is a point tier"):
        al.alignment_of(grid_of(["x"], [0.0, 0.5, 1.0], points=True), phones="marks", words=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            [("xmin = 0.4", "xmin = -0.4")],
            "tier 'speaker 1 - phones', interval 3: expected a time of 0 s or later, found -0.4",
        ),
        ([("xmin = 0.4", "xmin = 0.3")], "interval 3 begins at 0.3 s, before the last one ends at 0.4 s"),
        ([("xmax = 0.4", "xmax = 0.2")], "interval 2 has no length"),
        ([("xmax = 0.8\n", "xmax = 1.8\n")], "lies outside the file's 0.0 to 1.0 s"),
        ([("xmax = 1\n", "xmax = 0\n")], "expected the end after the begin"),
        ([("size = 3", "size = x")], "tier 'speaker 1 - words': expected a count, found 0.0"),
        ([("size = 3", "size = 2.5")], "expected a count, found 2.5"),
        ([("size = 3", "size = 4")], "expected a number, found the text 'IntervalTier'"),
        ([("size = 5", "size = 6")], "interval 6; expected a number: it is truncated"),
        ([("IntervalTier", "Interval")], "expected IntervalTier or TextTier, found 'Interval'"),
        ([("xmin = 0.4", "xmin = none")], "line 44, in .*interval 3: expected a number, found the text 'OW1'"),
        ([('"ooTextFile"', '"ooText"')], 'expected the header "ooTextFile", "TextGrid"'),
        ([('"TextGrid"', '"Pitch"')], "found 'ooTextFile', 'Pitch'"),
    ],
)
def test_damaged_grids_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        al.read_textgrid(mfa(tmp_path, *changes))


@given(st.integers(0, len(MFA.rstrip()) - 1), st.sampled_from(["utf-8", "utf-16"]))
@settings(max_examples=60)
def test_a_grid_cut_anywhere_is_refused(tmp_path_factory, cut, encoding):
    path = tmp_path_factory.mktemp("cut") / "a.TextGrid"
    path.write_bytes(MFA[:cut].encode(encoding))
    with pytest.raises(ValueError, match=r"a\.TextGrid"):
        al.read_textgrid(path)


def test_files_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "a.TextGrid"
    for raw, message in [
        (b"", "no TextGrid"),
        (b"ooBinaryFile\x08TextGrid", "a binary Praat file"),
        (b'"\xff\xe9', "is not UTF-8 .* at byte 1"),
        (MFA.encode("utf-16")[:-1], "is not UTF-16"),
        (b"0 100 h#\n", "no TextGrid"),
    ]:
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=message):
            al.read_textgrid(path)
    for function in (al.read_textgrid, al.read_phn):
        with pytest.raises(FileNotFoundError, match="no such file"):
            function(tmp_path / "none")


def test_points_out_of_order_are_named(tmp_path):
    rows = (Interval(0.7, 0.7, "a"), Interval(0.2, 0.2, "b"))
    al.write_textgrid(tmp_path / "a.TextGrid", TextGrid(0.0, 1.0, (Tier("bell", rows, True),)))
    with pytest.raises(ValueError, match=r"tier 'bell', point 2 begins at 0\.2 s, before the last one ends at 0.7 s"):
        al.read_textgrid(tmp_path / "a.TextGrid")


def test_wrong_ways_of_writing_are_named(tmp_path, said):
    grid = al.textgrid_of(said.alignment)
    with pytest.raises(ValueError, match="form: expected 'long' or 'short', found 'chronological'"):
        al.write_textgrid(tmp_path / "a", grid, form="chronological")
    with pytest.raises(ValueError, match="encoding: expected"):
        al.write_textgrid(tmp_path / "a", grid, encoding="latin-1")
    early = Alignment(("SIL",), np.array([-1.0, 1.0]))
    with pytest.raises(ValueError, match="begins at 0 s or later, found -1"):
        al.textgrid_of(early)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------------------------------- TIMIT

PHN = """0 2000 h#
2000 2500 q
2500 4000 ae
4000 4600 tcl
4600 5000 t
5000 5400 dcl
5400 6000 jh
6000 7000 ix
7000 7500 pcl
7500 8000 q
8000 9000 zh
9000 9500 dx
9500 9900 ao
9900 12000 h#
"""


def phn(tmp_path, text=PHN):
    path = tmp_path / "A.PHN"
    path.write_text(text)
    return path


def test_folding_is_the_one_of_the_field():
    # Lee & Hon (1989): 61 labels, 39 classes, the glottal stop in none.
    assert len(al.TIMIT_TO_39) == 61
    assert len(set(al.TIMIT_TO_39.values()) - {None}) == 39
    assert [label for label, folded in al.TIMIT_TO_39.items() if folded is None] == ["q"]
    same = {
        "ao": "aa",
        "ax-h": "ah",
        "axr": "er",
        "hv": "hh",
        "ix": "ih",
        "eng": "ng",
        "nx": "n",
        "zh": "sh",
        "ux": "uw",
        "epi": "sil",
    }
    assert {label: al.TIMIT_TO_39[label] for label in same} == same
    assert len(set(al.TIMIT_TO_ARPABET.values()) - {None, "sil"}) == 39


def test_closures_join_their_release_and_glottal_stops_the_phone_behind(tmp_path):
    found = al.read_phn(phn(tmp_path))
    assert found.phones == ("SIL", "AE", "T", "JH", "IH", "P", "ZH", "D", "AO", "SIL")
    expected = [0, 2000, 4000, 5000, 6000, 7000, 7500, 9000, 9500, 9900, 12000]
    np.testing.assert_array_equal(found.boundaries_s * 16000, expected)


def test_phone_files_may_have_a_byte_order_mark_and_windows_line_ends(tmp_path):
    plain = al.read_phn(phn(tmp_path)).boundaries_s
    phn(tmp_path).write_bytes(PHN.replace("\n", "\r\n").encode("utf-8-sig"))
    np.testing.assert_array_equal(al.read_phn(tmp_path / "A.PHN").boundaries_s, plain)


def test_scoring_classes_keep_closures_as_silence(tmp_path):
    found = al.read_phn(phn(tmp_path), folding="39")
    assert found.phones == ("SIL", "AE", "SIL", "T", "SIL", "JH", "IH", "SIL", "SH", "DX", "AA", "SIL")
    assert al.read_phn(phn(tmp_path), folding="61").phones[:5] == ("SIL", "Q", "AE", "TCL", "T")


def test_a_glottal_stop_at_the_end_goes_to_the_phone_before(tmp_path):
    found = al.read_phn(phn(tmp_path, "0 10 h#\n10 20 ae\n20 30 q\n"))
    assert found.phones == ("SIL", "AE")
    np.testing.assert_array_equal(found.boundaries_s * 16000, [0, 10, 30])


def test_words_of_a_wrd_file_are_spans_of_phones(tmp_path):
    (tmp_path / "A.WRD").write_text("2000 5000 at\n5000 9900 zho\n")
    found = al.read_phn(phn(tmp_path), words=tmp_path / "A.WRD")
    assert found.words == (("at", 1, 3), ("zho", 3, 9))
    (tmp_path / "A.WRD").write_text("2100 5000 at\n")
    with pytest.raises(ValueError, match=r"A\.WRD: word 'at' .* does not begin and end where phones do"):
        al.read_phn(phn(tmp_path), words=tmp_path / "A.WRD")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected lines 'begin end label', found an empty file"),
        ("0 10 h#\n10 2", "line 2: expected 'begin end label'.*truncated"),
        ("0 10 h#\n10 20\n", "line 2: expected 'begin end label'"),
        ("0 1.5 h#\n", "line 1: expected 'begin end label' with whole samples"),
        ("-5 10 h#\n", "line 1: expected 0 <= begin < end"),
        ("0 10 h#\n20 20 ae\n", "line 2: expected 0 <= begin < end"),
        ("0 10 h#\n5 20 ae\n", "line 2: '5 20 ae' begins before the line above it ends"),
        ("0 10 h#\n15 20 ae\n", "nothing from .* pass fill_gaps=True"),
        ("0 10 h#\n10 20 xx\n", "'xx' are not among the 61 labels"),
        ("0 10 q\n", "nothing is left after folding"),
    ],
)
def test_damaged_phone_files_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"A\.PHN: {message}"):
        al.read_phn(phn(tmp_path, text))


def test_gaps_of_phone_files_may_be_silence(tmp_path):
    found = al.read_phn(phn(tmp_path, "0 10 h#\n10 20 ae\n4000 5000 iy\n"), fill_gaps=True)
    assert found.phones == ("SIL", "AE", "SIL", "IY")
    with pytest.raises(ValueError, match="folding: expected one of 61, 39, arpabet, found '48'"):
        al.read_phn(phn(tmp_path), folding="48")


def test_alignments_that_timit_cannot_hold_are_named(tmp_path):
    with pytest.raises(ValueError, match="every phone needs one sample"):
        al.write_phn(tmp_path / "A", Alignment(("AE", "T"), np.array([0, 1e-5, 1.0])))
    with pytest.raises(ValueError, match="foo are not among the 61"):
        al.write_phn(tmp_path / "A", Alignment(("FOO",), np.array([0, 1.0])))
