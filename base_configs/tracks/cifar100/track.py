"""CIFAR-100 with the networks and teachers of the full scale: 32 px enlarged to 224 by crops.

Enlarged, since patches of 16 px would cut a 32-px image into four, and the teachers' files are of
224 px. 50,000 images to train, 10,000 to validate (its test set), from the binary version.
"""

title = 'the track cifar100'
data = {'imagenet-1k': 'cifar-100'}
tasks = ('linear', 'knn', 'finetune')
