"""Which items a thread belongs to. Pure: a snapshot goes in, a decision comes out."""
