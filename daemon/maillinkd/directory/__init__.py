"""Deals, leads, projects, persons, organizations: what mail can be linked to. Pure."""
