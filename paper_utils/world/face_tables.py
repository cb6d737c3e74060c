"""The head as data: control cage, anatomical handles, and the tables of what each identity parameter and expression moves.

Everything that is a number about the face lives here, so that `face` holds only geometry. All tables are our own design; the few
values guided by published anthropometry are named where they are used. Millimetres; left side (x > 0), mirrored unless noted.
"""

from __future__ import annotations

import numpy as np

Displacement = tuple[float, float, float]

ROWS, COLUMNS = 15, 8  # last row and last column of the semantic grid; columns run from -COLUMNS to COLUMNS

# Position of (row, column) for columns 0..8 of the left half. Origin at the level of the nasion on the mid-plane.
CAGE = np.array(
    [
        # hair line
        [(0, 74, -16), (8.5, 74, -16.5), (17, 73, -18), (29, 70, -22.5), (40, 65, -31), (48, 58, -42), (56, 51.5, -55), (61.5, 45, -69), (64.5, 38, -84)],
        # mid forehead
        [(0, 45, -1), (9, 45, -1.3), (18, 45, -2.8), (31, 44.5, -7), (44, 43, -16), (54, 39, -29), (60.5, 35, -45), (64.5, 32, -63), (66.5, 28, -84)],
        # brow
        [(0, 16, 5), (8, 17, 3.8), (18, 18.5, 1.2), (31, 19.5, -2.6), (45, 17.5, -12.5), (55.5, 14, -26.5), (62, 12, -43), (66.5, 10, -62), (68.5, 9, -86)],
        # lid crease
        [(0, 6, 1), (6.5, 6, -3.8), (16.5, 7, -10), (31, 8.5, -10.3), (46, 6.5, -18.5), (56.5, 5, -28), (63.5, 3, -44), (68, 1, -63), (70, 0, -88)],
        # eye line
        [(0, -3, 1), (6, -4, -5), (16.5, -5, -14), (31, -4.2, -12.2), (45.5, -3, -22), (57, -5, -29), (65, -8, -44), (69.5, -10, -64), (71.5, -10, -89)],
        # under eye
        [(0, -15, 5), (6.2, -16, -1.5), (17, -18, -10), (31, -19, -11), (45.5, -18, -17), (57, -18, -27), (65.5, -19, -43.5), (70, -20, -64), (72, -20, -90)],
        # mid nose
        [(0, -29, 12.5), (7, -31, 4.2), (17, -33, -6), (31, -33, -7.5), (45, -32, -14.5), (56, -32, -26.5), (64.5, -32, -44), (69, -32, -65), (71, -32, -91)],
        # nose tip
        [(0, -42.5, 22), (7.8, -44, 16), (16.8, -46, 2.5), (27, -46, -5.5), (42, -46, -14.2), (53, -46, -28), (61.5, -46, -46), (66, -46, -67), (68.5, -46, -92)],
        # subnasale
        [(0, -52.5, 8.5), (6, -53.2, 8), (14.2, -53.5, 2), (25.5, -57, -5.5), (39, -58, -15), (50, -59, -30), (58.5, -59, -48.5), (63, -59, -69), (66, -59, -92)],
        # upper vermilion
        [(0, -67, 12.2), (6, -65.6, 12), (13.5, -68.5, 8.5), (23.5, -73, -3.4), (36, -71, -15.5), (47, -71, -31.5), (54.5, -71, -51), (59.5, -71, -71), (63, -71, -92)],
        # stomion
        [(0, -75, 10), (6, -74.6, 9.6), (13.5, -75, 6), (26, -76.5, -6), (36, -78, -17), (45.5, -79, -33.5), (52.5, -80, -53), (57.5, -80, -72), (61, -79, -92)],
        # lower vermilion
        [(0, -84.5, 10), (6, -84, 9.6), (13.5, -82, 6.6), (23.5, -80, -4.2), (34.5, -85, -18), (43, -87, -35.5), (50, -88, -55), (55, -88, -73.5), (59, -87, -92)],
        # sublabiale
        [(0, -93, 4), (7, -93, 3.6), (14.5, -92.5, 1), (24, -91.5, -7.5), (33, -93.5, -20), (40.5, -96, -38), (47, -97, -57.5), (52, -96, -75), (56.5, -94, -92)],
        # pogonion
        [(0, -106, 7), (8, -105.8, 6), (15.5, -105, 1.6), (23.5, -103.5, -9), (31, -104, -24), (37, -105.5, -42), (42.5, -105, -61), (47.5, -102.5, -77.5), (52.5, -99, -92)],
        # gnathion
        [(0, -118, 0), (8, -117.6, -1), (15.5, -116, -5.5), (22, -114.5, -15), (27.5, -113.8, -29), (33, -113.5, -47), (38, -112, -65), (43, -108, -81), (48.5, -103, -93)],
        # under chin
        [(0, -122, -20), (7.5, -121.8, -20.5), (14, -121.2, -24), (19, -120.6, -31), (23.5, -120, -42), (28, -119, -57), (33, -117, -72), (38, -113, -84), (44, -107, -95)],
    ]
)  # fmt: skip

