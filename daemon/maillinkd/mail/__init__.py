"""What mail is: addresses, message-ids, headers, threads (RFC 5322, 2045-2047, 6532). Pure."""
