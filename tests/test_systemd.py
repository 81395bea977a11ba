"""The units start what there is, may do nothing else, and say the same in all three."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parent.parent / "systemd"
SERVICES = ("maillinkd.service", "maillinkd@.service", "maillinkd-smartbcc.service")
SOCKET = "maillinkd-smartbcc.socket"

# reliability.md, Threats: a bare unit has 9.6.
MOST_EXPOSURE = 1.5

analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def settings(name: str) -> list[tuple[str, str]]:
    """The assignments of a unit, in order; those behind a "#" are not."""
    lines = (UNITS / name).read_text().splitlines()
    return [
        (key, value) for key, equals, value in (line.partition("=") for line in lines) if equals and key.isalpha()
    ]


def value(name: str, key: str) -> str:
    (found,) = [given for known, given in settings(name) if known == key]
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a machine where the program is installed, with instances in place of templates."""
    for name in (*SERVICES, SOCKET):
        text = (UNITS / name).read_text().replace("/opt/maillinkd/bin/maillinkd", "/bin/true")
        (tmp_path / name).write_text(text)
        (tmp_path / name.replace("@.", "@anna.")).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("maillinkd.service", "/opt/maillinkd/bin/maillinkd run"),
        ("maillinkd@.service", "/opt/maillinkd/bin/maillinkd run --only %i"),
        ("maillinkd-smartbcc.service", "/opt/maillinkd/bin/maillinkd run --only smart_bcc"),
    ],
)
def test_each_unit_starts_its_part(name: str, expected: str) -> None:
    assert value(name, "ExecStart") == expected


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("Type", "notify"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("User", "maillinkd"),
        ("UMask", "0077"),
        ("StateDirectory", "maillinkd"),
        ("CapabilityBoundingSet", ""),
        ("RestartPreventExitStatus", "2 78"),
    ],
)
def test_what_every_service_promises(name: str, key: str, expected: str) -> None:
    assert value(name, key) == expected


@pytest.mark.parametrize("name", SERVICES[1:])
def test_the_services_differ_in_their_part_alone(name: str) -> None:
    own = {"Description", "ExecStart", "LoadCredential", "Requires", "Also"}
    shared = [(key, given) for key, given in settings(name) if key not in own and given != SOCKET]

    assert shared == [(key, given) for key, given in settings(SERVICES[0]) if key not in own]


def test_a_stop_leaves_time_for_mail_in_flight() -> None:
    assert int(value("maillinkd.service", "TimeoutStopSec").removesuffix("s")) > 30


def test_a_mailbox_gets_the_credential_of_its_name() -> None:
    assert value("maillinkd@.service", "LoadCredential").partition(":")[0] == "%i"


def test_the_socket_is_smart_bcc_s_at_port_25_over_both_protocols() -> None:
    listening = [given for key, given in settings(SOCKET) if key == "ListenStream"]

    assert listening == ["0.0.0.0:25", "[::]:25"]
    assert value(SOCKET, "FileDescriptorName") == "smart_bcc"
    assert ("Requires", SOCKET) in settings("maillinkd-smartbcc.service")


def test_the_user_is_made_and_owns_the_state() -> None:
    made = (UNITS / "sysusers.d" / "maillinkd.conf").read_text()
    directories = (UNITS / "tmpfiles.d" / "maillinkd.conf").read_text()

    assert re.search(rf"^u {value('maillinkd.service', 'User')} - ", made, re.MULTILINE)
    assert re.search(r"^d /var/lib/maillinkd +0700 maillinkd maillinkd -$", directories, re.MULTILINE)
    assert re.search(r"^d /etc/maillinkd +0750 root +maillinkd -$", directories, re.MULTILINE)


@analyze
@pytest.mark.parametrize(
    "name", ["maillinkd.service", "maillinkd@anna.service", "maillinkd-smartbcc.service", SOCKET]
)
def test_systemd_understands_the_unit(installed: Path, name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", str(installed / name)],
        env={"SYSTEMD_UNIT_PATH": f"{installed}:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")


@analyze
@pytest.mark.parametrize("name", ["maillinkd.service", "maillinkd@anna.service", "maillinkd-smartbcc.service"])
def test_the_service_exposes_little(installed: Path, name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(installed / name)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)

    assert exposure, done.stderr
    assert float(exposure[1]) <= MOST_EXPOSURE
