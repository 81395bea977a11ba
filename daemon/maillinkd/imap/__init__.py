"""The door to synced mailboxes (RFC 9051, RFC 3501)."""
