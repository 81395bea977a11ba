"""Whose mail was forwarded: addresses in attached messages and in quoted header blocks (linking.md L15).

A wrong person is worse than none. So a quoted block counts only where its lines stand together, one of them says from
whom, and another says when, to whom or about what.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from maillinkd.mail.address import parse_addresses
from maillinkd.mail.header import scan
from maillinkd.mail.html import text_of
from maillinkd.mail.mime import Part, walk

MAX_LINES = 200
"""Lines of a text in which the quoted block must begin."""
MAX_TEXT = 262_144
"""Bytes of a text that are looked at."""
MAX_TEXTS = 10
"""Text parts that are looked at."""
MAX_FOUND = 1_000
"""Addresses that are taken."""


@dataclass(frozen=True, slots=True)
class Found:
    """A normalised address and where it stood."""

    address: str
    evidence: Literal["attached", "inline"]


def forwarded_addresses(
    raw: bytes, mode: Literal["attached+inline", "attached", "off"] = "attached+inline"
) -> tuple[Found, ...]:
    """The addresses in From, Reply-To, To and Cc of what a message forwards (L15), without repeats.

    Those of all attached messages; if there are none, those of the first quoted header block in the text. Internal
    ones too: the caller knows them. Never raises; bounded in depth, parts, lines and size.
    """
    if mode == "off":
        return ()
    attached, plain, html = list[str](), list[Part](), list[Part]()
    for part in walk(raw):
        if part.message:
            attached += _header_addresses(part.header)
        elif not part.messages and not part.attachment:
            if part.content_type == "text/plain":
                plain.append(part)
            elif part.content_type == "text/html":
                html.append(part)
    if attached:
        return _found(attached, "attached")
    if mode == "attached":
        return ()
    texts = (part.text(MAX_TEXT) for part in plain[:MAX_TEXTS])
    block = _first_block(texts)
    if block is None:
        block = _first_block(text_of(part.text(MAX_TEXT)) for part in html[:MAX_TEXTS])
    return _found(block or (), "inline")


def _found(addresses: Iterable[str], evidence: Literal["attached", "inline"]) -> tuple[Found, ...]:
    return tuple(Found(address, evidence) for address in list(dict.fromkeys(addresses))[:MAX_FOUND])


def _header_addresses(header: bytes) -> list[str]:
    """The addresses of an attached message, field by field as L15 names them."""
    fields = scan(header, _ADDRESS_FIELDS)
    return [
        address
        for name in _ADDRESS_FIELDS
        for field in fields
        if field.name == name
        for address in parse_addresses(field.value)
    ]


_ADDRESS_FIELDS = ("from", "reply-to", "to", "cc")

# What clients write before the colon, by field: English, German, French, Spanish, Portuguese, Italian, Dutch,
# Swedish, Danish, Norwegian, Finnish, Estonian, Latvian, Lithuanian, Polish, Czech, Slovak, Slovene, Croatian,
# Serbian, Hungarian, Romanian, Bulgarian, Greek, Turkish, Russian, Ukrainian, Hebrew, Arabic, Chinese, Japanese,
# Korean.
_LABELS = {
    "from": """
        From|Von|Absender|De|Expéditeur|Remitente|Remetente|Da|Mittente|Van|Afzender|Från|Fra|Avsender|Afsender
        Lähettäjä|Saatja|Kellelt|Sūtītājs|Nuo|Siuntėjas|Od|Nadawca|Odesílatel|Odosielateľ|Pošiljatelj|Šalje
        Šalje se|Шаље|Од|Feladó|De la|Expeditor|Expeditorul|От|От кого|Отправитель|Подател|Від|Від кого
        Відправник|Από|Αποστολέας|Kimden|Gönderen|מאת|من|المرسل|发件人|發件人|寄件者|寄件人|差出人|送信者|送信元
        보낸 사람|보낸사람|발신자""",
    "reply-to": """
        Reply-To|Antwort an|Répondre à|Responder a|Rispondi a|Beantwoorden|Antwoord aan|Svar till|Svar til
        Vastaus|Odpowiedź do|Odpověď na|Válaszcím|Ответить|Ответ|回复|答复|回覆|返信先|회신""",
    "to": """
        To|An|Empfänger|À|Pour|Destinataire|Para|Destinatario|Destinatário|A|Aan|Till|Til|Vastaanottaja|Kellele
        Saaja|Kam|Adresāts|Gavėjas|Do|Adresat|Komu|Pre|Za|Prima|Prejemnik|Primatelj|За|Címzett|Către|Catre
        Destinatar|Destinatarul|До|Получател|Кому|Получатель|Отримувач|Προς|Παραλήπτης|Kime|Alıcı|אל|إلى|الى
        المستلم|收件人|收件者|宛先|送信先|받는 사람|받는사람|수신자""",
    "cc": """
        Cc|Kopie|Kopie an|Copie|Copie à|Copia|Con copia|Cópia|Kopia|Kopi|Kopio|Koopia|Kopija|DW|Do wiadomości
        Kópia|Másolat|Másolatot kap|Копия|Копие|Копія|Копија|Κοιν|Κοινοποίηση|Bilgi|עותק|نسخة|抄送|副本|抄送人
        참조""",
    "date": """
        Date|Sent|Sent at|Date sent|Datum|Gesendet|Gesendet am|Envoyé|Envoyé le|Fecha|Enviado|Enviado el
        Enviado em|Enviada em|Data|Data de envio|Inviato|Inviato il|Verzonden|Verzonden op|Skickat|Skickat den
        Dato|Sendt|Sendt den|Lähetetty|Päivä|Päiväys|Päivämäärä|Kuupäev|Saadetud|Datums|Nosūtīts|Išsiųsta|Wysłano
        Wysłane|Odesláno|Poslané|Odoslané|Dátum|Poslano|Датум|Послато|Küldve|Elküldve|Trimis|Trimis la|Trimisă
        Dată|Дата|Изпратено|Отправлено|Дата отправки|Надіслано|Відправлено|Ημερομηνία|Στάλθηκε|Εστάλη|Tarih
        Gönderildi|Gönderme Tarihi|תאריך|נשלח|התאריך|التاريخ|تاريخ|تم الإرسال|发送时间|发送日期|日期|时间
        傳送時間|寄件日期|傳送日期|日付|日時|送信日時|送信日|보낸 날짜|보낸 시간|날짜|일시""",
    "subject": """
        Subject|Betreff|Objet|Sujet|Asunto|Assunto|Oggetto|Onderwerp|Ämne|Emne|Aihe|Teema|Temats|Tēma|Tema|Temat
        Předmět|Predmet|Zadeva|Naslov|Предмет|Наслов|Tárgy|Subiect|Subiectul|Относно|Тема|Θέμα|Konu|נושא|הנושא
        الموضوع|主题|主旨|主題|标题|件名|제목""",
}


def _label(text: str) -> str:
    """A label as it is compared; `*From*` is bold."""
    return " ".join(unicodedata.normalize("NFC", text).strip("*_ ").casefold().split())


_FIELD_OF = {
    _label(label): field
    for field, labels in _LABELS.items()
    for line in labels.splitlines()
    for label in line.split("|")
    if label.strip()
}
_MAX_LABEL = max(map(len, _FIELD_OF))

_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\xad]")
_QUOTING = re.compile(r"(?:[>|]\s*)*")
_COLON = re.compile("[:：]")
# Some clients leave out the line ends between the fields: `From: Carla <carla@client.example>To: Anna <…>`.
_GLUED = re.compile(rf"(?<=>)\s*(?=([^\W\d_][^:：<>@\",;]{{0,{_MAX_LABEL}}})[:：])")
_OTHER_FIELD = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)+:")
_BRACKETED = re.compile(r"[\[(](?:mailto:)?([^\s\[\]()<>@:,;]+@[^\s\[\]()<>@:,;]+)[\])]", re.IGNORECASE)


def _first_block(texts: Iterable[str]) -> list[str] | None:
    """The addresses of the first quoted header block; None where there is no block, perhaps none in a block."""
    for text in texts:
        for block in _blocks(text.splitlines()[:MAX_LINES]):
            if _is_header(block):
                return [address for field in _ADDRESS_FIELDS for address in _quoted_addresses(block.get(field, ""))]
    return None


def _blocks(lines: list[str]) -> Iterator[dict[str, str]]:
    """Runs of labelled lines, each as field and value. Long values go on in the next line; one empty line may stand
    between two fields; a field that comes again begins another block."""
    block: dict[str, str] = {}
    last, gap = "", False
    for text in map(_plain, lines):
        for line in _unglued(text):
            field, value = _labelled(line)
            if not field and not line:
                if gap:
                    yield block
                    block, last = {}, ""
                gap = True
            elif not field and last and not gap and _goes_on(block[last], line):
                block[last] += f" {line}"
            elif not field and last and not gap and _OTHER_FIELD.match(line):
                continue  # somebody pasted the whole header
            else:
                if not field or field in block:
                    yield block
                    block = {}
                if field:
                    block[field] = value
                last, gap = field, False
    yield block


def _plain(line: str) -> str:
    """The line without quote marks, invisible characters and surrounding space."""
    line = _INVISIBLE.sub("", line).strip()
    return line[_QUOTING.match(line).end() :].strip()  # type: ignore[union-attr]  # it matches nothing, too


def _unglued(line: str) -> list[str]:
    cuts = [cut for cut in _GLUED.finditer(line) if _label(cut[1]) in _FIELD_OF] if ">" in line else []
    starts = [0, *(cut.end() for cut in cuts)]
    ends = [*(cut.start() for cut in cuts), len(line)]
    return [line[start:end] for start, end in zip(starts, ends, strict=True)]


def _labelled(line: str) -> tuple[str, str]:
    """The field that the line's label names, and its value; ("", "") for any other line."""
    colon = _COLON.search(line, 0, _MAX_LABEL + 4)
    field = _FIELD_OF.get(_label(line[: colon.start()]), "") if colon else ""
    return (field, line[colon.end() :].strip("*_ \t\xa0")) if colon and field else ("", "")


def _goes_on(value: str, line: str) -> bool:
    """Whether a value is not complete without the next line."""
    return not value or value[-1] in ",;" or line[0] == "<" or value.rfind("<") > value.rfind(">")


def _is_header(block: dict[str, str]) -> bool:
    """From, and one of the others; two of them where From names no address (Outlook, within a company)."""
    others = len(block.keys() & {"to", "date", "subject"})
    return "from" in block and (others >= 2 or (others == 1 and bool(_quoted_addresses(block["from"]))))


def _quoted_addresses(value: str) -> tuple[str, ...]:
    """The addresses of a value; Outlook writes `Carla [mailto:carla@client.example]`, others use parentheses."""
    return parse_addresses(_BRACKETED.sub(r" <\1> ", value))
