"""Settings of agents: what each name stands for, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from cryoscout.core.errors import UnknownNameError
from cryoscout.learning.settings import AGENTS, AgentSettings, LearnSettings, NetworkSettings, settings_of


@pytest.mark.parametrize("agent", AGENTS)
def test_settings_survive_a_file(agent: str, tmp_path: Path) -> None:
    settings = settings_of(agent, seed=3, view={"history": "candidate"})
    settings.save(tmp_path / "settings.json")
    assert LearnSettings.load(tmp_path / "settings.json") == settings


def test_each_agent_differs_from_the_plain_one_in_what_it_is_named_for() -> None:
    plain = settings_of("dqn")
    assert settings_of("double").agent == plain.agent.model_copy(update={"name": "double", "double": True})
    assert settings_of("dueling").network == plain.network.model_copy(update={"dueling": True})
    assert settings_of("prioritized").agent.prioritized
    assert settings_of("nstep").agent.n_step == 3
    assert settings_of("c51").network == plain.network.model_copy(update={"atoms": 51})
    assert settings_of("noisy").network == plain.network.model_copy(update={"noisy": True})
    assert settings_of("a2c").network == plain.network.model_copy(update={"critic": True})
    rainbow = settings_of("rainbow")
    assert rainbow.network == plain.network.model_copy(update={"dueling": True, "atoms": 51, "noisy": True})
    assert rainbow.agent == plain.agent.model_copy(
        update={"name": "rainbow", "double": True, "prioritized": True, "n_step": 3}
    )
    assert LearnSettings() == plain


def test_an_unknown_agent_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'rainbow'"):
        settings_of("rainbw")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"buffer_size": 50}, "buffer_size must be at least batch_size"),
        ({"agent": {"name": "a2c"}}, "must have a critic with agent a2c"),
        ({"network": {"critic": True}}, "must have a critic with agent a2c"),
        (
            {"agent": {"name": "a2c"}, "network": {"critic": True, "dueling": True}},
            "neither dueling nor atoms",
        ),
        ({"agent": {"name": "a2c"}, "network": {"critic": True, "atoms": 51}}, "neither dueling nor atoms"),
        ({"network": {"atoms": 51, "value_max": 0.0}}, "value_min must be below value_max"),
        ({"agent": {"gamma": 1.0}}, "less than 1"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"learning_rate": float("nan")}, "finite number"),
        ({"updates_per_step": float("inf")}, "finite number"),
        ({"network": {"value_max": float("inf")}}, "finite number"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LearnSettings.model_validate(wrong)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        AgentSettings().gamma = 0.5  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        NetworkSettings().atoms = 5  # type: ignore[misc]
