"""Fits of the classical methods over a folder of NONMEM runs, beside NONMEM's own results and times.

    python benchmarks/classical.py FOLDER [--only NAME,..] [--tier core] [--limit 600] [--json results.json]

FOLDER has a folder for each run with its control stream, data and ``case.json`` (keys ``name``, ``tier``,
``control``, ``control_as_run``, ``data``, ``nonmem_est_seconds``, and ``estimates``, one for each step, with
``ofv``, ``theta``, ``omega`` and ``sigma`` as lower triangles, ``se`` of the same form, ``lst_termination``).
Every run is a process of its own: ``elbomix fit STREAM --method as-written``. NONMEM printed its seconds on
other machines, so they tell orders of magnitude only. Each step is held against NONMEM's: difference of the
objectives; largest difference of an estimate, in NONMEM's standard errors (in ours where it printed none);
largest relative difference of the standard errors; both ends of the search. Where R with nlmixr2 is
installed, its FOCEI and SAEM of the theophylline example are timed too.
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

NO_NUMBER = 1e9  # NONMEM prints 1e10 where there is no standard error
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
    row: dict[str, Any] = {
        "name": case["name"],
        "exit_code": code,
        "wall_seconds": wall,
        "nonmem_seconds": case.get("nonmem_est_seconds"),
        "steps": [],
        "message": "" if content is not None else said.splitlines()[0] if said else "",
    }
    if content is not None:
        references = case.get("estimates", [])
        if len(references) != len(content["steps"]):  # a simulation has none, say: nothing to pair
            references = [{}] * len(content["steps"])
        row["steps"] = [beside(s, r) for s, r in zip(content["steps"], references, strict=True)]
    return row


def beside(step: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Return what there is to say of one step of ``fit.json`` beside NONMEM's (an entry of ``estimates``)."""
    free = [p for p in step["parameters"] if not p["fixed"]]
    values, errors = by_name(reference), by_name(reference.get("se", {}))
    own = {p["name"]: p["se"] for p in free if p["se"] is not None and p["se"] > 0.0}
    scales = {**own, **{name: error for name, error in errors.items() if error > 0.0}}
    shifts = {
        p["name"]: abs(p["value"] - values[p["name"]]) / scales[p["name"]]
        for p in free
        if p["name"] in values and p["name"] in scales
    }
    spread = {name: abs(se / errors[name] - 1.0) for name, se in own.items() if errors.get(name, 0.0) > 0.0}
    theirs = reference.get("ofv")
    covariance = step["covariance"] or {}
    return {
        "method": step["method"],
        "ofv": step["ofv"],
        "ofv_se": step["ofv_se"],
        "nonmem_ofv": theirs,
        "ofv_difference": None if theirs is None or step["ofv"] is None else step["ofv"] - theirs,
        "estimate_difference": largest(shifts),
        "estimate_unit": "SE" if errors else "own SE",
        "se_difference": largest(spread),
        "status": step["status"],
        "message": step["message"],
        "covariance_failure": covariance.get("failure", ""),
        "nonmem_status": reference.get("lst_termination", "").lstrip("0").split(" NO. OF")[0],
        "seconds": step["seconds"],
        "parameters": [
            {**{k: p[k] for k in ("name", "value", "se")}, "nonmem": values.get(p["name"]),
             "nonmem_se": errors.get(p["name"])}
            for p in free
        ],
    }  # fmt: skip


def by_name(reference: dict[str, Any]) -> dict[str, float]:
    """Return thetas and lower triangles of an entry of ``estimates`` by NONMEM's names of them."""
    found = {f"THETA{i}": v for i, v in enumerate(reference.get("theta", []), 1)}
    for matrix in ("omega", "sigma"):
        for i, row in enumerate(reference.get(matrix, []), 1):
            found |= {f"{matrix.upper()}({i},{j})": v for j, v in enumerate(row, 1)}
    return {name: float(v) for name, v in found.items() if v is not None and abs(v) < NO_NUMBER}


def largest(found: dict[str, float]) -> tuple[float, str] | None:
    """Return the largest value and its name; None of nothing."""
    name = max(found, key=found.__getitem__, default="")
    return (found[name], name) if name else None


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


def show(row: dict[str, Any]) -> list[str]:
    """Return one line on a run and one on each of its steps."""
    theirs = " + ".join(f"{s:.2f}" for s in row["nonmem_seconds"] or [])
    head = f"{row['name']:34s} {row['wall_seconds']:8.1f} s whole   NONMEM {theirs or '-'}"
    lines = [f"{head}   {row['message']}".rstrip()]
    for step in row["steps"]:
        seconds = step["seconds"].get("estimation", step["seconds"]["total"])
        change = "-" if step["ofv_difference"] is None else f"{step['ofv_difference']:+.4f}"
        line = f"    {step['method']:9s} {seconds:8.2f} s   OFV {change:>10s}"
        columns = (("estimate_difference", step["estimate_unit"], 1.0), ("se_difference", "%", 100.0))
        for key, unit, factor in columns:
            value, name = step[key] or (None, "")
            line += f"   {'-':>17s}" if value is None else f"   {factor * value:7.3f} {unit:2s} {name:11s}"
        lines.append(
            f"{line}   {step['status']} / {step['nonmem_status']}   {step['covariance_failure']}".rstrip()
        )
    return lines


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
        print("\n".join(show(rows[-1])), flush=True)
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
