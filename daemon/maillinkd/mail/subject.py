"""Base subjects (RFC 5256, 2.1, with the prefixes that clients write in other languages; threading.md T13)."""

import re
import unicodedata

MAX_SUBJECT = 998
"""Characters of a subject that are looked at (RFC 5322, 2.1.1)."""

_REPLY = """
    re aw antw antwort sv vs res r rif ref réf rép odp ynt yan atb απ απάντηση vá vál bls hà ats rsp râsp răsp
    ответ отв відповідь відп отговор отг رد השב תגובה 回复 回覆 答复 答覆 返信 回信 회신 답장
"""
_FORWARD = """
    fw fwd wg tr vb vl enc i rv doorst fs pd továbbítás továbbított ilt i̇lt πρθ σχετ trs yml
    пересл переслано пересылка переслано пренасочено إعادة הועבר 转发 轉寄 轉發 转寄 転送 전달
"""


def _folded(text: str) -> str:
    """NFC and case-folded; folding can undo NFC."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


_PREFIXES = "|".join(map(re.escape, _folded(_REPLY + _FORWARD).split()))
# Clients count in three ways: `Re[2]:`, `Re(2):`, `Re^2:`. French ones put a space before the colon.
_REFWD = re.compile(rf"(?:{_PREFIXES}) ?(?:\[[^\[\]]*\]|\(\d+\)|\^\d+)? ?[:：] ?")
_BLOB = re.compile(r"\[[^\[\]]*\] ?")


def base_subject(subject: str) -> str:
    """What is left of a decoded subject without the traces of answering, forwarding and lists.

    NFC, case-folded, every white space (no-break space too) a single space. Bounded by MAX_SUBJECT.
    """
    text = " ".join(_folded(subject[:MAX_SUBJECT]).split())
    while True:
        text = _without_trailers(text)
        text = text[_leader_end(text) :]
        if not (text.startswith("[fwd:") and text.endswith("]")):
            return text
        text = text[len("[fwd:") : -1].strip()


def _without_trailers(text: str) -> str:
    """RFC 5256, 2.1 (2)."""
    while text.endswith("(fwd)"):
        text = text[: -len("(fwd)")].rstrip()
    return text


def _leader_end(text: str) -> int:
    """Where the prefixes end (RFC 5256, 2.1 (3) to (5)).

    A run of `[list]` blobs goes, whether `Re:` follows it or not, but never so that nothing is left.
    """
    if not text.startswith("[") and ":" not in text and "：" not in text:  # neither a blob nor a prefix
        return 0
    at = 0
    while True:
        last = end = at
        while blob := _BLOB.match(text, end):
            last, end = end, blob.end()
        if prefix := _REFWD.match(text, end):
            at = prefix.end()
        else:
            return end if end < len(text) else last
