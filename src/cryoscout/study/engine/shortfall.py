"""Where our agents find less than the published ones, and which of the paper's choices were varied to find out why."""

from __future__ import annotations

from collections.abc import Sequence

from cryoscout.study.engine.published import BUDGETS_MIN, PublishedRow

VARIED = (
    "Of the paper's choices these were varied, one at a time: action elimination, other agents, and holes predicted "
    "good or not in place of p_good (`dqn-hard`), in [cryorl-table3](cryorl-table3.md); the minutes of a training "
    "route ([cryorl-ablation-duration](cryorl-ablation-duration.md)); twice the reward for a square or grid "
    "([cryorl-ablation-reward](cryorl-ablation-reward.md)); predictions of ResNet-18 "
    "([cryorl-resnet18](cryorl-resnet18.md)); learning rate, gamma, targets of three steps, candidates, history, and "
    "the published training as a whole ([learned-selection](learned-selection.md)). Layers, batches, buffer and the "
    "copies of the target are the paper's and were not varied. The epoch that is kept cannot be the paper's: it takes "
    "the best on the validation map, which nothing may do here."
)


def shortfall(
    agent: str, pairs: Sequence[tuple[str, PublishedRow, Sequence[float | None]]], varied: str = VARIED
) -> str:
    """Where the agent's means are below the published ones, and what was varied.

    pairs : (how the routes start, the published row, our mean per budget, None where it is missing)
    """
    lines, missing = [], False
    for starts, printed, ours in pairs:
        columns = list(zip(BUDGETS_MIN, printed.good_mean, ours, strict=True))
        missing = missing or any(mean is None for mean in ours)
        below = [
            f"{mean:.1f} against {theirs:.1f} at {budget} min"
            for budget, theirs, mean in columns
            if mean is not None and theirs is not None and mean < theirs
        ]
        if below:
            lines.append(f"routes that start {starts} find {', '.join(below)}")
    if not lines:
        return "" if missing else f"`{agent}` is below the published means nowhere."
    return f"`{agent}` stays below the published means: {'; '.join(lines)}. {varied}"
