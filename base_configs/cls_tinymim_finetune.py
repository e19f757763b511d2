"""ImageNet fine-tuning like TinyMIM (arXiv:2301.01296; its README gives ViT-B's command).

MAE's ViT-B recipe with drop path 0.2. TinyMIM's authors used a higher rate and a larger batch for
ViT-T and -S and did not publish the values, hence "like". Version 2 starts the warm-up at 0.
"""

_base_ = './cls_mae_finetune.py'

protocol = dict(
    _delete_=True,
    name='tinymim_finetune',
    version=2,
    published='tinymim_finetune',
    deviations=dict(precision='float32 unless --amp is given, which is bfloat16'),
)

model = dict(backbone=dict(drop_path_rate=0.2))