# Anatomical handles: (row, column, lower copy of a slit?). Those off the mid-plane exist on both sides, as name_l and name_r.
HANDLES: dict[str, tuple[int, int, bool]] = {
    "tr": (0, 0, False),  # trichion
    "mfh": (1, 0, False),  # mid forehead
    "gl": (2, 0, False),  # glabella
    "n": (4, 0, False),  # nasion
    "nb": (6, 0, False),  # nasal bridge
    "prn": (7, 0, False),  # pronasale
    "sn": (8, 0, False),  # subnasale
    "ls": (9, 0, False),  # labiale superius
    "sto": (10, 0, False),  # stomion, upper lip
    "stoL": (10, 0, True),  # stomion, lower lip
    "li": (11, 0, False),  # labiale inferius
    "sl": (12, 0, False),  # sublabiale
    "pog": (13, 0, False),  # pogonion
    "gn": (14, 0, False),  # gnathion
    "sub": (15, 0, False),  # under the chin
    "tmp": (0, 5, False),  # temple at the hair line
    "bm": (2, 1, False),  # brow, medial
    "bc": (2, 3, False),  # brow, centre
    "bl": (2, 4, False),  # brow, lateral
    "ft": (2, 5, False),  # frontotemporale
    "en": (4, 2, False),  # endocanthion
    "ps": (4, 3, False),  # palpebrale superius
    "pi": (4, 3, True),  # palpebrale inferius
    "ex": (4, 4, False),  # exocanthion
    "oc": (4, 6, False),  # orbit, lateral
    "zy": (5, 6, False),  # zygion
    "t": (5, 8, False),  # tragion
    "ck": (6, 4, False),  # cheek
    "ala": (7, 2, False),  # alare
    "cph": (9, 1, False),  # crista philtri
    "us": (9, 2, False),  # upper vermilion, side
    "ch": (10, 3, False),  # cheilion
    "ckl": (10, 5, False),  # lower cheek
    "li2": (11, 2, False),  # lower vermilion, side
    "go": (12, 6, False),  # gonion
    "cj": (13, 3, False),  # chin to jaw
    "md": (13, 5, False),  # mandible
    "go2": (14, 6, False),  # lower edge of the jaw angle
}

# Standard deviation in mm and handle displacement per +1 mm of the parameter. Order is the order of the coefficients.
_LIPS_AND_CHIN = "ls cph us sto stoL ch li li2 sl cj pog gn sub md go2"


def _same(names: str, displacement: Displacement) -> dict[str, Displacement]:
    return dict.fromkeys(names.split(), displacement)


