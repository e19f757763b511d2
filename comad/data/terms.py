"""Terms of use of the data sets in our words, with the page that counts."""

TERMS = {
    'imagenet': (
        'ImageNet is for non-commercial research and teaching; its images belong to others, and '
        'access is granted on request: https://image-net.org/download.php'
    ),
    'ade20k': (
        'ADE20K: images are for non-commercial research and teaching, annotations and software are '
        'under BSD-3-Clause: https://ade20k.csail.mit.edu/terms/'
    ),
    'coco': (
        "COCO: annotations are under CC BY 4.0, images under Flickr's terms and not COCO's to "
        'license: https://cocodataset.org/#termsofuse'
    ),
    'sample': (
        "The sample's handwriting is the digits set that scikit-learn ships under BSD-3-Clause, "
        'from the UCI repository (CC BY 4.0): '
        'https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits'
    ),
}
