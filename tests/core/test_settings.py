"""Settings are frozen, refuse what they do not know, and survive a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from cryoscout.core.errors import FileFormatError
from cryoscout.core.settings import Settings


class Dose(Settings):
    per_shot_e: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    shots: Annotated[int, Field(ge=1)] = 1
    label: str = ""


class Plan(Settings):
    dose: Dose


def test_settings_cannot_be_changed() -> None:
    dose = Dose(per_shot_e=40.0)
    with pytest.raises(ValidationError, match="frozen"):
        dose.shots = 2  # type: ignore[misc]


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="shotz"):
        Dose(per_shot_e=40.0, shotz=2)  # type: ignore[call-arg]


@given(
    per_shot_e=st.floats(0, exclude_min=True, allow_infinity=False),
    shots=st.integers(1, 10**6),
    label=st.text(st.characters(codec="utf-8")),
)
def test_what_is_saved_is_what_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, per_shot_e: float, shots: int, label: str
) -> None:
    path = tmp_path_factory.mktemp("settings") / "plan.json"
    plan = Plan(dose=Dose(per_shot_e=per_shot_e, shots=shots, label=label))
    plan.save(path)
    assert Plan.load(path) == plan
    text = path.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert text.splitlines()[1] == '  "dose": {'


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"dose": {"per_shot_e": 40, "shotz": 2}}', r"dose\.shotz: Extra inputs are not permitted"),
        ('{"dose": {"per_shot_e": -1}}', r"dose\.per_shot_e: Input should be greater than 0"),
        ('{"dose": {}}', r"dose\.per_shot_e: Field required"),
        ('{"dose": ', r"\(whole file\): Invalid JSON"),
        ("[]", r"\(whole file\): Input should be an object"),
    ],
)
def test_a_file_that_is_wrong_names_itself_the_field_and_the_remedy(
    tmp_path: Path, text: str, field: str
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(
        FileFormatError, match=rf"plan\.json: {field}.*Remedy: write the file again"
    ) as caught:
        Plan.load(path)
    assert caught.value.path == path


def test_a_missing_file_stays_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Plan.load(tmp_path / "none.json")
