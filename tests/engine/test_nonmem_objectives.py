"""Objectives at NONMEM's own estimates and initial values against the values that NONMEM printed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support.nonmem_runs import Floats, Run, load

from elbomix.compat.start_values import read_estimates
from elbomix.engine.estimate import initial
from elbomix.engine.ir.task import Method
from elbomix.engine.objective.of_method import objective_of
from elbomix.engine.objective.population import Population

NONMEM, ACOP = "nonmem", "nlmixr2data/nonmem-runs"
# at the final estimates of the .ext file, printed with 6 digits
FINAL: list[tuple[str, str, Method]] = [
    (NONMEM, "acop-run102", "focei"),
    (NONMEM, "bauer-504-foce", "focei"),
    (NONMEM, "bauer-pmixture-foce", "focei"),
    (NONMEM, "mox1-iov-ltbs-ss", "foce"),
    (NONMEM, "pheno-fo", "fo"),
    (NONMEM, "pheno-real-foce", "focei"),
    (NONMEM, "theo-fo-abbr", "fo"),
    (NONMEM, "warfarin-ode-lag", "focei"),
    (NONMEM, "wbc-friberg-ode", "focei"),
]
FINAL_SLOW: list[tuple[str, str, Method]] = [
    *((NONMEM, name, "focei") for name in ("acop-run105-cov", "bauer-402-2cmt-foce", "bolus2cpt-ode")),
    *((NONMEM, name, "focei") for name in ("expo-106-covmodel", "frem-pheno-etas", "pheno-advan3-trans1")),
    *((NONMEM, name, "focei") for name in ("pheno-foce-imp", "pheno-linearized-pred", "warfarin-advan2")),
    *((NONMEM, name, "focei") for name in ("warfarin-pkpd-turnover", "xpose-mx19-run001")),
    (NONMEM, "theo-fo-control5", "fo"),
    *((ACOP, f"runN{n}", "focei") for n in ("001", "013", "023", "035", "061")),
    *((ACOP, f"runODE{n}", "focei") for n in ("002", "021", "032", "042", "056", "063")),
]
# at the initial values, of which NONMEM printed the objective: searched from there, or MAXEVAL=0
FIRST: list[tuple[str, Method]] = [
    ("ddmore-214-hfs-markov", "laplace"),
    ("ddmore-223-irt-eval", "laplace"),
    ("ddmore-224-myelosuppression-eval", "focei"),
    ("ddmore-248-morphine-ltbs-advan5", "foce"),
    ("ddmore-294-zebrafish", "foce"),
    ("ddmore-297-advan5-m3-eval", "laplacei"),
    ("pheno-foce-nointer", "foce"),
]
FIRST_SLOW: list[tuple[str, Method]] = [
    ("ddmore-194-likert-count-eval", "laplace"),
    ("ddmore-213-meropenem-pd", "focei"),
    ("ddmore-220-ethambutol-advan5-eval", "focei"),
    ("ddmore-238-gentamicin-iov-eval", "focei"),
    ("ddmore-244-rif-transit-m3-eval", "laplacei"),
    ("ddmore-247-midazolam-iov", "focei"),
    ("ddmore-256-phenobarb-newborn", "focei"),
    ("ddmore-269-morphine-m3g", "focei"),
    ("ddmore-271-paracetamol-newborn", "focei"),
]


def allowed(reference: float) -> float:
    return max(0.01, 1e-6 * abs(reference))


def printed_first(run: Run) -> float:
    """Return the objective at the initial values: of iteration 0, or the only one."""
    text = (run.folder / run.case["lst"]).read_text(encoding="latin-1")
    found = re.search(r"ITERATION NO\.:\s+0\s+OBJECTIVE VALUE:\s+(\S+)", text)
    return float(found.group(1)) if found else float(run.case["estimates"][0]["ofv"])


def phi(run: Run) -> Floats:
    """Return the .phi file's rows: subject, ID, etas, their variances, contribution."""
    path = next(Path(run.folder).glob("*.phi"))
    rows = [line.split() for line in path.read_text(encoding="latin-1").splitlines()[2:]]
    return np.array(rows, dtype=float)


@pytest.mark.parametrize(
    ("folder", "name", "method"), [*FINAL, *(pytest.param(*c, marks=pytest.mark.slow) for c in FINAL_SLOW)]
)
def test_at_the_final_estimates(folder: str, name: str, method: Method) -> None:
    run = load(folder, name)
    model = run.model()
    estimate = read_estimates(run.folder / run.case["ext"], model)
    found = objective_of(Population(model, run.data(model)), method).value(estimate)
    reference = float(run.case["estimates"][-1]["ofv"])
    if name == "pheno-foce-imp":  # a step of importance sampling follows
        reference = float(run.case["estimates"][0]["ofv"])
    assert found.converged.all()
    assert found.ofv == pytest.approx(reference, abs=allowed(reference))


@pytest.mark.parametrize(
    ("name", "method"), [*FIRST, *(pytest.param(*c, marks=pytest.mark.slow) for c in FIRST_SLOW)]
)
def test_at_the_initial_values(name: str, method: Method) -> None:
    run = load(NONMEM, name)
    model = run.model()
    found = objective_of(Population(model, run.data(model)), method).value(initial(model))
    reference = printed_first(run)
    assert found.ofv == pytest.approx(reference, abs=allowed(reference))


def test_each_subject_of_a_first_order_fit() -> None:
    """Contributions in the .phi file, to the 6 digits of the estimates."""
    run = load(NONMEM, "pheno-fo")
    model = run.model()
    estimate = read_estimates(run.folder / run.case["ext"], model)
    found = objective_of(Population(model, run.data(model)), "fo").value(estimate)
    np.testing.assert_allclose(found.by_subject, phi(run)[:, -1], atol=1e-3)


def test_each_subject_of_a_laplace_fit_with_limits_of_quantification() -> None:
    """99 of 100 subjects as in the .phi file.

    The tenth has two modes whose heights differ by 5e-6 and whose widths differ by 0.9: the run itself
    (random starts, MCETA) took one of them for the objective of its .ext file and the other for its .phi
    file.
    """
    run = load(NONMEM, "bauer-ad3tr4-blq-laplace")
    model = run.model()
    estimate = read_estimates(run.folder / run.case["ext"], model)
    objective = objective_of(Population(model, run.data(model)), "laplacei")
    rows = phi(run)
    found = objective.value(estimate)
    differences = np.abs(found.by_subject - rows[:, -1])
    assert np.flatnonzero(differences > 1e-3).tolist() == [9]
    others = np.arange(100) != 9
    np.testing.assert_allclose(found.modes[0][others], rows[others, 2:6], atol=1e-4)
    # posterior variances: ETC, the lower triangle
    covariance = np.linalg.inv(found.precision[0])[:, *np.tril_indices(4)]
    np.testing.assert_allclose(covariance[others], rows[others, 6:16], rtol=2e-3, atol=1e-5)
