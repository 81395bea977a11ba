"""What all tests share: where the public mail archives are, how hard hypothesis searches, and how skips are counted.

A test that needs what this machine has not is skipped by name, with the reason. With `CI=true` nothing is ever
skipped: there a missing server is a failure. Tests marked `torture` run when they are asked for (`-m torture`).
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
CORPORA = Path(os.environ.get("MAILLINKD_CORPORA") or ROOT.parent / "shared" / "corpora").resolve()
IN_CI = os.environ.get("CI", "").lower() == "true"

pytest_plugins = ["system.postgres"]

# No deadlines: these machines are shared, and a slow minute is no bug.
settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=100, print_blob=True)
settings.register_profile("torture", deadline=None, max_examples=10_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if IN_CI else "dev"))


@dataclass(frozen=True, slots=True)
class Need:
    """What the tests of one marker need, and how to find out whether it is here."""

    reason: str
    is_met: Callable[[], bool]


def _on_path(program: str) -> bool:
    """Servers live in sbin, which is not on every user's PATH."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") is not None


def _has_postgres() -> bool:
    from system import postgres  # here, because pytest itself must be the first to import its plugins

    return postgres.binaries() is not None


def _has_cyrus() -> bool:
    from system import cyrus

    return cyrus.cyrus_path() is not None


NEEDS = {
    "dovecot": Need("Dovecot is not installed", lambda: _on_path("dovecot")),
    "cyrus": Need("Cyrus is not installed", _has_cyrus),
    "postgres": Need("PostgreSQL is not installed (no initdb)", _has_postgres),
    "postfix": Need("Postfix's smtp-source is not installed", lambda: _on_path("smtp-source")),
    "corpora": Need(f"the public mail archives are not in {CORPORA}", CORPORA.is_dir),
}


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The directory of the public mail archives (`$MAILLINKD_CORPORA`, else beside the repository)."""
    if not CORPORA.is_dir():
        pytest.skip(NEEDS["corpora"].reason)
    return CORPORA


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves `torture` out unless the run names it."""
    if "torture" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("torture")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("torture")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test whose marker names something that is not here."""
    for marker, need in NEEDS.items():
        if item.get_closest_marker(marker) and not need.is_met():
            pytest.skip(need.reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip is a failure. (An expected failure is reported as skipped too, and stays what it is.)"""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI=true forbids: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a file that skips itself while it is collected."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, which CI=true forbids: {_reason(report)}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Counts what was skipped, by reason, above pytest's closing line."""
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if not reasons:
        return
    terminalreporter.section("not tested on this machine")
    for reason, number in reasons.most_common():
        terminalreporter.line(f"{number:5} skipped: {reason}")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The words given to skip(); pytest keeps them as (file, line, "Skipped: words")."""
    words = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return words.removeprefix("Skipped: ")
