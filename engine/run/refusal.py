"""What a run of this engine cannot do with a model, said before anything is computed."""

from __future__ import annotations

from ..failure import ModelFailure
from ..ir.compartment import OdeDynamics
from ..ir.held_variables import accumulating_variable
from ..ir.model import Model
from ..ir.parameter import matrix
from ..ir.statement import assignments
from ..ir.task import Method
from ..kernel.specialise import extremes_read

_WITHOUT = "leave the record out, or fit a model without it"
_KINDS = {"likelihood": "a likelihood", "minus_two_ll": "minus two log-likelihoods"}
_LINEARISING: tuple[Method, ...] = ("fo", "foi", "foce", "focei")
_NESTED: tuple[Method, ...] = ("foce", "focei", "laplace", "laplacei", "its")
_CLASSICAL = "use a classical method (--method focei, laplacei, saem...), or fit a model without it"


def refuse(model: Model, method: Method = "vae") -> None:
    """Raise :class:`ModelFailure` at the first part of ``model`` that ``method`` would need and lacks.

    Nothing of a model is ever left out in silence: what this engine does not have stops the run here.
    """
    if model.levels and method not in _NESTED:
        raise ModelFailure(
            f"{method.upper()} is not available with random effects that groups of subjects share (by "
            f"{model.levels[0].column})",
            model.levels[0].span,
            f"use {', '.join(_NESTED)}; or let {model.levels[0].column} be the ID, the subjects within "
            "it occasions with random effects of their own (SAME blocks)",
        )
    if model.prior is not None and model.prior.transformed:
        raise ModelFailure(
            "a prior of the transformed parameters (TNPRI) cannot be used: its values are in a binary file "
            "of an earlier run",
            model.prior.span,
            "write the prior out with $PRIOR NWPRI, $THETAP, $THETAPV, $OMEGAP and $OMEGAPD",
        )
    if isinstance(model.dynamics, OdeDynamics):
        given = [a.target for a in assignments(model.individual)]
        found = accumulating_variable(model.dynamics.statements, given)
        if found is not None:
            name, span = found
            raise ModelFailure(
                f"{name} keeps its value from one evaluation of the differential equations to the next, and "
                "those follow the steps of the solver",
                span,
                f"compute {name} in the individual model, or as a compartment of its own",
            )
        extreme = next(iter(extremes_read(model, None)), None)
        if extreme is not None:
            raise ModelFailure(
                f"the likelihood depends on {extreme}, the largest or smallest value that the solution took",
                model.observation.span,
                f"{extreme} can be tabulated; let Y depend on amounts at the time of the record",
            )
    if method == "vae":
        _refuse_for_the_encoder(model)
    elif method in _LINEARISING:
        _refuse_to_linearise(model)
    if model.simulation is not None:
        raise ModelFailure("simulation is not available yet", model.simulation.span, _WITHOUT)
    for task in model.other_tasks:
        if task.name in ("etas", "phis") and method != "vae":
            continue
        raise ModelFailure(f"${task.name.upper()} is not available", task.span, _WITHOUT)
    if model.problems > 1:
        raise ModelFailure(
            f"the file holds {model.problems} problems, and only one can be run at a time",
            None,
            "put each problem into its own file",
        )


def _refuse_for_the_encoder(model: Model) -> None:
    """Refuse what only the classical methods have a likelihood for."""
    observation = model.observation
    if model.mixture is not None:
        raise ModelFailure("the VAE cannot fit mixtures of subpopulations", model.mixture.span, _CLASSICAL)
    if model.prior is not None:
        raise ModelFailure("the VAE cannot use priors", model.prior.span, _CLASSICAL)
    if observation.kind != "normal":
        raise ModelFailure(
            f"the VAE cannot fit observations given as {_KINDS[observation.kind]}",
            observation.span,
            _CLASSICAL,
        )
    if observation.flag is not None:
        raise ModelFailure(
            f"the VAE cannot fit observations whose kind {observation.flag} decides (values below the limit "
            "of quantification, categories)",
            observation.span,
            _CLASSICAL,
        )
    if observation.level is not None:
        raise ModelFailure(
            f"the VAE cannot fit residuals correlated within {observation.level}",
            observation.span,
            f"{_CLASSICAL}; or drop {observation.level} from the data items to treat all residuals as "
            "independent",
        )


def _refuse_to_linearise(model: Model) -> None:
    """Refuse likelihoods of the user's own where a method needs means and variances of the observations."""
    observation = model.observation
    has_effects = any(row[i] > 0 for i, row in enumerate(matrix(model.omega)))
    if has_effects and (observation.kind != "normal" or observation.flag is not None):
        what = (
            f"whose kind {observation.flag} decides"
            if observation.flag is not None
            else f"given as {_KINDS[observation.kind]}"
        )
        raise ModelFailure(
            f"observations {what} need the second derivatives of the Laplace approximation",
            observation.span,
            "METHOD=1 LAPLACE (--method laplace), or IMP, SAEM",
        )
