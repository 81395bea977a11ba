"""What servers say, recorded and shortened: line ends are CRLF, and `{*}` before a line end is the length of what
stands between ⟦ and ⟧ on the following lines."""

import re

_LITERAL = re.compile(rb"\{\*\}\r\n\xe2\x9f\xa6(.*?)\xe2\x9f\xa7", re.DOTALL)


def said(text: str) -> bytes:
    """A table's text as the bytes of a connection."""
    data = text.lstrip("\n").encode().replace(b"\n", b"\r\n")
    return _LITERAL.sub(lambda match: b"{%d}\r\n%s" % (len(match[1]), match[1]), data)


DOVECOT = said(r"""
* OK [CAPABILITY IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ STARTTLS AUTH=PLAIN AUTH=LOGIN] ready.
* CAPABILITY IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ STARTTLS AUTH=PLAIN AUTH=LOGIN
a0 OK Pre-login capabilities listed, post-login capabilities have more.
a1 OK [CAPABILITY IMAP4rev1 SORT THREAD=REFS UNSELECT IDLE LIST-EXTENDED SPECIAL-USE CONDSTORE LITERAL+] Logged in
* LIST (\HasNoChildren \Drafts) "/" Drafts
* LIST (\HasNoChildren \Sent) "/" Sent
* LIST (\HasChildren) "/" Kunden
* LIST (\HasNoChildren) "/" "Kunden/M&APw-ller (alt)"
* LIST (\Noselect \HasChildren) "/" Archiv
* LIST (\HasNoChildren) "/" INBOX
a2 OK List completed (0.001 + 0.000 secs).
* FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Forwarded)
* OK [PERMANENTFLAGS ()] Read-only mailbox.
* 3 EXISTS
* 1 RECENT
* OK [UNSEEN 2] First unseen.
* OK [UIDVALIDITY 1763802001] UIDs valid
* OK [UIDNEXT 18] Predicted next UID
* OK [HIGHESTMODSEQ 41] Highest
a3 OK [READ-ONLY] Examine completed (0.001 + 0.000 secs).
* SEARCH 4 9 17
a4 OK Search completed (0.001 + 0.000 secs).
* 1 FETCH (UID 4 INTERNALDATE "21-Nov-2026 09:14:05 +0100" RFC822.SIZE 2048 BODY[HEADER.FIELDS (FROM TO SUBJECT)] {*}
⟦From: Carla <carla@client.example>
To: anna@ourco.example
Subject: Offer (new) * 5 FETCH (UID 6)

⟧)
* 2 FETCH (UID 9 INTERNALDATE " 1-Nov-2026 23:59:60 +0000" RFC822.SIZE 77 BODY[HEADER.FIELDS (FROM TO SUBJECT)] {*}
⟦From: b@client.example

⟧)
* 3 FETCH (UID 17 INTERNALDATE "22-Nov-2026 00:00:00 -0330" RFC822.SIZE 1 BODY[HEADER.FIELDS (FROM TO SUBJECT)] {*}
⟦
⟧)
a5 OK Fetch completed (0.002 + 0.000 + 0.001 secs).
* STATUS "Kunden/M&APw-ller (alt)" (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 1763802009)
a6 OK Status completed (0.001 + 0.000 secs).
+ idling
* OK Still here
* 4 EXISTS
* 1 RECENT
* 2 EXPUNGE
a7 OK Idle completed (240.001 + 0.000 secs).
* BYE Logging out
a8 OK Logout completed (0.001 + 0.000 secs).
""")

GMAIL_LIKE = said(r"""
* OK Gimap ready for requests from 192.0.2.1 q12mb12345
* CAPABILITY IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 UIDPLUS MOVE CONDSTORE ESEARCH
t1 OK Thats all she wrote! q12mb12345
t2 NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)
t3 NO [ALERT] Too many simultaneous connections. (Failure)
* LIST (\HasChildren \Noselect) "/" "[Gmail]"
* LIST (\All \HasNoChildren) "/" "[Gmail]/All Mail"
* LIST (\HasNoChildren \Sent) "/" "[Gmail]/Gesendet"
* LIST (\HasNoChildren \Junk) "/" "[Gmail]/&BCEEPwQwBDw-"
t4 OK Success
* FLAGS (\Answered \Flagged \Draft \Deleted \Seen $NotPhishing $Phishing)
* OK [UIDVALIDITY 1] UIDs valid.
* 2 EXISTS
* 0 RECENT
* OK [UIDNEXT 4711] Predicted next UID.
* OK [HIGHESTMODSEQ 12345678]
t5 OK [READ-ONLY] INBOX selected. (Success)
* ESEARCH (TAG "t6") UID MIN 3 MAX 4710 ALL 3,4700:4710 COUNT 2
t6 OK SEARCH completed (Success)
* 1 FETCH (X-GM-THRID 1278455344230334865 X-GM-LABELS ("\\Sent" K "a b") UID 4710 FLAGS (\Seen X) BODY[] {*}
⟦A: 1

tex⟧ INTERNALDATE "21-Nov-2026 08:00:00 +0000")
* 2 FETCH (FLAGS (\Seen) UID 3)
t7 OK Success
* BYE Session expired, please login again.
""")

