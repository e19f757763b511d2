"""Methods of distill_configs/ for any pair: what `--student <method>_<teacher>_<student>` puts in.

Settings are OFA-KD's defaults unless said otherwise. Its CIFAR-100 table was made with other ones
than its repository has: CNN students with ofa_weight 0.1 (issues 14 and 32 there). eps 1.5 for
DeiT-T to ResNet-18 is its README's; that FBT takes it over is ours.
"""

methods = dict(
    plain=dict(type='Plain'),
    kd=dict(type='KD'),
    dkd=dict(type='DKD'),
    dist=dict(type='DIST'),
    fitnet=dict(type='FitNet'),
    cc=dict(type='CC'),
    rkd=dict(type='RKD'),
    crd=dict(type='CRD'),
    ofa=dict(type='OFA'),
    fbt=dict(type='FBT'),
    # FBT without one of its terms: the pairs are L(t, s), L(t, f) and L(f, s).
    fbt_no_ts=dict(type='FBT', pairs=(0.0, 1.0, 1.0)),
    fbt_no_tf=dict(type='FBT', pairs=(1.0, 0.0, 1.0)),
    fbt_no_fs=dict(type='FBT', pairs=(1.0, 1.0, 0.0)),
    fbt_no_nce=dict(type='FBT', feature_weight=0.0),
    fbt_no_ofa=dict(type='FBT', logit_weight=0.0),
    fbt_detached=dict(type='FBT', detach_fusion=True),
)
# By data and family of the student, or by pair.
settings = dict(
    cifar100_cnn_ofa=dict(ofa_weight=0.1),
    imagenet_ofa_deit_tiny_resnet18=dict(eps=1.5),
    imagenet_fbt_deit_tiny_resnet18=dict(eps=1.5),
)
# Files of OFA-KD's release and of timm. Other teachers are runs of `plain`.
teachers = dict(
    cifar100=dict(
        swin_tiny='teachers/swin_tiny_patch4_window7_224_cifar100.pth',
        vit_small='teachers/vit_small_patch16_224_cifar100.pth',
        mixer_base='teachers/mixer_b16_224_cifar100.pth',
        convnext_tiny='teachers/convnext_tiny_cifar100.pth',
    ),
    imagenet=dict(
        deit_tiny='teachers/deit_tiny_patch16_224-a1311bcf.pth',
        swin_tiny='teachers/swin_tiny_patch4_window7_224.pth',
        mixer_base='teachers/jx_mixer_b16_224-76587d61.pth',
        resnet50='teachers/resnet50_a1_0-14fe96d1.pth',
        convnext_tiny='teachers/convnext_tiny_1k_224_ema.pth',
    ),
)
