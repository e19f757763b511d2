"""UperNet with the ViT-Tiny numbers of TinyMIM*, ADE20K, 160k iterations.

From its released segmentation config (OliverRensu/TinyMIM, TinyMIMstar-T): rate 1e-4, layer decay
0.8, drop path 0.1, adapters that widen 192 to 768 channels, UPerHead 768 wide. That head alone has
68M parameters, twelve times the ViT-Tiny. Everything else as in seg_upernet_vit_tiny.py. The
repository holds a second config, beside the weights: layer decay 0.7 and a head 384 wide.

TinyMIM* itself has 12 heads, a distillation token, relative position biases and LayerScale, and
starts from weights fine-tuned for 1000 epochs. Its adapters widen inside the deconvolutions and
read the last map through a layer of 1280 channels. Ours: 3 heads, none of the additions, and
adapters that keep 192 channels up to one 1x1 convolution each.
"""

_base_ = './seg_upernet_vit_tiny.py'

protocol = dict(
    _delete_=True,
    name='tinymim_upernet_ade20k',
    version=2,
    published='tinymim_upernet',
    deviations=dict(
        precision='float32 unless --amp is given, which is bfloat16',
        no_weight_decay='their code means to exempt positions and class token but misses the names',
        relative_positions='the students are plain ViTs, pretrained without',
        layer_scale='the students are plain ViTs, pretrained without',
        adapters='192 channels up to one 1x1 convolution per level',
    ),
)

model = dict(
    neck=dict(out_channels=768),
    decode_head=dict(in_channels=[768] * 4, channels=768),
    auxiliary_head=dict(in_channels=768),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.8))
