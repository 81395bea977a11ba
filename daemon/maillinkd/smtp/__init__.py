"""The door for Smart Bcc (RFC 5321)."""
