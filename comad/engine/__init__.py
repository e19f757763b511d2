"""How runs are configured, started, checkpointed and finished."""
