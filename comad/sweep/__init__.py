"""One idempotent grid runner: steps with proofs of completion, run a few side by side."""
