"""Settings: frozen pydantic models, every field with unit, range and effect, saved as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from cryoscout.core.errors import FileFormatError
from cryoscout.core.new_files import write_whole


class Settings(BaseModel):
    """Base of every settings model: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read settings from a JSON file.

        Raises FileFormatError naming the field that is wrong; OSError when the file cannot be read.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "(whole file)"
            raise FileFormatError(
                path,
                None,
                f"{field}: {first['msg']}. Remedy: write the file again with this version of cryoscout.",
            ) from None

    def save(self, path: Path) -> None:
        """Write the settings as indented JSON (UTF-8, final newline)."""
        write_whole(path, self.model_dump_json(indent=2) + "\n")
