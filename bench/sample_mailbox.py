"""A made-up mailbox of any size for the measurements: same seed, same bytes.

A salesman's two years: threads of customers and colleagues with the headers that real relays leave (Received, DKIM,
Authentication-Results), quoted answers, newsletters, here and there an attachment. 20,000 messages are about 119 MB,
36 MB of them headers.

    python bench/sample_mailbox.py DIRECTORY --messages 20000
"""

import argparse
import json
import os
import random
from base64 import b64encode, encodebytes
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.header import Header
from email.utils import format_datetime
from pathlib import Path

OWNER = ("Anna Kessler", "anna@ourco.example")
COLLEAGUES = (("Ben Okafor", "ben@ourco.example"), ("Martina Vogt", "boss@ourco.example"))
FIRST_NAMES = (
    "Carla", "Jürgen", "Claire", "Peter", "Sabine", "Tom", "Inès", "Markus",
    "Lena", "Beate", "Jonas", "Oliver", "François", "Nina", "Zoë", "Łukasz",
)  # fmt: skip
LAST_NAMES = (
    "Client", "Hofmann", "Dubois", "Lang", "Roth", "Barnes", "Moreau", "Weber",
    "Brandt", "Adler", "Beck", "Grant", "Petit", "Wolff", "Müller", "Nowak",
)  # fmt: skip
TOPICS = (
    "New roof", "Photovoltaik Halle", "Offer for the barn", "Toiture de l'école", "Gutters", "Dachsanierung",
    "Invoice", "Termin", "Scaffolding",
)  # fmt: skip
WORDS = (
    "we", "the", "roof", "you", "offer", "panels", "please", "week", "order", "and", "for", "with", "on", "your",
    "wir", "das", "Dach", "Sie", "Angebot", "bitte", "Woche", "Termin", "und", "mit", "auf", "Ihre", "Rechnung",
    "nous", "le", "toit", "vous", "devis", "merci", "price", "crane", "meeting", "invoice", "time",
)  # fmt: skip
START = datetime(2024, 7, 1, 6, 0, tzinfo=UTC)
SPAN = timedelta(days=730)
CUSTOMERS = 400


@dataclass(frozen=True, slots=True)
class Mail:
    """One message of the mailbox."""

    raw: bytes
    """With LF line ends, as a Maildir keeps it."""
    received_at: datetime


@dataclass(slots=True)
class _Thread:
    """A conversation that still grows."""

    subject: str
    customer: tuple[str, str]
    ids: list[str] = field(default_factory=list)
    last_text: str = ""


def customers() -> list[tuple[str, str]]:
    """Name and address of everyone outside who writes."""
    names = [
        f"{FIRST_NAMES[n % len(FIRST_NAMES)]} {LAST_NAMES[n // len(FIRST_NAMES) % len(LAST_NAMES)]}"
        for n in range(CUSTOMERS)
    ]
    return [(name, f"mail{n}@customer{n // 2}.example") for n, name in enumerate(names)]


def write_items(path: Path) -> None:
    """A directory that fits the mail (`import items`): every second customer is known, with up to two open deals."""
    with path.open("w", encoding="utf-8") as file:
        for n, (name, address) in list(enumerate(customers()))[::2]:
            person = {"kind": "person", "id": str(n), "title": name, "addresses": [address]}
            deals = [
                {"kind": "deal", "id": f"{n}-{k}", "title": f"Deal {n}-{k}", "status": "open", "person": str(n),
                 "added_at": "2024-06-01T09:00:00Z"} for k in range(n // 2 % 3)
            ]  # fmt: skip
            file.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in [person, *deals])


def generate(messages: int, seed: int = 1) -> Iterator[Mail]:
    """The first `messages` messages of the mailbox that belongs to `seed`, in order of time."""
    chance = random.Random(seed)
    people = customers()
    open_threads: list[_Thread] = []
    for n in range(messages):
        sent_at = START + SPAN * n / messages
        if chance.random() < 0.12:
            yield _newsletter(chance, n, sent_at)
            continue
        if not open_threads or chance.random() < 0.3:
            subject = f"{chance.choice(TOPICS)} {chance.randrange(1000)}"
            open_threads.append(_Thread(subject, chance.choice(people)))
            del open_threads[:-40]
        yield _letter(chance, n, sent_at, chance.choice(open_threads))


def write_maildir(directory: Path, messages: int, seed: int = 1) -> int:
    """Writes the mailbox as a Maildir, modification times as the times received; returns its size in bytes."""
    for name in ("cur", "new", "tmp"):
        (directory / name).mkdir(parents=True)
    total = 0
    for n, mail in enumerate(generate(messages, seed)):
        received = int(mail.received_at.timestamp())
        path = directory / "cur" / f"{received}.M{n}.bench,S={len(mail.raw)}:2,S"
        path.write_bytes(mail.raw)
        os.utime(path, (received, received))
        total += len(mail.raw)
    return total


