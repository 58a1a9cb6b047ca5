"""Whole-process cost of the theophylline run: CPU and wall seconds, peak memory.

    python benchmarks/theophylline.py [--repeats 5] [--threads 1] [--json results.json]

Each measurement is a process of its own, from the start of Python to its end. Three kinds: importing
what a run imports, the run without and the run with covariate selection. Medians over the repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONTROL = Path(__file__).resolve().parents[1] / "examples" / "theophylline" / "theophylline.ctl"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MIB = 2**20


def measure(arguments: list[str], threads: int) -> dict[str, float]:
    """Run ``python arguments...`` to its end and return what it cost."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), "MPLBACKEND": "Agg"}
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    messages = process.stderr.read()
    # wait4 gives the usage of this one child; getrusage(RUSAGE_CHILDREN) keeps the largest of all so far
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode != 0:
        sys.exit(f"{' '.join(arguments)} ended with {process.returncode}:\n{messages.decode()}")
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    return {
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "wall_seconds": wall,
        "peak_mib": usage.ru_maxrss * unit / MIB,
    }


def median(costs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each cost."""
    return {name: statistics.median(cost[name] for cost in costs) for name in costs[0]}


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        fit = ["-m", "elbomix.compat", "fit", str(CONTROL), "--threads", str(options.threads)]
        kinds = {
            "imports": [
                "-c",
                "import elbomix.compat.run, elbomix.engine.run.autoencoder, elbomix.compat.plots",
            ],
            "fit": [*fit, "--output", f"{folder}/fit"],
            "fit with selection": [*fit, "--covariates", "WT,SEX", "--output", f"{folder}/selection"],
        }
        measure(kinds["imports"], options.threads)  # fills caches of the file system and of byte code
        costs: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for _ in range(options.repeats):
            for kind, arguments in kinds.items():
                cost = measure(arguments, options.threads)
                if kind != "imports":
                    report = json.loads((Path(arguments[-1]) / "fit.json").read_text(encoding="utf-8"))
                    cost["run_seconds"] = report["seconds"]["total"]
                    cost["selection_seconds"] = report["seconds"].get("selection", 0.0)
                costs[kind].append(cost)

    medians = {kind: median(values) for kind, values in costs.items()}
    ratio = medians["fit with selection"]["cpu_seconds"] / medians["fit"]["cpu_seconds"]
    runs = {kind: cost["run_seconds"] for kind, cost in medians.items() if "run_seconds" in cost}
    phase = medians["fit with selection"]["selection_seconds"]
    print(f"{'':<20}{'CPU s':>10}{'wall s':>10}{'peak MiB':>10}")
    for kind, cost in medians.items():
        print(f"{kind:<20}{cost['cpu_seconds']:>10.2f}{cost['wall_seconds']:>10.2f}{cost['peak_mib']:>10.0f}")
    print(f"whole-process CPU with selection over without: {ratio:.3f} (medians of {options.repeats})")
    for kind, seconds in runs.items():
        print(f"{kind}: the run itself, without imports and files, {seconds:.2f} s")
    others = runs["fit with selection"] - phase
    print(f"selection phase {phase:.2f} s: {100 * phase / others:.1f} % on top of the run's other phases")
    if options.json is not None:
        result = {
            "threads": options.threads,
            "repeats": options.repeats,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "medians": medians,
            "all": costs,
            "cpu_ratio_selection": ratio,
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
