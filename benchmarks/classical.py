"""Seconds per fit of the classical methods over a folder of NONMEM runs, beside NONMEM's own times.

    python benchmarks/classical.py FOLDER [--only NAME,..] [--tier core] [--limit 600] [--json results.json]

FOLDER has a folder for each run with its control stream, data and ``case.json`` (keys ``name``, ``tier``,
``control``, ``control_as_run``, ``data``, ``estimates`` with ``ofv``, ``nonmem_est_seconds``). Every run is a
process of its own: ``elbomix fit STREAM --method as-written``. NONMEM printed its seconds on other machines,
so they tell orders of magnitude only. Where R with nlmixr2 is installed, its FOCEI and SAEM of the
theophylline example are timed too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "theophylline"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
NLMIXR2 = """
suppressMessages(library(nlmixr2))
d <- read.csv("{data}", na.strings = "."); names(d) <- toupper(names(d))
one <- function() {{
  ini({{ lka <- log(1.5); lk <- log(0.1); lv <- log(30); a <- 0.7
        e1 ~ 0.2; e2 ~ 0.05; e3 ~ 0.05 }})
  model({{ ka <- exp(lka + e1); k <- exp(lk + e2); v <- exp(lv + e3)
          d/dt(depot) <- -ka * depot; d/dt(central) <- ka * depot - k * central
          cp <- central / v; cp ~ add(a) }})
}}
for (est in c("focei", "saem")) {{
  s <- system.time(f <- suppressMessages(nlmixr2(one, d, est, list(print = 0))))
  cat(est, s[["elapsed"]], f$objf, "\\n")
}}
"""


def measure(folder: Path, case: dict[str, Any], limit: float) -> dict[str, Any]:
    """Fit one run as its control stream says and return times and objectives."""
    stream = folder / str(case.get("control_as_run") or case["control"])
    if not stream.exists():
        stream = folder / str(case["control"])
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "elbomix.compat", "fit", str(stream), "--method", "as-written"]
        command += ["--output", scratch, "--quiet"]
        if case.get("data"):
            command += ["--data", str((folder / case["data"]).resolve())]
        begun = time.perf_counter()
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **ONE_THREAD, "MPLBACKEND": "Agg"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
            )
            code, said = done.returncode, done.stderr.strip()
        except subprocess.TimeoutExpired:
            code, said = 124, f"over {limit:.0f} s"
        wall = time.perf_counter() - begun
        result = Path(scratch) / "fit.json"
        content = json.loads(result.read_text()) if result.exists() else None
    reference = [e.get("ofv") for e in case.get("estimates", [])]
    row: dict[str, Any] = {
        "name": case["name"],
        "exit_code": code,
        "wall_seconds": wall,
        "nonmem_seconds": case.get("nonmem_est_seconds"),
        "nonmem_ofv": reference,
        "steps": [],
        "message": "" if content is not None else said.splitlines()[0] if said else "",
    }
    if content is not None:
        row["steps"] = [
            {"method": s["method"], "ofv": s["ofv"], "status": s["status"], "seconds": s["seconds"]}
            for s in content["steps"]
        ]
    return row


def others() -> list[dict[str, Any]]:
    """Return the times of nlmixr2 on the theophylline example; nothing where R or nlmixr2 is missing."""
    program = shutil.which("Rscript")
    if program is None:
        return []
    code = NLMIXR2.format(data=(EXAMPLE / "theophylline.csv").as_posix())
    done = subprocess.run([program, "-e", code], capture_output=True, text=True, timeout=1800, check=False)
    rows = [line.split() for line in done.stdout.splitlines()]
    return [
        {"program": "nlmixr2", "method": words[0], "seconds": float(words[1]), "ofv": float(words[2])}
        for words in rows
        if len(words) == 3 and words[0] in ("focei", "saem")
    ]


def show(row: dict[str, Any]) -> str:
    """Return one line on a run."""
    own = " + ".join(
        f"{step['method']} {step['seconds'].get('estimation', step['seconds']['total']):.2f}"
        for step in row["steps"]
    )
    theirs = " + ".join(f"{s:.2f}" for s in row["nonmem_seconds"] or [])
    name, wall = row["name"], row["wall_seconds"]
    return f"{name:34s} {wall:8.1f} s whole   estimation {own or row['message']:40s} NONMEM {theirs or '-'}"


def main() -> None:
    """Measure, print a line for each run, and write JSON where asked."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--only", default="", help="names of runs, separated by commas")
    options.add_argument("--tier", default="core", help="tiers of runs, separated by commas")
    options.add_argument("--limit", type=float, default=600.0, help="most seconds of one run")
    options.add_argument("--json", type=Path, help="where to write the results")
    chosen = options.parse_args()
    only = set(filter(None, chosen.only.split(",")))
    rows = []
    for path in sorted(chosen.folder.glob("*/case.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        if case.get("tier", "core") not in chosen.tier.split(",") or (only and case["name"] not in only):
            continue
        rows.append(measure(path.parent, case, chosen.limit))
        print(show(rows[-1]), flush=True)
    results = {
        "python": platform.python_version(),
        "processor": platform.machine(),
        "runs": rows,
        "others": others(),
    }
    for other in results["others"]:
        print(f"{other['program']} {other['method']}: {other['seconds']:.1f} s")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
