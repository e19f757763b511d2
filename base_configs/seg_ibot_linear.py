"""Linear segmentation on a frozen ViT-Tiny, iBOT's, ADE20K, 160k iterations.

From iBOT's released linear config and its README: frozen backbone, maps after blocks 3/5/7/11
(0-based), each through the final norm, no adapters, all four concatenated at stride 16, one 1x1
convolution to the classes, no dropout, no auxiliary head, AdamW 8e-4, weight decay 0.05 on every
trained tensor, a rate that falls linearly to 0 times 1,500 warm-up iterations, batch 16, sliding
test 512/341. Logits are enlarged to the label's size before the loss.

Ours: 4 x 192 channels instead of ViT-B's 4 x 768, and its rate kept for them; the features have no
drop path, since a frozen backbone is in eval mode here (iBOT's config names 0.1 for blocks that its
code puts in eval mode too). iBOT trains in mixed precision; here that is --amp.
"""

_base_ = './seg_upernet_vit_tiny.py'

protocol = dict(
    _delete_=True,
    name='ibot_linear_ade20k',
    version=2,
    published='ibot_seg_linear',
    deviations=dict(
        head='four maps of the student, 192 wide each',
        precision='float32 unless --amp is given, which is bfloat16',
    ),
)

model = dict(
    backbone=dict(drop_path_rate=0.0, out_norm=True, frozen=True),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        in_channels=[192] * 4,
        in_index=[0, 1, 2, 3],
        input_transform='resize_concat',
        channels=768,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=150,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=None,
)
optim_wrapper = dict(
    optimizer=dict(lr=8e-4),
    paramwise_cfg=dict(_delete_=True, decay_rate=1.0, bias_decay_mult=1.0),
)
