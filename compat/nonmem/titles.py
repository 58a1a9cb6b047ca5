"""What the files of one estimation step share: method title, goal, first line, column labels."""

from __future__ import annotations

from ...engine.fit import Fit
from .numbers import ADDITIONAL, FieldFormat

# Readers classify a method by words in its title.
_TITLES = {
    "fo": "First Order",
    "foi": "First Order with Interaction",
    "foce": "First Order Conditional Estimation",
    "focei": "First Order Conditional Estimation with Interaction",
    "laplace": "Laplacian Conditional Estimation",
    "laplacei": "Laplacian Conditional Estimation with Interaction",
    "agq": "Adaptive Gauss-Hermite Quadrature",
    "its": "Iterative Two Stage",
    "imp": "Importance Sampling",
    "impmap": "Importance Sampling assisted by MAP Estimation",
    "saem": "Stochastic Approximation Expectation-Maximization",
    "vae": "Variational Autoencoder with Importance Sampling Objective",
}
_EXPECTATION_ONLY = {
    "imp": "Objective Function Evaluation by Importance Sampling",
    "impmap": "Objective Function Evaluation by Importance/MAP Sampling",
}
GRADIENT_METHODS = frozenset({"fo", "foi", "foce", "focei", "laplace", "laplacei", "agq"})
EXPECTATION_METHODS = frozenset({"its", "imp", "impmap", "saem"})  # NONMEM's EM methods


def method_title(method: str, evaluate_only: bool = False, with_prior: bool = True) -> str:
    """Return the title of ``method`` that all files of a step carry.

    ``with_prior`` is False after a step that was told to leave priors out, whether there are any or not.
    """
    prior = "" if with_prior else " (No Prior)"
    if evaluate_only and method in _EXPECTATION_ONLY:
        return f"{_EXPECTATION_ONLY[method]}{prior}"
    return f"{_TITLES[method]}{prior}{' (Evaluation)' if evaluate_only else ''}"


def fit_title(fit: Fit) -> str:
    """Return the method title of a finished step."""
    return method_title(fit.method, fit.status.code == "evaluated", fit.with_prior)


def goal(method: str) -> str:
    """Return what the objective of ``method`` is called."""
    if method in GRADIENT_METHODS:
        return "MINIMUM VALUE OF OBJECTIVE FUNCTION"
    return f"FINAL VALUE OF {'LIKELIHOOD' if method == 'saem' else 'OBJECTIVE'} FUNCTION"


def objective_label(method: str) -> str:
    """Return the label of the column that holds the objective of ``method``."""
    return "SAEMOBJ" if method == "saem" else "OBJ"


def table_line(number: int, title: str, goal_text: str | None = None) -> str:
    """Return the first line of a block; ``goal_text`` names the objective where the file holds one."""
    goal_part = f"Goal Function={goal_text}: " if goal_text else ""
    return (
        f"TABLE NO.{number:6d}: {title}: {goal_part}Problem=1 Subproblem=0 Superproblem1=0 "
        "Iteration1=0 Superproblem2=0 Iteration2=0"
    )


def fit_line(fit: Fit, with_goal: bool = False) -> str:
    """Return the first line of the block of a finished step."""
    return table_line(fit.number, fit_title(fit), goal(fit.method) if with_goal else None)


def label_line(labels: list[str], form: FieldFormat = ADDITIONAL) -> str:
    """Return the line of column labels, without blanks after the last one."""
    return form.row([form.label(label) for label in labels]).rstrip(" ")


def triangle(letters: str, n: int) -> list[str]:
    """Return the labels of a lower triangle row by row: ``ETC(1,1)``, ``ETC(2,1)``..."""
    return [f"{letters}({i},{j})" for i in range(1, n + 1) for j in range(1, i + 1)]