IDENTITY: dict[str, tuple[float, dict[str, Displacement]]] = {
    "face_width": (
        4.5,
        {**_same("zy t", (0.5, 0, 0)), "oc": (0.45, 0, 0), "tmp": (0.4, 0, 0), **_same("ft ckl", (0.3, 0, 0)), "go": (0.25, 0, 0), "ck": (0.1, 0, 0)},
    ),
    "jaw_width": (5.0, {**_same("go go2", (0.5, 0, 0)), "ckl": (0.35, 0, 0), "md": (0.25, 0, 0), "cj": (0.1, 0, 0)}),
    "lower_face_height": (
        4.0,
        {
            **_same("gn sub pog go2 md", (0, -1, 0)),
            **_same("sl cj", (0, -0.85, 0)),
            "go": (0, -0.6, 0),
            **_same("li li2 sto stoL ch ls cph us", (0, -0.55, 0)),
            "ckl": (0, -0.3, 0),
        },
    ),
    "nose_length": (
        3.2,
        {
            "sn": (0, -1, 0.05),
            "prn": (0, -0.85, 0.1),
            "ala": (0, -0.85, 0),
            "nb": (0, -0.5, 0),
            **_same(_LIPS_AND_CHIN, (0, -1, 0)),
            "ckl": (0, -0.7, 0),
            **_same("ck go", (0, -0.5, 0)),
        },
    ),
    "nose_width": (2.4, {"ala": (0.5, 0, 0)}),
    "nose_protrusion": (2.0, {"prn": (0, 0.1, 1), "nb": (0, 0, 0.45), "ala": (0, 0, 0.15)}),
    "nose_bridge": (1.6, {"nb": (0, 0, 1), "n": (0, 0, 0.8), "prn": (0, 0, 0.1)}),
    "nose_tilt": (1.8, {"prn": (0, 1, 0.1), "sn": (0, 0.15, 0)}),
    "intercanthal": (2.5, {**_same("en ps pi ex", (0.5, 0, 0)), **_same("bm bc", (0.4, 0, 0)), "bl": (0.3, 0, 0)}),
    "eye_length": (1.6, {"ex": (1, 0, 0), **_same("ps pi bl", (0.5, 0, 0))}),
    "eye_height": (1.2, {"ps": (0, 0.55, 0), "pi": (0, -0.45, 0)}),
    "canthal_tilt": (1.6, {"ex": (0, 1, 0), **_same("ps pi", (0, 0.3, 0)), "bl": (0, 0.5, 0)}),
    "eye_depth": (1.6, {**_same("en ps pi", (0, 0, -1)), "ex": (0, 0, -0.8)}),
    "brow_height": (2.0, _same("bm bc bl", (0, 1, 0))),
    "brow_ridge": (1.6, {**_same("gl bm", (0, 0, 1)), "bc": (0, 0, 0.9), "bl": (0, 0, 0.6)}),
    "mouth_width": (3.2, {"ch": (0.5, 0, -0.15), **_same("us li2", (0.2, 0, 0)), "cj": (0.1, 0, 0)}),
    "upper_lip_height": (
        2.0,
        {**_same("sto ch stoL li li2 sl cj pog gn sub md go2", (0, -1, 0)), **_same("ls cph us", (0, -0.75, 0))},
    ),
    "upper_vermilion": (1.4, {**_same("ls cph", (0, 1, 0.25)), "us": (0, 0.8, 0.15)}),
    "lower_vermilion": (1.5, {"li": (0, -1, 0.25), "li2": (0, -0.9, 0.2)}),
    "lip_protrusion": (
        1.6,
        {**_same("ls cph li", (0, 0, 1)), **_same("sto stoL", (0, 0, 0.9)), **_same("us li2", (0, 0, 0.8)), "sl": (0, 0, 0.3), "ch": (0, 0, 0.2)},
    ),
    "philtrum_width": (1.2, {"cph": (0.5, 0, 0)}),
    "chin_height": (2.5, {**_same("gn sub", (0, -1, 0)), **_same("pog go2", (0, -0.5, 0)), "md": (0, -0.4, 0)}),
    "chin_protrusion": (
        2.6,
        {"pog": (0, 0, 1), "gn": (0, 0, 0.9), "sub": (0, 0, 0.5), "sl": (0, 0, 0.45), "cj": (0, 0, 0.4), "md": (0, 0, 0.35)},
    ),
    "chin_width": (3.0, {"md": (0.5, 0, 0), "cj": (0.35, 0, 0)}),
    "cheekbone": (2.0, {"zy": (0.2, 0, 0.7), "ck": (0.1, 0, 1), "oc": (0.1, 0, 0.4)}),
    "forehead_height": (4.5, {"tr": (0, 1, -0.15), "tmp": (0, 0.9, -0.1), "mfh": (0, 0.4, 0)}),
    "forehead_slope": (2.6, {"tr": (0, 0, -1), "tmp": (0, 0, -0.6), "mfh": (0, 0, -0.35)}),
    "face_depth": (4.0, {"t": (0, 0, -1), "go": (0, 0, -0.5), "go2": (0, 0, -0.4), "zy": (0, 0, -0.3)}),
}  # fmt: skip
PARAMETERS = tuple(IDENTITY)
LOG_SIZE_SD = 0.03  # of the overall log size; choice of ours

