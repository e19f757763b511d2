"""What a run is and leaves behind: its place, card, record, environment, resolved config, logs.

Nothing here imports torch or MMEngine; `backbones` and `comad.data` may be imported."""
