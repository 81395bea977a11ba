"""The daemon as it runs: it starts, follows, receives, reloads, and stops, whatever one mailbox does."""

import asyncio
import imaplib
import json
import os
import signal
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from maillinkd import demo
from system.daemon import ANNA, CARLA, PATIENCE, UNIVERSAL, Site, mail, notify_socket
from system.dovecot import Dovecot, free_ports, running_dovecot

ITEMS = (
    '{"kind":"person","id":"3","title":"Carla","addresses":["carla@client.example"]}\n'
    '{"kind":"deal","id":"61","title":"Roof","person":"3","added_at":"2026-01-05T09:00:00Z"}\n'
)


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with running_dovecot() as server:
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Whatever a test did, what it leaves is whole."""
    site = Site(tmp_path)
    yield site
    if (tmp_path / "mail.db").exists():
        site.assert_whole()


def append(server: Dovecot, user: str, raw: bytes) -> None:
    """New mail, as another IMAP client puts it there: whoever is idle is told at once."""
    with imaplib.IMAP4("127.0.0.1", server.port) as client:
        client.login(user, server.password)
        client.append("INBOX", "", "", raw)


def is_watching(site: Site, mailbox: str) -> bool:
    """Whether `status` says that everything is read and the server is listened to."""
    found = site.query("SELECT state FROM mailbox_state WHERE mailbox = ?", mailbox)
    return bool(found) and json.loads(found[0][0])["state"] == "watching"


@pytest.mark.dovecot
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_starts_follows_receives_and_stops(site: Site, dovecot: Dovecot, number: signal.Signals) -> None:
    """Type=notify; a decision on new mail within moments; the end within five seconds, in order."""
    user = f"life{number.value}"
    site.sections["users"][user] = {"address": f"{user}@ourco.example"}
    site.add_mailbox(user, dovecot)
    append(dovecot, user, mail("old@x"))
    with notify_socket(site.directory) as (address, notified):
        with site.daemon(environ={"NOTIFY_SOCKET": address}) as daemon:
            notified("READY=1")
            daemon.wait_for_decisions("old@x")
            daemon.wait_for(event="imap connected")

            append(dovecot, user, mail("new@x"))
            daemon.deliver(mail("bcc@x", sender=ANNA, to=CARLA))
            daemon.wait_for_decisions("new@x", "bcc@x")

            code, seconds = daemon.stop(number)
        notified("STOPPING=1")

    assert (code, daemon.complaints()) == (0, [])
    assert seconds < 5
    assert {(line["channel"], line["owner"]) for line in daemon.decisions()} == {
        ("imap", user),
        ("smart_bcc", "anna"),
    }
    assert site.query("SELECT count(*) FROM decision WHERE logged_at IS NULL") == [(0,)]
    assert site.query("SELECT count(*) FROM lease") == [(0,)]
    assert (site.directory / "mail.db").stat().st_mode & 0o777 == 0o600


def test_its_end_is_said_to_a_client_that_waits(site: Site) -> None:
    """421 to idle sessions; what is under way is finished."""
    with site.daemon() as daemon, daemon.smtp() as idle, daemon.smtp() as busy:
        busy.mail(ANNA)
        busy.rcpt(UNIVERSAL)
        busy.putcmd("DATA")
        assert busy.getreply()[0] == 354
        daemon.send(signal.SIGTERM)
        daemon.wait_for(event="stopping")
        assert idle.getreply()[0] == 421
        busy.send(mail("last@x", sender=ANNA, to=CARLA) + b".\r\n")
        assert busy.getreply()[0] == 250
        idle.close()
        assert daemon.ended() == 0
        busy.close()

    assert daemon.complaints() == []
    assert site.query("SELECT count(*) FROM inbound") + site.query("SELECT count(*) FROM message") in (
        [(1,), (0,)],
        [(0,), (1,)],
    )


async def test_it_follows_pymap_too(site: Site) -> None:
    async with demo.serve({}, port=0) as (host, port):
        site.sections["users"]["demo"] = {"address": "demo@ourco.example"}
        site.sections["mailboxes"]["demo"] = {
            "host": host, "port": port, "tls": "none", "username": demo.USER,
            "password_command": ["echo", demo.PASSWORD], "folders": ["INBOX"], "since": "all",
        }  # fmt: skip

        def follow() -> tuple[int, list[str]]:
            with site.daemon() as daemon:
                # It forgets to announce to an IDLE what came just before it; Dovecot does not.
                daemon.wait_until(lambda: is_watching(site, "demo"), "watching")
                with imaplib.IMAP4(host, port) as client:
                    client.login(demo.USER, demo.PASSWORD)
                    client.append("INBOX", "", "", mail("new@x"))
                daemon.wait_for_decisions("new@x")
                code, _ = daemon.stop()
                return code, daemon.complaints()

        assert await asyncio.to_thread(follow) == (0, [])


# -- SIGHUP


@pytest.mark.dovecot
def test_a_reload_takes_over_users_mailboxes_and_policy(site: Site, dovecot: Dovecot) -> None:
    """And drops no SMTP session."""
    site.add_mailbox("anna", dovecot, username="reload-anna")
    with site.daemon() as daemon, daemon.smtp() as client:
        client.sendmail(ANNA, [UNIVERSAL], mail("before@x", sender="dan@elsewhere.example", to=CARLA))
        daemon.wait_for(event="quarantined")
        client.mail(ANNA)
        site.sections["users"]["dan"] = {"address": "dan@elsewhere.example"}
        site.sections["policy"] |= {"preset": "pipedrive-strict"}
        site.add_mailbox("dan", dovecot, username="reload-dan")
        append(dovecot, "reload-dan", mail("dans@x"))

        site.write()
        daemon.send(signal.SIGHUP)
        daemon.wait_for(event="reloaded")

        client.rcpt(UNIVERSAL)
        assert client.data(mail("after@x", sender="dan@elsewhere.example", to=CARLA))[0] == 250
        daemon.wait_for_decisions("dans@x", "after@x")
        assert {line["policy"].partition("@")[0] for line in daemon.decisions()} == {"pipedrive-strict"}
        assert {line["owner"] for line in daemon.decisions()} == {"dan"}

        del site.sections["mailboxes"]["anna"]
        seen = len(daemon.lines)
        site.write()
        daemon.send(signal.SIGHUP)
        daemon.wait_for(event="reloaded", after=seen)
        client.sendmail(ANNA, [UNIVERSAL], mail("later@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("later@x")
        client.quit()
        code, _ = daemon.stop()

    assert (code, [line for line in daemon.complaints() if "quarantined" not in line]) == (0, [])


@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        ("policy", {"preset": "nonsense"}),
        ("mailboxes", {"anna": {"host": "127.0.0.1", "username": "anna"}}),
        ("smart_bcc", {"enabled": True, "domain": "bcc.ourco.example", "local_part": "ourco", "typo": 1}),
    ],
    ids=["a wrong value", "no password", "an unknown key"],
)
def test_a_wrong_configuration_is_refused_and_the_old_one_stays(site: Site, section: str, wrong: object) -> None:
    with notify_socket(site.directory) as (address, notified):  # noqa: SIM117
        with site.daemon(environ={"NOTIFY_SOCKET": address}) as daemon:
            notified("READY=1")
            site.sections[section] = wrong
            site.sections["users"]["dan"] = {"address": "dan@elsewhere.example"}
            site.write()

            daemon.send(signal.SIGHUP)

            line = daemon.wait_for(event="configuration refused; the old one stays")
            notified("RELOADING=1")
            assert "refused" in notified("READY=1")
            assert section in line["error"]
            daemon.deliver(mail("a@x", sender=ANNA, to=CARLA), mail("dan@x", sender="dan@elsewhere.example"))
            daemon.wait_for_decisions("a@x")
            daemon.wait_for(event="quarantined", reason="smart_bcc_unknown_sender")


def test_a_door_that_is_switched_off_stays_open_until_the_restart(site: Site) -> None:
    with site.daemon() as daemon:
        site.sections["smart_bcc"] = {"enabled": False}
        site.write()

        daemon.send(signal.SIGHUP)
        daemon.wait_for(event="reloaded")

        assert daemon.wait_for(event="takes effect with the next restart")["key"] == "smart_bcc.enabled"
        daemon.deliver(mail("a@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("a@x")


def test_a_reload_may_name_another_decisions_file(site: Site) -> None:
    with site.daemon() as daemon:
        daemon.deliver(mail("a@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("a@x")
        site.sections["log"]["decisions"] = str(site.directory / "other.log")
        site.write()
        daemon.send(signal.SIGHUP)
        daemon.wait_for(event="reloaded")
        daemon.deliver(mail("b@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("b@x")

    assert "<b@x>" not in (site.directory / "decisions.log").read_text()
    assert "<b@x>" in (site.directory / "other.log").read_text()


def test_the_decisions_file_may_be_rotated(site: Site) -> None:
    with site.daemon() as daemon:
        daemon.deliver(mail("a@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("a@x")
        (site.directory / "decisions.log").rename(site.directory / "decisions.log.1")
        daemon.deliver(mail("b@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("b@x")

    assert [line["message_id"] for line in site.decision_file()] == ["<b@x>"]
    assert "<a@x>" in (site.directory / "decisions.log.1").read_text()


# -- more than one


@pytest.mark.dovecot
def test_the_second_daemon_of_a_mailbox_waits_and_takes_over(site: Site, dovecot: Dovecot) -> None:
    site.add_mailbox("anna", dovecot, username="two")
    with site.daemon("anna") as first:
        first.wait_for(event="imap connected")
        with site.daemon("anna") as second:
            waiting = second.wait_for(event="mailbox is followed by another process; waiting", mailbox="anna")
            assert f":{first.pid}:" in waiting["holder"]
            append(dovecot, "two", mail("a@x"))
            first.wait_for_decisions("a@x")

            first.kill()

            second.wait_for(event="imap connected")
            append(dovecot, "two", mail("b@x"))
            second.wait_for_decisions("b@x")
            assert second.stop()[0] == 0

    assert site.query("SELECT message_id FROM message ORDER BY id") == [("a@x",), ("b@x",)]


@pytest.mark.dovecot
def test_who_takes_over_a_mailbox_tells_what_the_dead_one_did_not(site: Site, dovecot: Dovecot) -> None:
    site.add_mailbox("anna", dovecot, username="heir")
    dies = (
        "import os\nfrom maillinkd.ingest.house import House\nHouse.tell = lambda self, lines: lines and os._exit(9)"
    )
    with site.daemon("anna", code=dies) as first:
        first.wait_for(event="imap connected")
        with site.daemon("anna") as second:
            second.wait_for(event="mailbox is followed by another process; waiting")
            append(dovecot, "heir", mail("a@x"))
            assert first.ended() == 9

            second.wait_for_decisions("a@x")

    assert [line["decision"] for line in second.decisions()] == [1]


@pytest.mark.dovecot
def test_a_lease_from_another_life_of_the_host_ends(site: Site, dovecot: Dovecot) -> None:
    """A container that is made anew has another name and other process ids."""
    from datetime import UTC, datetime, timedelta

    from maillinkd.app import LEASE_ON_SQLITE

    assert timedelta(seconds=10) <= LEASE_ON_SQLITE <= timedelta(minutes=2)
    site.add_mailbox("anna", dovecot, username="reborn")
    site.write()
    site.command("db", "upgrade")
    past = int((datetime.now(UTC) - timedelta(seconds=1)).timestamp() * 1_000_000)
    import sqlite3

    with sqlite3.connect(site.directory / "mail.db") as writer:
        writer.execute("INSERT INTO lease VALUES ('anna', 'oldname:7:1234', 1, ?)", [past])
    writer.close()

    with site.daemon() as daemon:
        daemon.wait_for(event="imap connected")


@pytest.mark.dovecot
def test_a_mailbox_that_fails_disturbs_no_other(site: Site, dovecot: Dovecot) -> None:
    """A wrong password, a server that is not there, a folder that is not there."""
    (site.directory / "wrong").write_text("wrong\n")
    for name in ("refused", "absent", "empty"):
        site.sections["users"][name] = {"address": f"{name}@ourco.example"}
    site.add_mailbox("refused", dovecot, password_file=str(site.directory / "wrong"))
    site.add_mailbox("absent", dovecot, port=free_ports(1)[0])
    site.add_mailbox("empty", dovecot, folders=["Nowhere"])
    site.add_mailbox("anna", dovecot, username="well")
    append(dovecot, "well", mail("a@x"))

    with site.daemon() as daemon:
        daemon.wait_for_decisions("a@x")
        daemon.wait_for(event="imap login refused", mailbox="refused")
        daemon.wait_for(event="imap connection lost", mailbox="absent")
        daemon.wait_for(event="imap folders missing", mailbox="empty")
        append(dovecot, "well", mail("b@x"))
        daemon.wait_for_decisions("b@x")
        code, seconds = daemon.stop()

    assert code == 0
    assert seconds < 5
    assert "secret-pass" not in "".join(daemon.text)


@pytest.mark.dovecot
@pytest.mark.postgres
def test_on_postgresql(tmp_path: Path, dovecot: Dovecot, postgres_url: str) -> None:
    site = Site(tmp_path, postgres_url)
    site.add_mailbox("anna", dovecot, username="postgres")
    site.write()
    site.command("db", "upgrade")
    (tmp_path / "items.jsonl").write_text(ITEMS)
    site.command("import", "items", str(tmp_path / "items.jsonl"))
    append(dovecot, "postgres", mail("a@x"))

    with site.daemon() as daemon:
        daemon.deliver(mail("b@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("a@x", "b@x")
        code, _ = daemon.stop()

    assert (code, daemon.complaints()) == (0, [])
    found = site.command("threads", "list")
    assert sorted((line["channel"], line["slot"]) for line in found) == [
        ("imap", "deal:61"),
        ("smart_bcc", "deal:61"),
    ]


def test_a_port_that_is_taken_is_said_in_a_sentence(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        site.sections["smart_bcc"]["listen"] = [f"127.0.0.1:{taken.getsockname()[1]}"]
        daemon = site.daemon()
        code = daemon.ended()

    assert code != 0
    assert "smart_bcc.listen" in "".join(daemon.text)
    assert "Traceback" not in "".join(daemon.text)


@pytest.mark.skipif(not os.path.exists("/usr/bin/swaks"), reason="swaks is not installed")
def test_swaks_finds_a_door(site: Site) -> None:
    with site.daemon() as daemon:
        done = subprocess.run(
            ["swaks", "--server", "127.0.0.1", "--port", str(daemon.smtp_port), "--from", ANNA, "--to", UNIVERSAL,
             "--h-From", ANNA, "--h-To", CARLA, "--h-Message-Id", "<swaks@x>"],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        daemon.wait_for_decisions("swaks@x")


def test_strangers_are_refused_before_the_reply_to_data_where_that_is_chosen(site: Site) -> None:
    site.sections["smart_bcc"]["unknown_sender"] = "reject"
    with site.daemon() as daemon:
        with pytest.raises(smtplib.SMTPDataError, match="550"):
            daemon.deliver(mail("a@x", sender="x@elsewhere.example"))
        daemon.deliver(mail("b@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("b@x")

    assert site.query("SELECT count(*) FROM quarantine") == [(0,)]
