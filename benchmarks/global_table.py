"""Tables of the global benchmark in Markdown."""

from typing import Any

LEADS = ("12", "24", "72", "120")
RIDGE = ("ridge_direct", "ridge_iterated")
BIAS_GOAL = 0.1
SPECTRUM_GOAL = 0.2


def better_ridge(result: dict[str, Any], name: str, lead: str) -> float:
    """Return the smaller RMSE of the two ridge regressions."""
    return min(float(result["references"][method][name][lead]) for method in RIDGE)


def scientific(value: float) -> str:
    """Return three significant digits."""
    return f"{value:.3g}"


def global_table(result: dict[str, Any]) -> str:
    """Return the RMSE relative to ridge regression, and that at three days with its references."""
    lines = [
        "| variable | 12 h | 24 h | 72 h | 120 h | RMSE at 72 h | ridge | damped persistence "
        "| persistence | climatology |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    references = result["references"]
    for name, errors in result["rmse"].items():
        ratios = [errors[lead] / better_ridge(result, name, lead) for lead in LEADS]
        absolute = [
            errors["72"],
            better_ridge(result, name, "72"),
            *(
                references[method][name]["72"]
                for method in ("damped_persistence", "persistence", "climatology")
            ),
        ]
        units = result["units"][name]
        cells = [
            name,
            *(f"{ratio:.2f}" if ratio < 1 else f"**{ratio:.3f}**" for ratio in ratios),
            f"{scientific(absolute[0])} {units}",
            *(scientific(value) for value in absolute[1:]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def free_run_table(result: dict[str, Any]) -> str:
    """Return the errors of the statistics of a free run."""
    lines = [
        "| variable | zonal-mean bias / standard deviation | power / true power, wavenumbers 1, 4, 8, 15 "
        "| largest error of the power, wavenumbers 1 to 15 |",
        "|---|---|---|---|",
    ]
    for name, row in result["free_run"]["variables"].items():
        bias = f"{row['zonal_mean_bias']:.2f}"
        error = f"{100 * row['spectral_error']:.0f} %"
        ratios = ", ".join(f"{row['spectral_ratio'][k - 1]:.2f}" for k in (1, 4, 8, 15))
        cells = [
            name,
            bias if row["zonal_mean_bias"] < BIAS_GOAL else f"**{bias}**",
            ratios,
            error if row["spectral_error"] < SPECTRUM_GOAL else f"**{error}**",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ablation_table(result: dict[str, Any]) -> str:
    """Return the validation error of variants of a recipe, by lead time."""
    lines = [
        "| variant | 12 h | 24 h | 72 h | 120 h | relative at 72 h | CPU time of training |",
        "|---|---|---|---|---|---|---|",
    ]
    first = result["rows"][0]
    for row in result["rows"]:
        errors = [row["error"][lead] for lead in LEADS]
        cells = [
            row["label"],
            *(f"{error:.3f}" for error in errors),
            f"{row['error']['72'] / first['error']['72']:.3f}",
            f"{row['cpu_seconds'] / first['cpu_seconds']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
