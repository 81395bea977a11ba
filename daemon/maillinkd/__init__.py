"""Mail-ingestion daemon that links sales mail to deals, leads and projects, and says why."""
