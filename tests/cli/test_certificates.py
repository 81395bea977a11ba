from pathlib import Path

import pytest

from maillinkd.cli.certificates import certificate_problem
from maillinkd.settings import SmartBccSettings
from system.dovecot import certificate


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


def test_a_certificate_with_its_key_is_good(pair: tuple[Path, Path]) -> None:
    cert, key = pair

    assert certificate_problem(SmartBccSettings(tls_certificate=cert, tls_key=key)) is None


def test_another_key_is_a_problem(pair: tuple[Path, Path], tmp_path: Path) -> None:
    cert, _ = pair
    _, other_key = certificate(tmp_path)

    problem = certificate_problem(SmartBccSettings(tls_certificate=cert, tls_key=other_key))

    assert problem is not None
    assert problem.startswith("cannot be used: ")


def test_a_missing_certificate_is_a_problem(pair: tuple[Path, Path], tmp_path: Path) -> None:
    _, key = pair

    problem = certificate_problem(SmartBccSettings(tls_certificate=tmp_path / "none.pem", tls_key=key))

    assert problem is not None
    assert "No such file" in problem
