"""Classification of 100 classes on a track of one process: 100 epochs of fine-tuning.

A track's overlay adds its data. Rates follow the batch of one process; none of it has been tuned.
"""

_classes = dict(num_classes=100)

linear = dict(model=_classes, auto_scale_lr=dict(base_batch_size=2048, enable=True))
# Plain SGD has no scale of its own: its rate is that of the recipe's batch in one process.
mocov3_linear = dict(auto_scale_lr=dict(base_batch_size=1024))
ibot_linear = mocov3_linear
finetune = dict(
    model=_classes,
    train_dataloader=dict(batch_size=512),
    auto_scale_lr=dict(enable=True),
    train_cfg=dict(max_epochs=100),
)

del _classes