def _letter(chance: random.Random, n: int, sent_at: datetime, thread: _Thread) -> Mail:
    outgoing = bool(thread.ids) and chance.random() < 0.45
    sender, recipient = (OWNER, thread.customer) if outgoing else (thread.customer, OWNER)
    domain = sender[1].partition("@")[2]
    message_id = f"{b64encode(chance.randbytes(24), b'-_').decode()}.{n}@{domain}"
    fields = [
        f"From: {_mailbox(sender)}",
        f"To: {_mailbox(recipient)}",
        f"Date: {format_datetime(sent_at)}",
        f"Message-ID: <{message_id}>",
        f"Subject: {'Re: ' if thread.ids else ''}{_encoded(thread.subject)}",
    ]
    if chance.random() < 0.25:
        fields.append(f"Cc: {_mailbox(chance.choice(COLLEAGUES))}")
    if thread.ids:
        fields.append(f"In-Reply-To: <{thread.ids[-1]}>")
        fields.append("References: " + "\n ".join(f"<{id_}>" for id_ in thread.ids[-12:]))
    text = _text(chance, 300, 2500)
    quoted = "".join(f"> {line}\n" for line in thread.last_text.splitlines()[:30])
    thread.ids.append(message_id)
    thread.last_text = text
    content = _with_attachment(chance, text) if chance.random() < 0.09 else _plain(f"{text}\n{quoted}")
    return Mail(_assemble(_trace(chance, domain, sent_at), fields, content), sent_at)


def _newsletter(chance: random.Random, n: int, sent_at: datetime) -> Mail:
    domain = f"news{chance.randrange(12)}.example"
    fields = [
        f"From: Newsletter <news@{domain}>",
        f"To: {_mailbox(OWNER)}",
        f"Date: {format_datetime(sent_at)}",
        f"Message-ID: <{chance.randrange(10**9)}.{n}@{domain}>",
        f"Subject: {' '.join(chance.choices(WORDS, k=6)).capitalize()}",
        f"List-Id: <letter.{domain}>",
        f"List-Unsubscribe: <https://{domain}/unsubscribe?u={chance.randrange(10**9)}>",
        "Precedence: bulk",
    ]
    return Mail(_assemble(_trace(chance, domain, sent_at), fields, _plain(_text(chance, 1500, 5500))), sent_at)


def _trace(chance: random.Random, domain: str, sent_at: datetime) -> list[str]:
    """What relays leave on a message, newest first: about 1.4 kB."""

    def stamp() -> str:
        return format_datetime(sent_at)

    def token(octets: int) -> str:
        return b64encode(chance.randbytes(octets)).decode()

    address = f"192.0.2.{chance.randrange(256)}"
    signature = token(190)
    folded = "\n\t ".join(signature[at : at + 70] for at in range(0, len(signature), 70))
    return [
        f"Return-Path: <bounce+{chance.randrange(10**6)}@{domain}>",
        "Delivered-To: anna@ourco.example",
        f"Received: from mx.ourco.example ([198.51.100.7])\n\tby store.ourco.example with LMTP\n\tid {token(15)}\n"
        f"\t(envelope-from <bounce@{domain}>) for <anna@ourco.example>; {stamp()}",
        f"Received: from out{chance.randrange(20)}.{domain} (out.{domain} [{address}])\n"
        f"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\n\tby mx.ourco.example (Postfix) "
        f"with ESMTPS id {token(7)}\n\tfor <anna@ourco.example>; {stamp()}",
        f"Authentication-Results: mx.ourco.example;\n\tdkim=pass header.d={domain} header.s=s2024;\n"
        f"\tspf=pass (sender IP is {address}) smtp.mailfrom={domain};\n\tdmarc=pass (p=REJECT) header.from={domain}",
        f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={domain}; s=s2024;\n"
        f"\th=from:to:subject:date:message-id:mime-version:content-type; bh={token(32)};\n\tb={folded}",
        f"Received: by out.{domain} id {chance.randrange(10**9)}; {stamp()}",
    ]


def _assemble(trace: list[str], fields: list[str], content: tuple[list[str], str]) -> bytes:
    content_fields, body = content
    return "\n".join([*trace, *fields, "MIME-Version: 1.0", *content_fields, "", body]).encode()


def _plain(text: str) -> tuple[list[str], str]:
    return ["Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "X-Mailer: Mail 16.0"], text


def _with_attachment(chance: random.Random, text: str) -> tuple[list[str], str]:
    boundary = f"=_{chance.randrange(10**12)}"
    attachment = encodebytes(chance.randbytes(chance.randrange(4_000, 32_000))).decode()
    body = (
        f"--{boundary}\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{text}\n"
        f'--{boundary}\nContent-Type: application/pdf; name="offer.pdf"\nContent-Transfer-Encoding: base64\n'
        f'Content-Disposition: attachment; filename="offer.pdf"\n\n{attachment}--{boundary}--\n'
    )
    return [f'Content-Type: multipart/mixed; boundary="{boundary}"', "X-Mailer: Mail 16.0"], body


def _text(chance: random.Random, shortest: int, longest: int) -> str:
    length = chance.randrange(shortest, longest)
    lines = [" ".join(chance.choices(WORDS, k=11)) for _ in range(length // 60)]
    return "\n".join(lines) + "\n"


def _mailbox(person: tuple[str, str]) -> str:
    return f"{_encoded(person[0])} <{person[1]}>"


def _encoded(text: str) -> str:
    return text if text.isascii() else Header(text, "utf-8").encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="the Maildir to write; must not exist")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    size = write_maildir(arguments.directory, arguments.messages, arguments.seed)
    print(f"{arguments.messages} messages, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
