"""The embedded sample: images, networks and teachers of its own, minutes on a CPU core."""

title = 'the embedded sample'
data = {
    'imagenet-1k': 'sample',
    'ade20k': 'sample',
    'coco': 'sample',
    'cifar-100': 'sample',
    'kinetics-400': 'sample',
    'ssv2': 'sample',
}
stand_ins = True
