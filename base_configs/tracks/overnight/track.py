"""For one GPU and its nights: ImageNet-100 at 224 px, ADE20K and COCO cut short.

ImageNet-100 is ImageNet-1k's folder (or shards) read through CMC's list of 100 classes (imagenet100
.txt of its code, arXiv:1906.05849): 126,689 images to train, 5,000 to validate. Networks and
teachers are those of the full scale. One process; more of them scale the rates. Fine-tuning and few
labels are no part of the study, but of the track: --tasks names them. By counted operations at 400
TFLOP/s six methods and scratch take 7.4 hours, and Mask R-CNN 10.5 more, see show.py plan.
"""

title = 'the track overnight'
data = {'imagenet-1k': 'imagenet-100'}
tasks = ('linear', 'knn', 'upernet', 'mask_rcnn')
students = (
    'comad_tiny',
    'mae_tiny',
    'dmt_tiny',
    'd_mae_lite_tiny',
    'hybrid_distill_tiny',
    'amd_tiny',
    'scratch_tiny',
)
