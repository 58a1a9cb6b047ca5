"""Records one by one: the legal forms and what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from elbomix.engine.ir.compartment import OdeDynamics
from elbomix.engine.ir.model import Model
from elbomix.parsers.nmtran.numbers import number, whole
from elbomix.parsers.nmtran.words import RECORDS, resolve_record
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model, read_model


def model(records: str, n_theta: int = 1, n_eta: int = 1, n_eps: int = 1) -> Model:
    """A model without compartments around the given records."""
    terms = [f"THETA({i + 1})" for i in range(n_theta)]
    terms += [f"ETA({i + 1})" for i in range(n_eta)] + [f"EPS({i + 1})" for i in range(n_eps)]
    text = "$PROBLEM p\n$INPUT ID DV\n$DATA d.csv\n$PRED\n Y=" + "+&\n".join(terms) + "\n" + records
    for name, default in (("$THETA", "$THETA 1"), ("$OMEGA", "$OMEGA 1"), ("$SIGMA", "$SIGMA 1")):
        if name not in records:
            text += "\n" + default
    return parse_model(text + "\n")


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_may_be_written_in_full_and_lower_case(name: str) -> None:
    assert resolve_record(name) == name
    assert resolve_record(name.lower()) == name


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("PROB", "PROBLEM"),
        ("INP", "INPUT"),
        ("INPT", "INPUT"),
        ("DAT", "DATA"),
        ("INFILE", "DATA"),
        ("SUB", "SUBROUTINES"),
        ("SUBS", "SUBROUTINES"),
        ("SUBR", "SUBROUTINES"),
        ("SUBROUTINE", "SUBROUTINES"),
        ("MOD", "MODEL"),
        ("ERR", "ERROR"),
        ("THE", "THETA"),
        ("THETAPV", "THETAPV"),
        ("THETAP", "THETAP"),
        ("OME", "OMEGA"),
        ("OMEGAPD", "OMEGAPD"),
        ("SIG", "SIGMA"),
        ("SIGMAP", "SIGMAP"),
        ("EST", "ESTIMATION"),
        ("ESTM", "ESTIMATION"),
        ("ESTIM", "ESTIMATION"),
        ("ESTIMATE", "ESTIMATION"),
        ("COV", "COVARIANCE"),
        ("COVR", "COVARIANCE"),
        ("TAB", "TABLE"),
        ("TABL", "TABLE"),
        ("SCAT", "SCATTERPLOT"),
        ("SIM", "SIMULATION"),
        ("SIML", "SIMULATION"),
        ("SIMULATE", "SIMULATION"),
        ("SIZ", "SIZES"),
        ("INF", "INFN"),
        ("INFN", "INFN"),
        ("MSF", "MSFI"),
        ("ABBR", "ABBREVIATED"),
        ("NON", "NONPARAMETRIC"),
        ("NONP", "NONPARAMETRIC"),
        ("CONTR", "CONTR"),
        ("PK", "PK"),
        ("DES", "DES"),
        ("PRI", "PRIOR"),
        ("PRED", "PRED"),
        ("PR", None),
        ("ERRO", "ERROR"),
        ("ERRORS", None),
        ("", None),
    ],
)
def test_record_abbreviations(word: str, name: str | None) -> None:
    assert resolve_record(word) == name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("-1.", -1.0),
        (".5", 0.5),
        ("+1.5E3", 1500.0),
        ("1D-3", 0.001),
        ("1d+3", 1000.0),
        ("2+1", 20.0),
        ("2-1", 0.2),
        (" 7 ", 7.0),
        ("1e5", 1e5),
        ("", None),
        (".", None),
        ("1_000", None),
        ("nan", None),
        ("inf", None),
        ("0x10", None),
        ("1 2", None),
        ("1E", None),
        ("--1", None),
        ("1E999", None),
    ],
)
def test_fortran_numbers(text: str, value: float | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("3.", 3), ("3.5", None), ("1E99", None), ("x", None)])
def test_whole_numbers(text: str, value: int | None) -> None:
    assert whole(text) == value


@pytest.mark.parametrize(
    ("written_as", "name", "aliases", "role"),
    [
        ("DV=CONC", "DV", ("CONC",), "dv"),
        ("CONC=DV", "DV", ("CONC",), "dv"),
        ("dose=amt", "AMT", ("DOSE",), "amt"),
        ("WT=WEIGHT", "WT", ("WEIGHT",), "covariate"),
        ("X=DROP", "X", (), "dropped"),
        ("SKIP=X", "X", (), "dropped"),
        ("DROP", "DROP", (), "dropped"),
        ("L2=DROP", "L2", (), "dropped"),
    ],
)
def test_input_items(written_as: str, name: str, aliases: tuple[str, ...], role: str) -> None:
    text = f"$PROBLEM p\n$INPUT ID {'' if role == 'dv' else 'DV '}, {written_as}\n$DATA d.csv\n"
    text += "$PRED Y=THETA(1)+ETA(1)+EPS(1)\n$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    column = parse_model(text).inputs.columns[-1]
    assert (column.name, column.aliases, column.role) == (name, aliases, role)


@pytest.mark.parametrize(
    ("options", "comment"),
    [
        ("", "#"),
        ("IGNORE=@", "@"),
        ("IGN=C", "C"),
        ("IGNORE @", "@"),
        ("IGNORE@", "@"),
        ("IGNORE='#'", "#"),
        ('IGNORE = "I"', "I"),
        ("REWIND,IGNORE=I,WIDE", "I"),
    ],
)
def test_comment_characters(options: str, comment: str) -> None:
    text = f"$PROBLEM p\n$INPUT ID DV\n$DATA d.csv {options}\n"
    text += "$PRED Y=THETA(1)+ETA(1)+EPS(1)\n$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    assert parse_model(text).inputs.rows.comment == comment


@pytest.mark.parametrize(
    ("estimation", "method", "evaluate_only"),
    [
        ("", "fo", False),
        ("METHOD=0", "fo", False),
        ("METHOD=ZERO INTER", "foi", False),
        ("METH=1", "foce", False),
        ("METHOD=COND INTERACTION", "focei", False),
        ("METHOD=CONDITIONAL LAPLACIAN", "laplace", False),
        ("METHOD=1 LAPLACE INTER NUMERICAL SLOW", "laplacei", False),
        ("METHOD=1 MAXEVAL=0", "foce", True),
        ("METHOD=1 MAX = 0", "foce", True),
        ("MET=IMP", "imp", False),
        ("METHOD=IMP EONLY=1", "imp", True),
        ("METHOD=IMPMAP MAXEVAL=0", "impmap", False),
        ("METHOD=SAEM NBURN=0 NITER=0", "saem", True),
        ("METHOD=ITS", "its", False),
        ("METHOD=BAYES", "bayes", False),
        ("METHOD=NUTS", "nuts", False),
        ("METHOD=VAE", "vae", False),
        ("METHOD=VAE MAXEVAL=0", "vae", True),
        ("METHOD=HYBRID", "foce", False),
    ],
)
def test_estimation_methods(estimation: str, method: str, evaluate_only: bool) -> None:
    (task,) = model(f"$ESTIMATION {estimation}").estimations
    assert (task.method, task.evaluate_only) == (method, evaluate_only)


def test_estimation_options_have_canonical_names() -> None:
    (task,) = model("$EST METH=1 SIG=3 MAX 500 POSTH -2LL NOOBT MSF=run.msf FORMAT=,1PE13.6").estimations
    assert task.options == (
        ("METHOD", "CONDITIONAL"),
        ("SIGDIGITS", "3"),
        ("MAXEVALS", "500"),
        ("POSTHOC", ""),
        ("-2LOGLIKELIHOOD", ""),
        ("NOOMEGABOUNDTEST", ""),
        ("MSFO", "run.msf"),
        ("FORMAT", ",1PE13.6"),
    )


@pytest.mark.parametrize(
    ("subroutines", "tolerances", "stiff"),
    [
        ("ADVAN13 TOL=6", (1e-6, 1e-12), False),
        ("ADVAN=6 TOL 5", (1e-5, 1e-12), False),
        ("ADVAN6 TOL5", (1e-5, 1e-12), False),
        ("ADVAN=ADVAN8,TRANS=TRANS1 TOL = 7 ATOL=9", (1e-7, 1e-9), True),
        ("ADVAN14", (1e-9, 1e-12), True),
        ("ADVAN6 TOL 5 DP", (1e-5, 1e-12), False),
    ],
)
def test_subroutines_of_differential_equations(
    subroutines: str, tolerances: tuple[float, float], stiff: bool
) -> None:
    text = (
        f"$PROBLEM p\n$INPUT ID TIME DV AMT\n$DATA d.csv\n$SUBS {subroutines}\n$MODEL COMP=(A)\n"
        "$PK K=THETA(1)*EXP(ETA(1))\n"
        "$DES DADT(1)=-K*A(1)\n$ERROR Y=F+EPS(1)\n$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    )
    dynamics = parse_model(text).dynamics
    assert isinstance(dynamics, OdeDynamics)
    assert (dynamics.relative_tolerance, dynamics.absolute_tolerance) == pytest.approx(tolerances, rel=1e-12)
    assert dynamics.stiff is stiff


@pytest.mark.parametrize(
    ("record", "names", "dose", "observation"),
    [
        ("NCOMP=2", ("COMP1", "COMP2"), 1, 1),
        ("COMP COMP", ("COMP1", "COMP2"), 1, 1),
        ("COMP=GUT COMP=CENTRAL", ("GUT", "CENTRAL"), 1, 2),
        ("COMP=(CENTRAL) COMP=(DEPOT)", ("CENTRAL", "DEPOT"), 2, 1),
        ("COMP (X, DEFOBS) COMP(Y DEFDOS)", ("X", "Y"), 2, 1),
        ("COMPARTMENT=('A') COMP=('B' DEFOBSERVATION)", ("A", "B"), 1, 2),
        ("NCOMPARTMENTS=2 COMP=(CENTRAL,DEFDOSE,NOOFF) COMP=", ("CENTRAL", "COMP2"), 1, 1),
    ],
)
def test_compartments(record: str, names: tuple[str, str], dose: int, observation: int) -> None:
    text = (
        f"$PROBLEM p\n$INPUT ID TIME DV AMT\n$DATA d.csv\n$SUBS ADVAN13\n$MODEL {record}\n"
        "$PK K=THETA(1)*EXP(ETA(1))\n"
        "$DES\nDADT(1)=-K*A(1)\nDADT(2)=0\n$ERROR Y=F+EPS(1)\n$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    )
    dynamics = parse_model(text).dynamics
    assert dynamics is not None
    assert tuple(c.name for c in dynamics.compartments) == names
    assert (dynamics.default_dose, dynamics.default_observation) == (dose, observation)


def test_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"cannot read .*absent\.ctl"):
        read_model(tmp_path / "absent.ctl")
    with pytest.raises(ProblemError, match="cannot read"):
        read_model(tmp_path)


def test_byte_order_mark_and_foreign_bytes(tmp_path: Path) -> None:
    text = "$PROBLEM caf\u00e9\n$INPUT ID DV\n$DATA d.csv\n$PRED Y=THETA(1)+ETA(1)+EPS(1)\n"
    text += "$THETA 1 ; \u00b5g\n$OMEGA 1\n$SIGMA 1\n"
    for name, raw in (("bom", text.encode("utf-8-sig")), ("latin", text.encode("latin-1"))):
        path = tmp_path / f"{name}.ctl"
        path.write_bytes(raw)
        read = read_model(path)
        assert (read.title, read.thetas[0].label) == ("caf\u00e9", "\u00b5g")
        assert len(read.source_sha256) == 64


def test_the_covariance_step_may_be_asked_for_in_pieces() -> None:
    task = model("$COV MATRIX=R\n$COVARIANCE PRINT=E UNCONDITIONAL").covariance
    assert task is not None and task.print_eigenvalues
    assert dict(task.options)["MATRIX"] == "R"


def test_routines_beside_pred_are_the_only_thing_refused() -> None:
    with pytest.raises(ProblemError) as caught:
        model("$SUBROUTINES OTHER=extra.f90")
    assert [problem.message[:18] for problem in caught.value.problems] == ["OTHER=extra.f90: F"]
    assert model("$SUBROUTINES DP").dynamics is None
