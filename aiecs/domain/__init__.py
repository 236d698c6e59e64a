"""The rules of sessions, conversations, tasks and checkpoints; no driver is known here."""