# Handle displacement at weight 1; nothing else moves.
EXPRESSION: dict[str, dict[str, Displacement]] = {
    "lip_round": {
        "ch": (-7, 0, 4), "us": (-2, 1, 4), "li2": (-2, -0.5, 4), "ls": (0, 1, 5), "cph": (-0.5, 1, 5),
        "sto": (0, 1.2, 5), "stoL": (0, -1.2, 5), "li": (0, -0.5, 5), "cj": (-2, 0, 1), "ckl": (-1.5, 0, 0),
    },
    "lip_spread": {"ch": (6, 1.5, -4), **_same("us li2", (1.5, 0, -1)), **_same("ls sto stoL li", (0, 0, -1)), "ckl": (2, 1, 1)},
    "smile": {
        "ch": (5.5, 6, -4), "us": (1.5, 1.5, -1.5), "li2": (1.5, 1, -1), "ck": (0.5, 3, 2), "ckl": (2, 3, 2),
        "pi": (0, 1.2, 0), "cj": (2, 1.5, 0),
    },
    "frown": {"ch": (1, -5, -1), "cj": (0, -1, 0), "us": (0, -0.8, 0), "bm": (-2, -3, 0)},
    "upper_lip_raise": {**_same("ls cph", (0, 3.5, 0)), "us": (0, 3, 0), "sto": (0, 4, 0), "ala": (0.5, 1, 0), "ck": (0, 1.2, 0.5)},
    "lower_lip_drop": {"li": (0, -4, 0), "li2": (0, -3.5, 0), "stoL": (0, -5, 0)},
    "lip_press": {
        **_same("ls cph", (0, -1.5, -1.5)), "us": (0, -1, -1), "li": (0, 2.2, -1.5), "li2": (0, 1.5, -1),
        "sto": (0, -0.5, -1), "stoL": (0, 1.3, -1),  # seals the lips at the degree or so of jaw opening of a bilabial
    },
    "lip_tuck": {"li": (0, 3, -4), "li2": (0, 2.5, -3), "stoL": (0, 2.5, -5), "ls": (0, 1, 0), "sto": (0, 1.5, 0)},
    "brow_raise": {"bm": (0, 6, 0), "bc": (0, 6.5, 0), "bl": (0, 5, 0), "ps": (0, 0.8, 0), "mfh": (0, 1.5, 0)},
    "brow_raise_inner": {"bm": (-1, 6, 0), "bc": (-0.5, 2, 0), "gl": (0, 1.5, 0), "mfh": (0, 1, 0)},
    "brow_lower": {"bm": (-2.5, -5, 1), "bc": (-1, -4, 0.5), "bl": (0, -1, 0), "gl": (0, -1.5, 0), "ps": (0, -1, 0)},
    "eye_close": {},  # both lids are placed edge by edge, see `face`: a handle alone leaves a sliver of eye
    "eye_wide": {"ps": (0, 2, 0), "pi": (0, -0.8, 0)},
    "nose_wrinkle": {"ala": (1, 3, 1), "nb": (0, 1.5, 0), "bm": (-1.5, -2.5, 0), "us": (0, 2, 0), "ls": (0, 1.5, 0)},
    "cheek_puff": {"ckl": (4, 0, 5), "ck": (1, 0, 2), "cj": (2, 0, 2)},
    "jaw_side": {"gn": (6, 0, 0), "pog": (6, 0, 0), "sl": (4.5, 0, 0), "sub": (5, 0, 0), "li": (3.5, 0, 0), "stoL": (3, 0, 0)},
}  # fmt: skip
EXPRESSION_UNITS = tuple(EXPRESSION)

