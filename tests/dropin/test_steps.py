"""All estimation steps of a control stream in one run, and what other programs read from its files."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from elbomix.compat.run import execute, prepare
from elbomix.engine.estimate import names
from elbomix.engine.fit import Fit
from elbomix.engine.iteration import Iteration
from elbomix.engine.methods.conditional import ConditionalSettings
from elbomix.engine.methods.importance_sampling import ImportanceSettings
from elbomix.engine.run.planned_step import PlannedStep
from elbomix.parsers.problem import ProblemError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "theophylline"
STEPS = """\
$ESTIMATION METHOD=0 POSTHOC MAXEVAL=9999 PRINT=5
$ESTIMATION METHOD=1 INTERACTION MAXEVAL=9999 PRINT=2
$ESTIMATION METHOD=SAEM NBURN=30 NITER=20 PRINT=10 CTYPE=3 CITER=5 CINTERVAL=2
$ESTIMATION METHOD=IMP EONLY=1 NITER=3 ISAMPLE=300 PRINT=1
"""
TITLES = [
    "First Order",
    "First Order Conditional Estimation with Interaction",
    "Stochastic Approximation Expectation-Maximization",
    "Objective Function Evaluation by Importance Sampling",
]
SIX_DIGITS = 5e-6  # of s1PE12.5


@dataclass(frozen=True)
class Run:
    """A run and the folder of its files."""

    fits: tuple[Fit, ...]
    folder: Path

    def text(self, suffix: str) -> str:
        return (self.folder / f"theo{suffix}").read_text()

    def blocks(self, suffix: str) -> dict[int, tuple[str, pd.DataFrame]]:
        """Return title and table of every block of a file, by its number."""
        found = {}
        for part in re.split(r"^TABLE NO\.", self.text(suffix), flags=re.M)[1:]:
            head, _, body = part.partition("\n")
            number, title = head.split(":")[:2]
            found[int(number)] = (title.strip(), pd.read_csv(StringIO(body), sep=r"\s+"))
        return found


def stream(folder: Path, steps: str) -> Path:
    """Write the example with other steps into ``folder``."""
    text = (EXAMPLE / "theophylline.ctl").read_text()
    record = next(line for line in text.splitlines(keepends=True) if line.startswith("$ESTIMATION"))
    path = folder / "theo.ctl"
    path.write_text(text.replace(record, steps))
    (folder / "theophylline.csv").write_text((EXAMPLE / "theophylline.csv").read_text())
    return path


def run_stream(
    folder: Path, steps: str, observer: Callable[[PlannedStep, Iteration], None] | None = None, **options: Any
) -> Run:
    job = prepare(stream(folder, steps), method="as-written", output=folder / "out", **options)
    return Run(execute(job, observer).fits, folder / "out")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_stream(tmp_path_factory.mktemp("chain"), STEPS)


def test_each_step_starts_where_the_one_before_ended(chain: Run) -> None:
    assert [fit.method for fit in chain.fits] == ["fo", "focei", "saem", "imp"]
    first, second, _, last = chain.fits
    assert second.history[0].estimate.flatten() == pytest.approx(first.estimate.flatten(), rel=1e-9)
    assert last.estimate.flatten() == pytest.approx(chain.fits[2].estimate.flatten(), rel=1e-12)
    # the marginal likelihood at nearby estimates, by linearisation and by Monte Carlo
    assert last.objective_se is not None
    assert last.ofv == pytest.approx(second.ofv, abs=2 + 5 * last.objective_se)


def test_every_file_has_a_block_for_each_step(chain: Run) -> None:
    for suffix in (".ext", ".phi", ".shk", ".shm"):
        blocks = chain.blocks(suffix)
        assert [title for title, _ in blocks.values()] == TITLES, suffix
    assert sorted(chain.blocks(".grd")) == [1, 2]
    assert sorted(chain.blocks(".cnv")) == [3]
    assert re.findall(r"^ #METH: (.+)$", chain.text(".lst"), re.M) == TITLES
    assert [int(n) for n in re.findall(r"^ #TBLN: +(\d+)$", chain.text(".lst"), re.M)] == [1, 2, 3, 4]
    # standard errors of a gradient method only where it is the last one
    assert not {1, 2} & set(chain.blocks(".cov"))


def test_rows_are_those_that_print_asks_for(chain: Run) -> None:
    numbers = {
        k: [int(i) for i in t["ITERATION"] if i > -(10**9)] for k, (_, t) in chain.blocks(".ext").items()
    }
    for step, interval in ((1, 5), (2, 2)):
        assert numbers[step][:-1] == list(range(0, numbers[step][-1], interval))
        gradients = chain.blocks(".grd")[step][1]
        assert list(gradients["ITERATION"]) == numbers[step]
        assert gradients.shape[1] == 1 + 7  # three thetas, three variances, one residual variance
    assert numbers[3][0] == -30 and numbers[3][-1] == 20 and {0, 10} < set(numbers[3])
    assert numbers[4] == [0, 1, 2, 3]


def test_final_rows(chain: Run) -> None:
    blocks = chain.blocks(".ext")
    objective = {1: "OBJ", 2: "OBJ", 3: "SAEMOBJ", 4: "OBJ"}
    codes = {1: (0.0, 37.0), 2: (0.0, 37.0), 3: (0.0, 0.0), 4: (2.0, 0.0)}
    for fit, (number, (_, table)) in zip(chain.fits, blocks.items(), strict=True):
        rows = table.set_index("ITERATION")
        assert rows.columns[-1] == objective[number]
        final = rows.loc[-1000000000]
        assert final.iloc[:-1].to_numpy() == pytest.approx(fit.estimate.flatten(), rel=SIX_DIGITS)
        assert final.iloc[-1] == pytest.approx(fit.ofv, rel=1e-14)
        assert tuple(rows.loc[-1000000007].iloc[:2]) == codes[number]
        assert list(rows.columns[:-1]) == list(names(fit.model))


def test_individuals_add_up_to_the_objective(chain: Run) -> None:
    for fit, (number, (_, table)) in zip(chain.fits, chain.blocks(".phi").items(), strict=True):
        effects = "PHI(1)" if number > 2 else "ETA(1)"
        assert list(table.columns[:3]) == ["SUBJECT_NO", "ID", effects]
        assert table.iloc[:, -1].sum() == pytest.approx(fit.ofv, rel=1e-12)
        shrinkage = chain.blocks(".shk")[number][1].set_index("TYPE")
        eta = table[effects].to_numpy()
        if number == 1:  # FO: what POSTHOC finds is in tables alone
            assert not eta.any()
            eta = fit.individuals.ebe[:, 0]
        # definition: 1 - SD of the random effects over the square root of omega, etabar their mean
        share = 1 - eta.std(ddof=1) / np.sqrt(fit.estimate.omega[0, 0])
        assert shrinkage.loc[4, "ETA(1)"] == pytest.approx(max(100 * share, 1e-10), abs=2e-3)
        assert shrinkage.loc[1, "ETA(1)"] == pytest.approx(eta.mean(), abs=1e-5)


@pytest.mark.filterwarnings("ignore")  # pharmpy's own
def test_pharmpy_reads_every_step(chain: Run) -> None:
    tools: Any = importlib.import_module("pharmpy.tools")
    results = tools.read_modelfit_results(chain.folder / "theo.ctl")
    last, focei = chain.fits[-1], chain.fits[1]
    assert results.ofv == pytest.approx(last.ofv, rel=1e-14)
    assert results.log_likelihood == pytest.approx(last.ofv + last.constant, rel=1e-12)
    assert list(results.minimization_successful_iterations) == [True] * 4
    assert list(results.evaluation) == [0, 0, 0, 1]
    ends = results.ofv_iterations.groupby(level=0).last()
    assert list(ends) == pytest.approx([fit.ofv for fit in chain.fits], rel=1e-14)
    assert focei.search is not None and focei.search.significant_digits is not None
    assert results.significant_digits_iterations[2] == pytest.approx(
        focei.search.significant_digits, abs=0.06
    )
    assert results.function_evaluations_iterations[2] == focei.search.evaluations
    assert results.gradients.to_numpy() == pytest.approx(focei.search.gradients[-1], rel=SIX_DIGITS)
    etas = results.individual_estimates.to_numpy()
    assert etas == pytest.approx(last.individuals.cond_mean, rel=SIX_DIGITS, abs=1e-7)
    second = results.individual_estimates_covariance.iloc[1].to_numpy()
    assert second == pytest.approx(last.individuals.cond_cov[1], rel=SIX_DIGITS, abs=1e-7)


def test_the_observer_hears_of_every_step_as_it_runs(tmp_path: Path) -> None:
    heard: list[tuple[int, str]] = []
    run_stream(
        tmp_path,
        "$ESTIMATION METHOD=0 MAXEVAL=9\n$ESTIMATION METHOD=1\n",
        lambda step, _: heard.append((step.number, step.method)),
    )
    assert list(dict.fromkeys(heard)) == [(1, "fo"), (2, "foce")]


@pytest.mark.filterwarnings("ignore")  # pharmpy's own
def test_a_search_that_ran_out_of_evaluations_says_so(tmp_path: Path) -> None:
    done = run_stream(tmp_path, "$ESTIMATION METHOD=1 INTERACTION MAXEVAL=2\n")
    assert done.fits[0].status.code == "not_converged"
    text = done.text(".lst")
    assert "0MINIMIZATION TERMINATED\n DUE TO MAX. NO. OF FUNCTION EVALUATIONS EXCEEDED\n" in text
    codes = done.blocks(".ext")[1][1].set_index("ITERATION").loc[-1000000007]
    assert tuple(codes.iloc[:2]) == (131.0, 50.0)
    # the covariance step is conditional on a search that ended well
    assert "0COVARIANCE STEP ABORTED" in text and not (done.folder / "theo.cov").exists()
    tools: Any = importlib.import_module("pharmpy.tools")
    results = tools.read_modelfit_results(done.folder / "theo.ctl")
    assert not results.minimization_successful
    assert results.termination_cause == "maxevals_exceeded"


@pytest.mark.filterwarnings("ignore")  # pharmpy's own
def test_maxeval_zero_evaluates(tmp_path: Path) -> None:
    done = run_stream(tmp_path, "$ESTIMATION METHOD=1 INTERACTION MAXEVAL=0\n")
    (fit,) = done.fits
    assert fit.status.code == "evaluated"
    title, table = done.blocks(".ext")[1]
    assert title == "First Order Conditional Estimation with Interaction (Evaluation)"
    assert table["OBJ"].iloc[0] == pytest.approx(fit.ofv, rel=1e-14)
    assert not (done.folder / "theo.grd").exists()
    tools: Any = importlib.import_module("pharmpy.tools")
    results = tools.read_modelfit_results(done.folder / "theo.ctl")
    assert results.ofv == pytest.approx(fit.ofv, rel=1e-14)
    assert list(results.evaluation) == [1]


def test_words_without_effect_are_named_once_for_each_reason(tmp_path: Path) -> None:
    job = prepare(
        stream(tmp_path, "$ESTIMATION METHOD=1 INTERACTION MAXEVAL=0 SIGL=9 SLOW NOABORT FORMAT=s1PE15.8\n"),
        method="as-written",
    )
    said = [notice.message for notice in job.model.notices]
    assert sum("SIGL" in message for message in said) == 1
    assert sum("SLOW" in message for message in said) == 1
    assert any("NOABORT" in message for message in said)
    assert not any("FORMAT" in message for message in said)
    assert not any("MAXEVALS" in message or "INTERACTION" in message for message in said)


@pytest.mark.parametrize(
    ("method", "title"),
    [
        ("foce", "First Order Conditional Estimation"),
        ("laplacei", "Laplacian Conditional Estimation with Interaction"),
    ],
)
def test_a_method_that_the_stream_does_not_name(method: str, title: str, tmp_path: Path) -> None:
    job = prepare(stream(tmp_path, STEPS), method=method, evaluate=True, output=tmp_path / "out")
    assert [step.method for step in job.steps] == [method]
    done = Run(execute(job).fits, tmp_path / "out")
    assert done.blocks(".ext")[1][0] == f"{title} (Evaluation)"
    assert sum("was not run" in notice.message for notice in job.model.notices) == 4


def test_options_of_the_streams_own_step_are_taken(tmp_path: Path) -> None:
    path = stream(
        tmp_path,
        "$ESTIMATION METHOD=1 INTERACTION MAXEVAL=77 SIGDIGITS=4\n$ESTIMATION METHOD=IMP ISAMPLE=99\n",
    )
    (step,) = prepare(path, method="focei").steps
    assert isinstance(step.settings, ConditionalSettings)
    assert step.settings.max_evaluations == 77 and step.settings.significant_digits == 4.0
    (step,) = prepare(path, method="imp", seed=5).steps
    assert isinstance(step.settings, ImportanceSettings)
    assert step.settings.draws == 99 and step.settings.proposal.seed == 5
    (step,) = prepare(path, method="laplacei").steps
    assert isinstance(step.settings, ConditionalSettings)
    assert step.settings.max_evaluations is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("IMP IACCEPT=3", "IACCEPT=3: a number from 0 to 1 is needed"),
        ("IMP CTYPE=3 CALPHA=-0.1", "CALPHA=-0.1: a number from 0 to 1 is needed"),
        ("IMPMAP DF=-1", "DF=-1: 0 or more is needed"),
        ("IMP ISAMPLE=0", "ISAMPLE=0: 1 or more is needed"),
        ("SAEM NBURN=-200 NITER=5", "NBURN=-200: 0 or more is needed"),
        ("SAEM ISAMPLE_M2=x", "ISAMPLE_M2=x: a number is needed"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(tmp_path: Path, words: str, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        prepare(stream(tmp_path, f"$ESTIMATION METHOD={words}\n"), method="as-written")


def test_of_two_steps_of_the_method_asked_for_the_last_gives_settings_and_layout(tmp_path: Path) -> None:
    """NONMEM would end with that step, and what is read from the files is its block."""
    path = stream(
        tmp_path,
        "$ESTIMATION METHOD=1 INTERACTION MAXEVAL=77 PRINT=3 FORMAT=,1PE13.6 ORDER=SOTL NOTITLE=1\n"
        "$ESTIMATION METHOD=1 INTERACTION MAXEVAL=0 PRINT=7 FORMAT=s1PE16.9 ORDER=OTSL NOTITLE=0\n",
    )
    done = Run(execute(prepare(path, method="focei", output=tmp_path / "out")).fits, tmp_path / "out")
    (fit,) = done.fits
    assert fit.settings["max_evaluations"] == 0 and fit.print_interval == 7
    title, table = done.blocks(".ext")[1]
    assert title == TITLES[1] + " (Evaluation)"
    assert table.columns[1] == "OMEGA(1,1)" and table.columns[-2] == "SIGMA(1,1)"
    assert re.search(r" -1000000000 +[ -]\d\.\d{9}E[+-]\d\d ", done.text(".ext"))
    assert "," not in done.text(".shk")


@pytest.mark.parametrize(
    ("words", "points"),
    [("", "sobol"), ("RANMETHOD=S2", "sobol"), ("RANMETHOD=3S2P", "sobol"), ("RANMETHOD=3", "random")],
)
def test_points_are_even_unless_the_step_names_a_generator(words: str, points: str, tmp_path: Path) -> None:
    job = prepare(stream(tmp_path, f"$ESTIMATION METHOD=IMP {words}\n"), method="as-written")
    settings = job.steps[0].settings
    assert isinstance(settings, ImportanceSettings)
    assert settings.proposal.points == points


def test_a_later_problem_that_only_simulates_is_left_out_with_a_notice(tmp_path: Path) -> None:
    path = stream(tmp_path, "$ESTIMATION METHOD=1 INTERACTION MAXEVAL=0\n")
    second = "$PROBLEM simulations\n$INPUT ID TIME AMT DV EVID MDV WT SEX\n$DATA theophylline.csv IGNORE=@\n"
    second += "$PRED\n Y = THETA(1) + ETA(1) + EPS(1)\n$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    path.write_text(path.read_text() + second + "$SIMULATION (123) ONLYSIMULATION\n")
    job = prepare(path, method="as-written")
    assert execute(job).fit.status.code == "evaluated"
    (notice,) = [n for n in job.model.notices if "problem 2" in n.message]
    assert notice.span is not None and notice.span.line == path.read_text().count("\n")


def test_several_problems_that_estimate_are_refused(tmp_path: Path) -> None:
    path = stream(tmp_path, "$ESTIMATION METHOD=1 INTERACTION MAXEVAL=0\n")
    path.write_text(path.read_text() * 2)
    with pytest.raises(ProblemError, match="2 problems"):
        execute(prepare(path, method="as-written"))


@pytest.mark.parametrize("name", ["theo.ext", "fit.json", "sub/theo_final.ctl"])
def test_a_table_with_the_name_of_another_file_of_the_run_is_refused(tmp_path: Path, name: str) -> None:
    path = stream(tmp_path, f"$ESTIMATION METHOD=1 MAXEVAL=0\n$TABLE ID FILE={name}\n")
    with pytest.raises(ProblemError, match=f"a file of its own named {Path(name).name}"):
        prepare(path, method="as-written", output=tmp_path / "out")


def test_steps_of_a_later_problem_are_said_to_be_elsewhere(tmp_path: Path) -> None:
    path = stream(tmp_path, "$PROBLEM two\n$ESTIMATION METHOD=1\n")
    with pytest.raises(ProblemError, match=r"in the first of several problems\n.*its own file"):
        execute(prepare(path, method="as-written"))


def test_sampled_estimates_are_written_and_agree_with_the_covariance_step(tmp_path: Path) -> None:
    """With few data the two differ; 300 draws estimate a standard error to about 5 %, so a factor is safe."""
    path = stream(tmp_path, "$ESTIMATION METHOD=0 MAXEVAL=9999\n")
    path.write_text(
        re.sub(r"^\$COV.*$", "$COVARIANCE MATRIX=R SIRSAMPLE=300 SIRSEED=5", path.read_text(), flags=re.M)
    )
    job = prepare(path, method="as-written", output=tmp_path / "out")
    fit = execute(job).fits[-1]
    assert fit.resampling is not None and fit.uncertainty is not None
    table = pd.read_csv(tmp_path / "out" / "theo_sir.csv", index_col="sample")
    assert list(table.columns[:3]) == ["OBJ", "weight", "resampled"]
    assert table["resampled"].sum() == 150
    assert (table["OBJ"] >= fit.ofv - 1e-6).all(), "no sample lies below the minimum"
    kept = table.loc[table["resampled"] == 1, list(names(fit.model))].std().to_numpy()
    free = np.isfinite(fit.uncertainty.se) & (fit.uncertainty.se > 0)
    ratio = kept[free] / fit.uncertainty.se[free]
    assert ((0.5 < ratio) & (ratio < 2.0)).all()


def test_samples_are_refused_after_a_sampling_method(tmp_path: Path) -> None:
    path = stream(tmp_path, "$ESTIMATION METHOD=IMP EONLY=1 NITER=2\n")
    path.write_text(re.sub(r"^\$COV.*$", "$COVARIANCE SIRSAMPLE=300", path.read_text(), flags=re.M))
    with pytest.raises(ProblemError, match="SIRSAMPLE after IMP"):
        prepare(path, method="as-written")


@pytest.mark.parametrize(
    ("options", "repair"),
    [
        ("", None),
        ("POSDEF=0", "none"),
        ("FPOSDEF=1", "shifted"),
        ("POSDEF=2", "floored"),
        ("POSDEF=3 FPOSDEF=1", "absolute"),
    ],
)
def test_how_an_indefinite_information_is_repaired(options: str, repair: str | None, tmp_path: Path) -> None:
    path = stream(tmp_path, "$ESTIMATION METHOD=1 INTERACTION\n")
    path.write_text(re.sub(r"^\$COV.*$", f"$COVARIANCE {options}", path.read_text(), flags=re.M))
    (step,) = prepare(path, method="as-written").steps
    assert step.covariance is not None and step.covariance.repair == repair


def test_an_unknown_repair_is_refused(tmp_path: Path) -> None:
    path = stream(tmp_path, "$ESTIMATION METHOD=1 INTERACTION\n")
    path.write_text(re.sub(r"^\$COV.*$", "$COVARIANCE POSDEF=7", path.read_text(), flags=re.M))
    with pytest.raises(ProblemError, match="POSDEF=7"):
        prepare(path, method="as-written")


def test_random_effects_without_a_distribution_are_refused(tmp_path: Path) -> None:
    """The special case of $OMEGA: 1.0E+06 FIXED on the whole diagonal leaves the population density out."""
    path = stream(tmp_path, "$ESTIMATION METHOD=1 INTERACTION\n")
    text = re.sub(r"^\$OMEGA.*\n", "", path.read_text(), flags=re.M)
    path.write_text(text.replace("$SIGMA", "$OMEGA (1.0E+06 FIXED)x3\n$SIGMA"))
    with pytest.raises(ProblemError, match="unconstrained etas"):
        prepare(path, method="as-written")
    path.write_text(path.read_text().replace("1.0E+06", "1.0E+05"))
    assert prepare(path, method="as-written").steps
