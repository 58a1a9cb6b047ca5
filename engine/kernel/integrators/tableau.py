"""Coefficients of the Runge-Kutta methods and the predictors of their implicit stages.

Sources: Tsitouras 5(4), Computers & Mathematics with Applications 62 (2011) 770; 8(5,3) of Dormand and Prince
with Hairer's error estimate (DOP853), Hairer, Norsett, Wanner, Solving ODEs I (1993), II.5 and II.10;
ESDIRK5(4)7L[2]SA2, Kennedy and Carpenter, Applied Numerical Mathematics 146 (2019) 221.

Every table has c_0 = 0 and weights equal to its last row, so that the last stage is the slope at the end of
the step and serves the next step as its first.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]
Indices = NDArray[np.int64]


def _lower(rows: list[list[float]]) -> Table:
    table = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table


def _sparse(columns: tuple[int, ...], values: list[float]) -> list[float]:
    row = [0.0] * (max(columns) + 1)
    for column, value in zip(columns, values, strict=True):
        row[column] = value
    return row


def packed(a: Table) -> tuple[Table, Indices, Indices]:
    """Return the non-zero entries of each row, their columns and their number, filled up with zeros.

    To a length of 2, 4, 6, 10, ...; the filling is for column 0, which is finite in any step worth taking.
    """
    used = np.array([np.count_nonzero(row) for row in a])
    length = 6 + 4 * max(0, -(-(int(used.max()) - 6) // 4))
    weights = np.zeros((len(a), length))
    columns = np.zeros((len(a), length), dtype=np.int64)
    for i, row in enumerate(a):
        (entries,) = np.nonzero(row)
        weights[i, : entries.size] = row[entries]
        columns[i, : entries.size] = entries
    return weights, columns, used.astype(np.int64)


TSIT5_A = _lower(
    [
        [0.0],
        [0.161],
        [-0.008480655492356989, 0.335480655492357],
        [2.8971530571054935, -6.359448489975075, 4.3622954328695815],
        [5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525],
        [5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.02826905039406838],
        [
            0.09646076681806523,
            0.01,
            0.4798896504144996,
            1.379008574103742,
            -3.290069515436081,
            2.324710524099774,
        ],
    ]
)
TSIT5_WEIGHTS, TSIT5_ROWS, TSIT5_USED = packed(TSIT5_A)
TSIT5_C = np.array([0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0])
TSIT5_E = np.array(  # weights of the error estimate
    [
        0.00178001105222577714,
        0.0008164344596567469,
        -0.007880878010261995,
        0.1447110071732629,
        -0.5823571654525552,
        0.45808210592918697,
        -1.0 / 66.0,
    ]
)

_FROM_3 = (0, 3, 4, 5, 6, 7, 8, 9, 10)
DOP853_A = _lower(
    [
        [0.0],
        [5.26001519587677318785587544488e-2],
        [1.97250569845378994544595329183e-2, 5.91751709536136983633785987549e-2],
        _sparse((0, 2), [2.95875854768068491816892993775e-2, 8.87627564304205475450678981324e-2]),
        _sparse(
            (0, 2, 3),
            [
                2.41365134159266685502369798665e-1,
                -8.84549479328286085344864962717e-1,
                9.24834003261792003115737966543e-1,
            ],
        ),
        _sparse(
            _FROM_3[:3],
            [
                3.7037037037037037037037037037e-2,
                1.70828608729473871279604482173e-1,
                1.25467687566822425016691814123e-1,
            ],
        ),
        _sparse(
            _FROM_3[:4],
            [
                3.7109375e-2,
                1.70252211019544039314978060272e-1,
                6.02165389804559606850219397283e-2,
                -1.7578125e-2,
            ],
        ),
        _sparse(
            _FROM_3[:5],
            [
                3.70920001185047927108779319836e-2,
                1.70383925712239993810214054705e-1,
                1.07262030446373284651809199168e-1,
                -1.53194377486244017527936158236e-2,
                8.27378916381402288758473766002e-3,
            ],
        ),
        _sparse(
            _FROM_3[:6],
            [
                6.24110958716075717114429577812e-1,
                -3.36089262944694129406857109825,
                -8.68219346841726006818189891453e-1,
                2.75920996994467083049415600797e1,
                2.01540675504778934086186788979e1,
                -4.34898841810699588477366255144e1,
            ],
        ),
        _sparse(
            _FROM_3[:7],
            [
                4.77662536438264365890433908527e-1,
                -2.48811461997166764192642586468,
                -5.90290826836842996371446475743e-1,
                2.12300514481811942347288949897e1,
                1.52792336328824235832596922938e1,
                -3.32882109689848629194453265587e1,
                -2.03312017085086261358222928593e-2,
            ],
        ),
        _sparse(
            _FROM_3[:8],
            [
                -9.3714243008598732571704021658e-1,
                5.18637242884406370830023853209,
                1.09143734899672957818500254654,
                -8.14978701074692612513997267357,
                -1.85200656599969598641566180701e1,
                2.27394870993505042818970056734e1,
                2.49360555267965238987089396762,
                -3.0467644718982195003823669022,
            ],
        ),
        _sparse(
            _FROM_3,
            [
                2.27331014751653820792359768449,
                -1.05344954667372501984066689879e1,
                -2.00087205822486249909675718444,
                -1.79589318631187989172765950534e1,
                2.79488845294199600508499808837e1,
                -2.85899827713502369474065508674,
                -8.87285693353062954433549289258,
                1.23605671757943030647266201528e1,
                6.43392746015763530355970484046e-1,
            ],
        ),
        _sparse(
            (0, 5, 6, 7, 8, 9, 10, 11),
            [
                5.42937341165687622380535766363e-2,
                4.45031289275240888144113950566,
                1.89151789931450038304281599044,
                -5.8012039600105847814672114227,
                3.1116436695781989440891606237e-1,
                -1.52160949662516078556178806805e-1,
                2.01365400804030348374776537501e-1,
                4.47106157277725905176885569043e-2,
            ],
        ),
    ]
)
DOP853_WEIGHTS, DOP853_ROWS, DOP853_USED = packed(DOP853_A)
DOP853_C = np.array(
    [
        0.0,
        0.526001519587677318785587544488e-1,
        0.789002279381515978178381316732e-1,
        0.118350341907227396726757197510,
        0.281649658092772603273242802490,
        1.0 / 3.0,
        0.25,
        4.0 / 13.0,
        0.651282051282051282051282051282,
        0.6,
        6.0 / 7.0,
        1.0,
        1.0,
    ]
)
DOP853_E5 = np.zeros(13)  # weights of the two error estimates, of order 5 and 3
DOP853_E5[[0, 5, 6, 7, 8, 9, 10, 11]] = (
    0.1312004499419488073250102996e-1,
    -0.1225156446376204440720569753e1,
    -0.4957589496572501915214079952,
    0.1664377182454986536961530415e1,
    -0.3503288487499736816886487290,
    0.3341791187130174790297318841,
    0.8192320648511571246570742613e-1,
    -0.2235530786388629525884427845e-1,
)
DOP853_E3 = DOP853_A[12].copy()
DOP853_E3[[0, 8, 11]] -= (
    0.244094488188976377952755905512,
    0.733846688281611857341361741547,
    0.220588235294117647058823529412e-1,
)


def _ratios(*pairs: tuple[int, int]) -> list[Fraction]:
    return [Fraction(*pair) for pair in pairs]


def _completed(c: Fraction, tail: list[Fraction]) -> list[float]:
    """Return the row whose first entry makes its sum c."""
    return [float(c - sum(tail)), *map(float, tail)]


ESDIRK_GAMMA = 23.0 / 125.0
_GAMMA = (23, 125)
_C = _ratios(
    (0, 1),
    (46, 125),
    (7121331996143, 11335814405378),
    (49, 353),
    (3706679970760, 5295570149437),
    (347, 382),
    (1, 1),
)
ESDIRK_C = np.array([float(c) for c in _C])
ESDIRK_A = _lower(
    [
        [0.0],
        _completed(_C[1], _ratios(_GAMMA)),
        _completed(_C[2], _ratios((791020047304, 3561426431547), _GAMMA)),
        _completed(_C[3], _ratios((-158159076358, 11257294102345), (-85517644447, 5003708988389), _GAMMA)),
        _completed(
            _C[4],
            _ratios(
                (-1653327111580, 4048416487981),
                (1514767744496, 9099671765375),
                (14283835447591, 12247432691556),
                _GAMMA,
            ),
        ),
        _completed(
            _C[5],
            _ratios(
                (-4540011970825, 8418487046959),
                (-1790937573418, 7393406387169),
                (10819093665085, 7266595846747),
                (4109463131231, 7386972500302),
                _GAMMA,
            ),
        ),
        _completed(
            _C[6],
            _ratios(
                (-188593204321, 4778616380481),
                (2809310203510, 10304234040467),
                (1021729336898, 2364210264653),
                (870612361811, 2470410392208),
                (-1307970675534, 8059683598661),
                _GAMMA,
            ),
        ),
    ]
)
_EMBEDDED = np.array(
    _completed(
        _C[6],
        _ratios(
            (-582099335757, 7214068459310),
            (615023338567, 3362626566945),
            (3192122436311, 6174152374399),
            (6156034052041, 14430468657929),
            (-1011318518279, 9693750372484),
            (1914490192573, 13754262428401),
        ),
    )
)
ESDIRK_WEIGHTS, ESDIRK_ROWS, ESDIRK_USED = packed(np.tril(ESDIRK_A, -1))
ESDIRK_E = ESDIRK_A[6] - _EMBEDDED


def stage_predictors(c: Table, degree: int) -> Table:
    """Return weights w of y_i ~ y_0 + h sum_(j<i) w[i, j] k_j, exact for slopes polynomial in time.

    The polynomial passes through the first stage and the up to ``degree`` latest ones before stage i.
    """
    weights = np.zeros((c.size, c.size))
    for i in range(1, c.size):
        nodes = [0, *range(max(1, i - degree), i)]
        powers = np.arange(len(nodes))
        moments = c[i] ** (powers + 1) / (powers + 1)
        weights[i, nodes] = np.linalg.solve(c[nodes][None, :] ** powers[:, None], moments)
    return weights


ESDIRK_PREDICTOR = stage_predictors(ESDIRK_C, 2)
