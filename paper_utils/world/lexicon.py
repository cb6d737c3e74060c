"""An English lexicon and ordinary sentences, and from text or phone strings to phones.

All pronunciations (General American, one per word) and all sentences were written for this project; nothing is taken from a
dictionary or a corpus. Words outside the lexicon are refused, never guessed: an alignment must be exact.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache

from paper_utils.world.phones import PHONES, SILENCE, VOWELS

_FUNCTION_WORDS = """
a about above across after am an and any are around as at be because been before behind below beside between but by can could did do
does during for from had has have he her him his i if in inside into is it its may me must my of on or our outside over shall she
should some than that the their them there these they this those to toward under upon us was we were will with without would you your
"""
# Words without a beat of their own: short ones are unstressed, long ones keep a stressed syllable but get no pitch accent.
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())

_PRONUNCIATIONS = """
a AH0; about AH0 B AW1 T; above AH0 B AH1 V; across AH0 K R AO1 S; action AE1 K SH AH0 N; after AE1 F T ER0; again AH0
G EH1 N; age EY1 JH; ago AH0 G OW1; air EH1 R; airplane EH1 R P L EY2 N; airport EH1 R P AO2 R T; all AO1 L; almost
AO1 L M OW2 S T; alone AH0 L OW1 N; aloud AH0 L AW1 D; also AO1 L S OW0; always AO1 L W EY0 Z; am AE0 M; an AE0 N; and
AE0 N D; angry AE1 NG G R IY0; animal AE1 N AH0 M AH0 L; another AH0 N AH1 DH ER0; answer AE1 N S ER0; any EH1 N IY0;
anyone EH1 N IY0 W AH2 N; apple AE1 P AH0 L; april EY1 P R AH0 L; are AA0 R; arm AA1 R M; around ER0 AW1 N D; art AA1
R T; artist AA1 R T AH0 S T; as AE0 Z; ask AE1 S K; asked AE1 S K T; at AE0 T; august AO1 G AH0 S T; aunt AE1 N T;
autumn AO1 T AH0 M; awake AH0 W EY1 K; away AH0 W EY1; baby B EY1 B IY0; back B AE1 K; bad B AE1 D; bag B AE1 G; bags
B AE1 G Z; balcony B AE1 L K AH0 N IY0; ball B AO1 L; band B AE1 N D; bank B AE1 NG K; bark B AA1 R K; barked B AA1 R
K T; bath B AE1 TH; bathroom B AE1 TH R UW2 M; be B IY0; beach B IY1 CH; bean B IY1 N; beautiful B Y UW1 T AH0 F AH0
L; because B IH0 K AO1 Z; bed B EH1 D; bee B IY1; been B IH0 N; before B IH0 F AO1 R; begin B IH0 G IH1 N; behind B
IH0 HH AY1 N D; beige B EY1 ZH; believe B IH0 L IY1 V; bell B EH1 L; below B IH0 L OW1; bench B EH1 N CH; beside B IH0
S AY1 D; best B EH1 S T; better B EH1 T ER0; between B IH0 T W IY1 N; bicycle B AY1 S IH0 K AH0 L; big B IH1 G; bird B
ER1 D; birds B ER1 D Z; birthday B ER1 TH D EY2; bit B IH1 T; black B L AE1 K; blanket B L AE1 NG K AH0 T; blew B L
UW1; blue B L UW1; board B AO1 R D; boat B OW1 T; body B AA1 D IY0; boil B OY1 L; boiled B OY1 L D; bone B OW1 N; book
B UH1 K; both B OW1 TH; bottle B AA1 T AH0 L; bought B AO1 T; box B AA1 K S; boy B OY1; boys B OY1 Z; brave B R EY1 V;
bread B R EH1 D; break B R EY1 K; breakfast B R EH1 K F AH0 S T; breath B R EH1 TH; breathe B R IY1 DH; breeze B R IY1
Z; bricks B R IH1 K S; bridge B R IH1 JH; bright B R AY1 T; brightly B R AY1 T L IY0; bring B R IH1 NG; broke B R OW1
K; brother B R AH1 DH ER0; brown B R AW1 N; brush B R AH1 SH; build B IH1 L D; built B IH1 L T; bus B AH1 S; busy B
IH1 Z IY0; but B AH0 T; butter B AH1 T ER0; button B AH1 T AH0 N; buy B AY1; by B AY0; cake K EY1 K; call K AO1 L;
calm K AA1 M; came K EY1 M; camera K AE1 M R AH0; can K AE0 N; cannot K AE1 N AA0 T; cap K AE1 P; captain K AE1 P T
AH0 N; car K AA1 R; careful K EH1 R F AH0 L; carry K AE1 R IY0; castle K AE1 S AH0 L; casual K AE1 ZH AH0 W AH0 L; cat
K AE1 T; catch K AE1 CH; cave K EY1 V; chair CH EH1 R; chalk CH AO1 K; change CH EY1 N JH; changed CH EY1 N JH D;
chapter CH AE1 P T ER0; cheap CH IY1 P; cheapest CH IY1 P AH0 S T; checked CH EH1 K T; cheese CH IY1 Z; chef SH EH1 F;
cherry CH EH1 R IY0; chew CH UW1; child CH AY1 L D; children CH IH1 L D R AH0 N; chin CH IH1 N; choice CH OY1 S;
choose CH UW1 Z; chooses CH UW1 Z AH0 Z; chose CH OW1 Z; church CH ER1 CH; circle S ER1 K AH0 L; city S IH1 T IY0;
clean K L IY1 N; clear K L IH1 R; clock K L AA1 K; close K L OW1 Z; cloth K L AO1 TH; clothes K L OW1 Z; cloud K L AW1
D; clouds K L AW1 D Z; coast K OW1 S T; coat K OW1 T; coffee K AO1 F IY0; coin K OY1 N; cold K OW1 L D; color K AH1 L
ER0; come K AH1 M; comes K AH1 M Z; coming K AH1 M IH0 NG; cook K UH1 K; cookie K UH1 K IY0; cooking K UH1 K IH0 NG;
cool K UW1 L; corner K AO1 R N ER0; could K UH0 D; country K AH1 N T R IY0; cousin K AH1 Z AH0 N; covers K AH1 V ER0
Z; cow K AW1; cross K R AO1 S; crowd K R AW1 D; crown K R AW1 N; cry K R AY1; cup K AH1 P; curtain K ER1 T AH0 N; cut
K AH1 T; dance D AE1 N S; danger D EY1 N JH ER0; dark D AA1 R K; daughter D AO1 T ER0; day D EY1; dear D IH1 R;
december D IH0 S EH1 M B ER0; decision D IH0 S IH1 ZH AH0 N; deep D IY1 P; desk D EH1 S K; did D IH0 D; dinner D IH1 N
ER0; dirty D ER1 T IY0; dishes D IH1 SH AH0 Z; distance D IH1 S T AH0 N S; do D UW0; doctor D AA1 K T ER0; does D AH0
Z; dog D AO1 G; dollars D AA1 L ER0 Z; door D AO1 R; down D AW1 N; draw D R AO1; drawer D R AO1 R; dream D R IY1 M;
dress D R EH1 S; drew D R UW1; drink D R IH1 NG K; drive D R AY1 V; drop D R AA1 P; dry D R AY1; during D UH1 R IH0
NG; dust D AH1 S T; each IY1 CH; eagle IY1 G AH0 L; early ER1 L IY0; ears IH1 R Z; earth ER1 TH; easier IY1 Z IY0 ER0;
east IY1 S T; easy IY1 Z IY0; eat IY1 T; edge EH1 JH; eggs EH1 G Z; eight EY1 T; eighteen EY2 T IY1 N; eleven IH0 L
EH1 V AH0 N; empty EH1 M P T IY0; engine EH1 N JH AH0 N; enjoy EH0 N JH OY1; enjoyed EH0 N JH OY1 D; evening IY1 V N
IH0 NG; ever EH1 V ER0; every EH1 V R IY0; eye AY1; face F EY1 S; fall F AO1 L; family F AE1 M AH0 L IY0; far F AA1 R;
farm F AA1 R M; farmer F AA1 R M ER0; fast F AE1 S T; father F AA1 DH ER0; favorite F EY1 V R AH0 T; feather F EH1 DH
ER0; feel F IY1 L; feet F IY1 T; fell F EH1 L; fever F IY1 V ER0; field F IY1 L D; fifteen F IH2 F T IY1 N; fifty F
IH1 F T IY0; find F AY1 N D; finger F IH1 NG G ER0; fire F AY1 ER0; first F ER1 S T; fish F IH1 SH; five F AY1 V;
fixing F IH1 K S IH0 NG; flew F L UW1; floor F L AO1 R; flowers F L AW1 ER0 Z; fly F L AY1; fog F AO1 G; follow F AA1
L OW0; followed F AA1 L OW0 D; food F UW1 D; foot F UH1 T; for F AO0 R; forest F AO1 R AH0 S T; forget F ER0 G EH1 T;
fork F AO1 R K; forty F AO1 R T IY0; found F AW1 N D; four F AO1 R; fox F AA1 K S; free F R IY1; fresh F R EH1 SH;
friday F R AY1 D EY0; friend F R EH1 N D; friends F R EH1 N D Z; frog F R AA1 G; from F R AH0 M; front F R AH1 N T;
frozen F R OW1 Z AH0 N; fruit F R UW1 T; full F UH1 L; funny F AH1 N IY0; future F Y UW1 CH ER0; game G EY1 M; games G
EY1 M Z; garage G ER0 AA1 ZH; garden G AA1 R D AH0 N; gate G EY1 T; gave G EY1 V; gentle JH EH1 N T AH0 L; get G EH1
T; ghost G OW1 S T; giant JH AY1 AH0 N T; girl G ER1 L; give G IH1 V; glad G L AE1 D; glass G L AE1 S; glove G L AH1
V; go G OW1; goat G OW1 T; going G OW1 IH0 NG; gold G OW1 L D; good G UH1 D; goose G UW1 S; grandfather G R AE1 N D F
AA2 DH ER0; grapes G R EY1 P S; grass G R AE1 S; gray G R EY1; green G R IY1 N; group G R UW1 P; grows G R OW1 Z;
guess G EH1 S; guest G EH1 S T; guide G AY1 D; had HH AE0 D; hair HH EH1 R; half HH AE1 F; hall HH AO1 L; hand HH AE1
N D; happy HH AE1 P IY0; harbor HH AA1 R B ER0; hard HH AA1 R D; has HH AE0 Z; hat HH AE1 T; have HH AE0 V; hawk HH
AO1 K; hayed HH EY1 D; he HH IY0; head HH EH1 D; health HH EH1 L TH; hear HH IH1 R; heard HH ER1 D; heart HH AA1 R T;
heavy HH EH1 V IY0; heed HH IY1 D; height HH AY1 T; hello HH AH0 L OW1; help HH EH1 L P; her HH ER0; here HH IH1 R;
hid HH IH1 D; hidden HH IH1 D AH0 N; hide HH AY1 D; hill HH IH1 L; him HH IH0 M; his HH IH0 Z; hod HH AA1 D; hoed HH
OW1 D; hold HH OW1 L D; hole HH OW1 L; hollow HH AA1 L OW0; home HH OW1 M; honey HH AH1 N IY0; hood HH UH1 D; hope HH
OW1 P; horse HH AO1 R S; hospital HH AA1 S P IH2 T AH0 L; hot HH AA1 T; hotel HH OW0 T EH1 L; hour AW1 ER0; house HH
AW1 S; how HH AW1; howled HH AW1 L D; hud HH AH1 D; huge HH Y UW1 JH; hundred HH AH1 N D R AH0 D; hungry HH AH1 NG G R
IY0; hurts HH ER1 T S; i AY0; ice AY1 S; if IH0 F; in IH0 N; inside IH0 N S AY1 D; into IH1 N T UW0; is IH0 Z; island
AY1 L AH0 N D; it IH0 T; its IH0 T S; jacket JH AE1 K AH0 T; january JH AE1 N Y UW0 EH2 R IY0; japanese JH AE2 P AH0 N
IY1 Z; jelly JH EH1 L IY0; job JH AA1 B; join JH OY1 N; joke JH OW1 K; joy JH OY1; judge JH AH1 JH; juice JH UW1 S;
july JH UH0 L AY1; jump JH AH1 M P; jumped JH AH1 M P T; june JH UW1 N; just JH AH1 S T; keep K IY1 P; key K IY1; kind
K AY1 N D; king K IH1 NG; kitchen K IH1 CH AH0 N; kite K AY1 T; knee N IY1; knew N UW1; knife N AY1 F; knot N AA1 T;
know N OW1; lady L EY1 D IY0; lake L EY1 K; lamp L AE1 M P; large L AA1 R JH; last L AE1 S T; late L EY1 T; laugh L
AE1 F; laughed L AE1 F T; law L AO1; lay L EY1; layer L EY1 ER0; lazy L EY1 Z IY0; leaf L IY1 F; learn L ER1 N;
leather L EH1 DH ER0; leave L IY1 V; leaves L IY1 V Z; led L EH1 D; left L EH1 F T; leg L EH1 G; lemon L EH1 M AH0 N;
letter L EH1 T ER0; library L AY1 B R EH2 R IY0; life L AY1 F; light L AY1 T; like L AY1 K; lion L AY1 AH0 N; lip L
IH1 P; listen L IH1 S AH0 N; little L IH1 T AH0 L; live L IH1 V; loaded L OW1 D AH0 D; loaf L OW1 F; long L AO1 NG;
look L UH1 K; looks L UH1 K S; loud L AW1 D; louder L AW1 D ER0; love L AH1 V; low L OW1; luck L AH1 K; lunch L AH1 N
CH; machine M AH0 SH IY1 N; made M EY1 D; magic M AE1 JH IH0 K; mailman M EY1 L M AE2 N; make M EY1 K; makes M EY1 K
S; man M AE1 N; many M EH1 N IY0; map M AE1 P; march M AA1 R CH; market M AA1 R K AH0 T; math M AE1 TH; may M EY0;
mayor M EY1 ER0; me M IY0; meal M IY1 L; measure M EH1 ZH ER0; measured M EH1 ZH ER0 D; meet M IY1 T; men M EH1 N;
middle M IH1 D AH0 L; milk M IH1 L K; minute M IH1 N AH0 T; minutes M IH1 N AH0 T S; mirror M IH1 R ER0; mixed M IH1 K
S T; moment M OW1 M AH0 N T; monday M AH1 N D EY0; money M AH1 N IY0; month M AH1 N TH; moon M UW1 N; morning M AO1 R
N IH0 NG; mother M AH1 DH ER0; mountain M AW1 N T AH0 N; mouse M AW1 S; mouth M AW1 TH; moved M UW1 V D; movie M UW1 V
IY0; much M AH1 CH; museum M Y UW0 Z IY1 AH0 M; music M Y UW1 Z IH0 K; must M AH0 S T; my M AY0; name N EY1 M; narrow
N EH1 R OW0; near N IH1 R; neck N EH1 K; need N IY1 D; neighbor N EY1 B ER0; never N EH1 V ER0; new N UW1; news N UW1
Z; next N EH1 K S T; nice N AY1 S; night N AY1 T; nine N AY1 N; no N OW1; nobody N OW1 B AA2 D IY0; noise N OY1 Z;
north N AO1 R TH; nose N OW1 Z; not N AA1 T; nothing N AH1 TH IH0 NG; now N AW1; number N AH1 M B ER0; nurse N ER1 S;
nut N AH1 T; oak OW1 K; ocean OW1 SH AH0 N; october AA0 K T OW1 B ER0; of AH0 V; off AO1 F; office AO1 F AH0 S; often
AO1 F AH0 N; oil OY1 L; old OW1 L D; on AA0 N; one W AH1 N; onion AH1 N Y AH0 N; only OW1 N L IY0; open OW1 P AH0 N;
opened OW1 P AH0 N D; or AO0 R; orange AO1 R AH0 N JH; other AH1 DH ER0; our AW1 ER0; out AW1 T; outside AW1 T S AY2
D; oven AH1 V AH0 N; over OW1 V ER0; owes OW1 Z; own OW1 N; oyster OY1 S T ER0; packed P AE1 K T; page P EY1 JH; pain
P EY1 N; paint P EY1 N T; painter P EY1 N T ER0; pair P EH1 R; pan P AE1 N; paper P EY1 P ER0; park P AA1 R K; part P
AA1 R T; party P AA1 R T IY0; past P AE1 S T; path P AE1 TH; peace P IY1 S; peaches P IY1 CH AH0 Z; pen P EH1 N;
pencil P EH1 N S AH0 L; people P IY1 P AH0 L; pepper P EH1 P ER0; peter P IY1 T ER0; piano P IY0 AE1 N OW0; picture P
IH1 K CH ER0; pictures P IH1 K CH ER0 Z; pie P AY1; piece P IY1 S; pieces P IY1 S AH0 Z; pig P IH1 G; pigeons P IH1 JH
AH0 N Z; pilot P AY1 L AH0 T; pinch P IH1 N CH; place P L EY1 S; plane P L EY1 N; planet P L AE1 N AH0 T; planted P L
AE1 N T AH0 D; plate P L EY1 T; play P L EY1; plays P L EY1 Z; pleasant P L EH1 Z AH0 N T; please P L IY1 Z; pleasure
P L EH1 ZH ER0; point P OY1 N T; pointed P OY1 N T AH0 D; poison P OY1 Z AH0 N; pool P UW1 L; poor P UH1 R; pot P AA1
T; potatoes P AH0 T EY1 T OW2 Z; poured P AO1 R D; power P AW1 ER0; pretty P R IH1 T IY0; problems P R AA1 B L AH0 M
Z; proud P R AW1 D; pull P UH1 L; pupils P Y UW1 P AH0 L Z; puppy P AH1 P IY0; pure P Y UH1 R; purple P ER1 P AH0 L;
push P UH1 SH; put P UH1 T; puzzle P AH1 Z AH0 L; queen K W IY1 N; question K W EH1 S CH AH0 N; questions K W EH1 S CH
AH0 N Z; quick K W IH1 K; quickly K W IH1 K L IY0; quiet K W AY1 AH0 T; rabbit R AE1 B AH0 T; radio R EY1 D IY0 OW2;
rain R EY1 N; ran R AE1 N; rarely R EH1 R L IY0; rather R AE1 DH ER0; raw R AO1; read R EH1 D; ready R EH1 D IY0; red
R EH1 D; repairs R IH0 P EH1 R Z; rice R AY1 S; rich R IH1 CH; ride R AY1 D; ring R IH1 NG; river R IH1 V ER0; road R
OW1 D; rolled R OW1 L D; roof R UW1 F; room R UW1 M; rope R OW1 P; rose R OW1 Z; roses R OW1 Z AH0 Z; rough R AH1 F;
rouge R UW1 ZH; round R AW1 N D; royal R OY1 AH0 L; run R AH1 N; sad S AE1 D; said S EH1 D; sail S EY1 L; sailor S EY1
L ER0; sails S EY1 L Z; salad S AE1 L AH0 D; salt S AO1 L T; same S EY1 M; sand S AE1 N D; sang S AE1 NG; sat S AE1 T;
saturday S AE1 T ER0 D EY2; saved S EY1 V D; saw S AO1; say S EY1; school S K UW1 L; sea S IY1; seats S IY1 T S;
second S EH1 K AH0 N D; see S IY1; seen S IY1 N; sell S EH1 L; seven S EH1 V AH0 N; several S EH1 V R AH0 L; shade SH
EY1 D; shall SH AE0 L; shared SH EH1 R D; sharp SH AA1 R P; she SH IY0; sheep SH IY1 P; shelf SH EH1 L F; shine SH AY1
N; ship SH IH1 P; ships SH IH1 P S; shirt SH ER1 T; shoes SH UW1 Z; shone SH OW1 N; shop SH AA1 P; short SH AO1 R T;
should SH UH0 D; shoulder SH OW1 L D ER0; showed SH OW1 D; sick S IH1 K; silver S IH1 L V ER0; simple S IH1 M P AH0 L;
sing S IH1 NG; sister S IH1 S T ER0; six S IH1 K S; sixteen S IH2 K S T IY1 N; sky S K AY1; sleep S L IY1 P; slept S L
EH1 P T; slow S L OW1; slowly S L OW1 L IY0; small S M AO1 L; smell S M EH1 L; smells S M EH1 L Z; smile S M AY1 L;
smiled S M AY1 L D; smoke S M OW1 K; smooth S M UW1 DH; snow S N OW1; so S OW1; soap S OW1 P; soft S AO1 F T; soil S
OY1 L; soldier S OW1 L JH ER0; some S AH0 M; somebody S AH1 M B AA2 D IY0; son S AH1 N; song S AO1 NG; soon S UW1 N;
sore S AO1 R; soup S UW1 P; south S AW1 TH; speak S P IY1 K; speech S P IY1 CH; splash S P L AE1 SH; spoke S P OW1 K;
spoon S P UW1 N; spring S P R IH1 NG; square S K W EH1 R; stand S T AE1 N D; star S T AA1 R; station S T EY1 SH AH0 N;
still S T IH1 L; stone S T OW1 N; stones S T OW1 N Z; stood S T UH1 D; stop S T AA1 P; stopped S T AA1 P T; storm S T
AO1 R M; story S T AO1 R IY0; strange S T R EY1 N JH; straw S T R AO1; street S T R IY1 T; strong S T R AO1 NG; study
S T AH1 D IY0; sugar SH UH1 G ER0; summer S AH1 M ER0; sun S AH1 N; sunday S AH1 N D EY0; supper S AH1 P ER0; sure SH
UH1 R; sweet S W IY1 T; swim S W IH1 M; table T EY1 B AH0 L; tail T EY1 L; take T EY1 K; talk T AO1 K; tall T AO1 L;
taxi T AE1 K S IY0; tea T IY1; teacher T IY1 CH ER0; team T IY1 M; teeth T IY1 TH; telephone T EH1 L AH0 F OW2 N;
television T EH1 L AH0 V IH2 ZH AH0 N; tell T EH1 L; tells T EH1 L Z; ten T EH1 N; than DH AE0 N; thank TH AE1 NG K;
that DH AE0 T; the DH AH0; theater TH IY1 AH0 T ER0; their DH EH0 R; them DH EH0 M; then DH EH1 N; there DH EH0 R;
these DH IY0 Z; they DH EY0; thick TH IH1 K; thief TH IY1 F; thin TH IH1 N; thing TH IH1 NG; think TH IH1 NG K; third
TH ER1 D; thirteen TH ER2 T IY1 N; thirty TH ER1 T IY0; this DH IH0 S; those DH OW0 Z; thought TH AO1 T; thousand TH
AW1 Z AH0 N D; three TH R IY1; threw TH R UW1; throat TH R OW1 T; through TH R UW1; thumb TH AH1 M; thunder TH AH1 N D
ER0; thursday TH ER1 Z D EY0; ticket T IH1 K AH0 T; tied T AY1 D; tiger T AY1 G ER0; tight T AY1 T; time T AY1 M; tiny
T AY1 N IY0; to T UW0; today T AH0 D EY1; toe T OW1; together T AH0 G EH1 DH ER0; tomorrow T AH0 M AA1 R OW0; tongue T
AH1 NG; tonight T AH0 N AY1 T; too T UW1; took T UH1 K; tool T UW1 L; tooth T UW1 TH; top T AA1 P; toward T AH0 W AO1
R D; towel T AW1 AH0 L; tower T AW1 ER0; town T AW1 N; toy T OY1; toys T OY1 Z; train T R EY1 N; treasure T R EH1 ZH
ER0; tree T R IY1; trees T R IY1 Z; trip T R IH1 P; truck T R AH1 K; true T R UW1; try T R AY1; tuesday T UW1 Z D EY0;
turn T ER1 N; turned T ER1 N D; turns T ER1 N Z; twelve T W EH1 L V; twenty T W EH1 N T IY0; two T UW1; umbrella AH0 M
B R EH1 L AH0; uncle AH1 NG K AH0 L; under AH1 N D ER0; up AH1 P; upon AH0 P AA1 N; us AH0 S; usual Y UW1 ZH AH0 W AH0
L; usually Y UW1 ZH AH0 W AH0 L IY0; valley V AE1 L IY0; van V AE1 N; very V EH1 R IY0; view V Y UW1; village V IH1 L
AH0 JH; vision V IH1 ZH AH0 N; visit V IH1 Z AH0 T; voice V OY1 S; voyage V OY1 IH0 JH; wagon W AE1 G AH0 N; wait W
EY1 T; waiter W EY1 T ER0; waiting W EY1 T IH0 NG; walk W AO1 K; wall W AO1 L; want W AA1 N T; wants W AA1 N T S; warm
W AO1 R M; was W AH0 Z; wash W AA1 SH; watch W AA1 CH; watches W AA1 CH AH0 Z; water W AO1 T ER0; wave W EY1 V; way W
EY1; we W IY0; weather W EH1 DH ER0; wednesday W EH1 N Z D EY0; week W IY1 K; well W EH1 L; went W EH1 N T; were W
ER0; west W EH1 S T; wet W EH1 T; what W AH1 T; wheel W IY1 L; when W EH1 N; where W EH1 R; which W IH1 CH; while W
AY1 L; white W AY1 T; who HH UW1; whole HH OW1 L; why W AY1; wide W AY1 D; wife W AY1 F; will W IH0 L; wind W IH1 N D;
window W IH1 N D OW0; windows W IH1 N D OW0 Z; winter W IH1 N T ER0; wish W IH1 SH; with W IH0 DH; without W IH0 TH
AW1 T; woke W OW1 K; wolf W UH1 L F; woman W UH1 M AH0 N; women W IH1 M AH0 N; won W AH1 N; wonderful W AH1 N D ER0 F
AH0 L; wood W UH1 D; wooden W UH1 D AH0 N; woods W UH1 D Z; wool W UH1 L; word W ER1 D; wore W AO1 R; work W ER1 K;
works W ER1 K S; world W ER1 L D; worm W ER1 M; would W UH0 D; write R AY1 T; wrote R OW1 T; yard Y AA1 R D; year Y
IH1 R; years Y IH1 R Z; yellow Y EH1 L OW0; yes Y EH1 S; yesterday Y EH1 S T ER0 D EY2; yet Y EH1 T; you Y UW0; young
Y AH1 NG; your Y AO0 R; zebra Z IY1 B R AH0; zero Z IH1 R OW0; zipper Z IH1 P ER0; zoo Z UW1
"""

_SENTENCES = """
My brother bought a blue bicycle for the long summer.
Could you put the sugar near the coffee, please?
The old farmer measured the field with a piece of rope.
She usually watches television after dinner.
We heard strange music coming from the empty garage.
Do you think the boys enjoyed the voyage?
Peter packed both bags before breakfast.
The baby laughed when the puppy jumped over the box.
I would rather walk home than wait for the last bus.
Where did you leave the yellow umbrella?
Five brown birds flew over the frozen river.
Her uncle repairs watches in a small shop by the church.
The judge asked three short questions.
Nothing is better than warm bread with butter and honey.
Please push the heavy door and pull the green one.
Would you like a cup of tea or some orange juice?
The weather changed quickly, and we ran back to the house.
A good cook never leaves the kitchen during lunch.
My father found a silver coin under the bridge.
They are going to visit the museum on Thursday.
The young doctor spoke in a calm and pleasant voice.
Can you hear the church bell from your window?
We planted four apple trees behind the garden wall.
The teacher wrote the answer on the board with white chalk.
His new shoes were too big for the narrow path.
It was a pleasure to meet your mother yesterday.
The noise of the engine woke up the whole village.
Do not forget to bring the book about Japanese art.
A cold wind blew leaves across the empty street.
She put a thin layer of oil on the hot pan.
How many people came to the party?
The thief hid the treasure in a hollow tree.
Both of them chose the cheap yellow jacket.
I cannot find the key to the kitchen drawer.
Our neighbor plays the piano every evening.
The little girl pointed at the moon and smiled.
We should buy some fresh fish at the market.
Have you ever been to the north coast?
The train to the city leaves at half past nine.
Thank you for the beautiful flowers.
The mouse ran through a hole in the wall.
He broke his thumb while he was fixing the roof.
Why is the water in the pool so warm?
A brave young woman saved the boy from the fire.
The nurse checked his mouth, his ears and his throat.
Several large ships are waiting outside the harbor.
My sister wants to study music in another country.
Did the judge change the decision?
The road turns left after the wooden bridge.
They sang a song about a king and a young queen.
An early bird may catch a big worm.
The soup is hot, so eat it slowly.
Can we measure the height of that tower?
The garden smells of roses after the rain.
He showed me a picture of his favorite horse.
We usually have fish and rice on Friday.
Somebody left a beige coat on the chair.
The dog barked at the mailman again this morning.
Is there a good place to eat near the station?
The children built a huge castle of sand.
I wish you a happy birthday and a good year.
She bought eight eggs, some cheese and a loaf of bread.
The moon shone brightly above the quiet lake.
Which of these two pictures do you like better?
The engine made a funny noise and stopped.
My grandfather tells the same joke each winter.
A gray cat slept on top of the warm oven.
They moved the heavy table into the other room.
Please give the ticket to the man at the gate.
The judge and the doctor have been friends for years.
Who put the wet towel on my bed?
The bus was full, so we took a taxi.
Her voice was low and a little rough.
Every child should learn how to swim.
The cook cut the onion into very thin pieces.
We saw a movie about life on another planet.
Do they know how to get to the airport?
The boat moved slowly toward the island.
Nobody knew the answer to the last question.
I have to wash the dishes before I go out.
A large crowd stood in front of the theater.
The pupils read the first chapter of the book aloud.
Both windows were open during the storm.
My watch is ten minutes slow.
Will you join us for a walk in the forest?
The painter mixed red and yellow to get orange.
It took a whole hour to cross the valley.
The queen wore a purple dress and a gold crown.
Their cousin works in a large hospital.
Be careful, the glass on the shelf is very thin.
The cow and the sheep shared the shade of an oak.
Give the poor dog some food and water.
A sharp knife makes cooking much easier.
Has anyone seen the other blue glove?
The plane flew above a thick layer of clouds.
You can hear the ocean from this beach.
The boys threw stones into the deep pool.
Our team won the game by one point.
The mayor opened the new bridge on Sunday.
She has a bad cold and a sore throat.
The lamp beside the bed does not work.
We had a long talk about the future.
What time does the shop close today?
The fox jumped over a low stone wall.
He poured the milk into a tall glass.
Snow fell on the mountain all night.
This shirt is too tight around the neck.
The spoon and the fork are in the top drawer.
Two pigeons sat upon the narrow roof.
May I ask you a simple question?
The child drew a ship with huge sails.
Birds often sing before the sun comes up.
I rarely drink coffee in the evening.
The wagon rolled down the hill.
Fresh paint covers the garage door.
She gave the poor man a warm blanket.
Shall we begin with the easy part?
The zebra at the zoo is three years old.
My aunt grows grapes and peaches.
The captain gave a short speech.
Are these seats free?
A gentle breeze moved the curtain.
The lazy dog lay under the bench.
We followed the path through the woods.
The wolf howled at the full moon.
Your brother owes me ten dollars.
The soldier stood still and said nothing.
Joy and hope are good for your health.
The bathroom is on the second floor.
He usually chooses the cheapest hotel.
The guide led us through a dark cave.
Is your cousin at home or in the office?
Pure water has no color and no smell.
The sailor tied a knot in the rope.
My tooth hurts when I chew.
We could see smoke in the distance.
The vision of the artist was clear.
The chef put a pinch of salt in the soup.
That casual jacket looks good on you.
Thirty thousand people live in this town.
The pilot turned the airplane toward the south.
Does the shop sell toys and games?
Enjoy the view from the balcony.
She boiled the potatoes for twenty minutes.
The cloth is smooth, thick and soft.
Please speak a little louder.
The math teacher gave us nine problems.
There is a hidden treasure on that island.
Ask the waiter for another spoon.
When will the doctor be here?
We loaded the truck with wood and bricks.
He thought about the choice all week.
"""
SENTENCES = tuple(_SENTENCES.strip().splitlines())

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

MARKS = ("", ",", ".", "?")


@dataclass(frozen=True)
class Word:
    """A word as it is said.

    Parameters
    ----------
    text
        Its spelling, lower case; for a word without spelling its phones joined by hyphens.
    phones
        ARPABET without stress digits.
    stress
        1 primary, 2 secondary, 0 none; -1 for consonants.
    """

    text: str
    phones: tuple[str, ...]
    stress: tuple[int, ...]


@dataclass(frozen=True)
class Transcript:
    """Words in order, and the punctuation after each.

    Parameters
    ----------
    words
        At least one.
    marks
        One of `MARKS` for each word: nothing, a short pause, the end of a statement, the end of a question. The last ends a sentence.
    text
        The whole as it was written.
    """

    words: tuple[Word, ...]
    marks: tuple[str, ...]
    text: str

    def __post_init__(self) -> None:
        if not self.words or len(self.words) != len(self.marks):
            raise ValueError(
                f"transcript: expected at least one word and as many marks, found {len(self.words)} words and {len(self.marks)} marks"
            )
        if set(self.marks) - set(MARKS) or self.marks[-1] not in (".", "?"):
            raise ValueError(f"transcript: marks must be of {MARKS} and end with '.' or '?', found {self.marks}")

    def first(self, words: int) -> Transcript:
        """The first words alone, closed by a full stop if they end inside a sentence."""
        if not 1 <= words <= len(self.words):
            raise ValueError(f"words: expected 1 to {len(self.words)}, found {words}")
        last = self.marks[words - 1]
        return Transcript.of(self.words[:words], (*self.marks[: words - 1], last if last == "?" else "."))

    @classmethod
    def of(cls, words: tuple[Word, ...], marks: tuple[str, ...]) -> Transcript:
        """Transcript whose text is the words and marks themselves."""
        return cls(words, marks, " ".join(word.text + mark for word, mark in zip(words, marks, strict=True)))


def spoken_word(
    symbols: list[str], text: str = "", *, where: str = "phones", offset: int = 0, total: int | None = None
) -> Word:
    """A word from its symbols.

    Parameters
    ----------
    symbols
        ARPABET with a stress digit after each vowel, as in ``["HH", "AH0", "L", "OW1"]``.
    text
        Spelling; if empty, the phones joined by hyphens.
    where
        What to call the source in messages.
    offset, total
        Place of the word in a longer string of `total` symbols, for messages.

    Raises
    ------
    ValueError
        Naming a symbol that is unknown or whose stress digit is missing or out of place, and its position, counted from 1.
    """
    phones, stress = [], []
    for position, symbol in enumerate(symbols, start=offset + 1):
        name, digit = (symbol[:-1], symbol[-1]) if symbol[-1].isdigit() else (symbol, "")
        place = f"{where}: {symbol!r} at position {position} of {total or len(symbols)}"
        if name not in PHONES or name == SILENCE:
            near = difflib.get_close_matches(name, PHONES, n=2, cutoff=0.4)
            raise ValueError(f"{place} is no ARPABET phone{'; nearest: ' + ', '.join(near) if near else ''}")
        if name in VOWELS and digit not in ("0", "1", "2"):
            raise ValueError(
                f"{place} is a vowel and needs its stress: {name}1 primary, {name}2 secondary, {name}0 none"
            )
        if name not in VOWELS and digit:
            raise ValueError(f"{place} is a consonant and takes no stress digit: write {name}")
        phones.append(name)
        stress.append(int(digit) if digit else -1)
    return Word(text or "-".join(phones).lower(), tuple(phones), tuple(stress))


def _read_lexicon(table: str) -> dict[str, Word]:
    entries = (entry.split() for entry in table.split(";"))
    return {text: spoken_word(symbols, text, where=f"lexicon entry {text!r}") for text, *symbols in entries}


LEXICON: dict[str, Word] = _read_lexicon(_PRONUNCIATIONS)

_TOKEN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|[0-9]|[.?!,;:]|\S")
_MARK_OF = {".": ".", "!": ".", "?": "?", ",": ",", ";": ",", ":": ","}
_IGNORED = frozenset("\"“”‘’'()-–—")


@lru_cache(maxsize=4096)
def transcribe(text: str) -> Transcript:
    """Phones of English text, word by word.

    Parameters
    ----------
    text
        Words of the lexicon in any case, with punctuation; digits are read one by one. Comma, semicolon and colon make a short pause;
        full stop, exclamation and question mark end a sentence. A missing last mark counts as a full stop.

    Raises
    ------
    ValueError
        If there is no word, or words are unknown: all of them are listed, each with the nearest words of the lexicon.

    Examples
    --------
    >>> [word.phones for word in transcribe("Thank you!").words]
    [('TH', 'AE', 'NG', 'K'), ('Y', 'UW')]
    """
    words: list[Word] = []
    marks: list[str] = []
    unknown: list[str] = []
    for token in _TOKEN.findall(text):
        if token in _MARK_OF:
            if marks and (_MARK_OF[token] != "," or not marks[-1]):
                marks[-1] = _MARK_OF[token]
        elif token not in _IGNORED:
            key = DIGITS[int(token)] if token in "0123456789" else token.lower()
            if key in LEXICON:
                words.append(LEXICON[key])
                marks.append("")
            else:
                unknown.append(token)
    if unknown:
        raise ValueError(_unknown_words(unknown))
    if not words:
        raise ValueError(f"text: expected at least one word, found {text!r}")
    marks[-1] = marks[-1] if marks[-1] in (".", "?") else "."
    return Transcript(tuple(words), tuple(marks), text)


def _unknown_words(unknown: list[str]) -> str:
    near = {word: difflib.get_close_matches(word.lower(), LEXICON, n=3, cutoff=0.6) for word in unknown}
    listed = "; ".join(f"{word!r} (nearest: {', '.join(found) or 'none'})" for word, found in near.items())
    return f"text: not in the lexicon: {listed}. Choose other words or write phones, as in 'HH AH0 L OW1'"


def parse_phones(phones: str) -> Transcript:
    """Transcript of a string of phones.

    Parameters
    ----------
    phones
        ARPABET, upper case, a stress digit after each vowel, separated by spaces. ``|`` ends a word, ``,`` or ``SIL`` ends a word with a
        short pause, ``.`` and ``?`` end a sentence.

    Raises
    ------
    ValueError
        If there is no phone, or a symbol is unknown or lacks its stress: named with its position, counted from 1.

    Examples
    --------
    >>> [word.text for word in parse_phones("HH AH0 L OW1 | W ER1 L D").words]
    ['hh-ah-l-ow', 'w-er-l-d']
    """
    tokens = phones.split()
    breaks = {"|": "", ",": ",", SILENCE: ",", ".": ".", "?": "?"}
    words: list[Word] = []
    marks: list[str] = []
    begin = 0
    for i, token in enumerate([*tokens, "|"]):
        if token not in breaks:
            continue
        if i > begin:
            words.append(spoken_word(tokens[begin:i], offset=begin, total=len(tokens)))
            marks.append(breaks[token])
        elif marks and marks[-1] in ("", ","):  # a second break sharpens a weak one: "| ," is a pause, ", ." an end
            marks[-1] = breaks[token] or marks[-1]
        begin = i + 1
    if not words:
        raise ValueError(f"phones: expected at least one phone, found {phones!r}")
    return Transcript(tuple(words), (*marks[:-1], "?" if marks[-1] == "?" else "."), phones)


def read(text: str) -> Transcript:
    """Transcript of text or of a phone string: phones if any token looks like a phone with its stress digit, as ``AH0`` does."""
    return parse_phones(text) if re.search(r"(?:^|\s)[A-Z]+[0-9](?:\s|$)", text) else transcribe(text)