EMOTIONS = ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise", "contempt")  # eight, as in MEAD
# Expression weights and jaw opening (degrees) of each emotion at intensity 1, added to whatever speech does. Choices of ours.
# Contempt is one-sided in life; the units are symmetric, so it is a tight half smile with lowered lids.
EMOTION_WEIGHTS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happy": {"smile": 0.9, "lip_spread": 0.2, "upper_lip_raise": 0.3, "eye_close": 0.08},
    "sad": {"frown": 0.8, "brow_raise_inner": 0.9, "eye_close": 0.12},
    "angry": {"brow_lower": 1.0, "lip_press": 0.6},
    "fear": {"brow_raise": 0.8, "brow_raise_inner": 0.4, "eye_wide": 0.8, "lip_spread": 0.4},
    "disgust": {"nose_wrinkle": 1.0, "upper_lip_raise": 0.6},
    "surprise": {"brow_raise": 1.0, "eye_wide": 1.0},
    "contempt": {"smile": 0.3, "lip_press": 0.6, "eye_close": 0.15},
}
EMOTION_JAW_DEG: dict[str, float] = {**dict.fromkeys(EMOTIONS, 0.0), "surprise": 8.0, "fear": 2.0}

# The jaw turns about the x axis through this point; weights are prescribed at handles and spread like any displacement.
JAW_AXIS = (0.0, -17.0, -86.0)
JAW_WEIGHTS: dict[str, float] = {
    "gn": 1.0, "pog": 1.0, "sub": 1.0, "md": 1.0, "sl": 0.98, "li": 0.95, "li2": 0.92, "stoL": 0.92, "cj": 0.85,
    "go2": 0.8, "go": 0.45, "ch": 0.42, "ckl": 0.15,
}  # fmt: skip

# The 68 points in the usual order, subject's right side (c < 0) first; (row, column, lower copy?).
_JAW = [(5, -8), (7, -8), (9, -8), (11, -7.67), (12.33, -7), (13, -6), (13.67, -4.33), (14, -2.33)]
_BROW = [(2, -4.67), (2, -4), (2, -3), (2, -2.33), (2, -1.33)]
_EYE = [(4, 2), (4, 2.67), (4, 3.33), (4, 4), (4, 3.33, True), (4, 2.67, True)]  # left eye, from the nose


def _plain(points: list[tuple]) -> list[tuple[float, float, bool]]:
    return [(point[0], point[1], len(point) > 2) for point in points]


def _mirrored(points: list[tuple]) -> list[tuple]:
    return [(point[0], -point[1], *point[2:]) for point in points]


_RIGHT_EYE = [(4, -4), (4, -3.33), (4, -2.67), (4, -2), (4, -2.67, True), (4, -3.33, True)]
_OUTER_MOUTH = [(10, -3), (9.33, -2), (9, -1), (9, 0), (9, 1), (9.33, 2), (10, 3), (10.67, 2), (11, 1), (11, 0), (11, -1), (10.67, -2)]  # fmt: skip
_INNER_MOUTH = [(10, -2.67), (10, -1), (10, 0), (10, 1), (10, 2.67), (10, 1, True), (10, 0, True), (10, -1, True)]
LANDMARKS_68 = _plain(
    [
        *_JAW, (14, 0), *_mirrored(_JAW)[::-1],
        *_BROW, *_mirrored(_BROW)[::-1],
        *[(row, 0) for row in (4, 5, 6, 7)], *[(8, column) for column in (-2, -1, 0, 1, 2)],
        *_RIGHT_EYE, *_EYE,
        *_OUTER_MOUTH, *_INNER_MOUTH,
    ]
)  # fmt: skip
