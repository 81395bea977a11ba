"""What a running daemon takes over of a new configuration (SIGHUP)."""

from maillinkd.settings.root import Settings


def changes_that_need_a_restart(old: Settings, new: Settings) -> list[str]:
    """The keys that differ and that a running daemon does not take over: the database and the listeners."""
    changed = ["database.url"] if old.database != new.database else []
    if old.smart_bcc.enabled != new.smart_bcc.enabled:
        changed.append("smart_bcc.enabled")
    if old.smart_bcc.listen != new.smart_bcc.listen and (old.smart_bcc.enabled or new.smart_bcc.enabled):
        changed.append("smart_bcc.listen")
    return changed


def without_restart(old: Settings, new: Settings) -> Settings:
    """The new configuration with the database and the listeners of the old: what SIGHUP may take over."""
    kept = {"enabled": old.smart_bcc.enabled, "listen": old.smart_bcc.listen}
    return new.model_copy(update={"database": old.database, "smart_bcc": new.smart_bcc.model_copy(update=kept)})
