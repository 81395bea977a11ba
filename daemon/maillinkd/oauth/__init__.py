"""Access to mailboxes by OAuth 2.0 (RFC 6749): how tokens are come by, kept, and renewed in time."""