EXCHANGE_LIKE = said(r"""
* OK The Microsoft Exchange IMAP4 service is ready. [VgBJADEAUABSADAA]
* CAPABILITY IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+
x1 OK CAPABILITY completed.
x2 NO LOGIN failed.
x3 BAD User is authenticated but not connected.
* LIST (\HasNoChildren) "/" Calendar
* LIST (\Marked \HasChildren \Trash) "/" "Deleted Items"
* LIST (\HasNoChildren \Sent) "/" "Sent Items"
x4 OK LIST completed.
* 7 EXISTS
* 0 RECENT
* FLAGS (\Seen \Answered \Flagged \Deleted \Draft $MDNSent)
* OK [PERMANENTFLAGS ()] Permanent flags
* OK [UIDVALIDITY 14] UIDVALIDITY value
* OK [UIDNEXT 20] The next unique identifier value
x5 OK [READ-ONLY] EXAMINE completed.
* SEARCH
x6 OK SEARCH completed.
* 7 FETCH (UID 19 INTERNALDATE "21-Nov-2026 09:00:00 +0000" BODY[HEADER.FIELDS ("FROM" "TO")] "From: a@b.example
")
""").replace(b'example\r\n")', b'example")') + said(r"""
x7 OK FETCH completed.
x8 NO [THROTTLED] Request is throttled. Suggested Backoff Time: 294123 milliseconds
* BYE Connection is closed. 14
""")

CYRUS_LIKE = said(r"""
* OK [CAPABILITY IMAP4rev1 LITERAL+ ID ENABLE STARTTLS AUTH=PLAIN SASL-IR] server ready
c1 OK [CAPABILITY IMAP4rev1 LITERAL+ ID ENABLE ACL NAMESPACE UIDPLUS SPECIAL-USE LIST-EXTENDED] User logged in
* LIST (\HasChildren) "." INBOX
* LIST (\HasNoChildren) NIL "Lone folder"
* LIST (\HasNoChildren) "." {*}
⟦INBOX.odd "name"⟧
* LIST (\NonExistent \HasChildren) "." NIL
c2 OK Completed (0.000 secs 4 calls)
* 2 EXISTS
* 0 RECENT
* FLAGS (\Answered \Flagged \Draft \Deleted \Seen)
* OK [PERMANENTFLAGS ()] Ok
* OK [UIDVALIDITY 1763802002] Ok
* OK [URLMECH INTERNAL] Ok
c3 OK [READ-ONLY] Completed
* SEARCH 1 2 (MODSEQ 917162500)
c4 OK Completed (2 msgs in 0.000 secs)
* 1 FETCH (UID 1 BODY[HEADER.FIELDS (FROM)]<0> {*}
⟦From: a@b.example

⟧ BODY[TEXT] NIL BINARY[1] ~{4}
abcd FLAGS ())
* VANISHED (EARLIER) 300:310,405
* ENABLED CONDSTORE QRESYNC
* NAMESPACE (("INBOX." ".")) (("user." ".")) (("" "."))
* ID ("name" "Cyrus IMAPD" "version" "3.6.1" "vendor" "Project Cyrus" "environment" NIL)
c5 OK Completed (0.000 sec)
* OK [ALERT] The server goes down in {5}
* BYE [UNAVAILABLE] "Server" shutting down
""")

PYMAP = said(r"""
* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN BINARY ENABLE ID IDLE LITERAL+ UIDPLUS MULTIAPPEND] Server ready pymap.
p1 OK [CAPABILITY IMAP4rev1 BINARY ENABLE ID IDLE LITERAL+ UIDPLUS MULTIAPPEND] Authentication successful.
* LIST (\Marked) "/" INBOX
* LIST (\Sent) "/" Sent
p2 OK LIST completed.
* OK [PERMANENTFLAGS ()] Read-only mailbox.
* FLAGS (\Answered \Deleted \Draft \Flagged \Seen)
* 1 EXISTS
* 1 RECENT
* OK [UIDNEXT 102] Predicted next UID.
* OK [UIDVALIDITY 2271560481] UIDs valid.
* OK [MAILBOXID (F1)] Object ID.
p3 OK [READ-ONLY] Selected mailbox.
* SEARCH 101
p4 OK UID SEARCH completed.
* 1 FETCH (UID 101 INTERNALDATE "22-Nov-2026 09:00:00 +0000" RFC822.SIZE 35 BODY[HEADER.FIELDS ("FROM")] {*}
⟦From: a@b.example

⟧)
p5 OK UID FETCH completed.
+ Idling.
* 2 EXISTS
p6 OK IDLE completed.
""")

ALL = {
    "dovecot": DOVECOT,
    "gmail-like": GMAIL_LIKE,
    "exchange-like": EXCHANGE_LIKE,
    "cyrus-like": CYRUS_LIKE,
    "pymap": PYMAP,
}
