"""Mlxtran: layout, values and expressions, by small tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import projects
from support.simulation import World, compiled

from elbomix.engine.ir.compartment import LinearDynamics
from elbomix.engine.ir.expression import Expression
from elbomix.engine.ir.show import infix, show
from elbomix.engine.ir.statement import Assign
from elbomix.parsers.mlxtran.context import Context
from elbomix.parsers.mlxtran.lexical import Definition, definitions, joined, read_document, without_comments
from elbomix.parsers.mlxtran.parse import parse_value
from elbomix.parsers.mlxtran.syntax import Braces, Name, options
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model
from elbomix.parsers.source import Source


def formula(text: str) -> Expression:
    """Return the expression that an equation of a model becomes."""
    model = parse_model(projects.project(f"x = {text}\nCc = pkmodel(ka, V, Cl)"), "p.mlxtran")
    found = [s for s in model.individual if isinstance(s, Assign) and s.target == "x"]
    return found[0].value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1+2*3", 7.0),
        ("-2^2", -4.0),
        ("2^3^2", 512.0),
        ("2^-1", 0.5),
        ("8/4/2", 1.0),
        ("8-4-2", 2.0),
        ("-(1-3)*2", 4.0),
        ("2*-3", -6.0),
        ("1e-4*.5", 5e-5),
        ("5.+1.2E+3", 1205.0),
        ("exp(log(3))", 3.0),
        ("log10(1000)", 3.0),
        ("log2(8)", 3.0),
        ("factorial(4)", 24.0),
        ("factln(3)", 1.791759469228055),
        ("gammaln(4)", 1.791759469228055),
        ("max(1, 2, min(9, 5))", 5.0),
        ("rem(7, 4)", 3.0),
        ("invlogit(logit(0.3))", 0.3),
        ("normcdf(0)", 0.5),
        ("floor(2.7)+ceil(2.2)", 5.0),
        ("abs(-3)+sqrt(4)", 5.0),
        ("cos(0)+sin(0)", 1.0),
    ],
)
def test_expressions_have_the_value_of_the_manual(text: str, expected: float) -> None:

    assert compiled(formula(text))(World(np.zeros(0), {})) == pytest.approx(expected, rel=1e-14)


def test_comments_and_line_breaks() -> None:
    assert without_comments("a = 'x;y' ; b\nc ; d") == "a = 'x;y'    \nc    "
    assert without_comments("a = 1 ; it's\nb = 2").split() == ["a", "=", "1", "b", "=", "2"]
    assert joined("a = 1 +\n2\nb = f(1,\n2)\nc = 3") == "a = 1 + 2\nb = f(1, 2)\nc = 3"


def test_sections_and_definitions() -> None:
    text = (
        "; generated\r\nDESCRIPTION: a model: it says\nnote: nothing\n<DATAFILE>\n\n[FILEINFO]\nfile=x.csv\n"
        "delimiter = \nheader = {A, B}\n<MODEL>\n[COVARIATE]\nDEFINITION:\ntSex =\n{\n transform = sex,\n"
        " categories = { 'F' = {'0'} } }\n[LONGITUDINAL]\ninput = b\n"
    )
    document = read_document(Source("x", text))
    assert [(b.section, b.subsection, b.name) for b in document.blocks] == [
        ("", "", ""),
        ("", "", "DESCRIPTION"),
        ("DATAFILE", "", ""),
        ("DATAFILE", "FILEINFO", ""),
        ("MODEL", "", ""),
        ("MODEL", "COVARIATE", ""),
        ("MODEL", "COVARIATE", "DEFINITION"),
        ("MODEL", "LONGITUDINAL", ""),
    ]
    found = {
        d.key: document.clean[d.start : d.stop].split()
        for b in document.blocks[3:]
        for d in definitions(document, b)
        if isinstance(d, Definition)
    }
    assert found["file"] == ["x.csv"] and found["delimiter"] == [] and found["header"] == ["{A,", "B}"]
    assert found["tSex"][:4] == ["{", "transform", "=", "sex,"] and found["input"] == ["b"]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("{use=covariate, type=categorical}", ["use", "type"]),
        ("{type=categorical categories={1,2} dependence=Markov}", ["type", "categories", "dependence"]),
        (
            "{distribution=logNormal, typical=a, no-variability}",
            ["distribution", "typical", "no-variability"],
        ),
        ("{'1'=plasma, 2=urine}", ["1", "2"]),
        ("{value=-1.5e-3, method=FIXED,}", ["value", "method"]),
        ("{}", []),
    ],
)
def test_lists(text: str, keys: list[str]) -> None:
    document = read_document(Source("x", text))
    value = parse_value(document, 0, len(text))
    assert isinstance(value, Braces)
    assert list(options(value)) == keys


def test_a_list_of_one_may_drop_its_braces() -> None:
    document = read_document(Source("x", "a = b"))
    entry = Context(document).entries(document, document.blocks)[0]
    assert isinstance(entry.value, Name) and entry.names == ("b",)


def test_equations_may_stand_in_any_order() -> None:
    equations = """
    E = k0*2
    Cc = A/V
    ddt_A = -r*A
    r = Cl/V
    k0 = r + 1
    A_0 = E
    z = 1
    if r > 2
      z = z + r
    end
    w = z
    z = 5
    """
    model = parse_model(projects.project(equations), "p.mlxtran")
    order = [s.target if isinstance(s, Assign) else "if" for s in model.individual]
    assert order.index("r") < order.index("k0") < order.index("E") < order.index("A_0")
    positions = [i for i, name in enumerate(order) if name == "z"]
    assert len(positions) == 2 and positions[0] < order.index("if") < order.index("w") < positions[1]


def test_what_time_touches_is_evaluated_with_it() -> None:
    equations = "if t > 3\n k = 1\nelse\n k = 2\nend\nddt_A = -k*A\nCc = A/V + 0*t\nunused = t + 1\n"
    shown = show(parse_model(projects.project(equations), "p.mlxtran"))
    dynamics = shown.split("dynamics:")[1].split("observations:")[0]
    observations = shown.split("observations:")[1]
    assert (
        "if time > 3:" in dynamics and "k" not in shown.split("individual:")[1].split("dynamics")[0].split()
    )
    assert "Cc = amount(1)/V + 0*data.TIME" in observations and "unused" not in shown


@pytest.mark.parametrize(
    ("equations", "transfers", "modifiers"),
    [
        ("Cc = pkmodel(V, Cl)", {(1, 0): "Cl/V"}, {}),
        ("Cc = pkmodel(V, k=Cl/V)", {(1, 0): "Cl/V"}, {}),
        ("Cc = pkmodel(ka, V, Cl)", {(1, 2): "ka", (2, 0): "Cl/V"}, {}),
        ("Cc = pkmodel(ka, V, Cl, Tlag=1, p=0.5)", {(1, 2): "ka", (2, 0): "Cl/V"}, {1: ("0.5", "1", None)}),
        ("Cc = pkmodel(Tk0=ka, V, Cl, p=1)", {(1, 0): "Cl/V"}, {1: (None, None, "ka")}),
        (
            "Cc = pkmodel(V, Cl, k12=0.1, k21=0.2, k13=0.3, k31=0.4)",
            {(1, 0): "Cl/V", (1, 2): "0.1", (2, 1): "0.2", (1, 3): "0.3", (3, 1): "0.4"},
            {},
        ),
        (
            "PK:\ncompartment(cmt=1, amount=Ac, volume=V, concentration=Cc)\noral(ka, p=0.3)\niv(adm=2)\n"
            "peripheral(k12=0.1, k21=0.2, amount=Ap)\nelimination(cmt=1, Cl)\nelimination(k=0.7)",
            {(2, 1): "ka", (1, 0): "Cl/V + 0.7", (1, 3): "0.1", (3, 1): "0.2"},
            {2: ("0.3", None, None)},
        ),
        (
            "PK:\ncompartment(cmt=1, volume=V, concentration=Cc)\ncompartment(cmt=2, amount=M)\niv()\n"
            "transfer(from=1, to=2, kt=Cl)\nelimination(cmt=2, k=ka)",
            {(1, 2): "Cl", (2, 0): "ka"},
            {},
        ),
    ],
)
def test_macros_become_a_graph_of_transfers(
    equations: str, transfers: dict[tuple[int, int], str], modifiers: dict[int, tuple[str | None, ...]]
) -> None:
    model = parse_model(projects.project(equations), "p.mlxtran")
    assert isinstance(model.dynamics, LinearDynamics)
    found: dict[tuple[int, int], str] = {}
    for t in model.dynamics.transfers:
        pair = (t.source, t.target)
        found[pair] = f"{found[pair]} + {infix(t.rate)}" if pair in found else infix(t.rate)
    assert found == transfers
    for i, compartment in enumerate(model.dynamics.compartments, start=1):
        shown = tuple(
            None if e is None else infix(e)
            for e in (compartment.bioavailability, compartment.lag, compartment.duration)
        )
        assert shown == modifiers.get(i, (None, None, None))


@pytest.mark.parametrize(
    ("error", "response"),
    [
        ("{distribution=normal, prediction=Cc, errorModel=constant(a)}", "Cc + theta(4)*eps(1)"),
        ("{type=continuous, prediction=Cc, errorModel=proportional(a)}", "Cc + theta(4)*Cc*eps(1)"),
        ("{prediction=Cc, errorModel=combined1(a, b)}", "Cc + (theta(4) + theta(5)*Cc)*eps(1)"),
        (
            "{prediction=Cc, errorModel=combined2(a, b)}",
            "Cc + sqrt(theta(4)**2 + (theta(5)*Cc)**2)*eps(1)",
        ),
        (
            "{prediction=Cc, errorModel=combined1c(a, b, c)}",
            "Cc + (theta(4) + theta(5)*Cc**theta(6))*eps(1)",
        ),
        (
            "{distribution=lognormal, prediction=Cc, errorModel=constant(a)}",
            "log(Cc) + theta(4)*eps(1)",
        ),
        ("{prediction=Cc, errorModel=exponential(a)}", "log(Cc) + theta(4)*eps(1)"),
        (
            "{distribution=logitNormal, min=0, max=200, prediction=Cc, errorModel=constant(a)}",
            "logit(Cc/200) + theta(4)*eps(1)",
        ),
    ],
)
def test_error_models(error: str, response: str) -> None:
    more = "b = {value=0.1, method=MLE}\nc = {value=1, method=FIXED}"
    text = projects.project(error=f"y = {error}", parameters=more)
    model = parse_model(text.replace("input = {ka, V, Cl, a}", "input = {ka, V, Cl, a, b, c}"), "p.mlxtran")
    last = model.observation.statements[-1]
    assert isinstance(last, Assign) and infix(last.value) == response
    assert [b.values for b in model.sigma] == [(1.0,)] and model.sigma[0].fixed


@pytest.mark.parametrize(
    ("definition", "value"),
    [
        ("{distribution=normal, typical=ka_pop, sd=omega_ka}", "theta(1) + eta(1)"),
        ("{distribution=LOGNORMAL, reference=ka_pop, sd=omega_ka}", "exp(log(theta(1)) + eta(1))"),
        ("{distribution=lognormal, mean=ka_pop, sd=omega_ka}", "exp(theta(1) + eta(1))"),
        ("{distribution=logNormal, typical=ka_pop, no-variability}", "theta(1)"),
        ("{distribution=logNormal, typical=3, var=omega_ka}", "exp(log(3) + eta(1))"),
        (
            "{distribution=logitNormal, min=1, max=3, typical=ka_pop, sd=omega_ka}",
            "1 + 2*invlogit(logit((theta(1) - 1)/2) + eta(1))",
        ),
        (
            "{distribution=logNormal, typical=ka_pop, covariate={WT, lw}, coefficient={b1, 0.75}, sd=0.2}",
            "exp(log(theta(1)) + theta(2)*data.WT + 0.75*lw + eta(1))",
        ),
    ],
)
def test_distributions(definition: str, value: str) -> None:
    text = projects.project(
        individual={"ka": definition, "V": projects.INDIVIDUAL["V"], "Cl": projects.INDIVIDUAL["Cl"]},
        header="ID, TIME, AMT, DV, WT",
        content="WT = {use=covariate, type=continuous}",
        covariate="[COVARIATE]\ninput = WT\nEQUATION:\nlw = log(WT/70)\n",
        parameters="b1 = {value=0.1, method=MLE}",
    )
    model = parse_model(text, "p.mlxtran")
    found = next(s for s in model.individual if isinstance(s, Assign) and s.target == "ka")
    assert infix(found.value) == value
    if "var=" in definition:
        assert model.omega[0].values[0] == pytest.approx(0.5)
    elif "sd=0.2" in definition:
        assert model.omega[0].values[0] == pytest.approx(0.04) and model.omega[0].fixed


def test_problems_of_both_files_show_their_lines(tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text("[LONGITUDINAL]\ninput = {ka, V, Cl}\nPK:\nCc = pkmodel(ka, V, Kl)\n")
    text = projects.project("x = 1").replace("input = {ka, V, Cl, a}", "input = a\nfile = 'm.txt'")
    with pytest.raises(ProblemError) as caught:
        parse_model(text, str(tmp_path / "p.mlxtran"))
    message = str(caught.value)
    assert "m.txt:4:21: error: pkmodel has no argument Kl" in message
    assert "    4 | Cc = pkmodel(ka, V, Kl)" in message
