"""The `bnjax verify` command: what knows both an engine (`bnjax.check`, `bnjax.prove`) and batch norm."""
