"""Segmentation overnight: ADE20K, 40,000 iterations of 16 images, all in one process."""

train_dataloader = dict(batch_size=16, num_workers=12)
train_cfg = dict(max_iters=40_000, val_interval=40_000)
default_hooks = dict(checkpoint=dict(interval=4_000))
