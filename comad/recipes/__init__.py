"""Recipe cards: the protocol a config really runs, beside the published one that it claims."""
