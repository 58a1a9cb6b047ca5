"""What the files of one estimation step share: method title, first line, column labels."""

from __future__ import annotations

from ...engine.fit import Fit
from .numbers import ADDITIONAL, FieldFormat

TABLE_NUMBER = 1
GOAL = "FINAL VALUE OF OBJECTIVE FUNCTION"

# Readers classify a method by words in its title; every objective written here is by importance sampling.
_TITLES = {
    "vae": "Variational Autoencoder with Importance Sampling Objective",
    "imp": "Importance Sampling",
}


def method_title(method: str, evaluate_only: bool = False) -> str:
    """Return the title of ``method`` that all files of a step carry."""
    title = _TITLES.get(method.lower(), f"{method.upper()} with Importance Sampling Objective")
    return f"{title} (Evaluation)" if evaluate_only else title


def fit_title(fit: Fit) -> str:
    """Return the method title of a finished step."""
    return method_title(fit.method, fit.status.code == "evaluated")


def table_line(title: str, goal: str | None = None) -> str:
    """Return the first line of a file; ``goal`` names the objective where the file holds one."""
    goal_text = f"Goal Function={goal}: " if goal else ""
    return (
        f"TABLE NO.{TABLE_NUMBER:6d}: {title}: {goal_text}Problem=1 Subproblem=0 Superproblem1=0 "
        "Iteration1=0 Superproblem2=0 Iteration2=0"
    )


def label_line(labels: list[str], form: FieldFormat = ADDITIONAL) -> str:
    """Return the line of column labels, without blanks after the last one."""
    return form.row([form.label(label) for label in labels]).rstrip(" ")


def triangle(letters: str, n: int) -> list[str]:
    """Return the labels of a lower triangle row by row: ``ETC(1,1)``, ``ETC(2,1)``..."""
    return [f"{letters}({i},{j})" for i in range(1, n + 1) for j in range(1, i + 1)]
