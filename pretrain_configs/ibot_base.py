"""iBOT on ViT-Base, and the sample's iBOT teacher.

    tools/pretrain.sh ibot_base             # officially 64 GPUs x 16 images
    tools/pretrain.sh ibot_base --sample    # embedded sample

Hardware and time: 64 GPUs; not yet measured. With fewer, add --auto-scale-lr. Figure to reach: the
official file reaches 77.1 % (k-NN) and 79.5 % (linear) ImageNet top-1 (official README); it is
read as a teacher, so this run is only needed for other data. Beyond ibot_tiny, for ViT-Base:
400 epochs, global crops of 0.32-1 and local ones of 0.05-0.32 (official README), and the
prototypes' lengths fixed at 1 (its code's default).

Secondary, since the README gives no command for ViT-Base and the run's argument file was not at
hand: rate 7.5e-4 per 256, final rate 2e-6, clipping at norm 0.3, teacher temperature rising over 50
epochs, last layer still in the first 3. They are what two repositories built on iBOT's code (SERE
and HSSL) give for their ViT-Base; a third project quotes the 3 from the argument file.
"""

_base_ = './ibot_tiny.py'

model = dict(
    backbone=dict(arch='base'),
    head=dict(arch='base'),
    teacher_temp=(0.04, 0.07, 0.125),
    freeze_prototypes=3 / 400,
)
train_dataloader = dict(
    batch_size=16, dataset=dict(views=dict(scale=(0.32, 1.0), local_scale=(0.05, 0.32)))
)
optim_wrapper = dict(optimizer=dict(lr=3e-3), clip_grad=dict(max_norm=0.3))
param_scheduler = [
    dict(type='WarmUpLR', begin=0, end=10, linspace=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=2 / 3000, begin=10, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingParamScheduler',
        param_name='weight_decay',
        eta_min_ratio=10.0,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=400)
# Student and teacher pass over both global views at every step, which is most of its time: views
# of 40 px instead of 64 and fewer local crops cost less than half.
# Matrices of 128 columns start Xavier-wide: with the 0.02 that suits 768, a linear probe of the
# teacher reached less than 0.3 instead of almost 0.5 (one run each).
# The averaged teacher follows faster and the rate is lower, for 280 steps instead of hundreds of
# thousands. Without batch norm in the head and at a rate of 2e-3 the targets became uniform; which
# of the three changes is needed has not been separated.
sample = dict(
    train_cfg=dict(max_epochs=3),
    train_dataloader=dict(
        dataset=dict(
            views=dict(size=40, scale=(0.5, 1.0), local_scale=(0.05, 0.25), num_local=2),
        ),
    ),
    optim_wrapper=dict(optimizer=dict(lr=5e-4), clip_grad=dict(max_norm=3.0)),
    model=dict(teacher_momentum=0.99, teacher_temp=(0.04, 0.07, 1 / 3), init='mae'),
)
