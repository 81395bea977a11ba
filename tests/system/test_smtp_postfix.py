"""A real Postfix in front, which hands mail on with its `smtp:` transport (docs/operations.md, Behind Postfix)."""

import contextlib
import os
import shutil
import smtplib
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from system.daemon import ANNA, CARLA, PATIENCE, UNIVERSAL, Daemon, Site, mail

pytestmark = [
    pytest.mark.postfix,
    pytest.mark.skipif(os.geteuid() != 0, reason="Postfix's master needs root"),
]

MAIN = """
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/postfix.log
maillog_file_prefixes = {home}
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.ourco.example
mydestination =
alias_maps =
local_recipient_maps =
inet_interfaces = loopback-only
inet_protocols = ipv4
smtp_host_lookup = native
# What docs/operations.md says, but for the port:
relay_domains = bcc.ourco.example
relay_recipient_maps =
transport_maps = inline:{{ bcc.ourco.example=smtp:[127.0.0.1]:{daemon_port} }}
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = reject_unverified_recipient
unverified_recipient_reject_code = 550
# So that a test need not wait:
address_verify_map =
address_verify_poll_delay = 1s
address_verify_poll_count = 5
smtp_send_xforward_command = yes
message_size_limit = 20000000
minimal_backoff_time = 1s
queue_run_delay = 1s
"""

MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running_postfix(daemon_port: int) -> Iterator[tuple[int, Path]]:
    """A Postfix of its own, in a directory of its own: its port and its log."""
    home = Path(tempfile.mkdtemp(prefix="maillinkd-postfix-"))
    home.chmod(0o755)
    port = free_port()
    config = home / "etc"
    for name in ("etc", "queue", "data"):
        (home / name).mkdir()
    shutil.chown(home / "data", "postfix")
    (config / "main.cf").write_text(MAIN.format(home=home, daemon_port=daemon_port))
    (config / "master.cf").write_text(MASTER.format(port=port))
    postfix = shutil.which("postfix", path="/usr/sbin:/usr/local/sbin")
    assert postfix
    log = home / "postfix.log"
    started = subprocess.run([postfix, "-c", str(config), "start"], capture_output=True, text=True, check=False)
    try:
        assert started.returncode == 0, started.stderr + (log.read_text() if log.exists() else "")
        yield port, log
    finally:
        subprocess.run([postfix, "-c", str(config), "stop"], capture_output=True, check=False)
        shutil.rmtree(home)


@contextlib.contextmanager
def behind_postfix(site: Site, daemon_port: int) -> Iterator[Daemon]:
    site.sections["smart_bcc"]["listen"] = [f"127.0.0.1:{daemon_port}"]
    with site.daemon("smart_bcc") as daemon:
        yield daemon


def deliver(port: int, raw: bytes, *recipients: str) -> dict[str, int]:
    """Hands a mail to Postfix; the codes of the recipients that it refused."""
    end = monotonic() + PATIENCE
    while True:
        try:
            with smtplib.SMTP("127.0.0.1", port, "sender.example", timeout=PATIENCE) as client:
                refused = client.sendmail(ANNA, recipients, raw)
        except smtplib.SMTPRecipientsRefused as error:
            refused = error.recipients
        codes = {recipient: code for recipient, (code, _) in refused.items()}
        if 450 not in codes.values() or monotonic() > end:  # 450: it is still asking us
            return codes


def test_mail_goes_through_postfix_to_its_deal(tmp_path: Path) -> None:
    """Several recipients are one message; one that we refuse is refused by Postfix, so that nothing bounces; what is
    not taken for the moment waits there."""
    site = Site(tmp_path)
    deal = "ourco+deal61@bcc.ourco.example"
    daemon_port = free_port()
    with running_postfix(daemon_port) as (port, log):
        with behind_postfix(site, daemon_port) as daemon:
            assert deliver(port, mail("a@x", sender=ANNA, to=CARLA), UNIVERSAL, deal) == {}
            daemon.wait_for_decisions("a@x")
            codes = deliver(
                port, mail("b@x", sender=ANNA, to=CARLA),
                "nobody@bcc.ourco.example", "carla@client.example", "ourco+nothing@bcc.ourco.example",
            )  # fmt: skip
            assert codes == {
                "nobody@bcc.ourco.example": 550,
                "carla@client.example": 554,
                "ourco+nothing@bcc.ourco.example": 550,
            }
            assert daemon.stop()[0] == 0
        assert deliver(port, mail("c@x", sender=ANNA, to=CARLA), UNIVERSAL) == {}  # Postfix knows it by now
        with behind_postfix(site, daemon_port) as daemon:
            daemon.wait_for_decisions("c@x")
            assert daemon.stop()[0] == 0
        said = log.read_text()

    assert site.query("SELECT message_id FROM message ORDER BY id") == [("a@x",), ("c@x",)]
    assert "status=bounced" not in said
