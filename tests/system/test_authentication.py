"""The real daemon believes whom SPF and DKIM prove, and asks nobody but its name server."""

import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from smtp.auth.signing import key_record, rsa_key, sign
from system.daemon import ANNA, CARLA, UNIVERSAL, Daemon, Site, mail
from system.dns import SERVFAIL, NameServer, name_server

HOME = "anna@home.example"
ZONE = {
    "one._domainkey.ourco.example": [("TXT", key_record(rsa_key()))],
    "one._domainkey.home.example": [("TXT", key_record(rsa_key()))],
}


@pytest.fixture
def server() -> Iterator[NameServer]:
    with name_server(ZONE) as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, server: NameServer) -> Site:
    site = Site(tmp_path, sections={"dns": {"servers": [f"127.0.0.1:{server.port}"]}})
    site.sections["smart_bcc"]["require_authentication"] = True
    return site


def signed(id_: str, sender: str = ANNA) -> bytes:
    return sign(mail(id_, sender=sender, to=CARLA), rsa_key(), sender.partition("@")[2])


def send(daemon: Daemon, raw: bytes, *recipients: str) -> None:
    daemon.deliver(raw, recipients=recipients or (UNIVERSAL,))


def test_who_is_proven_is_filed_who_is_not_is_held(site: Site) -> None:
    with site.daemon() as daemon:
        send(daemon, mail("bare@x", sender=ANNA, to=CARLA))
        line = daemon.wait_for(event="quarantined", message_id="<bare@x>")
        send(daemon, signed("signed@x"))
        daemon.wait_for_decisions("signed@x")
        daemon.stop()

    assert (line["reason"], line["dkim"]) == ("smart_bcc_unauthenticated", "none")
    (held,) = site.command("quarantine", "list")
    shown = site.command("quarantine", "show", str(held["id"]))[0]
    assert (shown["spf"], shown["dkim"]) == ("none", "none")


def test_while_dns_fails_mail_waits(site: Site, server: NameServer) -> None:
    server.zone["one._domainkey.ourco.example"] = SERVFAIL
    with site.daemon() as daemon:
        send(daemon, signed("a@x"))
        daemon.wait_for(event="mail waits: its author cannot be checked")
        daemon.stop()

    assert site.query("SELECT tries FROM inbound") == [(1,)]
    assert site.command("quarantine", "list") == []


def test_a_refusal_before_250(site: Site) -> None:
    site.sections["smart_bcc"]["unknown_sender"] = "reject"
    with site.daemon() as daemon:
        for raw in (mail("a@x", sender="x@evil.example"), mail("b@x", sender=ANNA)):
            with pytest.raises(smtplib.SMTPDataError) as refused:
                send(daemon, raw)
            assert refused.value.smtp_code == 550
        send(daemon, signed("c@x"))
        daemon.wait_for_decisions("c@x")
        daemon.stop()

    assert site.command("quarantine", "list") == []


def test_an_alias_is_confirmed_while_the_daemon_runs(site: Site) -> None:
    with site.daemon() as daemon:
        daemon.wait_for(event="ready")
        (asked,) = site.command("users", "alias", "add", HOME, "--confirm", "--user", "anna")
        send(daemon, signed("confirm@x", HOME), asked["send_to"])
        daemon.wait_for(event="alias confirmed")
        send(daemon, signed("after@x", HOME))
        daemon.wait_for_decisions("after@x")
        daemon.stop()

    states = {row["address"]: row["state"] for row in site.command("users", "list")}
    assert states[HOME] == "confirmed"
    assert site.command("quarantine", "list") == []


def test_it_connects_to_nobody_but_the_name_server(site: Site, server: NameServer, tmp_path: Path) -> None:
    """No bounce, no answer, no other look-up: what the daemon sends leaves it for the name server alone."""
    if subprocess.run(["strace", "-V"], capture_output=True, check=False).returncode:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    with site.daemon() as daemon:
        daemon.wait_for(event="ready")
        arguments = ["strace", "-f", "-q", "-e", "trace=connect,sendto", "-o", str(trace), "-p", str(daemon.pid)]
        with subprocess.Popen(arguments, stderr=subprocess.PIPE) as tracing:
            send(daemon, mail("bare@x", sender=ANNA, to=CARLA))
            send(daemon, signed("signed@x"))
            daemon.wait_for_decisions("signed@x")
            tracing.terminate()
        daemon.stop()
    connected = [line for line in trace.read_text().splitlines() if "sin_port" in line or "sin6_port" in line]

    assert [line for line in connected if f"htons({server.port})" not in line] == []
