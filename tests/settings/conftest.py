"""Files of a configuration, in a directory of their own."""

from pathlib import Path

import pytest

from settings.written import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the main file and, by keyword, files of conf.d; answers with the main file's path."""

    def write(text: str, **conf_d: str) -> Path:
        path = tmp_path / "maillinkd.toml"
        path.write_text(text)
        (tmp_path / "conf.d").mkdir(exist_ok=True)
        for name, content in conf_d.items():
            (tmp_path / "conf.d" / f"{name}.toml").write_text(content)
        return path

    return write
