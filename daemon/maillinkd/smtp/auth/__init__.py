"""Who wrote a Smart Bcc mail: SPF, DKIM and their alignment with From, or the results of a relay (linking.md L14)."""
