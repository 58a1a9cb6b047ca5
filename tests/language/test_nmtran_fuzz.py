"""Spoilt control streams: every one gives models or problems with places, and soon."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mutations import mutate

from elbomix.engine.ir.show import show
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_models
from elbomix.parsers.source import decode

HERE = Path(__file__).parent
SECONDS = 2.0  # for one file, on a busy machine
LONGEST = 20_000  # characters of a text to spoil: the long ones are like the others


def survives(text: str) -> bool:
    """Read ``text``; tell whether it is a model."""
    start = time.process_time()
    try:
        models = parse_models(text)
    except ProblemError as error:
        models = ()
        assert error.problems and str(error)
        for problem in error.problems:
            assert problem.message and "\n" not in problem.message
            assert problem.span is not None and 0 <= problem.span.start <= problem.span.stop
    else:
        assert models and all(map(show, models))
    assert time.process_time() - start < SECONDS
    return bool(models)


def spoil(texts: list[str], seed: int, n: int) -> float:
    """Read ``n`` spoilt texts, and return the share of those that still are models."""
    draw = random.Random(seed)
    good = 0
    for i in range(n):
        text = mutate(draw, texts)
        try:
            good += survives(text)
        except (Exception, RecursionError) as error:
            raise AssertionError(f"text {i} of seed {seed}: {error!r}\n{text}") from error
    return good / n


def test_spoilt_programs() -> None:
    texts = [path.read_bytes().decode() for path in sorted(HERE.glob("good/*.ctl"))]
    assert 0.02 < spoil(texts, seed=1, n=400) < 0.9  # else the changes are too many, or too few


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_spoilt_control_streams_that_people_wrote(shared: Path, seed: int) -> None:
    folders = ("nmtran-parse", "nonmem", "nlmixr2data/nonmem-runs")
    files = [f for folder in folders for f in sorted((shared / "corpus" / folder).rglob("*"))]
    texts = [decode(f.read_bytes()) for f in files if f.suffix.lower() in (".ctl", ".mod", ".con")]
    assert spoil([text for text in texts if len(text) <= LONGEST], seed=100 + seed, n=1000) > 0.02


WORDS = st.sampled_from(
    """1 0 -1 .5 1E-3 1D3 1.E+2 INF -INF 1000000 FIX FIXED SAME SAME(2) BLOCK(2) BLOCK DIAGONAL(2) SD VARIANCE
    CORRELATION CHOLESKY UNINT NAMES(A,B) VALUES(1,0.1) x2 ( ) , ; & = CL= "a 'b' FILE=x ID DV ETA(1)
    ETAS(1:LAST) BY NOPRINT METHOD=1 LAPLACE (1,2,3) (0,1) (,,3) (1)x3 (0.1)x2 (1,,2) NTHETA=1 NWPRI
    TNPRI (PROBLEM SID=(2[1]) 12345
    """.split()
)
NAMES = st.sampled_from(
    """THETA OMEGA SIGMA ESTIMATION COVARIANCE TABLE SIMULATION PRIOR THETAP THETAPV OMEGAP OMEGAPD LEVEL
    MSFI ETAS SIZES DESIGN NONP CHAIN ANNEAL SUPER PROBLEM DATA INPUT THETAI SCAT BIND OLKJDF
    est sig""".split()
)
FRAME = (
    "$PROBLEM p\n$INPUT ID DV\n$DATA d.csv\n$PRED Y=THETA(1)+ETA(1)+EPS(1)\n$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(NAMES, st.lists(WORDS, max_size=6)), min_size=1, max_size=3))
def test_any_record_gives_a_model_or_problems(records: list[tuple[str, list[str]]]) -> None:
    survives(FRAME + "".join(f"${name} {' '.join(words)}\n" for name, words in records))


numbers = st.floats(-99, 99, allow_nan=False).map(lambda x: round(x, 3)).filter(lambda x: x != 0)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(numbers, st.booleans(), st.sampled_from(["", ",", "\n", " ; label\n"])),
        min_size=1,
        max_size=8,
    )
)
def test_thetas_written_in_any_way_read_back(thetas: list[tuple[float, bool, str]]) -> None:
    """Values, bounds and order survive every separator, in parentheses or not."""
    text = " ".join(
        (f"({value - 1:.3f} , {value} , {value + 1:.3f})" if bounded else f"{value}") + separator
        for value, bounded, separator in thetas
    )
    code = "+".join(f"THETA({i + 1})" for i in range(len(thetas)))
    (model,) = parse_models(FRAME.replace("THETA(1)", code).replace("$THETA 1\n", f"$THETA {text}\n"))
    assert [theta.initial for theta in model.thetas] == [value for value, _, _ in thetas]
    for theta, (value, bounded, _) in zip(model.thetas, thetas, strict=True):
        if bounded:
            assert (theta.lower, theta.upper) == (float(f"{value - 1:.3f}"), float(f"{value + 1:.3f}"))
        span = theta.value_span
        assert span is not None and model.source[span.start : span.stop] == str(value)
