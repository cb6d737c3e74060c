"""Published averages of vowels: what a synthesizer's vowels are held against.

G. E. Peterson and H. L. Barney (1952), Control methods used in a study of the vowels, J. Acoust. Soc. Am. 24, 175-184, table II:
33 men, 28 women and 15 children said ten words of the form h-vowel-d. Typed from memory of that much-printed table.
"""

from __future__ import annotations

import pandas as pd

_TABLE = """
vowel man                  woman                child
IY    136 270 2290 3010    235 310 2790 3310    272 370 3200 3730
IH    135 390 1990 2550    232 430 2480 3070    269 530 2730 3600
EH    130 530 1840 2480    223 610 2330 2990    260 690 2610 3570
AE    127 660 1720 2410    210 860 2050 2850    251 1010 2320 3320
AH    130 640 1190 2390    221 760 1400 2780    261 850 1590 3360
AA    124 730 1090 2440    212 850 1220 2810    256 1030 1370 3170
AO    129 570 840 2410     216 590 920 2710     263 680 1060 3180
UH    137 440 1020 2240    232 470 1160 2680    276 560 1410 3310
UW    141 300 870 2240     231 370 950 2670     274 430 1170 3260
ER    133 490 1350 1690    218 500 1640 1960    261 560 1820 2160
"""
SPEAKERS = ("man", "woman", "child")
COLUMNS = ("F0", "F1", "F2", "F3")


def peterson_barney() -> pd.DataFrame:
    """Mean pitch and formants in Hz.

    Returns
    -------
    pandas.DataFrame
        One row a vowel (ARPABET); columns are pairs of speaker (``man``, ``woman``, ``child``) and ``F0`` to ``F3``.
    """
    rows = [line.split() for line in _TABLE.strip().splitlines()[1:]]
    columns = pd.MultiIndex.from_product([SPEAKERS, COLUMNS])
    return pd.DataFrame([[float(x) for x in row[1:]] for row in rows], index=[row[0] for row in rows], columns=columns)
