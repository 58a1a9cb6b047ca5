"""What a run of this engine cannot do with a model, said before anything is computed."""

from __future__ import annotations

from .failure import ModelFailure
from .ir.model import Model

_CLASSICAL = "leave the record out, or fit a model without it"
_KINDS = {"likelihood": "a likelihood", "minus_two_ll": "minus two log-likelihoods"}


def refuse(model: Model) -> None:
    """Raise :class:`ModelFailure` at the first part of ``model`` that its likelihood would need and lack.

    Nothing of a model is ever left out in silence: what this engine does not have stops the run here.
    """
    observation = model.observation
    if model.mixture is not None:
        raise ModelFailure(
            "mixtures of subpopulations cannot be fitted yet", model.mixture.span, "fit one subpopulation"
        )
    if model.prior is not None:
        raise ModelFailure("priors cannot be used yet", model.prior.span, _CLASSICAL)
    for level in model.levels:
        raise ModelFailure(
            f"random effects nested above the subject (by {level.column}) cannot be fitted yet",
            level.span,
            _CLASSICAL,
        )
    if observation.kind != "normal":
        raise ModelFailure(
            f"observations given as {_KINDS[observation.kind]} cannot be fitted yet", observation.span
        )
    if observation.flag is not None:
        raise ModelFailure(
            f"observations whose kind {observation.flag} decides (values below the limit of quantification, "
            "categories) cannot be fitted yet",
            observation.span,
        )
    if observation.level is not None:
        raise ModelFailure(
            f"residuals correlated within {observation.level} cannot be fitted yet",
            observation.span,
            f"drop {observation.level} from the data items to treat all residuals as independent",
        )
    if model.simulation is not None:
        raise ModelFailure("simulation is not available yet", model.simulation.span, _CLASSICAL)
    for task in model.other_tasks:
        raise ModelFailure(f"{task.name} is not available yet", task.span, _CLASSICAL)
    if model.problems > 1:
        raise ModelFailure(
            f"the file holds {model.problems} problems, and only one can be run at a time",
            None,
            "put each problem into its own file",
        )
